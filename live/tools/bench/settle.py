"""`live bench settle`: orders a second from the stream to committed rows, against plain COPY.

Method: real sales on the real engine (hold, begin, an authorised payment, confirm); what is timed
is reading their entries, settling, acknowledging. Right after it the rows that this wrote are
copied with COPY, in one transaction, into tables of the same columns, types and indexes; the
two take turns in several rounds in one run, and medians count. COPY writes as many rows to the
same number of tables, but decides nothing, checks no reference and answers no redelivery.
"""

import asyncio
import os
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from secrets import token_bytes, token_hex
from statistics import median
from typing import Final
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import asyncpg
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from live.base.errors import EngineError
from live.domain.channels import Channel
from live.domain.events import Event
from live.domain.hold import Line
from live.domain.ids import BuyerId, HoldKey, ShowId
from live.ledger.db.migrate import migrate
from live.ledger.db.pool import Pool, open_pool
from live.ledger.settle.rebuild import read_show_stock
from live.ledger.settle.settler import Settler
from live.stock.calls import StockCalls
from live.stock.engine import StockEngine
from live.stock.outbox import Outbox
from live.tools.bench.settle_pace import pace
from live.tools.bench.settle_rebuild import rebuild
from live.tools.bench.settle_rows import (
    COLUMNS,
    COPIED,
    OF_ORDERS,
    OFFER,
    PAYMENTS,
    PRODUCT,
    SHOW,
    Written,
)
from live.tools.bench.stock_rivals import unlink_shows

ROUNDS: Final = 5
SIZES: Final = (1_000, 5_000)  # orders of one transaction
ORDERS: Final = 5_000  # of one round and size
GOAL: Final = 0.33  # of COPY's orders a second, at the larger batch
UNITS: Final = 1_000_000
AT_ONCE: Final = 500  # calls of the preparation in flight
ONE: Final = (Line(0, 1),)
CONSUMER: Final = "bench"


@dataclass(frozen=True, slots=True)
class Sold:
    buyer: BuyerId
    key: HoldKey
    payment: UUID
    order: UUID


async def run(
    redis_url: str, database_url: str, *, rounds: int = ROUNDS, scale: int = 1
) -> dict[str, object]:
    """Measure, print a table to standard error, return the object of `live bench --json`.

    `scale` divides the numbers of orders, for a test of the bench itself. Raises EngineError.
    """
    console = Console(stderr=True)
    name = f"bench_{token_hex(4)}"
    admin = await asyncpg.connect(database_url)
    try:
        await admin.execute(f'CREATE DATABASE "{name}"')
        own_url = urlsplit(database_url)._replace(path=f"/{name}").geturl()
        with Progress(console=console, transient=True) as progress:
            task = progress.add_task("settle", total=rounds * len(SIZES) + 2)
            report = await _measure(
                redis_url, own_url, rounds, scale, lambda: progress.advance(task)
            )
    finally:
        await admin.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
        await admin.close()
    _print(console, report)
    return report


async def _measure(
    redis_url: str, database_url: str, rounds: int, scale: int, step: Callable[[], None]
) -> dict[str, object]:
    await migrate(database_url)
    pool = await open_pool(database_url, size=4, command_timeout_seconds=60)
    engine, outbox = StockEngine(redis_url), Outbox(redis_url)
    commands = StockCalls(redis_url)
    for part in (engine, outbox, commands):
        await part.open()
    show = ShowId(f"bench-{token_hex(4)}")
    again = ShowId(f"{show}-again")  # the same prefix, so both go away at the end
    bench = _Bench(pool, engine, outbox, show)
    try:
        await bench.open_show()
        for _ in range(rounds):
            for size in SIZES:
                await bench.round(size // scale, ORDERS // scale)
                step()
        paced = await pace(pool, engine, outbox, show, seconds=5 / scale)
        step()
        rebuilt = await rebuild(pool, engine, commands, again, scale=scale)
        step()
        server = await pool.fetchval("SHOW server_version")
    finally:
        await unlink_shows(commands, show.encode())
        await commands.close()
        await outbox.close()
        await engine.close()
        await pool.close()
    return bench.report(server, [paced.row(), rebuilt.row()], scale)


class _Bench:
    def __init__(self, pool: Pool, engine: StockEngine, outbox: Outbox, show: ShowId) -> None:
        self.pool, self.engine, self.outbox, self.show = pool, engine, outbox, show
        self.settler = _settler(pool, outbox)
        self.seconds: dict[tuple[str, int], list[float]] = {}  # (way, size) -> of each round
        self.orders = 0  # of a round

    async def open_show(self) -> None:
        """A show with one offer, and the empty twins of the tables that settling writes."""
        await self.pool.execute(SHOW, self.show)
        await self.pool.execute(PRODUCT, UNITS)
        await self.pool.execute(OFFER, self.show, UNITS)
        for table in COPIED:
            await self.pool.execute(f"CREATE TABLE copied_{table} (LIKE {table} INCLUDING ALL)")
        await self.engine.install_show(self.show, stock_epoch=1)
        for terms in (await read_show_stock(self.pool, self.show)).offers:
            await self.engine.apply_offer(terms)

    async def round(self, size: int, orders: int) -> None:
        """Sell, settle in batches of `size`, copy what came of it."""
        self.orders = orders
        sales = await self._sell(orders)
        await self.pool.execute("CHECKPOINT")  # no round pays for the pages of the one before
        started = time.perf_counter()
        settled = 0
        while settled < orders:
            batches = await self.outbox.read(
                [self.show], consumer=CONSUMER, entries_max=size, block_ms=0
            )
            if not batches:
                raise EngineError("the outbox ended before all sales were settled")
            await self.settler.settle_batches(batches)
            settled += sum(len(batch.movements) for batch in batches)
        self._note("settle", size, time.perf_counter() - started)
        written = await self._read_back(sales)
        await self.pool.execute("CHECKPOINT")
        started = time.perf_counter()
        for rows in written.parts(size):
            await self._copy(rows)
        self._note("copy", size, time.perf_counter() - started)
        for table in COPIED:
            await self.pool.execute(f"TRUNCATE copied_{table}")

    async def _sell(self, orders: int) -> list[Sold]:
        """Everything of a purchase up to its confirmation; the holds are journaled already."""
        sales = [
            Sold(BuyerId(token_bytes(16)), HoldKey(uuid4().bytes), uuid4(), uuid4())
            for _ in range(orders)
        ]
        await asyncio.gather(
            *(self.engine.hold(self.show, one.buyer, one.key, ONE) for one in sales)
        )
        for part in _parts(sales, AT_ONCE):
            await asyncio.gather(
                *(
                    self.engine.begin(self.show, one.buyer, one.key, window_ms=600_000)
                    for one in part
                )
            )
        await self.settler.drain(self.show)
        await self.pool.execute(
            PAYMENTS,
            self.show,
            [one.payment for one in sales],
            [one.order for one in sales],
            [one.buyer for one in sales],
            [UUID(bytes=one.key) for one in sales],
        )
        for part in _parts(sales, AT_ONCE):
            await asyncio.gather(
                *(self.engine.confirm(self.show, one.buyer, one.key, ONE) for one in part)
            )
        return sales

    async def _read_back(self, sales: Sequence[Sold]) -> Written:
        orders = [one.order for one in sales]
        wrote = await self.pool.fetchval(
            "SELECT count(*) FROM orders WHERE id = ANY($1::uuid[]) AND state = 'confirmed'", orders
        )
        if wrote != len(orders):
            raise EngineError(f"settled {wrote} of {len(orders)} orders")
        rows = {
            table: [
                tuple(row)
                for row in await self.pool.fetch(
                    f"SELECT t.* FROM {table} t {OF_ORDERS[table]}", orders
                )
            ]
            for table in COPIED
        }
        columns = {
            table: [row["attname"] for row in await self.pool.fetch(COLUMNS, f"public.{table}")]
            for table in COPIED
        }
        return Written(columns, rows)

    async def _copy(self, rows: Written) -> None:
        async with self.pool.acquire() as connection, connection.transaction():
            for table in COPIED:
                await connection.copy_records_to_table(
                    f"copied_{table}", records=rows.rows[table], columns=rows.columns[table]
                )

    def _note(self, way: str, size: int, seconds: float) -> None:
        self.seconds.setdefault((way, size), []).append(seconds)

    def report(
        self, server: str, more: Sequence[dict[str, object]], scale: int
    ) -> dict[str, object]:
        rows: list[dict[str, object]] = [
            {
                "name": f"{way}_{size}",
                "orders_per_second": round(self.orders / median(self.seconds[way, size])),
                "ms_per_transaction": round(
                    1000 * median(self.seconds[way, size]) * size / self.orders, 2
                ),
            }
            for way, size in sorted(self.seconds)
        ]
        rows += [
            {"name": f"ratio_{size}", "vs_copy": self._ratio(size)}
            for size in (size // scale for size in SIZES)
        ]
        rows += more
        value = self._ratio(SIZES[-1] // scale)
        return {
            "bench": "settle",
            "machine": f"{platform.machine()}, {os.cpu_count()} cores, "
            f"Python {platform.python_version()}, Postgres {server}",
            "rows": rows,
            "goals": [
                {
                    "id": "settle.vs_copy",
                    "value": value,
                    "goal": GOAL,
                    "better": "higher",
                    "ok": value >= GOAL,
                }
            ],
        }

    def _ratio(self, size: int) -> float:
        """Median over the rounds, so that a busy moment of the machine hits both sides."""
        pairs = zip(self.seconds["copy", size], self.seconds["settle", size], strict=True)
        return round(median(copy / settle for copy, settle in pairs), 3)


def _settler(pool: Pool, outbox: Outbox) -> Settler:
    async def tell_nobody(channel: Channel, event: Event, *, key: str) -> None:
        raise EngineError(f"a sale of the bench expired: {event.type}")

    async def on_mismatch(show: ShowId) -> None:
        raise EngineError(f"{show} differs from the ledger")

    return Settler(
        pool, outbox, tell_nobody, on_mismatch, consumer=CONSUMER, chunk_movements=SIZES[-1]
    )


def _parts(sales: Sequence[Sold], size: int) -> list[Sequence[Sold]]:
    return [sales[start : start + size] for start in range(0, len(sales), size)]


def _print(console: Console, report: dict[str, object]) -> None:
    table = Table(title="live bench settle")
    table.add_column("name")
    for column in ("orders/s", "ms per transaction", "other"):
        table.add_column(column, justify="right")
    rows, goals = report["rows"], report["goals"]
    assert isinstance(rows, list) and isinstance(goals, list)
    for row in rows:
        others = {
            key: value
            for key, value in row.items()
            if key not in ("name", "orders_per_second", "ms_per_transaction")
        }
        table.add_row(
            row["name"],
            f"{row['orders_per_second']:,}" if "orders_per_second" in row else "",
            f"{row['ms_per_transaction']:,.1f}" if "ms_per_transaction" in row else "",
            "  ".join(f"{key} {value}" for key, value in others.items()),
        )
    console.print(table)
    for goal in goals:
        verdict = "met" if goal["ok"] else "missed"
        console.print(f"{goal['id']}: {goal['value']} (goal ≥ {goal['goal']}): {verdict}")

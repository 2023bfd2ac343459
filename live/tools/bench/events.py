"""`live bench events`: events out a second, and what an order costs with endpoints beside none.

Method: orders are written as the settlement writes them, in batches of one transaction, and then
brought to their receivers: placed by the sequencer and sent, signed, to a server of this process
that takes all. The same number of orders goes with no endpoint and with three, in turns, in
several rounds of one run; medians count. Sender and receivers share the cores, so what is measured
is less than a shop's own machine leaves.
"""

import os
import platform
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from secrets import token_bytes, token_hex
from statistics import median
from typing import Final
from urllib.parse import urlsplit
from uuid import uuid4

import asyncpg
from aiohttp import web
from rich.console import Console
from rich.table import Table

from live.domain.caller import Role
from live.ledger.db.migrate import migrate
from live.ledger.db.pool import Pool, open_pool
from live.ledger.events.deliveries import DeliveryRows
from live.ledger.events.endpoints import EndpointRows, NewEndpoint
from live.ledger.events.sequencer import Sequencer
from live.ledger.hosting.show_command import Actor
from live.outgoing.client import WebhookClient
from live.outgoing.sender import WebhookSender
from live.tools.bench.settle_rows import OFFER, PRODUCT, SHOW

ROUNDS: Final = 3
ORDERS: Final = 3_000  # of one round
BATCH: Final = 500  # of one transaction
ENDPOINTS: Final = 3
SHOP: Final = Actor(sub="bench", role=Role.SERVICE)
NAME: Final = "bench"

ORDERS_OF_A_BATCH: Final = """
INSERT INTO orders (id, show, buyer, sub, key, state, total_minor, currency, seq)
SELECT id, $1, buyer, 'buyer-' || id, id, 'confirmed', 100, 'EUR', 1
FROM unnest($2::uuid[], $3::bytea[]) AS n(id, buyer)"""

ITEMS: Final = """
INSERT INTO order_items (order_id, offer, qty, price_minor)
SELECT id, 'bench', 1, 100 FROM unnest($1::uuid[]) AS n(id)"""


async def run(
    _redis_url: str, database_url: str, *, rounds: int = ROUNDS, scale: int = 1
) -> dict[str, object]:
    """Measure, print a table to standard error, return the object of `live bench --json`.

    `scale` divides the numbers of orders, for a test of the bench itself.
    """
    name = f"bench_{token_hex(4)}"
    admin = await asyncpg.connect(database_url)
    try:
        await admin.execute(f'CREATE DATABASE "{name}"')
        own_url = urlsplit(database_url)._replace(path=f"/{name}").geturl()
        report = await _measure(own_url, rounds, ORDERS // scale)
    finally:
        await admin.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
        await admin.close()
    _print(Console(stderr=True), report)
    return report


async def _measure(database_url: str, rounds: int, orders: int) -> dict[str, object]:
    await migrate(database_url)
    pool = await open_pool(database_url, size=6, command_timeout_seconds=60)
    try:
        await pool.execute(SHOW, NAME)
        await pool.execute(PRODUCT, orders)
        await pool.execute(OFFER, NAME, orders)
        server = await pool.fetchval("SHOW server_version")
        async with _receiving() as url:
            seconds = {0: [], ENDPOINTS: []}  # type: dict[int, list[tuple[float, float]]]
            for _ in range(rounds):
                for endpoints in seconds:
                    seconds[endpoints].append(await _round(pool, url, endpoints, orders))
    finally:
        await pool.close()
    return _report(server, seconds, orders)


@asynccontextmanager
async def _receiving() -> AsyncIterator[str]:
    async def take(request: web.Request) -> web.Response:
        await request.read()
        return web.Response()

    app = web.Application()
    app.router.add_post("/{name}", take)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        yield f"http://{host}:{port}"
    finally:
        await runner.cleanup()


async def _round(pool: Pool, url: str, endpoints: int, orders: int) -> tuple[float, float]:
    """Seconds until all orders were written, and from there until all events arrived."""
    rows = EndpointRows(pool)
    made = [
        await rows.create(NewEndpoint(url=f"{url}/{number}", types=("order.*",)), SHOP)
        for number in range(endpoints)
    ]
    client = WebhookClient(development=True)
    deliveries = DeliveryRows(pool)
    sender = WebhookSender(deliveries, client)
    sequencer = Sequencer(pool, on_placed=sender.wake)
    try:
        started = time.perf_counter()
        for begin in range(0, orders, BATCH):
            await _settle(pool, min(BATCH, orders - begin))
        written = time.perf_counter()
        while await sequencer.place():
            pass
        while await deliveries.due_endpoints():
            await sender.send_due()
        return written - started, time.perf_counter() - written
    finally:
        await client.close()
        for one in made:
            await rows.delete(one.endpoint.webhook, SHOP)


async def _settle(pool: Pool, size: int) -> None:
    ids = [uuid4() for _ in range(size)]
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute(ORDERS_OF_A_BATCH, NAME, ids, [token_bytes(16) for _ in ids])
        await connection.execute(ITEMS, ids)


def _report(
    server: str, seconds: dict[int, list[tuple[float, float]]], orders: int
) -> dict[str, object]:
    rows: list[dict[str, object]] = [
        {
            "name": f"endpoints_{endpoints}",
            "orders_per_second": round(orders / median(one for one, _ in found)),
            "placed_per_second" if not endpoints else "sent_per_second": round(
                orders * max(1, endpoints) / median(other for _, other in found)
            ),
            "us_per_order": round(1e6 * median(one + other for one, other in found) / orders),
        }
        for endpoints, found in seconds.items()
    ]
    return {
        "bench": "events",
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, "
        f"Python {platform.python_version()}, Postgres {server}",
        "rows": rows,
        "goals": [],
    }


def _print(console: Console, report: dict[str, object]) -> None:
    table = Table(title="Events out: orders written, placed, sent", caption=str(report["machine"]))
    for column in ("endpoints", "orders/s written", "events/s placed or sent", "us an order"):
        table.add_column(column, justify="right")
    found = report["rows"]
    assert isinstance(found, list), "made above"
    for row in found:
        out = row.get("sent_per_second", row.get("placed_per_second"))
        name = str(row["name"]).removeprefix("endpoints_")
        table.add_row(name, str(row["orders_per_second"]), str(out), str(row["us_per_order"]))
    console.print(table)

"""What the ledger's tests build their world from: a migrated database, a show, movements.

The outbox is a real Redis stream with a consumer group; only its records are simpler than the
stock engine's, because the ledger must not depend on their layout.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from uuid import UUID, uuid4

import orjson
import redis.asyncio

from live.domain.channels import Channel
from live.domain.events import Event
from live.domain.hold import Line, Movement, MovementKind
from live.domain.ids import BuyerId, HoldKey, OfferId, OrderId, ShowId, buyer_of
from live.domain.offer import Mode
from live.domain.outcomes import Outcome
from live.domain.payment import NewPayment, PaymentId, PaymentState, PricedLine
from live.domain.stock import OutboxBacklog, OutboxBatch
from live.ledger.db.pool import Pool
from live.ledger.money.payments import PaymentRows
from live.ledger.money.refunds import RefundWish, Returned
from live.ledger.settle.rebuild import read_show_stock
from live.ledger.settle.settler import Settler
from live.stock.engine import StockEngine
from live.stock.outbox import Outbox
from tests.support.answers import decoded, entries_by_stream

GROUP = "settlers"
PRICE = 1_500
SECRET = "a test's secret, not a real one"


@dataclass(frozen=True, slots=True)
class Buyer:
    """A person with one hold."""

    sub: str
    id: BuyerId
    key: HoldKey


def new_buyer(name: str = "") -> Buyer:
    sub = name or f"buyer-{uuid4().hex[:8]}"
    return Buyer(sub, buyer_of(sub, secret=SECRET), HoldKey(uuid4().bytes))


class StreamOutbox:
    """`OutboxPort` over one Redis stream per show."""

    def __init__(self, url: str) -> None:
        self.redis = redis.asyncio.from_url(url)
        self.seq = 1 << 40

    async def close(self) -> None:
        await self.redis.aclose()

    def stream(self, show: ShowId) -> str:
        return f"live:{{{show}}}:test-outbox"

    async def install(self, show: ShowId) -> None:
        await self.redis.xgroup_create(self.stream(show), GROUP, id="0", mkstream=True)

    def move(
        self,
        show: ShowId,
        kind: MovementKind,
        buyer: Buyer | None,
        *lines: Line,
        expires_at: int = 0,
        seq: int = 0,
        at: int = 1_700_000_000_000,
    ) -> Movement:
        """The next movement; `entry` is filled in when it is read."""
        self.seq += 1
        return Movement(
            show=show,
            seq=seq or self.seq,
            entry="",
            at=at,
            kind=kind,
            buyer=buyer.id if buyer else BuyerId(bytes(16)),
            key=buyer.key if buyer else HoldKey(bytes(16)),
            lines=lines or (Line(0, 1),),
            expires_at=expires_at,
        )

    async def add(self, *movements: Movement) -> str:
        """One stream entry with these movements."""
        body = orjson.dumps(
            [
                [one.seq, one.at, one.kind, one.buyer.hex(), one.key.hex(),
                 [[line.slot, line.qty] for line in one.lines], one.expires_at]
                for one in movements
            ]
        )  # fmt: skip
        entry = await self.redis.xadd(self.stream(movements[0].show), {b"b": body})
        return decoded(entry)

    async def read(
        self, shows: Sequence[ShowId], *, consumer: str, entries_max: int, block_ms: int
    ) -> list[OutboxBatch]:
        names = {self.stream(show).encode(): show for show in shows}
        found = await self.redis.xreadgroup(
            GROUP,
            consumer,
            {self.stream(show): ">" for show in shows},
            count=entries_max,
            block=block_ms,
        )
        return [
            _batch(names[name], entry, fields)
            for name, rows in entries_by_stream(found)
            for entry, fields in rows
        ]

    async def claim(
        self, show: ShowId, *, consumer: str, idle_ms_min: int, entries_max: int
    ) -> list[OutboxBatch]:
        found = await self.redis.xautoclaim(
            self.stream(show), GROUP, consumer, idle_ms_min, count=entries_max
        )
        return [_batch(show, entry, fields) for entry, fields in found[1]]

    async def ack(self, show: ShowId, entries: Sequence[str]) -> None:
        await self.redis.xack(self.stream(show), GROUP, *entries)

    async def trim(self, show: ShowId) -> None:
        first = await self.first_unsettled(show)
        if first is not None:
            await self.redis.xtrim(self.stream(show), minid=first)

    async def forget_consumers(self, show: ShowId, *, idle_ms: int) -> None:
        pass  # the real outbox' own tests look at it

    async def backlog(self, show: ShowId) -> OutboxBacklog:
        pending = await self.redis.xpending(self.stream(show), GROUP)
        return OutboxBacklog(await self.redis.xlen(self.stream(show)), pending["pending"], 0)

    def place_of(self, show: ShowId) -> str:
        return ""

    async def recreate_group(self, show: ShowId) -> None:
        try:
            await self.install(show)
        except redis.ResponseError:  # BUSYGROUP: it survived
            await self.redis.xgroup_setid(self.stream(show), GROUP, id="0")

    async def first_unsettled(self, show: ShowId) -> str | None:
        stream = self.stream(show)
        pending = await self.redis.xpending(stream, GROUP)
        if pending["pending"]:
            return decoded(pending["min"])
        group = (await self.redis.xinfo_groups(stream))[0]
        last = decoded(group["last-delivered-id"])
        after = await self.redis.xrange(stream, min=f"({last}", count=1)
        return decoded(after[0][0]) if after else None


def _batch(show: ShowId, entry: bytes, fields: dict[bytes, bytes]) -> OutboxBatch:
    movements = tuple(
        Movement(
            show=show,
            seq=seq,
            entry=entry.decode(),
            at=at,
            kind=MovementKind(kind),
            buyer=BuyerId(bytes.fromhex(buyer)),
            key=HoldKey(bytes.fromhex(key)),
            lines=tuple(Line(slot, qty) for slot, qty in lines),
            expires_at=expires_at,
        )
        for seq, at, kind, buyer, key, lines, expires_at in orjson.loads(fields[b"b"])
    )
    return OutboxBatch(show, entry.decode(), movements)


@dataclass(slots=True)
class Announced:
    """An `PublishPort` that remembers; the channel log's part is played by `by_key`."""

    events: list[tuple[Channel, Event, str]] = field(default_factory=list)

    async def __call__(self, channel: Channel, event: Event, *, key: str) -> None:
        self.events.append((channel, event, key))

    def by_key(self) -> dict[tuple[str, str], Event]:
        return {(channel.kind.value, key): event for channel, event, key in self.events}


@dataclass(slots=True)
class Mismatches:
    shows: list[ShowId] = field(default_factory=list)

    async def __call__(self, show: ShowId) -> None:
        self.shows.append(show)


async def make_show(pool: Pool, show: ShowId, *allotted: int) -> list[OfferId]:
    """A live show with one open offer per number."""
    await pool.execute(
        "INSERT INTO shows (id, title, status, currency) VALUES ($1, 'Test', 'live', 'EUR')", show
    )
    offers = []
    for slot, units in enumerate(allotted):
        sku, offer = f"{show}-sku-{slot}", OfferId(f"{show}-offer-{slot}")
        await pool.execute(
            """INSERT INTO products (sku, title, price_minor, currency, on_hand, allotted)
               VALUES ($1, 'Thing', $2, 'EUR', $3, $3)""",
            sku,
            PRICE,
            units,
        )
        await pool.execute(
            """INSERT INTO offers (id, show, slot, sku, title, price_minor, currency, mode, phase,
                                   quantity, allotted, per_buyer_limit, hold_seconds)
               VALUES ($1, $2, $3, $4, 'Thing', $5, 'EUR', 'hold', 'open', $6, $6, 10, 60)""",
            offer,
            show,
            slot,
            sku,
            PRICE,
            units,
        )
        await pool.execute(
            """INSERT INTO stock_movements (sku, offer, kind, qty)
               VALUES ($1, NULL, 'adjusted', $3), ($1, $2, 'allotted', $3)""",
            sku,
            offer,
            units,
        )
        offers.append(offer)
    return offers


def new_payment(
    show: ShowId, buyer: Buyer, *lines: Line, attempt: HoldKey | None = None
) -> NewPayment:
    units = lines or (Line(0, 1),)
    return NewPayment(
        id=PaymentId(str(uuid4())),
        order=OrderId(str(uuid4())),
        show=show,
        buyer=buyer.id,
        sub=buyer.sub,
        hold=buyer.key,
        attempt=attempt or HoldKey(uuid4().bytes),
        mode=Mode.HOLD,
        lines=tuple(PricedLine(line.slot, line.qty, PRICE) for line in units),
        amount_minor=sum(line.qty for line in units) * PRICE,
        currency="EUR",
        provider="sandbox",
        token="tok_approve",
        contact=b'{"name": "Ada"}',
    )


async def pay(rows: PaymentRows, show: ShowId, buyer: Buyer, *lines: Line) -> NewPayment:
    """An authorised payment for the buyer's hold."""
    new = new_payment(show, buyer, *lines)
    await rows.open_payment(new)
    await rows.record(new.id, PaymentState.AUTHORISED, ref=f"ref-{new.id}")
    return new


@dataclass(slots=True)
class Sale:
    """A show on sale: the real engine, its outbox, a settler that runs when told to."""

    pool: Pool
    show: ShowId
    engine: StockEngine
    outbox: Outbox
    settler: Settler
    rows: PaymentRows
    announced: Announced
    mismatches: Mismatches

    async def hold(self, buyer: Buyer, *lines: Line) -> None:
        units = lines or (Line(0, 1),)
        answer = await self.engine.hold(self.show, buyer.id, buyer.key, units)
        assert answer.outcome is Outcome.HELD, answer

    async def buy(self, buyer: Buyer, *lines: Line) -> NewPayment:
        """Hold, begin, authorise, confirm: as a checkout does; not settled yet."""
        await self.hold(buyer, *lines)
        await self.engine.begin(self.show, buyer.id, buyer.key, window_ms=60_000)
        new = await pay(self.rows, self.show, buyer, *lines)
        moved = await self.engine.confirm(self.show, buyer.id, buyer.key, lines or (Line(0, 1),))
        assert moved.done
        return new

    async def settle(self) -> None:
        await self.settler.drain(self.show)

    async def capture_all(self) -> None:
        for job in await self.rows.take_jobs(lease_ms=0, limit=1_000):
            await self.rows.finish_job(job)


async def open_sale(pool: Pool, redis_url: str, show: ShowId, *allotted: int) -> Sale:
    """A live show whose offers are open in Postgres and in Redis."""
    await make_show(pool, show, *allotted)
    engine, outbox = StockEngine(redis_url), Outbox(redis_url)
    await engine.open()
    await outbox.open()
    await engine.install_show(show, stock_epoch=1)
    for terms in (await read_show_stock(pool, show)).offers:
        await engine.apply_offer(terms)
    announced, mismatches = Announced(), Mismatches()
    settler = Settler(pool, outbox, announced, mismatches)
    return Sale(
        pool, show, engine, outbox, settler, PaymentRows(pool), announced, mismatches
    )  # fmt: skip


async def close_sale(sale: Sale) -> None:
    await sale.engine.close()
    await sale.outbox.close()


def wish(amount: int | None = None, *, restock: bool = False, **units: int) -> RefundWish:
    """What a host asks to be paid back; `units` of offers came back, by their ids."""
    items = tuple(Returned(OfferId(offer), qty) for offer, qty in units.items())
    return RefundWish(amount_minor=amount, reason="late", restock=restock, items=items)


def uuid_of(key: bytes) -> UUID:
    return UUID(bytes=key)


def failpoint_environment(name: str) -> dict[str, str]:
    return {**os.environ, "LIVE_FAILPOINT": name}


def make_settler(
    pool: Pool,
    outbox: StreamOutbox,
    *,
    announce: Announced | None = None,
    mismatches: Mismatches | None = None,
) -> Settler:
    return Settler(
        pool,
        outbox,
        announce or Announced(),
        mismatches or Mismatches(),
        claim_idle_ms_min=1,
    )  # fmt: skip


async def read_all(outbox: StreamOutbox, show: ShowId) -> list[OutboxBatch]:
    return await outbox.read([show], consumer="test", entries_max=1_000, block_ms=1)

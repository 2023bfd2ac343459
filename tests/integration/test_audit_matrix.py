"""Every column of every table and every field of every key of a show: a change of it is found, and
repaired or left to a person with a sentence; or it is written down why not.

Method: a small sale with something everywhere (audit_stage.py), copied for each test; one change
written past all guards; audit, repair, audit. A repair follows by its code: of each code the first
change is repaired, with `--long` each one (200 repairs take minutes).
"""

import asyncio
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, fields
from typing import cast
from uuid import uuid4

import asyncpg
import pytest
import redis.asyncio

import live.showlog.keys
from live.domain.ids import ShowId
from live.domain.offer import Stock
from live.domain.order import RefundState
from live.domain.payment import PaymentId, ProviderRefund, refund_key
from live.domain.stock import OfferNow, RecordNow, StockSnapshot
from live.ledger.audit.repair import repair
from live.ledger.audit.run import AuditReport, audit
from live.ledger.db.pool import Pool, open_pool
from live.stock.keys import GROUP, ShowKeys, show_keys
from live.stock.records import read_records
from live.stock.snapshot import MARK
from tests.conftest import MIGRATED
from tests.support import audit_matrix as matrix
from tests.support.answers import decoded
from tests.support.audit_matrix import Seen
from tests.support.audit_stage import Stage, come_back, set_stage
from tests.support.books import Books, charges_of
from tests.support.servers import Postgres, Valkey

pytestmark = pytest.mark.timeout(180)

Redis = redis.asyncio.Redis


@dataclass(frozen=True, slots=True)
class Original:
    """The sale that every test gets a copy of: a database and the keys of its show."""

    database: str
    show: ShowId
    keys: dict[bytes, bytes]
    books: Books


@pytest.fixture(scope="module")
def original(postgres: Postgres, valkey: Valkey) -> Iterator[Original]:
    yield asyncio.run(_make(postgres, valkey.url))


async def _make(postgres: Postgres, redis_url: str) -> Original:
    name, show = f"t{uuid4().hex}", ShowId(f"s{uuid4().hex[:12]}")
    await postgres.copy(MIGRATED, name)
    pool = await open_pool(postgres.url(name), command_timeout_seconds=20)
    stage = await set_stage(pool, redis_url, show)
    books = Books(await charges_of(pool))
    await stage.close()
    await pool.close()
    async with Redis.from_url(redis_url) as client:
        keys: dict[bytes, bytes] = {}
        async for key in client.scan_iter(f"live:{{{show}}}:*", count=1_000):
            keys[key] = await _dumped(client, key)
    return Original(name, show, keys, books)


async def _dumped(client: Redis, key: bytes) -> bytes:
    value = await client.dump(key)
    assert value is not None
    return value


@dataclass(slots=True)
class Copy:
    stage: Stage
    books: Books
    redis: Redis
    database_url: str
    repaired: set[str] | None  # codes, of this run; None: repair whatever was seen

    def repairs(self, code: str) -> bool:
        if self.repaired is None:
            return True
        first = code not in self.repaired
        self.repaired.add(code)
        return first

    @property
    def pool(self) -> Pool:
        return self.stage.sale.pool

    @property
    def show(self) -> ShowId:
        return self.stage.sale.show

    async def audit(self) -> AuditReport:
        sale = self.stage.sale
        return await audit(
            sale.pool,
            sale.engine,
            sale.outbox,
            [self.books],
            wait_seconds=0,
            states=self.stage.told,
        )

    async def refunds(self, payment: PaymentId) -> list[ProviderRefund]:
        """What the provider has paid back: those that are done here."""
        rows = await self.pool.fetch(
            """SELECT id, amount_minor FROM money_jobs
               WHERE payment = $1::text::uuid AND kind = 'refund' AND state = 'done'""",
            payment,
        )
        return [
            ProviderRefund(
                key=refund_key(payment, row["id"]),
                amount_minor=row["amount_minor"],
                state=RefundState.DONE,
            )
            for row in rows
        ]

    async def repair(self) -> list[str]:
        sale = self.stage.sale

        async def work() -> bool:
            jobs = await sale.rows.take_jobs(lease_ms=60_000, limit=100)
            for job in jobs:
                await sale.rows.finish_job(job)
            news = await sale.rows.take_refund_news(lease_ms=60_000, limit=100)
            for one in news:
                await sale.rows.record_refunds(one, await self.refunds(one.payment.id))
            return bool(jobs or news)

        done = await repair(
            sale.pool,
            stock=sale.engine,
            outbox=sale.outbox,
            settler=sale.settler,
            work=work,
            providers=(),
            states=self.stage.told,
            grace_seconds=0,
        )
        await sale.settle()
        # What the payment worker moved here, the provider moved as well.
        self.books = Books(await charges_of(sale.pool))
        return done


@pytest.fixture(scope="module")
def repaired(request: pytest.FixtureRequest) -> set[str] | None:
    return None if request.config.getoption("--long") else set()


@pytest.fixture
async def copy(
    original: Original, postgres: Postgres, redis_url: str, repaired: set[str] | None
) -> AsyncIterator[Copy]:
    name = f"t{uuid4().hex}"
    await postgres.copy(original.database, name)
    client = Redis.from_url(redis_url)
    async for key in client.scan_iter(f"live:{{{original.show}}}:*", count=1_000):
        await client.delete(key)
    for key, value in original.keys.items():
        await client.restore(key, 0, value)
    pool = await open_pool(postgres.url(name), command_timeout_seconds=20)
    for statement in _FRESH:  # however long ago the original was made
        await pool.execute(statement)
    stage = await come_back(pool, redis_url, original.show)
    yield Copy(stage, original.books, client, postgres.url(name), repaired)
    await stage.close()
    await pool.close()
    await client.aclose()
    await postgres.drop(name)


_FRESH = (
    "UPDATE payments SET lease_until = now() + interval '20 seconds', created_at = now()",
    "UPDATE money_jobs SET created_at = now(), due_at = now()",
    "UPDATE notices SET created_at = now(), due_at = now()",
)


async def expect(copy: Copy, code: str) -> None:
    """It is found under this code, every finding has its sentence, and after the repair it is
    right or a person's."""
    found = await copy.audit()
    assert code in {one.code for one in found.mend}, found.findings
    assert all(one.how for one in found.mend)
    if not copy.repairs(code):
        return
    allotted = await copy.pool.fetchval("SELECT sum(allotted) FROM offers")

    await copy.repair()
    after = await copy.audit()

    # Redis follows the ledger: where that contradicts itself, a person mends it first.
    if not any(one.who == "person" or "person" in one.how for one in after.mend):
        assert after.findings == (), found.findings
    assert await copy.pool.fetchval("SELECT sum(allotted) FROM offers") == allotted


async def test_stage_is_sound(copy: Copy) -> None:
    """Nothing is wrong with what the corruptions are played on, and a repair finds nothing."""
    before = await copy.audit()

    assert before.findings == ()
    assert [line for line in await copy.repair() if "capture" not in line] == []
    assert (await copy.audit()).findings == ()


# Postgres


async def test_every_column_has_an_entry(copy: Copy) -> None:
    """A column that the matrix does not know is one that nobody thought of."""
    rows = await copy.pool.fetch(
        """SELECT table_name, column_name FROM information_schema.columns
           WHERE table_schema = 'public'"""
    )
    there: dict[str, set[str]] = {}
    for row in rows:
        there.setdefault(row["table_name"], set()).add(row["column_name"])
    known = {
        table: there.get(table, set()) if isinstance(columns, str) else columns.keys() - {"*"}
        for table, columns in matrix.TABLES.items()
    }
    assert known == there


COLUMNS = [
    (table, column, seen)
    for table, columns in matrix.TABLES.items()
    if not isinstance(columns, str)
    for column, seen in columns.items()
    if isinstance(seen, Seen)
]


@pytest.mark.parametrize(
    ("table", "column", "seen"), COLUMNS, ids=[f"{table}-{column}" for table, column, _ in COLUMNS]
)
async def test_changed_column_is_found(copy: Copy, table: str, column: str, seen: Seen) -> None:
    """A value changed behind all guards, or a row that is gone, is told under the entry's code."""
    await _change(copy.database_url, table, column, seen)

    await expect(copy, seen.code)


async def _change(database_url: str, table: str, column: str, seen: Seen) -> None:
    connection = await asyncpg.connect(database_url)
    await connection.execute("SET session_replication_role = replica")  # no trigger, no reference
    row = f"ctid = (SELECT ctid FROM {table} WHERE {seen.where} LIMIT 1)"
    if column == "*":
        done = await connection.execute(f"DELETE FROM {table} WHERE {row}")
    else:
        kind = await connection.fetchval(
            """SELECT data_type FROM information_schema.columns
               WHERE table_schema = 'public' AND table_name = $1 AND column_name = $2""",
            table,
            column,
        )
        to = seen.to or _OTHER[kind].format(column)
        done = await connection.execute(f"UPDATE {table} SET {column} = {to} WHERE {row}")
    await connection.close()
    assert done.endswith(" 1"), f"{seen.where} names no row: {done}"


_OTHER = {
    "text": "coalesce({}, '') || 'x'",
    "integer": "{} + 1",
    "bigint": "{} + 1",
    "boolean": "NOT {}",
    "uuid": "gen_random_uuid()",
    "bytea": "substr(sha256({0}), 1, length({0}))",
    "timestamp with time zone": "{} + interval '1 hour'",
}


# Redis


def test_every_field_has_an_entry() -> None:
    """A key, a field of an offer or a record that the matrix does not know is a new one."""
    offer = {one.name for one in fields(OfferNow)} - {"stock"}
    offer |= {one.name for one in fields(Stock)}
    told = {name.removesuffix("_key") for name in dir(live.showlog.keys) if name.endswith("_key")}
    snapshot = {"mark", "stock_epoch", "seq", "offers_known", "longest_hold_seconds"}
    snapshot |= {"offers", "records", "alarms", "batch_alarms", "places"}

    assert offer == matrix.OFFER.keys()
    assert {one.name for one in fields(RecordNow)} == matrix.RECORD.keys()
    assert set(ShowKeys.__slots__) == matrix.KEYS.keys()
    assert told == matrix.TOLD_KEYS.keys()
    assert {one.name for one in fields(StockSnapshot)} == snapshot


async def test_every_field_of_meta_has_an_entry(copy: Copy) -> None:
    """The same for the one hash whose fields are names."""
    found = await copy.redis.hkeys(show_keys(copy.show).meta)
    assert {decoded(name) for name in found} | {"fence"} == matrix.META.keys()


@pytest.mark.parametrize("name", [name for name, code in matrix.META.items() if code])
async def test_changed_field_of_meta_is_found(copy: Copy, name: str) -> None:
    """The life of the stock, its counter and what it counts."""
    other = {"stock_epoch": b"7", "run_id": b"another", "ttl_max": b"5"}.get(name, b"0")
    await copy.redis.hset(show_keys(copy.show).meta, name, other)

    await expect(copy, matrix.META[name])


_PLACES = ("phase", "mode", "waitlist", "reserved", "version", "per_buyer_limit", "hold_seconds",
           "opens_at", "closes_at", "left", "held", "sold")  # fmt: skip


@pytest.mark.parametrize("name", matrix.OFFER)
async def test_changed_field_of_an_offer_is_found(copy: Copy, name: str) -> None:
    """What its host decided, and what buyers made of it."""
    layout, slot = struct.Struct(">BBB6sIHI6s6siII"), (0).to_bytes(2, "big")
    key = show_keys(copy.show).offers
    packed = await copy.redis.hget(key, slot)
    assert isinstance(packed, bytes)
    values = list(layout.unpack(packed))
    place = _PLACES.index(name)
    if isinstance(values[place], bytes):
        values[place] = (int.from_bytes(values[place], "big") + 1).to_bytes(6, "big")
    elif name in ("mode", "waitlist"):
        values[place] = 1 - values[place]
    else:
        values[place] += 1
    await copy.redis.hset(key, slot, layout.pack(*values))

    await expect(copy, matrix.OFFER[name])


@pytest.mark.parametrize("name", [name for name, code in matrix.RECORD.items() if code])
@pytest.mark.parametrize("state", [b"H", b"P", b"S", b"W", b"R"])
async def test_changed_field_of_a_record_is_found(copy: Copy, name: str, state: bytes) -> None:
    """A hold, a payment under way, a sale, a place in the line; of an ended one what repeats."""
    key = show_keys(copy.show).buyers
    buyer, value = await _value_with(copy, state)
    end = value.index(state, 21)
    match name:
        case "buyer":
            await copy.redis.hdel(key, buyer)
            buyer = bytes(16)
        case "key":
            value = bytes(16) + value[16:]
        case "state":
            value = value[:end] + (b"E" if state != b"E" else b"R") + value[end + 1 :]
            if state == b"P":
                value = value[: end + 7]
        case "lines":
            value = value[:20] + b"\x03" + value[21:]
        case "time":
            value = value[: end + 6] + bytes((value[end + 6] ^ 1,)) + value[end + 7 :]
    await copy.redis.hset(key, buyer, value)
    if (state, name) in HARMLESS:
        assert (await copy.audit()).ok
        return

    await expect(copy, CODES.get((state, name)) or CODES.get(state) or matrix.RECORD[name] or "")


HARMLESS = {(b"R", "buyer"), (b"R", "key"), (b"R", "time"), (b"S", "time")}
"""An ended record may be forgotten, which frees its key; only live ones have a time."""
CODES = {b"W": "stock_line", (b"P", "time"): "stock_alarms"}
"""Who waits is told by the line; a payment may end later than the journal says, if it ends."""


async def _value_with(copy: Copy, state: bytes) -> tuple[bytes, bytes]:
    """A buyer with one record, which is in this state."""
    found = cast(dict[bytes, bytes], await copy.redis.hgetall(show_keys(copy.show).buyers))
    for buyer, value in found.items():
        if buyer != MARK and [one.state.encode() for one in read_records(value)] == [state]:
            return buyer, value
    raise AssertionError(f"nobody is in state {state!r}")


@pytest.mark.parametrize("name", matrix.KEYS)
async def test_lost_key_is_found(copy: Copy, name: str) -> None:
    """Each of the keys of the stock, lost alone."""
    await copy.redis.delete(getattr(show_keys(copy.show), name))

    await expect(copy, matrix.KEYS[name])


async def test_lost_state_is_found(copy: Copy) -> None:
    """Viewers of a show on air who are told nothing."""
    await copy.redis.delete(live.showlog.keys.state_key(copy.show))

    await expect(copy, "show_told")


async def lose_group(copy: Copy) -> None:
    await copy.redis.xgroup_destroy(show_keys(copy.show).outbox, GROUP)


async def lose_batches(copy: Copy) -> None:
    """Entries that are settled, but that the reaper would need."""
    await copy.redis.xtrim(show_keys(copy.show).outbox, maxlen=0)


async def _members(copy: Copy, key: bytes) -> set[bytes]:
    return set(cast(list[bytes], await copy.redis.zrange(key, 0, -1))) - {MARK}


async def move_deadlines(copy: Copy) -> None:
    key = show_keys(copy.show).deadlines
    for member in await _members(copy, key):
        await copy.redis.zincrby(key, 1_000, member)


async def move_place(copy: Copy) -> None:
    key = show_keys(copy.show).wait
    (member,) = await _members(copy, key)
    await copy.redis.zincrby(key, 1, member)


async def stand_in_line_alone(copy: Copy) -> None:
    member = (0).to_bytes(2, "big") + bytes(16) + (1).to_bytes(2, "big")
    await copy.redis.zadd(show_keys(copy.show).wait, {member: 5})


async def write_nonsense(copy: Copy) -> None:
    await copy.redis.hset(show_keys(copy.show).buyers, bytes(16), b"x" * 30)


OTHER: dict[str, tuple[Callable[[Copy], Awaitable[None]], str]] = {
    "group": (lose_group, "stock_unread"),
    "batches": (lose_batches, "stock_alarms"),
    "deadlines": (move_deadlines, "stock_alarms"),
    "place": (move_place, "stock_line"),
    "stranger": (stand_in_line_alone, "stock_line"),
    "nonsense": (write_nonsense, "stock_unread"),
}


@pytest.mark.parametrize("name", OTHER)
async def test_changed_structure_is_found(copy: Copy, name: str) -> None:
    """What keys say together: deadlines, the line, the outbox and its group."""
    change, code = OTHER[name]
    await change(copy)

    await expect(copy, code)

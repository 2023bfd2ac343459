"""What the engine is measured against: the ways that everybody writes first, and bare movement.

Each rival does all that its way needs for one hold (stock, limit, repeat, record, outbox) and no
more; none is slowed down on purpose.
"""

import asyncio
from collections.abc import Awaitable, Callable
from secrets import token_hex
from typing import Final, Protocol

import asyncpg
import redis.asyncio

from live.base.errors import EngineError
from live.redis.connection import Reply
from live.stock.replies import as_bytes, as_list

Click = Callable[[bytes], Awaitable[object]]
CONNECTING_AT_ONCE: Final = 200  # below the backlog of a listening socket
PG_CONNECTIONS: Final = 20
UNITS: Final = 60_000  # of the rival with a row for each, put back before each of its loops

NAIVE_SCRIPT: Final = """
local known = redis.call('GET', KEYS[3])
if known then return known end
local left = tonumber(redis.call('HGET', KEYS[1], 'left'))
local mine = tonumber(redis.call('HGET', KEYS[2], ARGV[1]) or 0)
if left < 1 then return 'sold_out' end
if mine + 1 > tonumber(redis.call('HGET', KEYS[1], 'limit')) then return 'limit' end
redis.call('HINCRBY', KEYS[1], 'left', -1)
redis.call('HINCRBY', KEYS[2], ARGV[1], 1)
redis.call('HSET', KEYS[4], 'buyer', ARGV[1], 'qty', 1, 'state', 'held', 'expires', ARGV[2])
redis.call('ZADD', KEYS[5], ARGV[2], KEYS[4])
redis.call('SET', KEYS[3], 'held', 'EX', 600)
redis.call('XADD', KEYS[6], '*', 'buyer', ARGV[1], 'qty', 1, 'expires', ARGV[2])
return 'held'
"""

# HMGET, HSET and XADD of the bytes that a hold must move, in the fewest commands that can do it.
FLOOR_SCRIPT: Final = b"""
local blob, sub, ids, put = ARGV[1], string.sub, {}, {}
for i = 1, #blob / 37 do ids[i] = sub(blob, i * 37 - 36, i * 37 - 21) end
redis.call('HMGET', KEYS[1], unpack(ids))
for i = 1, #ids do
  put[2 * i - 1] = ids[i]
  put[2 * i] = sub(blob, i * 37 - 20, i * 37) .. '1234567'
end
redis.call('HSET', KEYS[1], unpack(put))
redis.call('XADD', KEYS[2], '*', 'b', blob)
return #ids
"""


class Commands(Protocol):
    """One pipelined connection; `live.stock.calls.Calls` is one."""

    async def send(self, *parts: bytes) -> Reply: ...


class Naive:
    """The classic script, one call for each click, through redis-py.

    A redis-py connection carries one command at a time and its pool raises beyond its size, so
    there is one connection for each buyer, opened before anything is measured.
    """

    def __init__(self, url: str, buyers: int) -> None:
        self._buyers = buyers
        self._redis = redis.asyncio.Redis.from_url(url, max_connections=buyers)
        self._script = self._redis.register_script(NAIVE_SCRIPT)
        self._prefix = f"live:{{bench-{token_hex(4)}}}:"
        self._opened: list[redis.asyncio.Connection] = []

    async def prepare(self) -> None:
        await self._redis.hset(f"{self._prefix}offer", mapping={"left": 10**9, "limit": 10})
        for first in range(0, self._buyers, CONNECTING_AT_ONCE):
            count = min(CONNECTING_AT_ONCE, self._buyers - first)
            pool = self._redis.connection_pool
            taken = [pool.get_connection() for _ in range(count)]  # type: ignore[no-untyped-call]  # redis-py's own gap
            self._opened += await asyncio.gather(*taken)
        for connection in self._opened:
            await self._redis.connection_pool.release(connection)

    async def click(self, buyer: bytes) -> object:
        name, prefix = buyer.hex(), self._prefix
        keys = [f"{prefix}offer", f"{prefix}counts", f"{prefix}key:{name}", f"{prefix}hold:{name}"]
        keys += [f"{prefix}deadlines", f"{prefix}stream"]
        return _sold(await self._script(keys=keys, args=[name, 1_900_000_000_000]))

    async def close(self) -> None:
        async for found in self._redis.scan_iter(match=f"{self._prefix}*", count=5_000):
            await self._redis.unlink(found)
        await self._redis.aclose()


class Postgres:
    """Two common ways to sell from one table: a counter row, and one row for each unit."""

    def __init__(self, pool: "asyncpg.Pool[asyncpg.Record]", units: int) -> None:
        self._pool = pool
        self._units = units
        self._schema = f"bench_{token_hex(4)}"

    @classmethod
    async def open(cls, url: str, *, units: int = UNITS) -> "Postgres":
        pool = await asyncpg.create_pool(url, min_size=PG_CONNECTIONS, max_size=PG_CONNECTIONS)
        rival = cls(pool, units)
        s = rival._schema
        await pool.execute(f"""
            CREATE SCHEMA {s};
            CREATE TABLE {s}.offers (id int PRIMARY KEY, available int CHECK (available >= 0));
            INSERT INTO {s}.offers VALUES (1, 1000000000);
            CREATE TABLE {s}.holds (buyer bytea PRIMARY KEY, offer int, qty int, at timestamptz);
            CREATE TABLE {s}.units (id serial PRIMARY KEY, buyer bytea);
            CREATE INDEX ON {s}.units (id) WHERE buyer IS NULL;
        """)
        await rival.restock()
        return rival

    async def restock(self) -> None:
        """All units of `skip_locked` are there again."""
        s = self._schema
        await self._pool.execute(f"""
            TRUNCATE {s}.units;
            INSERT INTO {s}.units (buyer) SELECT NULL FROM generate_series(1, {self._units});
            ANALYZE {s}.units;
        """)

    async def hot_row(self, buyer: bytes) -> object:
        s = self._schema
        async with self._pool.acquire() as connection, connection.transaction():
            taken = await connection.fetchval(
                f"UPDATE {s}.offers SET available = available - 1"
                " WHERE id = 1 AND available >= 1 RETURNING id"
            )
            _sold(taken)
            await connection.execute(f"INSERT INTO {s}.holds VALUES ($1, 1, 1, now())", buyer)
        return "held"

    async def skip_locked(self, buyer: bytes) -> object:
        s = self._schema
        return _sold(
            await self._pool.fetchval(
                f"UPDATE {s}.units SET buyer = $1 WHERE id = (SELECT id FROM {s}.units"
                " WHERE buyer IS NULL ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED) RETURNING id",
                buyer,
            )
        )

    async def close(self) -> None:
        await self._pool.execute(f"DROP SCHEMA {self._schema} CASCADE")
        await self._pool.close()


def _sold(answer: object) -> object:
    """A refusal is quicker than a sale, so it must not count as one. Raises EngineError."""
    if answer is None or answer in (b"sold_out", b"limit"):
        raise EngineError(f"a rival ran out of units and answered {answer!r}")
    return answer


class Floor:
    """Nothing but the bytes: what a hold would cost if nobody had to decide anything."""

    def __init__(self, commands: Commands) -> None:
        self._commands = commands
        self._prefix = f"live:{{bench-{token_hex(4)}}}:".encode()
        self._sha = b""

    async def prepare(self) -> None:
        self._sha = as_bytes(await self._commands.send(b"SCRIPT", b"LOAD", FLOOR_SCRIPT))

    async def move(self, blob: bytes) -> Reply:
        keys = (self._prefix + b"buyers", self._prefix + b"stream")
        return await self._commands.send(b"EVALSHA", self._sha, b"2", *keys, blob)

    async def close(self) -> None:
        await self._commands.send(b"UNLINK", self._prefix + b"buyers", self._prefix + b"stream")


async def cpu_seconds(commands: Commands) -> float:
    """CPU time of Redis' main thread since it started."""
    facts = await info(commands, b"cpu")
    return float(facts["used_cpu_user_main_thread"]) + float(facts["used_cpu_sys_main_thread"])


async def info(commands: Commands, section: bytes) -> dict[str, str]:
    text = as_bytes(await commands.send(b"INFO", section)).decode()
    lines = (line.partition(":") for line in text.splitlines() if ":" in line)
    return {name: value for name, _, value in lines}


async def unlink_shows(commands: Commands, prefix: bytes) -> None:
    """Remove the keys of measured shows."""
    cursor: bytes = b"0"
    while True:
        pattern = b"live:{" + prefix + b"*"
        page = as_list(await commands.send(b"SCAN", cursor, b"MATCH", pattern, b"COUNT", b"999"))
        cursor, found = as_bytes(page[0]), as_list(page[1])
        if found:
            await commands.send(b"UNLINK", *map(as_bytes, found))
        if cursor == b"0":
            return

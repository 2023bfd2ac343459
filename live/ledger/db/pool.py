"""The way to Postgres: one pool per process, and what may be repeated when it fails.

Always: every statement has a deadline, and so has the wait for a connection; a lost connection
costs the statement that ran on it and no other, the pool opens a new one by itself. A process that
is frozen or cut off in a transaction loses it, and its locks, within seconds.
Called by: every module of the ledger; on the event loop.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import asyncpg

from live.base import keepalive as links

if TYPE_CHECKING:  # asyncpg's classes take parameters in its stubs only
    from asyncpg.pool import PoolAcquireContext, PoolConnectionProxy

    type_of_pool = asyncpg.Pool[asyncpg.Record]
    type_of_connection = asyncpg.Connection[asyncpg.Record] | PoolConnectionProxy[asyncpg.Record]
    type_of_asyncpg_connection = asyncpg.Connection[asyncpg.Record]
else:
    type_of_pool = asyncpg.Pool
    type_of_connection = asyncpg.Connection
    type_of_asyncpg_connection = asyncpg.Connection

Pool = type_of_pool
Connection = type_of_connection
T = TypeVar("T")

POOL_SIZE_MIN = 1
POOL_SIZE_MAX = 8  # per process, where LIVE_DATABASE_POOL says nothing else
COMMAND_TIMEOUT_SECONDS = 2.0  # a checkout answers within 3 s, and this is most of its wait
CONNECT_TIMEOUT_SECONDS = 5.0
# A hanging statement frees its connection after 2 s: a pool that has none for so long is stuck,
# and whoever waits for it must let go of what it holds.
ACQUIRE_TIMEOUT_SECONDS = 5.0
IDLE_CONNECTION_SECONDS = 300.0
QUERIES_A_CONNECTION_MAX = 50_000  # asyncpg's own default; it then opens a fresh one
TRANSACTION_TRIES_MAX = 3

DATABASE_ERRORS = (
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,
    asyncio.TimeoutError,
)
"""Everything that a call to Postgres may fail with; measured, not only documented."""

DATA_FAULTS = (asyncpg.IntegrityConstraintViolationError, asyncpg.DataError, asyncpg.RaiseError)
"""The statement itself is refused, so a repeat is refused, too."""

_DATA_CLASSES = frozenset({"21", "22", "23", "44", "P0"})
"""SQLSTATE classes of a fault in what was asked. All others are faults of the server, of rights or
of our schema, or of somebody in the way: they are mended without the data changing."""

_REPEATABLE = (
    # After ALTER TABLE each connection's prepared statements fail once.
    asyncpg.InvalidCachedStatementError,
    asyncpg.DeadlockDetectedError,
    asyncpg.SerializationError,
)


IDLE_IN_TRANSACTION_SECONDS = 5  # a step of ours between two statements takes milliseconds

_SESSION = f"""
SET idle_in_transaction_session_timeout = '{IDLE_IN_TRANSACTION_SECONDS}s';
SET tcp_keepalives_idle = {links.IDLE_SECONDS};
SET tcp_keepalives_interval = {links.ASK_EVERY_SECONDS};
SET tcp_keepalives_count = {links.UNANSWERED_MAX};
SET tcp_user_timeout = {links.UNACKNOWLEDGED_MS};"""
"""What the server does where we fall silent. Statements, not parameters of the start: those would
keep out PgBouncer, which refuses what it does not know."""


class _WatchedConnection(type_of_asyncpg_connection):
    """Both ends of it give up on a silent other end."""

    # Any: asyncpg calls this with parts of its own, which go through as they are.
    def __init__(self, protocol: Any, transport: asyncio.Transport, *rest: Any) -> None:
        super().__init__(protocol, transport, *rest)
        links.watch_link(transport)

    def get_reset_query(self) -> str:
        """Nothing, which saves a round trip at each return to the pool.

        No work here leaves anything behind in its session (no SET, LISTEN or lock but of the
        transaction), and asyncpg ends a transaction that was left open in any case.
        """
        return ""


async def _introduce(connection: Connection) -> None:
    await connection.execute(_SESSION)


class _ImpatientPool(type_of_pool):
    """Every wait for a connection ends, also that of `fetch` and its like, which ask here."""

    def acquire(
        self, *, timeout: float | None = None
    ) -> "PoolAcquireContext[asyncpg.Record]":  # Raises TimeoutError
        return super().acquire(timeout=ACQUIRE_TIMEOUT_SECONDS if timeout is None else timeout)


def make_pool(
    url: str, *, size: int = POOL_SIZE_MAX, command_timeout_seconds: float = COMMAND_TIMEOUT_SECONDS
) -> Pool:
    """Make a pool of at most `size` connections; `await` or `async with` opens it."""
    return _ImpatientPool(
        url,
        loop=None,
        connection_class=_WatchedConnection,
        init=_introduce,
        record_class=asyncpg.Record,
        max_queries=QUERIES_A_CONNECTION_MAX,
        min_size=POOL_SIZE_MIN,
        max_size=size,
        command_timeout=command_timeout_seconds,
        timeout=CONNECT_TIMEOUT_SECONDS,
        max_inactive_connection_lifetime=IDLE_CONNECTION_SECONDS,
    )


def is_transient(error: Exception) -> bool:
    """Whether the same call may succeed later: the engine failed, not what it was asked."""
    if isinstance(error, asyncpg.PostgresError):
        return (error.sqlstate or "XX")[:2] not in _DATA_CLASSES
    if isinstance(error, ValueError):
        return False  # asyncpg's own refusal of an argument is an InterfaceError, too
    return isinstance(error, DATABASE_ERRORS)


async def open_pool(
    url: str, *, size: int = POOL_SIZE_MAX, command_timeout_seconds: float = COMMAND_TIMEOUT_SECONDS
) -> Pool:
    """Open a pool at once. Raises one of DATABASE_ERRORS."""
    return await make_pool(url, size=size, command_timeout_seconds=command_timeout_seconds)


async def in_transaction(
    pool: Pool,
    work: Callable[[Connection], Awaitable[T]],
    *,
    isolation: Literal["read_committed", "repeatable_read"] = "read_committed",
    readonly: bool = False,
) -> T:
    """Run `work` in one transaction; once more where Postgres says that a repeat may succeed.

    `work` must have no effect outside of its connection.
    """
    for left in reversed(range(TRANSACTION_TRIES_MAX)):
        try:
            async with (
                pool.acquire() as connection,
                connection.transaction(isolation=isolation, readonly=readonly),
            ):
                return await work(connection)
        except _REPEATABLE:
            if not left:
                raise
    raise AssertionError("the last try returns or raises")

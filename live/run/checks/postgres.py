"""Whether a Postgres answers, and whether it is one that this service may rely on.

Used for configured URLs, for adopted engines and by `live doctor`. An error never shows a password.
What is in it (schema, rights on tables) is the ledger's to judge: live/ledger/db/fitness.py.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from time import time

import asyncpg

from live.aio.apart import run_apart
from live.base.errors import EngineError, EngineLoading, reason_of
from live.run.checks.urls import numbers, shown

POSTGRES_MIN = (14,)
ANSWER_SECONDS = 5  # a server that takes longer to say hello cannot serve a flash sale
ASKS = 3  # a pooler that takes turns over two servers gives itself away at the second question

FAULTS = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError)


@dataclass(frozen=True, slots=True)
class PostgresFacts:
    """`connections`: how many our role may have at once, other people's not counted.

    `ahead_ms`: its clock against this machine's; known to half a round trip.
    """

    version: str
    connections: int
    ahead_ms: int


def check_postgres(url: str) -> PostgresFacts:
    """Raises EngineError unless it answers, is recent enough, writes and keeps sessions.

    EngineLoading while it is starting up.
    """
    return run_apart(_check(url))


async def _check(url: str) -> PostgresFacts:
    try:
        async with _session(url) as first, _session(url) as second:
            facts = await _read(first, url)
            seen = [await _backend(first) for _ in range(ASKS)]
            if len(set(seen)) > 1 or await _backend(second) in seen:
                raise EngineError(_pooled(url), fix=USE_SESSIONS)
            return facts
    except asyncpg.CannotConnectNowError as error:
        raise EngineLoading(f"Postgres at {shown(url)}: {error}") from error
    except (*FAULTS, TimeoutError) as error:
        if "statement pooling" in str(error):  # PgBouncer's own refusal of a transaction
            raise EngineError(_pooled(url), fix=USE_SESSIONS) from error
        text = f"Postgres at {shown(url)} does not answer: {reason_of(error)}"
        raise EngineError(text, fix="start it, or mend LIVE_DATABASE_URL") from error


USE_SESSIONS = "let LIVE_DATABASE_URL name Postgres itself, or a pool with pool_mode=session"


def _pooled(url: str) -> str:
    return (
        f"Postgres at {shown(url)} is behind a pooler that gives each transaction another session, "
        f"and the service needs sessions: it holds locks and prepared statements in them"
    )


@asynccontextmanager
async def _session(
    url: str,
) -> "AsyncIterator[asyncpg.Connection[asyncpg.Record]]":
    # No statement is kept: behind a pooler its name may be another client's.
    connection = await asyncpg.connect(
        url, timeout=ANSWER_SECONDS, command_timeout=ANSWER_SECONDS, statement_cache_size=0
    )
    try:
        yield connection
    finally:
        await connection.close(timeout=ANSWER_SECONDS)


async def _backend(connection: "asyncpg.Connection[asyncpg.Record]") -> object:
    async with connection.transaction():  # asyncpg asks in two steps, and both need one session
        return await connection.fetchval("SELECT pg_backend_pid()")


async def _read(connection: "asyncpg.Connection[asyncpg.Record]", url: str) -> PostgresFacts:
    asked_at = time()
    async with connection.transaction():
        row = await connection.fetchrow(_FACTS)
    assert row is not None, "it has no WHERE"
    ours_ms = (asked_at + time()) / 2 * 1000
    version = row["version"].split()[0]
    if numbers(version) < POSTGRES_MIN:
        raise EngineError(f"Postgres at {shown(url)} is {version}; 14 or later is needed")
    if row["standby"]:
        text = f"Postgres at {shown(url)} is a standby and cannot be written to"
        raise EngineError(text, fix="let LIVE_DATABASE_URL name the primary")
    if row["read_only"]:
        text = f"Postgres at {shown(url)} lets {row['role']} only read"
        raise EngineError(text, fix=f"default_transaction_read_only must be off for {row['role']}")
    return PostgresFacts(version, row["connections"], round(row["now_ms"] - ours_ms))


# A superuser has no limit of their own, but no service should be one.
_FACTS = """
    SELECT current_setting('server_version') AS version,
           pg_is_in_recovery() AS standby,
           current_setting('default_transaction_read_only')::bool AS read_only,
           current_user::text AS role,
           (SELECT min(bound)::int FROM (VALUES
               (current_setting('max_connections')::int
                - current_setting('superuser_reserved_connections')::int
                - coalesce(current_setting('reserved_connections', true), '0')::int),
               ((SELECT nullif(rolconnlimit, -1) FROM pg_roles WHERE rolname = current_user)),
               ((SELECT nullif(datconnlimit, -1) FROM pg_database
                 WHERE datname = current_database()))
            ) AS bounds (bound)) AS connections,
           extract(epoch FROM clock_timestamp())::float8 * 1000 AS now_ms
"""

"""Migrations: numbered SQL files, forward only, each applied once in a transaction of its own.

Always: a file that was applied is never applied again, and one that was edited afterwards is an
error; two runners at once apply each file once (session advisory lock).
Called by: `live migrate`, `live demo`, tests.
"""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

import asyncpg

from live.base.errors import EngineError
from live.ledger.db.pool import CONNECT_TIMEOUT_SECONDS, Connection

DIRECTORY = Path(__file__).with_name("migrations")
LOCK = 0x6C697665_6D696772  # "livemigr": one runner at a time in this database
TRIES_MAX = 5  # a migration that met its lock_timeout waits for a quieter moment
TIMEOUT_SECONDS = 60.0  # above every file's own statement_timeout

_NAME = re.compile(r"\d{4}_[a-z0-9_]+\.sql\Z")

_APPLIED = "SELECT name, checksum FROM public.migrations"

_NOTE_APPLIED = "INSERT INTO migrations (name, checksum) VALUES ($1, $2)"


@dataclass(frozen=True, slots=True)
class Migration:
    name: str
    sql: str

    @property
    def checksum(self) -> str:
        return hashlib.sha256(self.sql.encode()).hexdigest()


def read_migrations(directory: Path = DIRECTORY) -> list[Migration]:
    """All files by number. Raises EngineError on a bad name or a number that is taken twice."""
    found: list[Migration] = []
    for path in sorted(directory.glob("*.sql")):
        if not _NAME.match(path.name):
            raise EngineError(f"migration {path.name} is not named like 0001_initial.sql")
        if found and found[-1].name[:4] == path.name[:4]:
            raise EngineError(f"migrations {found[-1].name} and {path.name} have the same number")
        found.append(Migration(path.name, path.read_text(encoding="utf-8")))
    return found


async def migrate(url: str, directory: Path = DIRECTORY) -> list[str]:
    """Apply what is missing; returns the names applied.

    Raises EngineError on an edited file, and where our role may not change the schema.
    """
    migrations = read_migrations(directory)
    connection = await asyncpg.connect(
        url, timeout=CONNECT_TIMEOUT_SECONDS, command_timeout=TIMEOUT_SECONDS
    )
    try:
        await connection.execute("SELECT pg_advisory_lock($1)", LOCK)
        known = await _known(connection)
        _refuse_edited(migrations, known or {})
        missing = [migration for migration in migrations if migration.name not in (known or {})]
        if known is None:
            await connection.execute(_TABLE)
        for migration in missing:
            await _apply(connection, migration)
        return [migration.name for migration in missing]
    except asyncpg.InsufficientPrivilegeError as error:
        raise EngineError(
            f"this role may not migrate the database: {error}",
            fix="run `live migrate` as the owner of the tables, who may create in schema public",
        ) from error
    finally:
        await connection.close()  # and with the session goes its lock


async def pending(connection: Connection, directory: Path = DIRECTORY) -> list[str]:
    """Names of the migrations that this database still lacks; changes nothing."""
    names = [migration.name for migration in read_migrations(directory)]
    known = await _known(connection) or {}
    return [name for name in names if name not in known]


async def refuse_edited(connection: Connection, directory: Path = DIRECTORY) -> None:
    """Raises EngineError where a file was edited after it had been applied."""
    _refuse_edited(read_migrations(directory), await _known(connection) or {})


_TABLE = """CREATE TABLE IF NOT EXISTS migrations (
    name       text PRIMARY KEY,
    checksum   text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
)"""


async def _known(connection: Connection) -> dict[str, str] | None:
    """Name -> checksum of what was applied; None where not even the table is there.

    Looked for first: who has nothing to apply needs no right to make it.
    """
    if await connection.fetchval("SELECT to_regclass('public.migrations')") is None:
        return None
    try:
        rows = await connection.fetch(_APPLIED)
    except asyncpg.InsufficientPrivilegeError as error:
        role = await connection.fetchval("SELECT current_user::text")
        raise EngineError(
            f"the role {role} may not read the table of migrations",
            fix=f"run `live migrate --grant {role}` as the role that owns it",
        ) from error
    return {row["name"]: row["checksum"] for row in rows}


def _refuse_edited(migrations: list[Migration], known: dict[str, str]) -> None:
    for migration in migrations:
        if known.get(migration.name, migration.checksum) != migration.checksum:
            raise EngineError(
                f"migration {migration.name} was edited after it had been applied; "
                "put it back and write a new one"
            )


async def _apply(connection: Connection, migration: Migration) -> None:
    for left in reversed(range(TRIES_MAX)):
        try:
            async with connection.transaction():
                await connection.execute(migration.sql)
                await connection.execute(_NOTE_APPLIED, migration.name, migration.checksum)
            return
        except asyncpg.LockNotAvailableError:
            if not left:
                raise

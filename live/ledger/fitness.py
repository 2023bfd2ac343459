"""Whether a database may be served from: its schema is whole, and our role may do what it must.

Changes nothing. Asked by `live serve`, `live audit` and `live import` before they begin, and by
`live doctor`, so that what one calls good the others start on.
"""

import re
from collections.abc import Iterable
from functools import cache

import asyncpg

from live.errors import EngineError
from live.ledger.migrate import pending, read_migrations, refuse_edited
from live.ledger.pool import CONNECT_TIMEOUT_S, Connection

READS = ("SELECT",)
APPENDS = ("SELECT", "INSERT")
WRITES = ("SELECT", "INSERT", "UPDATE", "DELETE")

_RIGHTS = {
    "migrations": READS,
    "host_actions": APPENDS,
    "stock_movements": APPENDS,
    "payment_entries": APPENDS,
}
"""Tables whose rows the service never changes; it may do so to those of all others."""


@cache
def tables() -> tuple[str, ...]:
    """Every table that the migrations make, and their own."""
    text = "\n".join(migration.sql for migration in read_migrations())
    made = re.findall(r"^CREATE TABLE (?:IF NOT EXISTS )?(\w+)", text, re.MULTILINE)
    dropped = re.findall(r"^DROP TABLE (?:IF EXISTS )?(\w+)", text, re.MULTILINE)
    return ("migrations", *(name for name in made if name not in dropped))


def rights_on(table: str) -> tuple[str, ...]:
    """What serving needs of a table."""
    return _RIGHTS.get(table, WRITES)


async def check_ledger(url: str, *, used: bool = False) -> None:
    """Raises EngineError that names what keeps the service from working on this database.

    `used`: also where no show was ever made in it, since a wrong URL has nothing to prove.
    """
    connection = await asyncpg.connect(url, timeout=CONNECT_TIMEOUT_S)
    try:
        await _check(connection)
        if used and not await connection.fetchval("SELECT EXISTS (SELECT FROM shows)"):
            raise EngineError("this ledger is empty: no show was ever made in it, nothing to prove")
    finally:
        await connection.close(timeout=CONNECT_TIMEOUT_S)


async def _check(connection: Connection) -> None:
    role = await connection.fetchval("SELECT current_user::text")
    missing = await pending(connection)
    if missing:
        raise EngineError(
            f"{len(missing)} migrations are not applied, the first is {missing[0]}",
            fix="run `live migrate`" + await _who_may_migrate(connection, role),
        )
    lacking = await _lacking(connection, tables())
    if lacking:
        raise EngineError(
            f"the role {role} has no right to {', '.join(lacking)}",
            fix=f"run `live migrate --grant {role}` as the role that owns the tables",
        )
    await refuse_edited(connection)


async def _who_may_migrate(connection: Connection, role: str) -> str:
    if await connection.fetchval("SELECT has_schema_privilege('public', 'CREATE')"):
        return ""
    return (
        f", as another role or after GRANT CREATE ON SCHEMA public TO {role}: "
        f"{role} may not make tables"
    )


async def _lacking(connection: Connection, names: Iterable[str]) -> list[str]:
    wanted = [(name, right) for name in names for right in rights_on(name)]
    rows = await connection.fetch(
        """SELECT wanted.name, string_agg(wanted.right, '/') AS rights
           FROM unnest($1::text[], $2::text[]) AS wanted (name, "right")
           WHERE NOT has_table_privilege(format('public.%I', wanted.name), wanted.right)
           GROUP BY wanted.name ORDER BY wanted.name""",
        [name for name, _ in wanted],
        [right for _, right in wanted],
    )
    return [f"{row['rights']} {row['name']}" for row in rows]


async def grant(url: str, role: str) -> None:
    """Give a role what serving needs, on all tables that are there. Raises EngineError."""
    connection = await asyncpg.connect(url, timeout=CONNECT_TIMEOUT_S)
    try:
        quoted = await connection.fetchval("SELECT quote_ident($1)", role)
        async with connection.transaction():
            await connection.execute(f"GRANT USAGE ON SCHEMA public TO {quoted}")
            await connection.execute(
                f"GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA public TO {quoted}"
            )
            for table in tables():
                # What an older version gave, or a person, is taken back: exactly these rights.
                await connection.execute(f"REVOKE ALL ON {table} FROM {quoted}")
                rights = ", ".join(rights_on(table))
                await connection.execute(f"GRANT {rights} ON {table} TO {quoted}")
    except (asyncpg.UndefinedObjectError, asyncpg.InsufficientPrivilegeError) as error:
        raise EngineError(f"the rights of {role} cannot be given: {error}") from error
    finally:
        await connection.close(timeout=CONNECT_TIMEOUT_S)

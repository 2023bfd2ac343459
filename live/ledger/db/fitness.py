"""Whether a database may be served from: its schema is whole, and our role may do what it must.

Changes nothing. Asked by `live serve`, `live audit` and `live import` before they begin, and by
`live doctor`, so that what one calls good the others start on.
"""

import re
from collections.abc import Iterable
from functools import cache

import asyncpg

from live.base.errors import EngineError
from live.ledger.db.migrate import pending, read_migrations, refuse_edited
from live.ledger.db.pool import CONNECT_TIMEOUT_SECONDS, Connection

READS = ("SELECT",)
APPENDS = ("SELECT", "INSERT")
KEEPS = ("SELECT", "INSERT", "UPDATE")
LISTS = ("SELECT", "INSERT", "DELETE")
FORGETS = ("SELECT", "INSERT", "UPDATE", "DELETE")
RIGHTS = ("SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER")

JUDGED = {
    "migrations": READS,
    # The books: nothing of them is ever deleted, and what is append-only never changed.
    "host_actions": APPENDS,
    "stock_movements": APPENDS,
    "payment_entries": APPENDS,
    "order_items": APPENDS,
    "shipment_items": APPENDS,
    "return_items": APPENDS,
    "withdrawals": APPENDS,
    "shop_references": APPENDS,
    "products": KEEPS,
    "shows": KEEPS,
    "offers": KEEPS,
    "orders": KEEPS,
    "payments": KEEPS,
    "money_jobs": KEEPS,
    "shipments": KEEPS,
    "returns": KEEPS,
    # One row for each thing that is watched.
    "audit_results": KEEPS,
    "audit_marks": KEEPS,
    "leases": KEEPS,
    "event_sequence": KEEPS,
    # What is taken off when it is done.
    "stock_doubts": LISTS,
    "sales_to_undo": LISTS,
    # What is forgotten (housekeeping.py), lifted, delivered or proved anew.
    "audit_proofs": FORGETS,
    "bans": FORGETS,
    "deliveries": FORGETS,
    "event_replays": FORGETS,
    "events": FORGETS,
    "holds": FORGETS,
    "idempotency": FORGETS,
    "notices": FORGETS,
    "poison": FORGETS,
    "revocations": FORGETS,
    "waitlist": FORGETS,
    "webhook_secrets": FORGETS,
    "webhooks": FORGETS,
    "webhook_events": FORGETS,  # never changed, but FOR UPDATE takes the right to
}
"""Each table by name, since a right by default is one that nobody thought of."""

_IS_OWNER = """
SELECT pg_has_role($1::text::name, relowner, 'USAGE')
FROM pg_class WHERE oid = 'public.orders'::regclass"""

_RIGHTS_BEYOND = """
SELECT had.name, string_agg(had.right, '/') AS rights
FROM unnest($1::text[], $2::text[]) AS had (name, "right")
WHERE has_table_privilege(format('public.%I', had.name), had.right)
GROUP BY had.name ORDER BY had.name"""

_READABLE = "SELECT EXISTS (SELECT FROM shows)"

_MAY_CREATE = "SELECT has_schema_privilege('public', 'CREATE')"

_RIGHTS_MISSING = """
SELECT wanted.name, string_agg(wanted.right, '/') AS rights
FROM unnest($1::text[], $2::text[]) AS wanted (name, "right")
WHERE NOT has_table_privilege(format('public.%I', wanted.name), wanted.right)
GROUP BY wanted.name ORDER BY wanted.name"""


@cache
def tables() -> tuple[str, ...]:
    """Every table that the migrations make, and their own."""
    text = "\n".join(migration.sql for migration in read_migrations())
    made = re.findall(r"^CREATE TABLE (?:IF NOT EXISTS )?(\w+)", text, re.MULTILINE)
    dropped = re.findall(r"^DROP TABLE (?:IF EXISTS )?(\w+)", text, re.MULTILINE)
    return ("migrations", *(name for name in made if name not in dropped))


def rights_on(table: str) -> tuple[str, ...]:
    """What serving needs of a table; of one that nobody judged, to read and append."""
    return JUDGED.get(table, APPENDS)


async def more_than_needed(url: str) -> tuple[str, list[str]]:
    """Our role, and what it may do to tables beyond `rights_on`, as `DELETE orders`.

    Nothing where it owns the tables: who has one account alone cannot take it away.
    """
    connection = await asyncpg.connect(url, timeout=CONNECT_TIMEOUT_SECONDS)
    try:
        role = await connection.fetchval("SELECT current_user::text")
        if await _owns(connection, role):
            return role, []
        return role, await _beyond(connection)
    finally:
        await connection.close(timeout=CONNECT_TIMEOUT_SECONDS)


async def _owns(connection: Connection, role: str) -> bool:
    """Whether a role is the tables' owner, is a member of it, or may do everything anyway."""
    return bool(await connection.fetchval(_IS_OWNER, role))


async def _beyond(connection: Connection) -> list[str]:
    spare = [(name, one) for name in tables() for one in RIGHTS if one not in rights_on(name)]
    rows = await connection.fetch(
        _RIGHTS_BEYOND, [name for name, _ in spare], [right for _, right in spare]
    )
    return [f"{row['rights']} {row['name']}" for row in rows]


async def check_ledger(url: str, *, used: bool = False) -> None:
    """Raises EngineError that names what keeps the service from working on this database.

    `used`: also where no show was ever made in it, since a wrong URL has nothing to prove.
    """
    connection = await asyncpg.connect(url, timeout=CONNECT_TIMEOUT_SECONDS)
    try:
        await _check(connection)
        if used and not await connection.fetchval(_READABLE):
            raise EngineError("this ledger is empty: no show was ever made in it, nothing to prove")
    finally:
        await connection.close(timeout=CONNECT_TIMEOUT_SECONDS)


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
    if await connection.fetchval(_MAY_CREATE):
        return ""
    return (
        f", as another role or after GRANT CREATE ON SCHEMA public TO {role}: "
        f"{role} may not make tables"
    )


async def _lacking(connection: Connection, names: Iterable[str]) -> list[str]:
    wanted = [(name, right) for name in names for right in rights_on(name)]
    rows = await connection.fetch(
        _RIGHTS_MISSING, [name for name, _ in wanted], [right for _, right in wanted]
    )
    return [f"{row['rights']} {row['name']}" for row in rows]


async def grant(url: str, role: str) -> None:
    """Give a role what serving needs, on all tables that are there, and nothing else of them.

    Raises EngineError, also for a role that owns the tables: it would take its own rights away.
    """
    connection = await asyncpg.connect(url, timeout=CONNECT_TIMEOUT_SECONDS)
    try:
        if await _owns(connection, role):
            raise EngineError(
                f"the role {role} owns the tables, or may do everything anyway",
                fix="grant to a lesser role, one that owns nothing",
            )
        quoted = await connection.fetchval("SELECT quote_ident($1)", role)
        async with connection.transaction():
            # What an older version gave, or a person, is taken back first.
            await connection.execute(f"REVOKE ALL ON ALL TABLES IN SCHEMA public FROM {quoted}")
            await connection.execute(f"REVOKE ALL ON ALL SEQUENCES IN SCHEMA public FROM {quoted}")
            await connection.execute(f"GRANT USAGE ON SCHEMA public TO {quoted}")
            await connection.execute(
                f"GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA public TO {quoted}"
            )
            for table in tables():
                rights = ", ".join(rights_on(table))
                await connection.execute(f"GRANT {rights} ON {table} TO {quoted}")
    except (asyncpg.UndefinedObjectError, asyncpg.InsufficientPrivilegeError) as error:
        raise EngineError(f"the rights of {role} cannot be given: {error}") from error
    finally:
        await connection.close(timeout=CONNECT_TIMEOUT_SECONDS)

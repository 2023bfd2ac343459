"""The lesser account of Postgres: what it may do to each table, and that the service needs no more.

Method: a role with exactly what `live migrate --grant` gives tries everything on every table; what
it may do is held against a list, and the list against the statements in the source.
"""

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import asyncpg
import pytest

import live
from live.base.errors import EngineError
from live.base.settings import Settings
from live.ledger.db.fitness import JUDGED, RIGHTS, grant, more_than_needed, rights_on, tables
from live.ledger.db.migrate import migrate
from live.ledger.db.pool import open_pool
from live.ledger.housekeeping import keep_house
from live.run.doctor import examine
from tests.support.servers import Postgres, Valkey

BOOKS = {
    *("orders", "order_items", "payments", "payment_entries", "money_jobs", "stock_movements"),
    *("host_actions", "products", "shows", "offers", "migrations"),
}
APPENDED = {"host_actions", "stock_movements", "payment_entries", "order_items"}


async def run(url: str, *statements: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


@pytest.fixture
def role(postgres: Postgres) -> Iterator[str]:
    name = f"r{uuid4().hex[:8]}"
    asyncio.run(run(postgres.url(), f"CREATE ROLE {name} LOGIN"))
    yield name
    asyncio.run(run(postgres.url(), f"DROP ROLE {name}"))


@pytest.fixture
def ledger(database_url: str, role: str) -> Iterator[str]:
    """A migrated database, for its owner."""
    asyncio.run(migrate(database_url))
    yield database_url
    asyncio.run(run(database_url, f"DROP OWNED BY {role}"))


def as_role(url: str, role: str) -> str:
    return url.replace("live@", f"{role}@")


async def refused(connection: asyncpg.Connection, statement: str) -> bool:
    """Whether Postgres refuses it for want of rights; what else it says does not matter."""
    transaction = connection.transaction()
    await transaction.start()
    try:
        await connection.execute(statement)
    except asyncpg.InsufficientPrivilegeError:
        return True
    except asyncpg.PostgresError:
        return False
    finally:
        await transaction.rollback()
    return False


async def may_do(url: str) -> dict[str, set[str]]:
    """By trying it: which of these each table takes from this role."""
    connection = await asyncpg.connect(url)
    found = {}
    for table in tables():
        column = await connection.fetchval(
            """SELECT attname FROM pg_attribute
               WHERE attrelid = $1::text::regclass AND attnum > 0 AND NOT attisdropped
                 AND attidentity = '' LIMIT 1""",
            table,
        )
        tried = {
            "SELECT": f"SELECT FROM {table} LIMIT 1",
            "INSERT": f"INSERT INTO {table} DEFAULT VALUES",
            "UPDATE": f"UPDATE {table} SET {column} = NULL WHERE false",
            "DELETE": f"DELETE FROM {table}",
            "TRUNCATE": f"TRUNCATE {table} CASCADE",
        }
        found[table] = {
            right for right, text in tried.items() if not await refused(connection, text)
        }
    await connection.close()
    return found


def source() -> str:
    """The service's own statements; benches and the demo have databases of their own."""
    root = Path(live.__file__).parent
    return "\n".join(
        path.read_text()
        for path in sorted(root.rglob("*.py"))
        if path.relative_to(root).parts[0] not in ("bench", "demo")
    )


def test_each_table_takes_what_is_listed_and_nothing_else(ledger: str, role: str) -> None:
    """What is tried, not what is said: also TRUNCATE, which nobody has."""
    asyncio.run(grant(ledger, role))

    found = asyncio.run(may_do(as_role(ledger, role)))

    assert found == {table: set(rights_on(table)) for table in tables()}


def test_books_can_lose_no_row(ledger: str, role: str) -> None:
    """Of orders, money and stock nothing is deleted, and of what is appended nothing changed."""
    asyncio.run(grant(ledger, role))

    found = asyncio.run(may_do(as_role(ledger, role)))

    assert [table for table in BOOKS if found[table] & {"DELETE", "TRUNCATE"}] == []
    assert [table for table in APPENDED if "UPDATE" in found[table]] == []


def test_rows_are_deleted_where_the_source_deletes_them() -> None:
    """A right that no statement uses is none too few."""
    deleted = set(re.findall(r"\bDELETE FROM (\w+)", source())) & set(tables())

    assert {table for table in tables() if "DELETE" in rights_on(table)} == deleted


def test_rows_are_changed_where_the_source_changes_or_locks_them() -> None:
    """FOR UPDATE takes the right to update as well."""
    text = source()
    changed = set(re.findall(r"\bUPDATE (\w+)(?: \w+)?\s+SET\b", text))
    changed |= set(re.findall(r"\bFROM (\w+)\s[^;]{0,200}?\bFOR (?:NO KEY )?UPDATE", text))
    for statement in re.split(r"(?=\bINSERT INTO )", text):
        named = re.match(r"INSERT INTO (\w+)", statement)
        if named and re.search(r"\bDO UPDATE\b|\{DUE_AGAIN\}", statement):
            changed.add(named[1])

    assert {table for table in tables() if "UPDATE" in rights_on(table)} <= changed


def test_housekeeping_is_allowed(ledger: str, role: str) -> None:
    """What an evening is too short for: every statement that forgets rows."""
    asyncio.run(grant(ledger, role))

    async def clean() -> None:
        pool = await open_pool(as_role(ledger, role), command_timeout_seconds=20)
        await keep_house(pool)
        await pool.close()

    asyncio.run(clean())


def test_grant_takes_back_what_was_given_before(ledger: str, role: str) -> None:
    """By an older version or a person, on tables, columns and sequences."""
    asyncio.run(
        run(
            ledger,
            f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}",
            f"GRANT UPDATE (qty) ON order_items TO {role}",
            f"GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO {role}",
        )
    )

    asyncio.run(grant(ledger, role))

    assert asyncio.run(more_than_needed(as_role(ledger, role))) == (role, [])
    found = asyncio.run(may_do(as_role(ledger, role)))
    assert found == {table: set(rights_on(table)) for table in tables()}
    set_back = "SELECT setval('orders_position', 1)"
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        asyncio.run(run(as_role(ledger, role), set_back))


def test_owner_is_given_nothing(ledger: str) -> None:
    """They would lose the right to migrate."""
    with pytest.raises(EngineError, match="owns the tables"):
        asyncio.run(grant(ledger, "live"))


def test_role_with_more_than_it_needs_is_warned_of(valkey: Valkey, ledger: str, role: str) -> None:
    """It serves, so it is no FIX; an owner who serves by their only account hears nothing."""
    asyncio.run(grant(ledger, role))
    asyncio.run(run(ledger, f"GRANT DELETE ON orders TO {role}"))

    def look(url: str) -> dict[str, tuple[bool, str]]:
        settings = Settings(redis_url=valkey.url, database_url=url, secret="s" * 32)
        return {one.name: (one.stops, one.detail) for one in examine(settings) if not one.ok}

    assert look(as_role(ledger, role))["postgres rights"] == (
        False,
        f"{role} may also DELETE orders",
    )
    assert "postgres rights" not in look(ledger)


def test_every_table_is_judged() -> None:
    """Whoever makes a new one says what the service does to its rows."""
    assert set(JUDGED) == set(tables())
    assert all(set(rights_on(table)) <= set(RIGHTS) for table in tables())

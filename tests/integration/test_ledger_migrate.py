"""Migrations: each once, in order, never edited; and code that survives them while it runs."""

import asyncio
from pathlib import Path

import asyncpg
import pytest

from live.base.errors import EngineError
from live.ledger.db.migrate import DIRECTORY, migrate, pending, read_migrations
from live.ledger.db.pool import Connection, in_transaction, open_pool


async def test_migrations_apply_once(database_url: str) -> None:
    """Three runners at once apply each file once; the next run has nothing to do."""
    applied = await asyncio.gather(*(migrate(database_url) for _ in range(3)))

    names = [migration.name for migration in read_migrations()]
    assert sorted(applied, key=len) == [[], [], names]
    assert await migrate(database_url) == []
    connection = await asyncpg.connect(database_url)
    assert await pending(connection) == []
    await connection.close()


async def test_edited_migration_is_an_error(database_url: str, tmp_path: Path) -> None:
    """A file that was applied and then changed stops the run before anything is applied."""
    first = tmp_path / "0001_one.sql"
    first.write_text("CREATE TABLE one (id int);")
    assert await migrate(database_url, tmp_path) == ["0001_one.sql"]
    first.write_text("CREATE TABLE one (id bigint);")
    (tmp_path / "0002_two.sql").write_text("CREATE TABLE two (id int);")

    with pytest.raises(EngineError, match=r"0001_one\.sql was edited"):
        await migrate(database_url, tmp_path)

    connection = await asyncpg.connect(database_url)
    assert await connection.fetchval("SELECT to_regclass('two')") is None
    assert await pending(connection, tmp_path) == ["0002_two.sql"]
    await connection.close()


async def test_failed_migration_leaves_nothing(database_url: str, tmp_path: Path) -> None:
    """A file is applied whole or not at all, and is tried again by the next run."""
    bad = tmp_path / "0001_bad.sql"
    bad.write_text("CREATE TABLE half (id int); SELECT 1 / 0;")
    with pytest.raises(asyncpg.DivisionByZeroError):
        await migrate(database_url, tmp_path)

    bad.write_text("CREATE TABLE half (id int);")

    assert await migrate(database_url, tmp_path) == ["0001_bad.sql"]


@pytest.mark.parametrize("names", [("1_a.sql",), ("0001_a.sql", "0001_b.sql")])
def test_bad_names_are_refused(tmp_path: Path, names: tuple[str, ...]) -> None:
    """Numbers have four digits and are taken once."""
    for name in names:
        (tmp_path / name).write_text("SELECT 1;")

    with pytest.raises(EngineError):
        read_migrations(tmp_path)


def test_every_migration_sets_its_lock_timeout() -> None:
    """Without one, an ALTER TABLE that waits blocks every reader behind it."""
    for path in DIRECTORY.glob("*.sql"):
        assert "SET LOCAL lock_timeout" in path.read_text(), path.name


async def test_transaction_survives_a_migration_under_it(database_url: str) -> None:
    """Prepared statements that an ALTER TABLE made invalid cost one repeat, not an error."""
    pool = await open_pool(database_url, size=1)
    await pool.execute("CREATE TABLE t (a int); INSERT INTO t VALUES (1)")
    calls = 0

    async def work(connection: Connection) -> list[asyncpg.Record]:
        nonlocal calls
        calls += 1
        return await connection.fetch("SELECT * FROM t")

    await in_transaction(pool, work)
    admin = await asyncpg.connect(database_url)
    await admin.execute("ALTER TABLE t ALTER COLUMN a TYPE bigint")
    await admin.close()

    rows = await in_transaction(pool, work)

    assert [row["a"] for row in rows] == [1]
    assert calls == 3
    await pool.close()

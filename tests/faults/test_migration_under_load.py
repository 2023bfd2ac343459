"""A migration while orders settle (F25): old code goes on, nothing fails, nothing is put aside.

Method: a settler as a task, buyers all the time, and files that add columns to every table that
settling writes, applied by the real runner beside it.
"""

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from live.domain.ids import ShowId
from live.ledger.audit.run import audit
from live.ledger.db.migrate import DIRECTORY, migrate
from live.ledger.db.pool import Connection, Pool, in_transaction, open_pool
from live.ledger.settle.settler import Settler
from tests.support.ledger_kit import Announced, Mismatches, Sale, close_sale, new_buyer, open_sale

WRITTEN = ("orders", "order_items", "payments", "holds", "offers", "stock_movements", "money_jobs")
FILE = """-- {name}
-- Why:    a later version of the code will want it.
-- Deploy: before the code.   Lock: brief, no rewrite.
SET LOCAL lock_timeout = '4s';
SET LOCAL statement_timeout = '5s';
ALTER TABLE {table} ADD COLUMN later text NOT NULL DEFAULT '';
"""
RECOVERY_SECONDS = 30
SALES = 5  # before the migration, and again after it; they go on in between


@pytest.fixture
def later(tmp_path: Path) -> Path:
    """The migrations of a version to come."""
    directory = tmp_path / "migrations"
    shutil.copytree(DIRECTORY, directory)
    for number, table in enumerate(WRITTEN, start=9_900):
        name = f"{number}_{table}_later.sql"
        (directory / name).write_text(FILE.format(name=name, table=table))
    return directory


@pytest.fixture
async def stocked(pool: Pool, redis_url: str, show: ShowId) -> AsyncIterator[Sale]:
    """More units than buyers come by in the time."""
    found = await open_sale(pool, redis_url, show, 100_000)
    yield found
    await close_sale(found)


async def test_settler_goes_on_while_columns_are_added(
    stocked: Sale, database_url: str, later: Path
) -> None:
    """Orders before, during and after it are settled once each by the code that was running."""
    sale = stocked
    stop = asyncio.Event()
    settler = Settler(sale.pool, sale.outbox, Announced(), Mismatches())
    running = asyncio.create_task(settler.run(stop))
    migrated = asyncio.Event()
    sold = 0

    async def sell() -> None:
        nonlocal sold
        after = 0
        while after < SALES:
            await sale.buy(new_buyer())
            sold += 1
            after += migrated.is_set()

    async with asyncio.TaskGroup() as group:
        group.create_task(sell())
        applied = await migrate(database_url, later)
        migrated.set()
    async with asyncio.timeout(RECOVERY_SECONDS):
        while await sale.outbox.first_unsettled(sale.show) is not None:  # noqa: ASYNC110  # Redis tells no one
            await asyncio.sleep(0.05)
    stop.set()
    await asyncio.wait_for(running, RECOVERY_SECONDS)

    assert len(applied) == len(WRITTEN)
    assert await sale.pool.fetchval("SELECT count(*) FROM orders WHERE state = 'confirmed'") == sold
    assert await sale.pool.fetchval("SELECT count(*) FROM poison") == 0
    report = await audit(sale.pool, sale.engine, sale.outbox, (), wait_seconds=5)
    assert report.findings == ()


async def test_statement_that_a_migration_made_stale_is_repeated(database_url: str) -> None:
    """A prepared statement whose columns changed fails once in each session, and runs again."""
    await migrate(database_url)
    pool = await open_pool(database_url, size=1)
    tries = 0

    async def read(connection: Connection) -> list[asyncpg.Record]:
        nonlocal tries
        tries += 1
        return await connection.fetch("SELECT * FROM shows")

    await in_transaction(pool, read)
    other = await asyncpg.connect(database_url)
    await other.execute("ALTER TABLE shows ADD COLUMN later text")
    await other.close()
    await in_transaction(pool, read)
    await pool.close()

    assert tries == 3

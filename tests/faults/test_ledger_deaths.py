"""Settlers that die: at every phase boundary, and at random; nothing is lost and nothing twice.

Method: a sale on the real engine, a settler process with a failpoint or a SIGKILL, another one to
go on; then the ledger is held against what the buyers did, by the audit and by counting.
"""

import asyncio
import random
import sys
from asyncio.subprocess import Process

import pytest
import redis.asyncio

from live.base.failpoint import DIED
from live.domain.hold import Line
from live.domain.ids import ShowId
from live.domain.offer import Phase
from live.ledger.audit.run import audit
from live.ledger.settle.rebuild import read_show_stock
from tests.faults.ledger_process import told_stream
from tests.support.answers import entries
from tests.support.ledger_kit import Sale, failpoint_environment, new_buyer

EXIT_SECONDS = 60
SETTLE_SECONDS = 20


async def spawn(
    what: str, sale: Sale, database_url: str, redis_url: str, *, failpoint: str = ""
) -> Process:
    return await spawn_ledger(what, database_url, redis_url, sale.show, failpoint)


async def spawn_ledger(
    what: str, database_url: str, redis_url: str, show: ShowId, failpoint: str = ""
) -> Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.faults.ledger_process",
        what,
        database_url,
        redis_url,
        show,
        env=failpoint_environment(failpoint),
    )


async def die(process: Process) -> None:
    if process.returncode is None:
        process.kill()
    await process.wait()


async def settled(sale: Sale) -> None:
    """Wait until the outbox has come to its end."""
    async with asyncio.timeout(SETTLE_SECONDS):
        while await sale.outbox.first_unsettled(sale.show) is not None:  # noqa: ASYNC110  # another process settles
            await asyncio.sleep(0.02)


async def some_sales(sale: Sale) -> None:
    """Two orders, an expired hold and a live one."""
    for _ in range(2):
        await sale.buy(new_buyer(), Line(0, 1), Line(1, 1))
    await sale.hold(new_buyer())
    await sale.pool.execute("UPDATE offers SET hold_seconds = 1, version = 2 WHERE slot = 1")
    await sale.engine.apply_offer((await read_show_stock(sale.pool, sale.show)).offers[1])
    await sale.hold(new_buyer(), Line(1, 1))
    async with asyncio.timeout(60):
        while not await sale.engine.reap(sale.show):  # noqa: ASYNC110  # Redis' clock decides
            await asyncio.sleep(0.02)


async def assert_sound(sale: Sale) -> None:
    report = await audit(sale.pool, sale.engine, sale.outbox, (), wait_seconds=5)
    assert report.findings == ()


SETTLE_POINTS = (
    "settle.before_commit",
    "settle.committed",
    "settle.announced",
    "settle.acknowledged",
)


@pytest.mark.parametrize("point", SETTLE_POINTS)
async def test_settler_dead_at_a_boundary_loses_and_doubles_nothing(
    sale: Sale, database_url: str, redis_url: str, point: str
) -> None:
    """Killed before or after commit, announcement or acknowledgement: once is once."""
    await some_sales(sale)
    dying = await spawn("settle", sale, database_url, redis_url, failpoint=point)
    async with asyncio.timeout(EXIT_SECONDS):
        assert await dying.wait() == DIED

    heir = await spawn("settle", sale, database_url, redis_url)
    await settled(sale)
    await die(heir)

    assert await sale.pool.fetchval("SELECT count(*) FROM orders WHERE state = 'confirmed'") == 2
    assert await sale.pool.fetchval("SELECT count(*) FROM notices") == 2
    assert await sale.pool.fetchval("SELECT count(*) FROM money_jobs WHERE kind='capture'") == 2
    client = redis.asyncio.from_url(redis_url)
    told = entries(await client.xrange(told_stream(sale.show)))
    await client.aclose()
    assert {fields[b"type"] for _, fields in told} == {b"hold.expired"}
    assert len({fields[b"key"] for _, fields in told}) == 1
    await assert_sound(sale)


@pytest.mark.parametrize("point", ["close.before_commit", "close.committed", "close.acknowledged"])
async def test_close_survives_a_death_at_its_boundary(
    sale: Sale, database_url: str, redis_url: str, point: str
) -> None:
    """The unsold units go back to the product exactly once."""
    await sale.buy(new_buyer())
    await sale.pool.execute(
        "UPDATE offers SET phase = 'closing', version = version + 1 WHERE slot = 0"
    )
    (terms, _) = (await read_show_stock(sale.pool, sale.show)).offers
    assert terms.phase is Phase.CLOSING
    await sale.engine.apply_offer(terms)
    await sale.engine.close_offers(sale.show)
    dying = await spawn("settle", sale, database_url, redis_url, failpoint=point)
    async with asyncio.timeout(EXIT_SECONDS):
        assert await dying.wait() == DIED

    heir = await spawn("settle", sale, database_url, redis_url)
    await settled(sale)
    await die(heir)

    (row,) = await sale.pool.fetch(
        """SELECT f.allotted, f.sold, f.phase, p.allotted AS of_product
           FROM offers f JOIN products p USING (sku) WHERE slot = 0"""
    )
    assert tuple(row) == (1, 1, "closed", 1)
    moved = await sale.pool.fetchval(
        "SELECT array_agg(qty) FROM stock_movements WHERE kind = 'given_back'"
    )
    assert moved == [-9]


REBUILD_POINTS = (
    "rebuild.stopped",
    "rebuild.grouped",
    "rebuild.drained",
    "rebuild.raised",
    "rebuild.staged",
    "rebuild.loaded",
)


@pytest.mark.parametrize("point", REBUILD_POINTS)
async def test_rebuild_dead_at_a_boundary_is_finished_by_the_next(
    sale: Sale, database_url: str, redis_url: str, point: str
) -> None:
    """Whatever step it died after, the next rebuild ends in the same stock."""
    await some_sales(sale)
    before = await sale.engine.figures(sale.show)
    dying = await spawn("rebuild", sale, database_url, redis_url, failpoint=point)
    async with asyncio.timeout(EXIT_SECONDS):
        assert await dying.wait() == DIED

    again = await spawn("rebuild", sale, database_url, redis_url)
    async with asyncio.timeout(EXIT_SECONDS):
        assert await again.wait() == 0

    assert (await sale.engine.figures(sale.show)).offers == before.offers
    await assert_sound(sale)


async def test_undo_dead_at_its_boundary_gives_units_back_once(
    sale: Sale, database_url: str, redis_url: str
) -> None:
    """It died between Redis and Postgres: the next one finds nothing left to give."""
    buyer = new_buyer()
    await sale.hold(buyer)
    await sale.engine.begin(sale.show, buyer.id, buyer.key, window_ms=60_000)
    await sale.engine.confirm(sale.show, buyer.id, buyer.key, [Line(0, 1)])
    await sale.settle()  # rejected: nobody paid
    dying = await spawn("undo", sale, database_url, redis_url, failpoint="undo.cancelled")
    async with asyncio.timeout(EXIT_SECONDS):
        assert await dying.wait() == DIED

    again = await spawn("undo", sale, database_url, redis_url)
    async with asyncio.timeout(EXIT_SECONDS):
        assert await again.wait() == 0

    await sale.settle()
    assert await sale.pool.fetchval("SELECT count(*) FROM sales_to_undo") == 0
    assert (await sale.engine.figures(sale.show)).offers[0].left == 10
    await assert_sound(sale)


async def test_settlers_killed_at_random_settle_everything_once(
    sale: Sale, database_url: str, redis_url: str
) -> None:
    """Two settlers, killed -9 in turn during a sale: every confirmed hold is one order."""
    await sale.pool.execute(
        """UPDATE products SET on_hand = on_hand + 490, allotted = allotted + 490
           WHERE sku = (SELECT sku FROM offers WHERE slot = 0)"""
    )
    await sale.pool.execute(
        """WITH more AS (UPDATE offers SET quantity = 500, allotted = 500, version = 2
                         WHERE slot = 0
                         RETURNING sku, id)
           INSERT INTO stock_movements (sku, offer, kind, qty)
           SELECT sku, NULL, 'adjusted', 490 FROM more
           UNION ALL SELECT sku, id, 'allotted', 490 FROM more"""
    )
    await sale.engine.apply_offer((await read_show_stock(sale.pool, sale.show)).offers[0])
    dice = random.Random(5)
    settlers = [await spawn("settle", sale, database_url, redis_url) for _ in range(2)]
    kills = 0

    async def killer() -> None:
        nonlocal kills
        while True:
            await asyncio.sleep(dice.uniform(0.3, 0.6))
            victim = dice.randrange(2)
            await die(settlers[victim])
            kills += 1
            settlers[victim] = await spawn("settle", sale, database_url, redis_url)

    async with asyncio.TaskGroup() as group:
        killing = group.create_task(killer())
        for _ in range(20):
            await asyncio.gather(*(sale.buy(new_buyer()) for _ in range(15)))
        async with asyncio.timeout(60):
            while kills < 4:  # noqa: ASYNC110  # the killer's pace is the test's
                await asyncio.sleep(0.05)
        killing.cancel()
    await settled(sale)
    for process in settlers:
        await die(process)

    assert kills >= 4
    assert await sale.pool.fetchval("SELECT count(*) FROM orders") == 300
    assert await sale.pool.fetchval("SELECT count(*) FROM orders WHERE state='confirmed'") == 300
    assert await sale.pool.fetchval("SELECT sold FROM offers WHERE slot = 0") == 300
    assert await sale.pool.fetchval("SELECT count(*) FROM notices") == 300
    await assert_sound(sale)

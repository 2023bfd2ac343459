"""Settlers that fall silent while their connections stand: frozen, or cut off without a word.

Method: a real process that stops itself (SIGSTOP) at a named place, the work done by somebody else
meanwhile, then SIGCONT; at the end the ledger and Redis are held against each other.
"""

import asyncio
import os
import signal
import time
from asyncio.subprocess import Process
from contextlib import suppress
from pathlib import Path

import asyncpg
import pytest

from live.base.errors import Busy
from live.base.failpoint import FREEZE
from live.domain.hold import Line
from live.ledger.audit.run import audit
from live.ledger.db.leases import LEASE_SECONDS, Fenced, alone, take, under
from live.ledger.db.pool import IDLE_IN_TRANSACTION_SECONDS, Connection, Pool, in_transaction
from live.ledger.db.schedule import Schedule
from live.ledger.settle.rebuild import rebuild_show
from tests.faults.test_ledger_deaths import die, settled, spawn
from tests.support.ledger_kit import Sale, new_buyer

FREEZE_SECONDS = 60  # until the process came to its place: it has to start first
TAKEN_OVER_SECONDS = LEASE_SECONDS + 5  # of it the work itself, on a busy machine


async def frozen(process: Process) -> None:
    """Wait until the process has stopped itself."""

    def state() -> str:
        return Path(f"/proc/{process.pid}/stat").read_text().rpartition(") ")[2][0]

    async with asyncio.timeout(FREEZE_SECONDS):
        while state() != "T":  # nobody is told of it
            assert process.returncode is None, "it ended before it came to its place"
            await asyncio.sleep(0.02)


def wake(process: Process) -> None:
    os.kill(process.pid, signal.SIGCONT)


async def rebuild(sale: Sale) -> None:
    await rebuild_show(
        sale.pool, sale.show, stock=sale.engine, outbox=sale.outbox, settler=sale.settler,
        force=True,
    )  # fmt: skip


REBUILD_POINTS = (
    "rebuild.stopped",
    "rebuild.grouped",
    "rebuild.drained",
    "rebuild.raised",
    "rebuild.staged",
    "rebuild.loaded",
)


@pytest.mark.parametrize("point", REBUILD_POINTS)
async def test_frozen_rebuild_is_taken_over_and_harms_nothing_when_it_wakes(
    sale: Sale, database_url: str, redis_url: str, point: str
) -> None:
    """Another one has the show back within seconds; what is sold in the life that it made stays
    when the first one goes on from where it was."""
    await sale.buy(new_buyer(), Line(0, 1))
    await sale.hold(new_buyer(), Line(1, 1))
    process = await spawn(
        "rebuild", sale, database_url, redis_url, failpoint=f"{FREEZE}{point}"
    )  # fmt: skip
    await frozen(process)

    began = time.monotonic()
    await rebuild(sale)
    assert time.monotonic() - began < TAKEN_OVER_SECONDS
    await sale.hold(new_buyer(), Line(0, 2))
    bought = new_buyer()
    await sale.buy(bought, Line(1, 2))
    wake(process)
    await asyncio.wait_for(process.wait(), FREEZE_SECONDS)

    figures = await sale.engine.figures(sale.show)
    assert (figures.offers[0].held, figures.offers[0].sold) == (2, 1)
    assert (figures.offers[1].held, figures.offers[1].sold) == (1, 2)
    await sale.settle()
    assert await sale.pool.fetchval("SELECT count(*) FROM orders WHERE state = 'confirmed'") == 2
    assert (await audit(sale.pool, sale.engine, sale.outbox, (), wait_seconds=5)).findings == ()


async def test_rebuild_that_wakes_between_the_other_ones_stop_and_swap_swaps_nothing(
    sale: Sale, database_url: str, redis_url: str
) -> None:
    """A stale swap would let buyers in whose holds the rebuild under way has not read."""
    process = await spawn(
        "rebuild", sale, database_url, redis_url, failpoint=f"{FREEZE}rebuild.staged"
    )  # fmt: skip
    await frozen(process)
    async with asyncio.timeout(TAKEN_OVER_SECONDS):
        while (lease := await take(sale.pool, f"rebuild:{sale.show}")) is None:  # noqa: ASYNC110  # Postgres' clock
            await asyncio.sleep(0.05)
    await sale.engine.stop_show(sale.show, fence=lease.fence)
    wake(process)
    await asyncio.wait_for(process.wait(), FREEZE_SECONDS)

    assert process.returncode == 1 or not await is_on_sale(sale)


async def is_on_sale(sale: Sale) -> bool:
    try:
        await sale.engine.figures(sale.show)
    except Busy:
        return False
    return True


@pytest.mark.parametrize("point", ["settle.before_commit", "settle.committed", "settle.announced"])
async def test_frozen_settler_holds_nothing_up(
    sale: Sale, database_url: str, redis_url: str, point: str
) -> None:
    """Its locks and its entries go to another one; after it woke everything is there once."""
    for _ in range(3):
        await sale.buy(new_buyer(), Line(0, 1))
    process = await spawn(
        "settle", sale, database_url, redis_url, failpoint=f"{FREEZE}{point}"
    )  # fmt: skip
    await frozen(process)
    other = await spawn("settle", sale, database_url, redis_url)
    async with asyncio.timeout(FREEZE_SECONDS + IDLE_IN_TRANSACTION_SECONDS):
        await settled(sale)
    wake(process)
    await sale.buy(new_buyer(), Line(0, 1))
    await settled(sale)
    for one in (process, other):
        await die(one)

    assert await sale.pool.fetchval("SELECT count(*) FROM orders WHERE state = 'confirmed'") == 4
    assert await sale.pool.fetchval("SELECT sold FROM offers WHERE slot = 0") == 4
    assert (await audit(sale.pool, sale.engine, sale.outbox, (), wait_seconds=5)).findings == ()


async def test_transaction_of_a_frozen_process_ends(pool: Pool) -> None:
    """The server does not keep its locks until a TCP connection is given up."""
    async with pool.acquire() as connection:
        await connection.execute("CREATE TABLE locked AS SELECT 1 AS n")
        await connection.execute("BEGIN")
        await connection.execute("UPDATE locked SET n = 2")  # and silence from here

        async def change(other: Connection) -> None:
            await other.execute("UPDATE locked SET n = 3")

        async with asyncio.timeout(IDLE_IN_TRANSACTION_SECONDS + 10):
            await in_transaction(pool, change)
        with suppress(asyncpg.InterfaceError):  # the server ended it, which may be known here
            connection.terminate()

    assert await pool.fetchval("SELECT n FROM locked") == 3


async def test_lease_of_a_silent_holder_goes_to_the_next(pool: Pool) -> None:
    """Judged by Postgres' clock; the first one is told when it asks, in the very transaction."""
    first = await take(pool, "work")
    assert first is not None and await take(pool, "work") is None

    async with asyncio.timeout(TAKEN_OVER_SECONDS):
        while (second := await take(pool, "work")) is None:  # noqa: ASYNC110  # Postgres' clock
            await asyncio.sleep(0.05)

    assert second.fence > first.fence
    with pytest.raises(Fenced):
        await in_transaction(pool, first.demand)
    await in_transaction(pool, second.demand)


async def test_work_ends_when_its_lease_is_lost(pool: Pool) -> None:
    """The work is cancelled, not left running beside that of the new holder."""
    lease = await take(pool, "work")
    assert lease is not None
    cancelled = asyncio.Event()

    async def work() -> None:
        await pool.execute("UPDATE leases SET fence = fence + 1")  # as another holder's taking does
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    with pytest.raises(Fenced):
        await under(pool, lease, work)

    assert cancelled.is_set()


async def test_lease_is_kept_for_as_long_as_the_work_takes(pool: Pool) -> None:
    """Two never are at it at once, however long one takes; the next one has it at once."""
    inside, most = 0, 0

    async def work(_lease: object) -> None:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        await asyncio.sleep(LEASE_SECONDS + 0.5)  # longer than an unrenewed lease
        inside -= 1

    await asyncio.gather(*(alone(pool, "work", work, patience_seconds=60) for _ in range(2)))

    assert most == 1


async def test_scheduled_work_of_a_silent_settler_is_done_by_another(pool: Pool) -> None:
    """Audits and housekeeping go on: the lease ends although the holder's connections stand."""
    done = asyncio.Event()
    held = await take(pool, "schedule:audit")  # and its holder falls silent
    assert held is not None

    async def work() -> None:
        done.set()

    schedule = Schedule(pool, "audit", work, every_seconds=0.1)
    assert not await schedule.run_once()
    stop = asyncio.Event()
    running = asyncio.create_task(schedule.run(stop))
    await asyncio.wait_for(done.wait(), TAKEN_OVER_SECONDS)
    stop.set()
    await running

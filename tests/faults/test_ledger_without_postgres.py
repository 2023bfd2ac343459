"""Postgres is killed or frozen while orders settle: nothing is lost, all goes on by itself.

Each test has a cluster of its own, because it harms it.
"""

import asyncio
import shutil
import signal
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import suppress

import asyncpg
import psutil
import pytest
from prometheus_client import REGISTRY

from live.domain.hold import Line
from live.domain.ids import ShowId
from live.ledger.db.migrate import migrate
from live.ledger.db.pool import open_pool
from live.ledger.settle.settler import Settler
from live.ledger.settle.waiting import OutboxAge
from tests.support.ledger_kit import (
    Announced,
    Buyer,
    Mismatches,
    Sale,
    close_sale,
    new_buyer,
    open_sale,
    pay,
)
from tests.support.servers import Postgres, scratch_directory

RECOVERY_SECONDS = 20


@pytest.fixture
def cluster() -> Iterator[Postgres]:
    directory = scratch_directory()
    (directory / "pg").mkdir()
    server = Postgres(directory / "pg")
    server.init()
    server.start()
    yield server
    server.close()
    shutil.rmtree(directory)


@pytest.fixture
async def fragile(cluster: Postgres, redis_url: str, show: ShowId) -> AsyncIterator[Sale]:
    """A sale whose settler runs as a task on the cluster that will be harmed."""
    await migrate(cluster.url())
    pool = await open_pool(cluster.url(), size=4, command_timeout_seconds=1)
    sale = await open_sale(pool, redis_url, show, 50)
    yield sale
    await close_sale(sale)
    pool.terminate()


async def run_settler(sale: Sale) -> tuple[asyncio.Task[None], asyncio.Event]:
    """As a settler's process does: settle, and tell how far behind that is."""
    stop = asyncio.Event()
    settler = Settler(
        sale.pool, sale.outbox, Announced(), Mismatches(), claim_idle_ms_min=200
    )  # fmt: skip

    async def shows() -> list[ShowId]:
        return settler.shows()

    waiting = OutboxAge(sale.outbox, shows, each_show=True)

    async def run() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(settler.run(stop))
            group.create_task(waiting.run(stop, every_seconds=0.05))

    return asyncio.create_task(run()), stop


async def pay_for_holds(sale: Sale, count: int) -> list[Buyer]:
    """Buyers whose payment is authorised; what is left to confirm needs Redis only."""
    buyers = [new_buyer() for _ in range(count)]
    for buyer in buyers:
        await sale.hold(buyer)
        await sale.engine.begin(sale.show, buyer.id, buyer.key, window_ms=60_000)
        await pay(sale.rows, sale.show, buyer)
    return buyers


async def confirm(sale: Sale, buyers: Sequence[Buyer]) -> None:
    for buyer in buyers:
        assert (await sale.engine.confirm(sale.show, buyer.id, buyer.key, [Line(0, 1)])).done


async def settled(sale: Sale) -> None:
    async with asyncio.timeout(RECOVERY_SECONDS):
        while await sale.outbox.first_unsettled(sale.show) is not None:  # noqa: ASYNC110  # Redis tells no one
            await asyncio.sleep(0.05)


def signal_all(processes: Sequence[psutil.Process], number: int) -> None:
    """Every one of them, though some have ended meanwhile."""
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(number)


async def orders_of(cluster: Postgres) -> int:
    connection = await asyncpg.connect(cluster.url())
    try:
        count: int = await connection.fetchval(
            "SELECT count(*) FROM orders WHERE state = 'confirmed'"
        )
        return count
    finally:
        await connection.close()


async def test_settlement_resumes_after_postgres_was_killed(
    fragile: Sale, cluster: Postgres
) -> None:
    """kill -9 of all of Postgres: holds are confirmed on, and settled once it is back."""
    buyers = await pay_for_holds(fragile, 20)
    running, stop = await run_settler(fragile)
    await confirm(fragile, buyers[:10])
    assert cluster.process is not None

    children = psutil.Process(cluster.process.pid).children()
    # The parent first: it would end its other children by itself as soon as one of them died.
    cluster.process.kill()
    for child in children:
        with suppress(psutil.NoSuchProcess):
            child.kill()
    cluster.process.wait()
    psutil.wait_procs(children, timeout=RECOVERY_SECONDS)
    await confirm(fragile, buyers[10:])
    (cluster.data / "postmaster.pid").unlink(missing_ok=True)
    cluster.start()
    await settled(fragile)
    stop.set()
    await asyncio.wait_for(running, RECOVERY_SECONDS)

    assert await orders_of(cluster) == 20
    assert await fragile.pool.fetchval("SELECT sold FROM offers") == 20


async def test_settlement_resumes_after_postgres_froze(fragile: Sale, cluster: Postgres) -> None:
    """SIGSTOP of every backend: deadlines end the statements, and nothing is settled twice."""
    buyers = await pay_for_holds(fragile, 20)
    running, stop = await run_settler(fragile)
    await confirm(fragile, buyers[:10])
    assert cluster.process is not None

    postmaster = psutil.Process(cluster.process.pid)
    # The parent first: it would start others in their place.
    frozen = [postmaster, *postmaster.children()]
    failed = told("failures_total", where="settler")
    try:
        signal_all(frozen, signal.SIGSTOP)
        await confirm(fragile, buyers[10:])
        async with asyncio.timeout(RECOVERY_SECONDS):
            while told("failures_total", where="settler") == failed:  # noqa: ASYNC110  # a deadline of the pool
                await asyncio.sleep(0.05)
    finally:
        signal_all(frozen, signal.SIGCONT)
    await settled(fragile)
    stop.set()
    await asyncio.wait_for(running, RECOVERY_SECONDS)

    assert await orders_of(cluster) == 20
    assert await fragile.pool.fetchval("SELECT sold FROM offers") == 20
    assert await fragile.pool.fetchval("SELECT count(*) FROM notices") == 20


def told(figure: str, **labels: str) -> float:
    """A gauge of the ledger as Prometheus reads it."""
    return REGISTRY.get_sample_value(f"live_ledger_{figure}", labels) or 0.0


async def test_lag_and_outbox_are_told_while_postgres_is_away(
    fragile: Sale, cluster: Postgres
) -> None:
    """Nothing is settled: the outbox gets longer, the lag grows; both are 0 when it is back."""
    buyers = await pay_for_holds(fragile, 6)
    running, stop = await run_settler(fragile)
    await settled(fragile)
    assert cluster.process is not None
    cluster.process.send_signal(signal.SIGQUIT)
    cluster.process.wait(RECOVERY_SECONDS)

    await confirm(fragile, buyers)
    async with asyncio.timeout(RECOVERY_SECONDS):
        while told("outbox_length_entries", show=fragile.show) < len(buyers):  # noqa: ASYNC110  # a gauge tells no one
            await asyncio.sleep(0.02)
        before = told("settlement_lag_seconds")
        while told("settlement_lag_seconds") < before + 0.3:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    assert told("outbox_oldest_seconds", show=fragile.show) > 0

    cluster.start()
    await settled(fragile)
    async with asyncio.timeout(RECOVERY_SECONDS):
        while told("outbox_length_entries", show=fragile.show):  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        while told("settlement_lag_seconds"):  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    stop.set()
    await asyncio.wait_for(running, RECOVERY_SECONDS)

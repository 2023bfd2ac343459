"""A show is over, its money is not: Redis restarts, and everything still comes to its end.

Method: the settler's own wiring on a Redis of the test, which is killed after the show has ended.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import pytest

from live.domain.ids import ShowId
from live.ledger.audit.run import audit
from live.ledger.db.pool import Pool
from live.ledger.hosting.shows import ShowRows
from live.ledger.settle.rebuild import read_show_stock
from live.payments.port import authorise_request
from live.wiring.settler import run_settler
from tests.support.api_kit import settings
from tests.support.payment_kit import lose_hold, opened
from tests.support.sale_kit import Sale, open_sale, viewer
from tests.support.sandbox import KEY, SandboxServer, running_sandbox
from tests.support.servers import Valkey

DONE_SECONDS = 30.0


@pytest.fixture
def own_valkey(scratch: Path, show: ShowId) -> Iterator[Valkey]:
    directory = scratch / f"v-{show}"
    directory.mkdir()
    server = Valkey(directory)
    server.start()
    yield server
    server.close()


@pytest.fixture
def server(scratch: Path, show: ShowId) -> Iterator[SandboxServer]:
    with running_sandbox(scratch / f"sandbox-{show}") as server:
        yield server


@pytest.fixture
async def sale(
    pool: Pool, own_valkey: Valkey, server: SandboxServer, show: ShowId
) -> AsyncIterator[Sale]:
    async with open_sale(pool, own_valkey.url, server, show, units=(5,)) as sale:
        yield sale


@asynccontextmanager
async def settling(
    database_url: str, own_valkey: Valkey, server: SandboxServer
) -> AsyncIterator[None]:
    """A settler process in all but name."""
    stop = asyncio.Event()
    wiring = replace(
        settings(),
        redis_url=own_valkey.url,
        database_url=database_url,
        sandbox_url=f"unix://{server.uds}",
        sandbox_key=KEY,
    )
    running = asyncio.create_task(run_settler(wiring, stop))
    try:
        yield
    finally:
        stop.set()
        await running


async def end_show(sale: Sale) -> None:
    """Close the offer through the stream, as a host's command does; Redis knows the end."""
    await sale.pool.execute("UPDATE offers SET phase = 'closing', version = version + 1")
    (terms,) = (await read_show_stock(sale.pool, sale.show)).offers
    await sale.stock.apply_offer(terms)
    await sale.stock.close_offers(sale.show)
    async with asyncio.timeout(DONE_SECONDS):
        # The settler closes it and tells nobody.
        while await sale.pool.fetchval("SELECT phase FROM offers") != "closed":  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    await sale.pool.execute("UPDATE shows SET status = 'ended', carried_version = version")


async def ended(sale: Sale, states: list[tuple[str, str | None]]) -> None:
    """Wait until the payments are in these states, Redis knows, and nobody looks after the show."""
    async with asyncio.timeout(DONE_SECONDS):
        while (
            await sale.payment_states() != states
            or await ShowRows(sale.pool).active()
            or await sale.pool.fetchval("SELECT carried_version < version FROM shows")
        ):
            await sale.expire_leases()
            await sale.pool.execute("UPDATE money_jobs SET due_at = now()")
            await asyncio.sleep(0.2)  # other tasks' work


async def test_refused_capture_is_cancelled_although_redis_forgot_the_ended_show(
    sale: Sale, database_url: str, own_valkey: Valkey, server: SandboxServer
) -> None:
    """The order of a refused capture does not stay confirmed for ever."""
    ada = viewer()
    await server.misbehave(refuse_captures=True)
    await sale.pay(ada, await sale.hold(ada))
    await end_show(sale)
    own_valkey.kill()
    own_valkey.start()

    async with settling(database_url, own_valkey, server):
        await ended(sale, [("voided", "cancelled")])

    assert await sale.money() == (0, 0)
    assert await sale.pool.fetchval("SELECT sold FROM offers") == 0
    report = await audit(sale.pool, sale.stock, sale.outbox, [sale.provider], wait_seconds=5)
    assert report.findings == ()


async def test_undecided_payment_is_voided_although_redis_forgot_the_ended_show(
    sale: Sale, database_url: str, own_valkey: Valkey, server: SandboxServer
) -> None:
    """Money that was set aside for a hold given back does not stay set aside."""
    bob = viewer()
    assert bob.buyer is not None
    hold = await sale.hold(bob)
    payment = await opened(sale, bob, hold)
    await sale.provider.authorise(authorise_request(payment))
    await sale.pool.execute("UPDATE payments SET state = 'unknown' WHERE id = $1", UUID(payment.id))
    await lose_hold(sale, bob, hold)
    await end_show(sale)
    own_valkey.kill()
    own_valkey.start()

    async with settling(database_url, own_valkey, server):
        await ended(sale, [("voided", None)])

    assert await sale.money() == (0, 0)


async def test_payment_of_an_expired_hold_takes_no_units_of_a_closed_offer(
    pool: Pool, redis_url: str, server: SandboxServer, show: ShowId
) -> None:
    """Its hold ended before the offer closed: a rebuild must not hold units for it again."""
    bob = viewer()
    async with open_sale(pool, redis_url, server, show, hold_seconds=1) as sale:
        await opened(sale, bob, await sale.hold(bob))
        async with asyncio.timeout(DONE_SECONDS):
            while not await sale.stock.reap(show):  # noqa: ASYNC110  # Redis' clock decides
                await asyncio.sleep(0.02)
        await end_show(sale)

        found = await read_show_stock(pool, show)

    assert await pool.fetchval("SELECT state FROM payments") == "created"
    assert found.holds == ()

"""Redis falls silent in the middle of a checkout: the buyer is answered, the money is not lost."""

import asyncio
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from live.domain.ids import ShowId
from live.domain.offer import Stock
from live.domain.outcomes import Outcome
from live.ledger.db.pool import Pool
from tests.support.ledger_kit import PRICE
from tests.support.sale_kit import Sale, open_sale, viewer
from tests.support.sandbox import running_sandbox
from tests.support.servers import Valkey


@pytest.fixture
def own_valkey(scratch: Path, show: ShowId) -> Iterator[Valkey]:
    directory = scratch / f"v-{show}"
    directory.mkdir()
    server = Valkey(directory)
    server.start()
    yield server
    server.close()


@pytest.fixture
async def sale(pool: Pool, own_valkey: Valkey, scratch: Path, show: ShowId) -> AsyncIterator[Sale]:
    with running_sandbox(scratch / f"sandbox-{show}") as server:
        async with open_sale(pool, own_valkey.url, server, show, units=(2,)) as sale:
            yield sale


async def test_redis_stopped_between_charge_and_confirm(sale: Sale, own_valkey: Valkey) -> None:
    """The charge went through and stock is silent: `processing` in time, one paid order later."""
    ada = viewer()
    hold = await sale.hold(ada)
    await sale.server.misbehave(slow_ms=1_000)

    paying = asyncio.create_task(sale.pay(ada, hold, "tok_slow"))
    await charged(sale)
    own_valkey.signal(signal.SIGSTOP)
    answer = await paying
    states = await sale.payment_states()
    own_valkey.signal(signal.SIGCONT)
    await sale.work_until("captured", "paid")

    assert answer.outcome is Outcome.PROCESSING
    assert states == [("authorised", None)]
    assert await sale.money() == (PRICE, 0)
    assert await sale.figures() == Stock(left=1, held=0, sold=1)


async def charged(sale: Sale) -> None:
    """Wait until the provider has the charge on its books; its answer is still to come."""
    async with asyncio.timeout(60):
        # Another process's books: nobody tells us when they change.
        while not (await sale.provider.list_charges(cursor=None, limit=1)).charges:  # noqa: ASYNC110
            await asyncio.sleep(0.01)

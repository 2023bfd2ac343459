"""A gateway dies while it takes the word of the shop's own checkout; the rest goes on.

Method: a child process with LIVE_FAILPOINT dies as in a power cut; the payment worker has its way,
and the shop says the same again. It is told an order, or that nothing was sold; never both.
"""

import asyncio
from collections.abc import AsyncIterator
from uuid import uuid4

import pytest

from live.base.errors import Conflict
from live.base.failpoint import DIED
from live.buying.shop_checkout import HoldThere
from live.domain.caller import Caller
from live.domain.ids import HoldKey, ShowId
from live.domain.outcomes import Outcome
from live.ledger.audit.run import audit
from live.ledger.db.pool import Pool
from tests.faults.test_money_crashes import Children
from tests.support.sale_kit import Sale, open_sale, viewer
from tests.support.sandbox import SandboxServer
from tests.support.shop_kit import own_checkout, paid, shop_desk


@pytest.fixture
async def sale(
    pool: Pool, redis_url: str, server: SandboxServer, show: ShowId
) -> AsyncIterator[Sale]:
    async with open_sale(
        pool, redis_url, server, show, units=(2,), more=(own_checkout(pool),)
    ) as opened:
        yield opened


@pytest.fixture
def children(redis_url: str, database_url: str, server: SandboxServer, show: ShowId) -> Children:
    return Children(redis_url, database_url, server, show)


async def sent(sale: Sale) -> tuple[Caller, HoldThere]:
    ada, key = viewer(), HoldKey(uuid4().bytes)
    hold = await sale.hold(ada)
    answer = await sale.pay(ada, hold, None, provider="external", key=key)
    assert answer.outcome is Outcome.ACTION_REQUIRED
    return ada, HoldThere(show=sale.show, sub=ada.sub, hold=hold)


async def proved(sale: Sale) -> None:
    while await sale.worker.run_once():
        pass
    report = await audit(sale.pool, sale.stock, sale.outbox, (), wait_seconds=5)
    assert report.findings == ()


@pytest.mark.parametrize("worker_first", [True, False])
@pytest.mark.parametrize("failpoint", ["shop.after_accept", "shop.after_confirm"])
async def test_confirmation_that_died_is_sold_once(
    sale: Sale, children: Children, failpoint: str, worker_first: bool
) -> None:
    """Whoever comes next, the worker or the shop with the same words, finds the one sale."""
    _, there = await sent(sale)
    task = f"confirm:{there.sub}:{there.hold.hex()}:shop-1001"
    assert await children.run(task, failpoint=failpoint) == DIED

    if worker_first:
        await sale.work_until("captured", "paid")
    order = await shop_desk(sale).confirm(there, paid())

    assert order.total_minor == paid().amount_minor
    assert (await sale.figures()).sold == 1
    await proved(sale)
    assert await sale.payment_states() == [("captured", "paid")]


@pytest.mark.parametrize("worker_first", [True, False])
async def test_refusal_that_died_stays_one(
    sale: Sale, children: Children, worker_first: bool
) -> None:
    """Refused by stock and not yet in the ledger: nobody sells the units for it any more."""
    ada, there = await sent(sale)
    assert ada.buyer is not None
    await sale.stock.revert(sale.show, ada.buyer, there.hold, held_until=1)
    await sale.stock.reap(sale.show)
    task = f"confirm:{there.sub}:{there.hold.hex()}:shop-1001"
    assert await children.run(task, failpoint="shop.after_refuse") == DIED

    if worker_first:
        await sale.work_until("voided", None)
    answers = await asyncio.gather(
        *(shop_desk(sale).confirm(there, paid()) for _ in range(2)), return_exceptions=True
    )

    assert [one.reason for one in answers if isinstance(one, Conflict)] == ["hold_lost"] * 2
    assert (await sale.figures()).sold == 0
    await proved(sale)
    assert await sale.payment_states() == [("voided", None)]

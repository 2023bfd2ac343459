"""A process dies at a phase boundary of checkout or of the payment worker; the rest goes on.

Method: a child process with LIVE_FAILPOINT dies as in a power cut, then a healthy worker has its
way. Afterwards money and stock agree: one order per charge that was kept, nothing else is held.
"""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from uuid import uuid4

import pytest

from live.base.failpoint import DIED
from live.domain.ids import HoldKey, ShowId
from live.domain.offer import Mode, Phase, Stock
from live.ledger.db.pool import Pool
from live.ledger.settle.rebuild import read_show_stock
from tests.support.ledger_kit import PRICE, wish
from tests.support.payment_kit import lose_hold
from tests.support.sale_kit import Sale, open_sale, viewer
from tests.support.sandbox import SandboxServer
from tests.support.shows_kit import HOST

CHILD_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Children:
    """Starts processes that work on the test's sale."""

    redis_url: str
    database_url: str
    server: SandboxServer
    show: ShowId

    async def run(self, task: str, *, failpoint: str = "") -> int:
        """Run a child to its end; its exit code."""
        child = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tests.support.sale_process",
            task,
            self.redis_url,
            self.database_url,
            str(self.server.directory),
            self.show,
            env={**os.environ, "LIVE_FAILPOINT": failpoint},
        )
        async with asyncio.timeout(CHILD_SECONDS):
            return await child.wait()


@pytest.fixture
def children(redis_url: str, database_url: str, server: SandboxServer, show: ShowId) -> Children:
    return Children(redis_url, database_url, server, show)


@pytest.fixture
async def sale(
    pool: Pool, redis_url: str, server: SandboxServer, show: ShowId
) -> AsyncIterator[Sale]:
    async with open_sale(pool, redis_url, server, show, units=(2,)) as sale:
        yield sale
    await server.misbehave()


@pytest.fixture
async def rush(
    pool: Pool, redis_url: str, server: SandboxServer, show: ShowId
) -> AsyncIterator[Sale]:
    """In `first_paid` mode."""
    async with open_sale(pool, redis_url, server, show, units=(2,), mode=Mode.FIRST_PAID) as sale:
        yield sale


CHECKOUT_POINTS = [
    "checkout.after_open",
    "checkout.after_authorise",
    "checkout.after_record",
    "checkout.after_confirm",
]


@pytest.mark.parametrize("point", CHECKOUT_POINTS)
async def test_dead_checkout_is_finished_by_the_worker(
    sale: Sale, children: Children, point: str
) -> None:
    """Wherever the gateway dies after the payment row, the buyer gets one order and pays once."""
    buyer, key = viewer(), uuid4()
    died = await children.run(f"buy:{buyer.sub}:{key}:tok_approve", failpoint=point)
    await sale.work_until("captured", "paid")
    assert died == DIED
    assert await sale.money() == (PRICE, 0)
    assert await sale.figures() == Stock(left=1, held=0, sold=1)


@pytest.mark.parametrize("point", CHECKOUT_POINTS[1::2])
async def test_dead_direct_purchase_is_finished_by_the_worker(
    rush: Sale, children: Children, point: str
) -> None:
    """The same in `first_paid` mode."""
    buyer, key = viewer(), uuid4()
    died = await children.run(f"buy:{buyer.sub}:{key}:tok_approve", failpoint=point)
    await rush.work_until("captured", "paid")
    assert died == DIED
    assert await rush.money() == (PRICE, 0)
    assert await rush.figures() == Stock(left=1, held=0, sold=1)


async def test_checkout_that_died_before_its_row_leaves_a_hold_only(
    sale: Sale, children: Children
) -> None:
    """Nobody was charged; a repeat with the same keys pays as if nothing had happened."""
    buyer, key = viewer(), uuid4()
    task = f"buy:{buyer.sub}:{key}:tok_approve"
    died = await children.run(task, failpoint="checkout.after_begin")
    assert died == DIED
    assert await sale.payment_states() == []
    assert await sale.figures() == Stock(left=1, held=1, sold=0)
    assert await children.run(task) == 0
    await sale.work_until("captured", "paid")


@pytest.mark.parametrize(
    "point", ["worker.after_authorise", "worker.before_confirm", "worker.after_confirm"]
)
async def test_dead_worker_is_followed_by_another(
    sale: Sale, children: Children, point: str
) -> None:
    """The worker itself dies while it finishes a dead checkout."""
    buyer, key = viewer(), uuid4()
    await children.run(f"buy:{buyer.sub}:{key}:tok_approve", failpoint="checkout.after_open")
    await sale.expire_leases()
    died = await children.run("work", failpoint=point)
    await sale.work_until("captured", "paid")
    assert died == DIED
    assert await sale.money() == (PRICE, 0)
    assert await sale.figures() == Stock(left=1, held=0, sold=1)


async def test_checkout_dead_before_its_decline_is_noted_declines(
    sale: Sale, children: Children
) -> None:
    """The hold is back, the row not over: the worker notes the decline and tells the buyer."""
    buyer, key = viewer(), uuid4()
    task = f"buy:{buyer.sub}:{key}:tok_decline"
    died = await children.run(task, failpoint="checkout.after_revert")
    assert died == DIED
    assert await sale.payment_states() == [("created", None)]
    await sale.work_until("declined", None)
    assert await sale.figures() == Stock(left=1, held=1, sold=0)
    assert buyer.buyer is not None
    await sale.told.wait_for(buyer.buyer, "payment.failed")


async def test_dead_direct_purchase_that_came_too_late_is_voided(
    rush: Sale, children: Children, server: SandboxServer
) -> None:
    """Authorised, off sale meanwhile, the void asked for, dead: the money is let go."""
    task = f"buy:{viewer().sub}:{uuid4()}:tok_approve"
    server.signal(signal.SIGSTOP)  # the charge waits until the offer is off sale
    try:
        dying = asyncio.create_task(children.run(task, failpoint="checkout.after_ask_void"))
        async with asyncio.timeout(CHILD_SECONDS):
            while not await rush.payment_states():  # noqa: ASYNC110  # another process opens it
                await asyncio.sleep(0.01)
        terms = (await read_show_stock(rush.pool, rush.show)).offers[0]
        await rush.stock.apply_offer(replace(terms, phase=Phase.PAUSED, version=9))
    finally:
        server.signal(signal.SIGCONT)
    assert await dying == DIED
    await rush.work_until("voided", None)
    assert await rush.money() == (0, 0)


async def test_failure_that_nobody_wrote_down_is_found_again(
    sale: Sale, children: Children
) -> None:
    """The worker dies between reverting the hold and noting the decline: the next one notes it."""
    buyer, key = viewer(), uuid4()
    task = f"buy:{buyer.sub}:{key}:tok_decline"
    await children.run(task, failpoint="checkout.after_authorise")
    await sale.expire_leases()
    died = await children.run("work", failpoint="worker.after_revert")
    await sale.work_until("declined", None)
    assert died == DIED
    assert await sale.figures() == Stock(left=1, held=1, sold=0)
    assert buyer.buyer is not None
    await sale.told.wait_for(buyer.buyer, "payment.failed")


async def test_worker_dead_after_a_capture_captures_once(sale: Sale, children: Children) -> None:
    """The provider captured, nobody noted it: the next worker finds out."""
    buyer = viewer()
    await sale.pay(buyer, await sale.hold(buyer))
    died = await children.run("work", failpoint="worker.after_capture")
    await sale.work_until("captured", "paid")
    assert died == DIED
    assert await sale.money() == (PRICE, 0)


@pytest.mark.parametrize(
    "point", ["worker.after_capture", "worker.after_fail", "worker.after_cancel"]
)
async def test_worker_dead_during_a_refused_capture_still_cancels(
    sale: Sale, children: Children, point: str
) -> None:
    """The capture is refused for good and the worker dies in the middle of giving it up.

    Meanwhile the provider would capture again: the decision that was written down stands.
    """
    buyer = viewer()
    await sale.server.misbehave(refuse_captures=True)
    await sale.pay(buyer, await sale.hold(buyer))
    died = await children.run("work", failpoint=point)
    if point != "worker.after_capture":  # there the refusal was not written down yet
        await sale.server.misbehave()
    await sale.work_until("voided", "cancelled")
    assert died == DIED
    assert await sale.money() == (0, 0)
    assert await sale.figures() == Stock(left=2, held=0, sold=0)


async def test_worker_dead_after_asking_for_a_void_voids(sale: Sale, children: Children) -> None:
    """The hold was given back while its payment went through; the void that is due is done."""
    buyer, key = viewer(), uuid4()
    task = f"buy:{buyer.sub}:{key}:tok_approve"
    await children.run(task, failpoint="checkout.after_record")
    await lose_hold(sale, buyer, HoldKey(key.bytes))
    await sale.expire_leases()
    died = await children.run("work", failpoint="worker.after_ask_void")
    await sale.work_until("voided", None)
    assert died == DIED
    assert await sale.money() == (0, 0)


async def test_worker_dead_after_a_void_voids_once(sale: Sale, children: Children) -> None:
    """The hold was given back while its payment went through; the void is repeated in peace."""
    buyer, key = viewer(), uuid4()
    task = f"buy:{buyer.sub}:{key}:tok_approve"
    await children.run(task, failpoint="checkout.after_record")
    await lose_hold(sale, buyer, HoldKey(key.bytes))
    await sale.expire_leases()
    await sale.worker.run_once()
    died = await children.run("work", failpoint="worker.after_void")
    await sale.work_until("voided", None)
    assert died == DIED
    assert await sale.money() == (0, 0)
    assert await sale.figures() == Stock(left=2, held=0, sold=0)


async def test_worker_dead_after_a_refund_refunds_once(sale: Sale, children: Children) -> None:
    """Money goes back once, though the worker could not say that it did."""
    buyer = viewer()
    answer = await sale.pay(buyer, await sale.hold(buyer))
    await sale.work_until("captured", "paid")
    assert answer.order is not None
    await sale.orders.request_refund(answer.order.order, wish(500), request_key="r", actor=HOST)
    died = await children.run("work", failpoint="worker.after_refund")
    await sale.work_until("partially_refunded", "partially_refunded")
    assert died == DIED
    assert await sale.money() == (PRICE, 500)

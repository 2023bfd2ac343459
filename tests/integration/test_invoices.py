"""Invoices: an order that nobody has paid is no money, until the shop says that it was paid.

Method: real checkouts and the real worker; then orders, report, audit and what buyers were told.
"""

import asyncio
from collections.abc import AsyncIterator

import pytest

from live.base.errors import Conflict, NotFound
from live.domain.ids import OrderId, ShowId
from live.domain.order import OrderState
from live.domain.orders.fulfilment import Fulfilment, ReturnState
from live.domain.outcomes import Outcome
from live.ledger.audit.repair import repair
from live.ledger.audit.run import AuditReport, audit
from live.ledger.db.pool import Pool
from live.ledger.hosting.shows import ShowRows
from live.ledger.orders.fulfilments import FulfilmentRows
from live.ledger.orders.goods_back import ReturnDecision
from live.ledger.orders.parcels import NewParcel
from tests.support.ledger_kit import PRICE, wish
from tests.support.sale_kit import Sale, open_sale, viewer
from tests.support.sandbox import SandboxServer
from tests.support.shows_kit import HOST

CONTACT = b'{"name": "Ada", "address": "1 Mill Lane"}'


@pytest.fixture
async def sale(
    pool: Pool, redis_url: str, server: SandboxServer, show: ShowId
) -> AsyncIterator[Sale]:
    async with open_sale(pool, redis_url, server, show) as sale:
        yield sale


async def ordered(sale: Sale) -> tuple[OrderId, str]:
    """An order by invoice that everything has been done for which is done by itself; its buyer."""
    ada = viewer()
    hold = await sale.hold(ada)
    answer = await sale.pay(ada, hold, None, provider="invoice", contact=CONTACT)
    assert answer.outcome is Outcome.CONFIRMED and answer.order is not None
    while await sale.worker.run_once():
        pass
    return answer.order.order, ada.sub


async def proof(sale: Sale) -> AuditReport:
    return await audit(sale.pool, sale.stock, sale.outbox, (), wait_seconds=5)


async def mend(sale: Sale) -> list[str]:
    return await repair(
        sale.pool,
        stock=sale.stock,
        outbox=sale.outbox,
        settler=sale.settler,
        work=sale.worker.run_once,
        grace_seconds=0,
    )


async def revenue(sale: Sale) -> tuple[int, int, int]:
    """(revenue, unpaid) of the report, and the desk's live figure."""
    report = await sale.orders.report(sale.show)
    _, live = await ShowRows(sale.pool).sum_orders(sale.show)
    assert report.orders == 1 and report.offers[0].revenue_minor == report.revenue_minor
    return report.revenue_minor, report.unpaid_minor, live


async def test_invoice_that_nobody_paid_is_no_money(sale: Sale) -> None:
    """Confirmed, not captured, no revenue; nothing is due, and neither audit nor repair minds."""
    order, _ = await ordered(sale)

    assert (await sale.orders.get(order)).view.state is OrderState.CONFIRMED
    assert await sale.payment_states() == [("capturing", "confirmed")]
    assert await sale.pool.fetchval("SELECT sum(captured_minor) FROM payments") == 0
    assert await revenue(sale) == (0, PRICE, 0)
    report = await proof(sale)
    assert (report.findings, report.payments.captured) == ((), 0)
    assert await mend(sale) == []


async def test_shop_says_that_an_invoice_was_paid(sale: Sale) -> None:
    """Then it is captured and revenue, its buyer and the desk are told, and the audit agrees."""
    order, sub = await ordered(sale)

    paid = await sale.orders.mark_paid(order, reference="SEPA 4711", actor=HOST)

    assert paid.view.state is OrderState.PAID
    assert await sale.payment_states() == [("captured", "paid")]
    assert await revenue(sale) == (PRICE, 0, PRICE)
    told = await sale.told.wait_for(viewer(sub).buyer, "order.paid")
    assert told["order"]["state"] == "paid"
    report = await proof(sale)
    assert (report.findings, report.payments.captured) == ((), 1)
    (log,) = await sale.pool.fetch("SELECT action, detail FROM host_actions")
    assert log["action"] == "order.paid" and "SEPA 4711" in log["detail"]


async def test_payment_of_an_invoice_is_written_down_once(sale: Sale) -> None:
    """The same reference changes nothing more, also at once; another one is a conflict."""
    order, _ = await ordered(sale)

    await asyncio.gather(
        *(sale.orders.mark_paid(order, reference="SEPA 4711", actor=HOST) for _ in range(4))
    )
    with pytest.raises(Conflict):
        await sale.orders.mark_paid(order, reference="SEPA 4712", actor=HOST)

    assert await sale.pool.fetchval("SELECT count(*) FROM host_actions") == 1
    captured = "SELECT sum(amount_minor) FROM payment_entries WHERE kind = 'captured'"
    assert await sale.pool.fetchval(captured) == PRICE


async def test_order_that_a_provider_is_asked_for_is_not_paid_by_word(sale: Sale) -> None:
    """A card's money comes from its provider; an unknown order is not there."""
    ada = viewer()
    answer = await sale.pay(ada, await sale.hold(ada))
    assert answer.order is not None
    with pytest.raises(Conflict, match="sandbox"):
        await sale.orders.mark_paid(answer.order.order, reference="x", actor=HOST)
    with pytest.raises(NotFound):
        await sale.orders.mark_paid(
            OrderId("6f0cf4d2-8f3b-4c1e-9d0a-2b7f8f1d5a10"), reference="x", actor=HOST
        )


async def test_invoice_is_refunded_only_after_it_was_paid(sale: Sale) -> None:
    """Nobody is told that money went back which never came."""
    order, _ = await ordered(sale)
    with pytest.raises(Conflict, match="nothing was paid for this order yet"):
        await sale.orders.request_refund(order, wish(), request_key="a", actor=HOST)
    await sale.orders.mark_paid(order, reference="SEPA 4711", actor=HOST)

    await sale.orders.request_refund(order, wish(500), request_key="b", actor=HOST)
    await sale.worker.run_once()

    found = (await sale.orders.get(order)).view
    assert (found.state, found.refunded_minor) == (OrderState.PARTIALLY_REFUNDED, 500)
    assert (await proof(sale)).findings == ()


async def came_back(sale: Sale, *, restock: bool = True) -> OrderId:
    """An order by invoice that was sent unpaid and received back."""
    order, _ = await ordered(sale)
    rows = FulfilmentRows(sale.pool)
    parcel = NewParcel(items=(), carrier="DHL", tracking_number="1", tracking_url="")
    await rows.ship(order, parcel, actor=HOST)
    with pytest.raises(Conflict, match="refund with restock and items"):
        await rows.cancel(order, reason="late", restock=True, actor=HOST)
    await rows.ask_return(order, (), "too small", actor=HOST, own=False)
    [back] = (await sale.orders.get(order)).view.returns
    with pytest.raises(Conflict, match="shipped"):
        await rows.cancel(order, reason="late", restock=True, actor=HOST)
    decision = ReturnDecision(state=ReturnState.RECEIVED, restock=restock)
    await rows.decide_return(order, back["return"], decision, actor=HOST)
    return order


@pytest.mark.parametrize("restock", [True, False], ids=["to the shelf", "to the bin"])
async def test_invoice_that_came_back_can_be_closed(sale: Sale, restock: bool) -> None:
    """Nobody owes it, so it is not paid by a slip; its units are decided on once."""
    order = await came_back(sale, restock=restock)
    shelf = "SELECT sum(on_hand) FROM products"
    before = await sale.pool.fetchval(shelf)
    with pytest.raises(Conflict, match="nothing of it is owed"):
        await sale.orders.mark_paid(order, reference="SEPA 4711", actor=HOST)
    assert (await sale.orders.get(order)).view.reference is None

    await FulfilmentRows(sale.pool).cancel(order, reason="it is back", restock=True, actor=HOST)
    while await sale.worker.run_once():
        pass

    view = (await sale.orders.get(order)).view
    assert (view.state, view.fulfilment) == (OrderState.CANCELLED, Fulfilment.RETURNED)
    assert await sale.payment_states() == [("voided", "cancelled")]
    assert (await sale.orders.report(sale.show)).unpaid_minor == 0
    assert await sale.pool.fetchval(shelf) == before
    assert (await proof(sale)).findings == ()


async def test_paid_order_that_came_back_is_not_cancelled(sale: Sale) -> None:
    """Its money went back with the goods, or stays by a decision of the shop."""
    order, _ = await ordered(sale)
    await sale.orders.mark_paid(order, reference="SEPA 4711", actor=HOST)
    rows = FulfilmentRows(sale.pool)
    parcel = NewParcel(items=(), carrier="DHL", tracking_number="1", tracking_url="")
    await rows.ship(order, parcel, actor=HOST)
    await rows.ask_return(order, (), "too small", actor=HOST, own=False)
    [back] = (await sale.orders.get(order)).view.returns
    decision = ReturnDecision(state=ReturnState.RECEIVED, refund_minor=0)
    await rows.decide_return(order, back["return"], decision, actor=HOST)
    with pytest.raises(Conflict, match="shipped"):
        await rows.cancel(order, reason="late", restock=True, actor=HOST)

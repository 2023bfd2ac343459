"""A shop's cancellation: the promise and the money are taken back, and nothing is sold twice.

Method: a real sale and a provider process; then the figures at the provider, in the ledger, in
Redis and on the shelf, and the audit.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from live.base.errors import Busy, Conflict
from live.domain.hold import Line
from live.domain.ids import OrderId, ShowId
from live.domain.order import OrderState, RefundState
from live.domain.payment import PaymentId
from live.ledger.db.pool import Pool
from live.ledger.orders.fulfilments import FulfilmentRows
from live.ledger.orders.parcels import NewParcel
from live.ledger.settle.rebuild import rebuild_show
from live.payments.port import MoneyRequest
from tests.support.ledger_kit import PRICE, wish
from tests.support.refund_kit import ask, look, paid_order, proof, work
from tests.support.sale_kit import Sale, new_key, open_sale, viewer
from tests.support.sandbox import SandboxServer
from tests.support.shows_kit import HOST

PARCEL = NewParcel(items=(), carrier="DHL", tracking_number="1", tracking_url="")


@pytest.fixture
async def sale(
    pool: Pool, redis_url: str, server: SandboxServer, show: ShowId
) -> AsyncIterator[Sale]:
    """Two offers of ten units."""
    async with open_sale(pool, redis_url, server, show, units=(10, 10)) as sale:
        yield sale
    await server.misbehave()


async def cancel(sale: Sale, order: OrderId, *, restock: bool = True) -> None:
    rows = FulfilmentRows(sale.pool)
    await rows.cancel(order, reason="out of cloth", restock=restock, actor=HOST)


async def shelf(sale: Sale) -> tuple[int, int, int]:
    """(on hand, allotted) of the first offer's product, and what the offer sold."""
    row = await sale.pool.fetchrow(
        """SELECT p.on_hand, p.allotted, f.sold FROM offers f JOIN products p USING (sku)
           WHERE f.id = $1""",
        sale.offers[0],
    )
    assert row is not None
    return row["on_hand"], row["allotted"], row["sold"]


async def test_paid_order_is_cancelled_and_paid_back(sale: Sale) -> None:
    """All the money goes back; the units are on the shelf, and the offer does not sell them."""
    order = await paid_order(sale)
    before = await shelf(sale)

    await cancel(sale, order)
    assert await look(sale, order) == (OrderState.CANCELLED, 0, [RefundState.DUE])
    await work(sale)

    assert await look(sale, order) == (OrderState.CANCELLED, 5 * PRICE, [RefundState.DONE])
    assert await sale.money() == (5 * PRICE, 5 * PRICE)
    assert await shelf(sale) == (before[0] + 5, before[1], before[2])
    assert (await sale.figures()).left == 5
    assert (await proof(sale)).findings == ()


async def test_units_that_are_lost_stay_lost(sale: Sale) -> None:
    """Without `restock` the money goes back alone."""
    order = await paid_order(sale)
    before = await shelf(sale)
    await cancel(sale, order, restock=False)
    await work(sale)

    assert await shelf(sale) == before
    assert await sale.money() == (5 * PRICE, 5 * PRICE)
    assert (await proof(sale)).findings == ()


async def test_redis_that_is_made_again_sells_no_cancelled_unit(sale: Sale) -> None:
    """Its units are the product's, so the offer has as many left as before."""
    order = await paid_order(sale)
    await cancel(sale, order)
    await rebuild_show(
        sale.pool,
        sale.show,
        stock=sale.stock,
        outbox=sale.outbox,
        settler=sale.settler,
        force=True,
    )
    figures = await sale.figures()
    assert (figures.left, figures.sold) == (5, 5)
    await work(sale)
    assert (await proof(sale)).findings == ()


async def test_order_whose_money_is_only_set_aside_is_voided(sale: Sale) -> None:
    """Nothing is captured for it any more."""
    ada, hold = viewer(), new_key()
    await sale.try_hold(ada, hold, Line(0, 2))
    answer = await sale.pay(ada, hold)
    assert answer.order is not None
    order = answer.order.order
    await cancel(sale, order)
    await work(sale)

    assert await sale.payment_states() == [("voided", "cancelled")]
    assert await sale.money() == (0, 0)
    assert (await proof(sale)).findings == ()


async def test_capture_in_flight_is_paid_back(sale: Sale) -> None:
    """The worker has the capture in its hands while the host cancels."""
    ada, hold = viewer(), new_key()
    await sale.try_hold(ada, hold, Line(0, 2))
    answer = await sale.pay(ada, hold)
    assert answer.order is not None
    await sale.pool.execute("UPDATE money_jobs SET due_at = now()")
    [job] = await sale.payments.take_jobs(lease_ms=60_000, limit=1)
    await cancel(sale, answer.order.order)

    await sale.provider.capture(
        _request(job.payment.id, job.payment.ref, job.amount_minor, job.payment.currency)
    )
    assert await sale.payments.finish_job(job)
    for _ in range(3):
        await work(sale)

    assert await sale.money() == (2 * PRICE, 2 * PRICE)
    assert (await proof(sale)).findings == ()


@pytest.mark.parametrize("by", ["shop", "redis"])
async def test_capture_whose_answer_was_lost_is_paid_back(sale: Sale, by: str) -> None:
    """The worker died behind its call: the void finds the money taken, and it goes back."""
    ada, hold = viewer(), new_key()
    await sale.try_hold(ada, hold, Line(0, 2))
    answer = await sale.pay(ada, hold)
    assert answer.order is not None and ada.buyer is not None
    [job] = await sale.payments.take_jobs(lease_ms=60_000, limit=1)
    await sale.provider.capture(
        _request(job.payment.id, job.payment.ref, job.amount_minor, job.payment.currency)
    )

    if by == "shop":
        await cancel(sale, answer.order.order)
    else:
        await sale.stock.cancel(sale.show, ada.buyer, hold, payment=job.payment.id)
        async with asyncio.timeout(60):
            while (await look(sale, answer.order.order))[0] is not OrderState.CANCELLED:  # noqa: ASYNC110
                await asyncio.sleep(0.02)  # the settler tells nobody
    for _ in range(3):
        await work(sale)

    assert await sale.money() == (2 * PRICE, 2 * PRICE)
    assert await look(sale, answer.order.order) == (
        OrderState.CANCELLED,
        2 * PRICE if by == "shop" else 0,
        [RefundState.DONE],
    )
    assert (await proof(sale)).findings == ()


def _request(payment: PaymentId, ref: str | None, amount_minor: int, currency: str) -> MoneyRequest:
    return MoneyRequest(
        payment=payment,
        ref=ref,
        amount_minor=amount_minor,
        currency=currency,
        key=f"{payment}:capture",
    )


async def test_invoice_is_cancelled_and_nobody_pays(sale: Sale) -> None:
    """An invoice that was not paid owes nothing any more; one that was is paid back."""
    ada, hold = viewer(), new_key()
    await sale.try_hold(ada, hold, Line(0, 2))
    contact = b'{"name": "Ada", "address": "1 Row"}'
    answer = await sale.pay(ada, hold, token=None, provider="invoice", contact=contact)
    assert answer.order is not None
    await cancel(sale, answer.order.order)
    await work(sale)

    assert await sale.payment_states() == [("voided", "cancelled")]
    with pytest.raises(Conflict, match="cancelled"):
        await sale.orders.mark_paid(answer.order.order, reference="r1", actor=HOST)
    assert (await proof(sale)).findings == ()


async def test_part_that_was_refunded_is_not_paid_twice(sale: Sale) -> None:
    """A refund that is on its way counts; only the rest goes back."""
    order = await paid_order(sale)
    await ask(sale, order, replace(wish(2 * PRICE), restock=False))
    await cancel(sale, order)
    for _ in range(3):
        await work(sale)

    assert await sale.money() == (5 * PRICE, 5 * PRICE)
    assert (await proof(sale)).findings == ()


async def test_shipped_order_is_not_cancelled(sale: Sale) -> None:
    """What left comes back as a return; and what was cancelled does not leave."""
    order = await paid_order(sale)
    rows = FulfilmentRows(sale.pool)
    await rows.ship(order, PARCEL, actor=HOST)
    with pytest.raises(Conflict, match="shipped"):
        await cancel(sale, order)
    assert await look(sale, order) == (OrderState.PAID, 0, [])


async def test_cancelled_order_is_neither_shipped_nor_cancelled_again(sale: Sale) -> None:
    """Two of the staff do it in the same second: one does, one hears that it was done."""
    order = await paid_order(sale)
    twice = await asyncio.gather(cancel(sale, order), cancel(sale, order), return_exceptions=True)
    assert [type(one) for one in twice if one is not None] == [Conflict]
    with pytest.raises(Conflict, match="cancelled"):
        await FulfilmentRows(sale.pool).ship(order, PARCEL, actor=HOST)
    await work(sale)
    assert await sale.money() == (5 * PRICE, 5 * PRICE)
    logged = await sale.pool.fetchval(
        "SELECT count(*) FROM host_actions WHERE action = 'order.cancel'"
    )
    assert logged == 1


async def test_order_that_is_being_cancelled_for_its_money_is_left_alone(sale: Sale) -> None:
    """Redis is giving its units back: they must not go to the shelf as well."""
    ada, hold = viewer(), new_key()
    await sale.try_hold(ada, hold, Line(0, 2))
    answer = await sale.pay(ada, hold)
    assert answer.order is not None
    await sale.pool.execute("UPDATE money_jobs SET state = 'failed', due_at = 'infinity'")

    with pytest.raises(Busy, match="refused"):
        await cancel(sale, answer.order.order)


async def test_late_cancellation_from_redis_makes_its_stock_again(sale: Sale) -> None:
    """Redis gives back units that are on the shelf: it is rebuilt and sells none of them."""
    ada, hold = viewer(), new_key()
    await sale.try_hold(ada, hold, Line(0, 2))
    answer = await sale.pay(ada, hold)
    assert answer.order is not None
    await cancel(sale, answer.order.order)
    assert ada.buyer is not None
    payment = await sale.pool.fetchval("SELECT id::text FROM payments")
    await sale.stock.cancel(sale.show, ada.buyer, hold, payment=payment)
    await sale.settler.drain(sale.show)

    assert await sale.pool.fetchval("SELECT count(*) FROM stock_doubts") == 1
    await rebuild_show(
        sale.pool, sale.show, stock=sale.stock, outbox=sale.outbox, settler=sale.settler
    )
    assert (await sale.figures()).left == 8
    await work(sale)
    assert (await proof(sale)).findings == ()

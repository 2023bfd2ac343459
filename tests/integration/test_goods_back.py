"""Returns: what was sent may come back, money and shelf are decided once, nothing is paid twice.

Method: a real sale and a provider process; then the money there, in the ledger and on the shelf.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from live.base.errors import BadField, Conflict, NotFound
from live.domain.ids import OrderId, ShowId
from live.domain.order import OrderState, RefundState
from live.domain.orders.fulfilment import (
    Fulfilment,
    LineQty,
    ReturnState,
    ReturnView,
    ShipmentStatus,
)
from live.ledger.db.pool import Pool
from live.ledger.orders.fulfilments import FulfilmentRows
from live.ledger.orders.goods_back import ReturnDecision
from live.ledger.orders.parcels import NewParcel
from tests.support.ledger_kit import PRICE, wish
from tests.support.refund_kit import ask, look, paid_order, proof, work
from tests.support.sale_kit import Sale, open_sale
from tests.support.sandbox import SandboxServer
from tests.support.shows_kit import HOST

APPROVED, REFUSED = (
    ReturnDecision(state=ReturnState.APPROVED),
    ReturnDecision(state=ReturnState.REFUSED),
)
RECEIVED = ReturnDecision(state=ReturnState.RECEIVED)


@pytest.fixture
async def sale(
    pool: Pool, redis_url: str, server: SandboxServer, show: ShowId
) -> AsyncIterator[Sale]:
    """Two offers of ten units."""
    async with open_sale(pool, redis_url, server, show, units=(10, 10)) as sale:
        yield sale
    await server.misbehave()


async def sent_order(sale: Sale) -> OrderId:
    """Five units of one line, paid and shipped."""
    order = await paid_order(sale)
    await ship(sale, order, 5)
    return order


async def ship(sale: Sale, order: OrderId, qty: int) -> None:
    parcel = NewParcel(
        items=(LineQty(line=1, qty=qty),), carrier="DHL", tracking_number="1", tracking_url=""
    )
    await FulfilmentRows(sale.pool).ship(order, parcel, actor=HOST)


async def ask_back(sale: Sale, order: OrderId, qty: int) -> str:
    """The return's id."""
    await FulfilmentRows(sale.pool).ask_return(
        order, (LineQty(line=1, qty=qty),), "too small", actor=HOST, own=False
    )
    return (await returns(sale, order))[-1]["return"]


async def returns(sale: Sale, order: OrderId) -> tuple[ReturnView, ...]:
    return (await sale.orders.get(order)).view.returns


async def decide(sale: Sale, order: OrderId, wanted: str, decision: ReturnDecision) -> None:
    await FulfilmentRows(sale.pool).decide_return(order, wanted, decision, actor=HOST)


async def test_return_is_received_paid_and_shelved(sale: Sale) -> None:
    """From the wish to the money: the price of the units goes back, and they are on the shelf."""
    order = await sent_order(sale)
    before = await sale.pool.fetchval("SELECT on_hand FROM products WHERE sku LIKE '%-0'")
    wanted = await ask_back(sale, order, 2)
    await decide(sale, order, wanted, APPROVED)
    assert await look(sale, order) == (OrderState.PAID, 0, [])

    await decide(sale, order, wanted, replace(RECEIVED, restock=True))
    await work(sale)

    assert await look(sale, order) == (
        OrderState.PARTIALLY_REFUNDED,
        2 * PRICE,
        [RefundState.DONE],
    )
    [back] = await returns(sale, order)
    assert (back["state"], back["refund_minor"], back["restocked"]) == (
        ReturnState.RECEIVED,
        2 * PRICE,
        True,
    )
    after = await sale.pool.fetchval("SELECT on_hand FROM products WHERE sku LIKE '%-0'")
    assert after == before + 2
    assert (await sale.orders.get(order)).view.fulfilment is Fulfilment.SHIPPED
    assert (await proof(sale)).findings == ()


async def test_all_units_back_is_a_returned_order(sale: Sale) -> None:
    """Whether they are sold again or thrown away."""
    order = await sent_order(sale)
    for qty, restock in ((2, True), (3, False)):
        wanted = await ask_back(sale, order, qty)
        await decide(sale, order, wanted, replace(RECEIVED, restock=restock))
    view = (await sale.orders.get(order)).view
    assert view.fulfilment is Fulfilment.RETURNED
    with pytest.raises(Conflict, match="no units"):
        await FulfilmentRows(sale.pool).ship(
            order,
            NewParcel(items=(), carrier="DHL", tracking_number="1", tracking_url=""),
            actor=HOST,
        )
    await work(sale)
    await work(sale)
    assert await sale.money() == (5 * PRICE, 5 * PRICE)
    assert (await proof(sale)).findings == ()


async def test_no_more_comes_back_than_left(sale: Sale) -> None:
    """Of what was sent, less what is on its way back; a refused return gives its units free."""
    order = await paid_order(sale)
    with pytest.raises(Conflict, match="0 were sent"):
        await ask_back(sale, order, 1)
    await ship(sale, order, 3)
    with pytest.raises(Conflict, match="3 were sent"):
        await ask_back(sale, order, 4)
    first = await ask_back(sale, order, 2)
    with pytest.raises(Conflict, match="1 were sent"):
        await ask_back(sale, order, 2)
    await decide(sale, order, first, REFUSED)
    await ask_back(sale, order, 3)


async def test_parcel_does_not_come_back_in_two_ways(sale: Sale) -> None:
    """Its buyer sends back what the carrier says it brought back."""
    order = await sent_order(sale)
    await ask_back(sale, order, 1)
    [shipment] = (await sale.orders.get(order)).view.shipments
    rows = FulfilmentRows(sale.pool)
    with pytest.raises(Conflict, match="on their way back"):
        await rows.note_arrival(
            order, shipment.shipment, ShipmentStatus.RETURNED_TO_SENDER, actor=HOST
        )


async def test_return_moves_forward_only(sale: Sale) -> None:
    """What is decided stays decided, and the same once more changes nothing."""
    order = await sent_order(sale)
    wanted = await ask_back(sale, order, 1)
    for _ in range(2):
        await decide(sale, order, wanted, replace(RECEIVED, refund_minor=7))
    for later in (APPROVED, REFUSED):
        with pytest.raises(Conflict, match="received does not become"):
            await decide(sale, order, wanted, later)
    with pytest.raises(Conflict, match="received, with another decision"):
        await decide(sale, order, wanted, replace(RECEIVED, refund_minor=8))
    await work(sale)
    assert await sale.money() == (5 * PRICE, 7)

    other = await ask_back(sale, order, 1)
    for early in (replace(APPROVED, refund_minor=1), replace(REFUSED, restock=True)):
        with pytest.raises(BadField):
            await decide(sale, order, other, early)
    with pytest.raises(NotFound):
        await decide(sale, order, "nothing", APPROVED)


async def test_two_of_the_staff_receive_it_once(sale: Sale) -> None:
    """In the same second, with different wishes: one is done, the other refused."""
    order = await sent_order(sale)
    wanted = await ask_back(sale, order, 2)
    both = await asyncio.gather(
        decide(sale, order, wanted, replace(RECEIVED, refund_minor=PRICE)),
        decide(sale, order, wanted, replace(RECEIVED, restock=True)),
        return_exceptions=True,
    )
    assert [type(one) for one in both if one is not None] == [Conflict]
    await work(sale)
    assert len((await sale.orders.get(order)).view.refunds) == 1
    assert (await proof(sale)).findings == ()


async def test_refund_beside_a_return_is_not_paid_twice(sale: Sale) -> None:
    """What a host pays back while the goods are on their way counts against them."""
    order = await sent_order(sale)
    wanted = await ask_back(sale, order, 5)
    await ask(sale, order, wish(4 * PRICE))
    with pytest.raises(Conflict, match="left"):
        await decide(sale, order, wanted, replace(RECEIVED, refund_minor=2 * PRICE))

    await asyncio.gather(
        decide(sale, order, wanted, RECEIVED),
        ask(sale, order, wish(PRICE)),
        return_exceptions=True,
    )
    for _ in range(3):
        await work(sale)

    assert await sale.money() == (5 * PRICE, 5 * PRICE)
    assert (await proof(sale)).findings == ()


async def test_failed_refund_of_a_return_is_not_called_off_by_the_next(sale: Sale) -> None:
    """Each return answers for its own money."""
    order = await sent_order(sale)
    first, second = await ask_back(sale, order, 1), await ask_back(sale, order, 1)
    await decide(sale, order, first, RECEIVED)
    await sale.pool.execute("UPDATE money_jobs SET state = 'failed' WHERE kind = 'refund'")
    await decide(sale, order, second, RECEIVED)

    states = [one.state for one in (await sale.orders.get(order)).view.refunds]
    assert states == [RefundState.FAILED, RefundState.DUE]


async def test_unpaid_invoice_comes_back_without_money(sale: Sale) -> None:
    """There is none to pay back; the units go to the shelf."""
    order = await sent_order(sale)
    await sale.pool.execute("UPDATE payments SET captured_minor = 0")
    wanted = await ask_back(sale, order, 5)
    await decide(sale, order, wanted, replace(RECEIVED, restock=True))
    [back] = await returns(sale, order)
    assert (back["refund_minor"], back["restocked"]) == (0, True)

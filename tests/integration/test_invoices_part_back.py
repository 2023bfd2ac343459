"""Invoices of which units were cancelled or came back before anybody paid them.

Method: real checkouts and the real worker; then the money there and the audit.
"""

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from live.base.errors import Conflict
from live.domain.hold import Line
from live.domain.ids import OrderId, ShowId
from live.domain.order import OrderState, RefundState
from live.domain.orders.fulfilment import ReturnState
from live.ledger.db.pool import Connection, Pool, in_transaction
from live.ledger.money import invoices
from live.ledger.orders.withdraw import WithdrawalRows
from tests.integration.test_goods_back import RECEIVED, ask_back, decide, returns, ship
from tests.integration.test_invoices import CONTACT
from tests.support.ledger_kit import PRICE
from tests.support.refund_kit import look, proof, work
from tests.support.sale_kit import Sale, new_key, open_sale, viewer
from tests.support.sandbox import SandboxServer
from tests.support.shows_kit import HOST


@pytest.fixture
async def sale(
    pool: Pool, redis_url: str, server: SandboxServer, show: ShowId
) -> AsyncIterator[Sale]:
    async with open_sale(pool, redis_url, server, show) as sale:
        yield sale


async def sent_in_part(sale: Sale) -> OrderId:
    """Two units by invoice, of which one has left."""
    ada, hold = viewer(), new_key()
    await sale.try_hold(ada, hold, Line(0, 2))
    answer = await sale.pay(ada, hold, None, provider="invoice", contact=CONTACT)
    assert answer.order is not None
    await work(sale)
    await ship(sale, answer.order.order, 1)
    return answer.order.order


async def pay(sale: Sale, order: OrderId) -> None:
    await sale.orders.mark_paid(order, reference="SEPA 1", actor=HOST)


async def withdraw(sale: Sale, order: OrderId) -> str:
    sub = (await sale.orders.get(order)).sub
    done = await WithdrawalRows(sale.pool, days=14).withdraw(order, sub, confirm=True)
    return done.statement


async def test_nothing_is_owed_after_a_withdrawal(sale: Sale) -> None:
    """As the buyer was told; neither while goods are outside nor when they are back."""
    order = await sent_in_part(sale)
    assert "No money was taken, and none will be" in await withdraw(sale, order)
    with pytest.raises(Conflict, match="the buyer withdrew"):
        await pay(sale, order)
    [back] = await returns(sale, order)
    await decide(sale, order, back["return"], RECEIVED)
    with pytest.raises(Conflict, match="the buyer withdrew"):
        await pay(sale, order)

    assert await look(sale, order) == (OrderState.CONFIRMED, 0, [])
    assert await sale.pool.fetchval("SELECT captured_minor FROM payments") == 0
    assert (await proof(sale)).findings == ()


async def test_audit_sees_a_withdrawn_invoice_that_was_paid(sale: Sale) -> None:
    """Past the guard: what the cancelled unit cost stays here, and that is told."""
    order = await sent_in_part(sale)
    await withdraw(sale, order)

    async def mark(connection: Connection) -> bool:
        return await invoices.mark_paid(connection, order_id, "SEPA 1")

    order_id = await sale.pool.fetchval("SELECT id FROM orders")
    assert await in_transaction(sale.pool, mark)
    [found] = [line for line in (await proof(sale)).findings if "withdrawn from" in line]
    assert f"{PRICE} of its money did not go back" in found


async def test_what_came_back_unpaid_is_paid_back_once_paid(sale: Sale) -> None:
    """The invoice is paid in full; the price of the unit that is back does not stay."""
    order = await sent_in_part(sale)
    wanted = await ask_back(sale, order, 1)
    await decide(sale, order, wanted, replace(RECEIVED, restock=True))
    for _ in range(2):
        await pay(sale, order)
    await work(sale)

    assert await look(sale, order) == (OrderState.PARTIALLY_REFUNDED, PRICE, [RefundState.DONE])
    assert (await proof(sale)).findings == ()
    await ship(sale, order, 1)
    await decide(sale, order, await ask_back(sale, order, 1), RECEIVED)
    await work(sale)
    assert await look(sale, order) == (OrderState.REFUNDED, 2 * PRICE, [RefundState.DONE] * 2)
    assert (await returns(sale, order))[1]["state"] is ReturnState.RECEIVED
    assert (await proof(sale)).findings == ()


async def test_invoice_of_which_all_is_back_is_not_paid(sale: Sale) -> None:
    """Nothing is with the buyer; a repeat of what was written before is no error."""
    order = await sent_in_part(sale)
    await ship(sale, order, 1)
    wanted = await ask_back(sale, order, 2)
    await decide(sale, order, wanted, replace(RECEIVED, restock=True))
    with pytest.raises(Conflict, match="nothing of it is owed"):
        await pay(sale, order)
    assert await look(sale, order) == (OrderState.CONFIRMED, 0, [])

    other = await sent_in_part(sale)
    await pay(sale, other)
    await ship(sale, other, 1)
    await decide(sale, other, await ask_back(sale, other, 2), RECEIVED)
    await pay(sale, other)

"""A buyer withdraws: told first, done when confirmed, kept word for word, and paid back once.

Method: a real sale and a provider process; the RPC is in test_sale_rpc.py.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import asyncpg
import pytest

from live.base.errors import Conflict, NotFound
from live.domain.ids import OrderId, ShowId
from live.domain.order import OrderState, RefundState, Withdrawal
from live.domain.orders.fulfilment import Fulfilment, LineQty, ReturnState, ShipmentStatus
from live.ledger.db.pool import Pool
from live.ledger.orders.fulfilments import FulfilmentRows
from live.ledger.orders.withdraw import WithdrawalRows
from tests.integration.test_goods_back import RECEIVED, REFUSED, ask_back, decide, ship
from tests.support.ledger_kit import PRICE
from tests.support.refund_kit import look, paid_order, proof, work
from tests.support.sale_kit import Sale, open_sale, viewer
from tests.support.sandbox import SandboxServer
from tests.support.shows_kit import HOST


@pytest.fixture
async def sale(
    pool: Pool, redis_url: str, server: SandboxServer, show: ShowId
) -> AsyncIterator[Sale]:
    """Two offers of ten units."""
    async with open_sale(pool, redis_url, server, show, units=(10, 10)) as sale:
        yield sale
    await server.misbehave()


async def withdraw(sale: Sale, order: OrderId, *, confirm: bool) -> Withdrawal:
    sub = (await sale.orders.get(order)).sub
    return await WithdrawalRows(sale.pool, days=14).withdraw(order, sub, confirm=confirm)


async def deliver(sale: Sale, order: OrderId, *, days_ago: int = 0) -> None:
    view = (await sale.orders.get(order)).view
    for one in view.shipments:
        await FulfilmentRows(sale.pool).note_arrival(
            order, one.shipment, ShipmentStatus.DELIVERED, actor=HOST
        )
    await sale.pool.execute(
        "UPDATE shipments SET updated_at = now() - make_interval(days => $1)", days_ago
    )


async def test_first_step_says_and_changes_nothing(sale: Sale) -> None:
    """In words and figures; asked as often as one likes."""
    order = await paid_order(sale)
    before = await sale.orders.get(order)
    for _ in range(2):
        said = await withdraw(sale, order, confirm=False)
        assert (said.refund_now_minor, said.refund_later_minor) == (5 * PRICE, 0)
        assert "cancelled" in said.statement and "paid back at once" in said.statement
        assert said.order.withdrawn_at is None
    assert await sale.orders.get(order) == before


async def test_order_that_did_not_leave_is_cancelled_and_paid_back(sale: Sale) -> None:
    """At once; the acknowledgement is in the order, a repeat answers the same."""
    order = await paid_order(sale)
    said = await withdraw(sale, order, confirm=False)
    done = await withdraw(sale, order, confirm=True)
    again = await withdraw(sale, order, confirm=True)
    await work(sale)

    assert said.statement == done.statement == again.statement
    view = (await sale.orders.get(order)).view
    assert (view.state, view.withdrawal_statement) == (OrderState.CANCELLED, said.statement)
    assert view.withdrawn_at == done.order.withdrawn_at == again.order.withdrawn_at is not None
    assert await sale.money() == (5 * PRICE, 5 * PRICE)
    assert (await proof(sale)).findings == ()


async def test_two_confirmations_in_the_same_second_are_one(sale: Sale) -> None:
    """Whoever comes second hears what was answered first."""
    order = await paid_order(sale)
    both = await asyncio.gather(*(withdraw(sale, order, confirm=True) for _ in range(2)))
    assert both[0].statement == both[1].statement
    await work(sale)
    assert await sale.money() == (5 * PRICE, 5 * PRICE)


async def test_goods_come_back_before_their_money(sale: Sale) -> None:
    """What left is an approved return; the money goes when it is received."""
    order = await paid_order(sale)
    await ship(sale, order, 5)
    await deliver(sale, order, days_ago=13)
    done = await withdraw(sale, order, confirm=True)
    await work(sale)

    assert (done.refund_now_minor, done.refund_later_minor) == (0, 5 * PRICE)
    assert "send 5 units back within 14 days" in done.statement
    [back] = done.order.returns
    assert (back["state"], back["items"]) == (ReturnState.APPROVED, (LineQty(line=1, qty=5),))
    assert await sale.money() == (5 * PRICE, 0)
    await decide(sale, order, back["return"], replace(RECEIVED, restock=True))
    await work(sale)
    assert await sale.money() == (5 * PRICE, 5 * PRICE)
    assert (await sale.orders.get(order)).view.fulfilment is Fulfilment.RETURNED
    assert (await proof(sale)).findings == ()


async def test_order_that_left_in_part_is_both(sale: Sale) -> None:
    """What has not left is paid back at once, the rest when it is received."""
    order = await paid_order(sale)
    await ship(sale, order, 2)
    done = await withdraw(sale, order, confirm=True)
    await work(sale)

    assert (done.refund_now_minor, done.refund_later_minor) == (3 * PRICE, 2 * PRICE)
    assert await sale.money() == (5 * PRICE, 3 * PRICE)
    assert done.order.returns[0]["items"] == (LineQty(line=1, qty=2),)
    with pytest.raises(Conflict):
        await ship(sale, order, 1)
    await decide(sale, order, done.order.returns[0]["return"], RECEIVED)
    await work(sale)
    assert await sale.money() == (5 * PRICE, 5 * PRICE)
    assert (await proof(sale)).findings == ()


async def test_window_ends_days_after_all_has_arrived(sale: Sale) -> None:
    """Never before; afterwards the answer says since when."""
    order = await paid_order(sale)
    await ship(sale, order, 4)
    await deliver(sale, order, days_ago=30)
    assert (await withdraw(sale, order, confirm=False)).refund_later_minor == 4 * PRICE
    await ship(sale, order, 1)
    await deliver(sale, order, days_ago=15)

    for confirm in (False, True):
        with pytest.raises(Conflict, match="14 days after the delivery"):
            await withdraw(sale, order, confirm=confirm)
    longer = WithdrawalRows(sale.pool, days=30)
    sub = (await sale.orders.get(order)).sub
    assert (await longer.withdraw(order, sub, confirm=False)).refund_later_minor == 5 * PRICE


async def test_order_whose_money_is_set_aside_costs_nothing(sale: Sale) -> None:
    """Nothing was taken, and the buyer is told so."""
    ada = viewer()
    answer = await sale.pay(ada, await sale.hold(ada))
    assert answer.order is not None
    done = await withdraw(sale, answer.order.order, confirm=True)
    assert "No money was taken" in done.statement
    await work(sale)
    assert await sale.money() == (0, 0)


async def test_nobody_withdraws_from_what_is_not_theirs_or_over(sale: Sale) -> None:
    """Another's order is unknown; one that is cancelled has nothing to withdraw from."""
    order = await paid_order(sale)
    rows = WithdrawalRows(sale.pool, days=14)
    for foreign in (order, OrderId("nothing")):
        with pytest.raises(NotFound):
            await rows.withdraw(foreign, "eve", confirm=True)
    await FulfilmentRows(sale.pool).cancel(order, reason="no cloth", restock=True, actor=HOST)
    with pytest.raises(Conflict, match="cancelled"):
        await withdraw(sale, order, confirm=True)


async def test_what_was_answered_cannot_be_changed(sale: Sale) -> None:
    """The acknowledgement is durable."""
    order = await paid_order(sale)
    await withdraw(sale, order, confirm=True)
    for change in ("UPDATE withdrawals SET statement = 'no'", "DELETE FROM withdrawals"):
        with pytest.raises(asyncpg.RaiseError, match="append only"):
            await sale.pool.execute(change)


async def test_open_returns_become_part_of_it(sale: Sale) -> None:
    """What the buyer had asked for is named, approved and not refused; the rest comes beside it."""
    order = await paid_order(sale)
    await ship(sale, order, 3)
    asked = await ask_back(sale, order, 1)
    done = await withdraw(sale, order, confirm=True)

    assert (done.refund_now_minor, done.refund_later_minor) == (2 * PRICE, 3 * PRICE)
    assert "What has not been sent is cancelled" in done.statement
    assert "send 3 units back" in done.statement
    assert "includes 1 unit that you are returning already" in done.statement
    backs = done.order.returns
    assert [one["state"] for one in backs] == [ReturnState.APPROVED] * 2
    assert [one["items"][0].qty for one in backs] == [1, 2]
    assert (await proof(sale)).findings == ()
    for one in backs:
        with pytest.raises(Conflict, match="2011/83/EU"):
            await decide(sale, order, one["return"], REFUSED)
    await decide(sale, order, asked, RECEIVED)
    await decide(sale, order, backs[1]["return"], RECEIVED)
    await work(sale)
    assert await sale.money() == (5 * PRICE, 5 * PRICE)
    assert (await proof(sale)).findings == ()


async def test_all_that_is_asked_back_already_is_withdrawn_from(sale: Sale) -> None:
    """The right does not hang on whether the host takes a return."""
    order = await paid_order(sale)
    await ship(sale, order, 5)
    asked = await ask_back(sale, order, 5)
    done = await withdraw(sale, order, confirm=True)

    assert (done.refund_now_minor, done.refund_later_minor) == (0, 5 * PRICE)
    assert "includes 5 units that you are returning already" in done.statement
    [back] = done.order.returns
    assert (back["return"], back["state"]) == (asked, ReturnState.APPROVED)
    assert (await proof(sale)).findings == ()


async def test_what_is_left_after_a_return_is_cancelled(sale: Sale) -> None:
    """Nothing is with the buyer any more; the order ends refunded, and the audit agrees."""
    order = await paid_order(sale)
    await ship(sale, order, 2)
    await decide(sale, order, await ask_back(sale, order, 2), RECEIVED)
    done = await withdraw(sale, order, confirm=True)
    await work(sale)
    await work(sale)

    assert (done.refund_now_minor, done.refund_later_minor) == (3 * PRICE, 0)
    assert "What has not been sent is cancelled" in done.statement
    assert await look(sale, order) == (
        OrderState.REFUNDED,
        5 * PRICE,
        [RefundState.DONE, RefundState.DONE],
    )
    assert (await proof(sale)).findings == ()


async def test_nothing_is_withdrawn_from_what_is_back(sale: Sale) -> None:
    """Its money was decided when it was received."""
    order = await paid_order(sale)
    await ship(sale, order, 5)
    await decide(sale, order, await ask_back(sale, order, 5), replace(RECEIVED, refund_minor=1))
    with pytest.raises(Conflict, match="all of this order is back"):
        await withdraw(sale, order, confirm=True)


async def test_parcel_that_comes_back_by_itself_is_its_return(sale: Sale) -> None:
    """A status of the parcel would pay nothing: the answer says what does, and that pays."""
    order = await paid_order(sale)
    await ship(sale, order, 5)
    done = await withdraw(sale, order, confirm=True)
    [shipment] = done.order.shipments
    with pytest.raises(Conflict, match="received"):
        await FulfilmentRows(sale.pool).note_arrival(
            order, shipment.shipment, ShipmentStatus.RETURNED_TO_SENDER, actor=HOST
        )
    await decide(sale, order, done.order.returns[0]["return"], replace(RECEIVED, restock=True))
    await work(sale)
    assert await sale.money() == (5 * PRICE, 5 * PRICE)
    assert (await proof(sale)).findings == ()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("UPDATE returns SET state = 'requested'", "may be refused"),
        ("UPDATE returns SET state = 'refused'", "2 units of it are with the buyer, unasked for"),
        (
            "WITH no AS (UPDATE returns SET state = 'refused')"
            " UPDATE shipments SET status = 'returned_to_sender'",
            "2 units of it are neither cancelled nor paid back",
        ),
        ("DELETE FROM money_jobs WHERE request = 'withdrawal'", f"{3 * PRICE} of its money"),
    ],
)
async def test_audit_sees_what_a_withdrawal_is_owed(sale: Sale, change: str, told: str) -> None:
    """Returns that may be refused, units without one, goods that are back without their money."""
    order = await paid_order(sale)
    await ship(sale, order, 2)
    await withdraw(sale, order, confirm=True)
    assert (await proof(sale)).findings == ()
    await sale.pool.execute(change)
    found = [line for line in (await proof(sale)).findings if "withdrawn from" in line]
    assert [told in line for line in found] == [True], found


async def test_host_may_hold_back_what_the_goods_lost(sale: Sale) -> None:
    """A decision on money that is written down is no finding (article 14 (2))."""
    order = await paid_order(sale)
    await ship(sale, order, 2)
    done = await withdraw(sale, order, confirm=True)
    worn = replace(RECEIVED, refund_minor=PRICE)
    await decide(sale, order, done.order.returns[0]["return"], worn)
    await work(sale)
    await work(sale)
    assert await sale.money() == (5 * PRICE, 4 * PRICE)
    assert (await proof(sale)).findings == ()

"""One key, several meanings: what a checkout does where a key was used for something else.

Method: an offer that is sold by holds and one that is sold to whoever pays first, in one show; then
the provider's books say what happened to anybody's money.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from live.base.errors import CallError, Conflict
from live.buying.forgotten import OldPurchases
from live.buying.hold import Wanted
from live.buying.purchase import CheckoutAnswer, Purchase
from live.domain.caller import Caller
from live.domain.hold import Line
from live.domain.ids import HoldKey, ShowId
from live.domain.offer import Mode, Stock
from live.domain.outcomes import Outcome
from live.domain.payment import PaymentState
from live.ledger.db.pool import Pool
from live.ledger.settle.rebuild import rebuild_show
from tests.support.payment_kit import authorised, opened
from tests.support.sale_kit import Sale, new_key, open_sale, viewer
from tests.support.sandbox import SandboxServer

DIRECT = 1


@pytest.fixture
async def sale(
    pool: Pool, redis_url: str, server: SandboxServer, show: ShowId
) -> AsyncIterator[Sale]:
    async with open_sale(pool, redis_url, server, show, units=(10, 3, 5)) as sale:
        offers = sale.book.of(show)
        direct = replace(offers.by_slot[DIRECT], mode=Mode.FIRST_PAID, version=2)
        offers.by_slot[DIRECT] = offers.by_id[direct.id] = direct
        await pool.execute(
            "UPDATE offers SET mode = 'first_paid', version = 2 WHERE show = $1 AND slot = $2",
            show,
            DIRECT,
        )
        await sale.stock.apply_offer(direct)
        yield sale


async def buy(sale: Sale, who: Caller, key: HoldKey, *, qty: int = 1) -> CheckoutAnswer:
    direct = Wanted(sale.offers[DIRECT], qty)
    return await sale.checkout.pay(
        who,
        sale.show,
        Purchase(key=key, provider="sandbox", token="tok_approve", contact=None, direct=direct),
    )


async def test_key_of_a_hold_charges_no_card_in_a_direct_purchase(sale: Sale) -> None:
    """It is a conflict before the provider hears of it."""
    ada = viewer()
    key = await sale.hold(ada)

    with pytest.raises(Conflict):
        await buy(sale, ada, key)

    assert await sale.payment_states() == []


async def test_key_taken_while_it_was_paid_gives_the_money_back(sale: Sale) -> None:
    """The hold came between the question and the money: the money goes back, nobody tries again."""
    ada, key = viewer(), new_key()
    assert ada.buyer is not None
    await opened(sale, ada, key, mode=Mode.FIRST_PAID)
    await sale.pool.execute("UPDATE payments SET slots = '{1}'")
    assert (await sale.try_hold(ada, key, Line(0, 1))).outcome is Outcome.HELD

    await sale.work_until("voided", None)

    assert await sale.money() == (0, 0)
    assert await sale.figures() == Stock(9, 1, 0)


async def test_direct_purchase_of_other_units_is_a_conflict(sale: Sale) -> None:
    """Under the key of an order, of a payment under way, and of one that failed."""
    ada, key = viewer(), new_key()
    first = await buy(sale, ada, key)
    with pytest.raises(Conflict):
        await buy(sale, ada, key, qty=2)
    await sale.stock.apply_offer(replace(sale.book.of(sale.show).by_slot[DIRECT], version=3))

    bob, other = viewer(), new_key()
    await opened(sale, bob, other, mode=Mode.FIRST_PAID)
    await sale.pool.execute(
        "UPDATE payments SET slots = '{1}', attempt = hold WHERE state='created'"
    )
    with pytest.raises(Conflict):
        await buy(sale, bob, other, qty=2)

    assert first.outcome is Outcome.CONFIRMED
    assert len(await sale.payment_states()) == 2


async def test_hold_that_is_being_paid_cannot_be_released(sale: Sale) -> None:
    """The buyer reads `processing`, and their payment ends as an order."""
    ada = viewer()
    hold = await sale.hold(ada)
    await authorised(sale, ada, hold)

    assert await sale.desk.release(ada, sale.show, hold) is Outcome.PROCESSING

    await sale.work_until("captured", "paid")
    assert await sale.desk.release(ada, sale.show, hold) is Outcome.CONFIRMED


async def test_repeat_of_a_declined_checkout_leaves_the_hold_free(sale: Sale) -> None:
    """It tells the truth of the first, and the hold waits for no money: it can be given back."""
    ada, key = viewer(), new_key()
    hold = await sale.hold(ada)
    first = await sale.pay(ada, hold, "tok_decline", key=key)
    again = await sale.pay(ada, hold, "tok_decline", key=key)

    assert [first.outcome, again.outcome] == [Outcome.DECLINED] * 2
    assert await sale.desk.release(ada, sale.show, hold) is Outcome.RELEASED


async def test_old_key_of_a_cancelled_order_buys_nothing_after_any_rebuild(sale: Sale) -> None:
    """The capture was refused and Redis forgot everything: the client's repeats hear the truth, and
    no card is charged for them."""
    ada, key = viewer(), new_key()
    hold = await sale.hold(ada)
    await sale.pay(ada, hold, "tok_approve", key=key)
    await sale.pool.execute("UPDATE money_jobs SET state = 'failed', due_at = now()")
    await sale.work_until("voided", "cancelled")

    for _ in range(2):
        await rebuild_show(
            sale.pool,
            sale.show,
            stock=sale.stock,
            outbox=sale.outbox,
            settler=sale.settler,
            force=True,
        )
        told = await sale.try_hold(ada, hold, Line(0, 1))
        paid = await sale.pay(ada, hold, key=new_key())
        assert (told.outcome, paid.outcome) == (Outcome.ALREADY_RELEASED, Outcome.REJECTED)

    assert len(await sale.payment_states()) == 1
    assert await sale.figures() == Stock(10, 0, 0)


async def test_money_that_came_when_its_void_was_asked_for_sells_nothing(sale: Sale) -> None:
    """The worker gave the payment up in the moment in which the buyer finished: one wins."""
    ada = viewer()
    hold = await sale.hold(ada)
    payment = await opened(sale, ada, hold, window_ms=60_000)
    assert await sale.payments.ask_void(payment.id, reason="expired")

    state = await sale.payments.record(payment.id, PaymentState.AUTHORISED, ref="r")

    assert state is PaymentState.VOIDED
    assert await sale.payment_states() == [("created", None)]
    await sale.work_until("voided", None)


async def test_money_that_came_first_is_not_voided_for_being_late(sale: Sale) -> None:
    """The other order of the two."""
    ada = viewer()
    payment = await authorised(sale, ada, await sale.hold(ada))

    assert not await sale.payments.ask_void(payment.id, reason="expired", unless_authorised=True)

    await sale.work_until("captured", "paid")


async def test_two_windows_of_one_buyer_are_told_the_same(sale: Sale) -> None:
    """One hold, checked out in both: one payment, one order, no failure."""
    ada = viewer()
    hold = await sale.hold(ada)

    answers = await asyncio.gather(*(sale.pay(ada, hold, key=new_key()) for _ in range(2)))
    later = await sale.pay(ada, hold, key=new_key())

    assert {answer.outcome for answer in answers} <= {Outcome.CONFIRMED, Outcome.PROCESSING}
    assert later.outcome is Outcome.CONFIRMED
    assert len(await sale.payment_states()) == 1


async def test_purchase_that_stock_forgot_is_told_by_the_ledger(sale: Sale) -> None:
    """The repeat of a hold hears that it was bought; other units under its key are a conflict."""
    ada = viewer()
    assert ada.buyer is not None
    hold = await sale.hold(ada)
    await sale.pay(ada, hold)
    old, offer = OldPurchases(sale.orders), sale.offers[0]

    async def told(key: HoldKey, qty: int) -> Outcome | CallError:
        assert ada.buyer is not None
        answer: asyncio.Future[Outcome | CallError] = asyncio.get_running_loop().create_future()
        old.ask(sale.show, ada.buyer, key, [(offer, qty)], done=answer.set_result)
        return await answer

    assert await told(hold, 1) is Outcome.CONFIRMED
    assert isinstance(await told(hold, 2), Conflict)
    assert await told(new_key(), 1) is Outcome.CLOSED

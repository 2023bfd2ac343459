"""Checkout on real engines and a real provider process: every way that a purchase can go."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from structlog.contextvars import merge_contextvars
from structlog.testing import capture_logs

from live.base.errors import BadField, Conflict, NotFound
from live.domain.hold import HoldState
from live.domain.ids import ShowId, key_text
from live.domain.offer import Mode, Stock
from live.domain.outcomes import Outcome
from live.ledger.db.pool import Pool
from live.payments.providers.sandbox import ASYNC_WINDOW_MS, PAYMENT_WINDOW_MS
from tests.support.ledger_kit import PRICE
from tests.support.sale_kit import Sale, new_key, open_sale, viewer
from tests.support.sandbox import SandboxServer


@pytest.fixture
async def sale(
    pool: Pool, redis_url: str, server: SandboxServer, show: ShowId
) -> AsyncIterator[Sale]:
    async with open_sale(pool, redis_url, server, show) as sale:
        yield sale
    await server.misbehave()


@pytest.fixture
async def rush(
    pool: Pool, redis_url: str, server: SandboxServer, show: ShowId
) -> AsyncIterator[Sale]:
    """The same in `first_paid` mode, with two units."""
    async with open_sale(pool, redis_url, server, show, units=(2,), mode=Mode.FIRST_PAID) as sale:
        yield sale


async def test_approved_checkout_answers_with_the_committed_order(sale: Sale) -> None:
    """`confirmed` carries the order, which is in Postgres, and the units are sold."""
    ada = viewer()
    hold = await sale.hold(ada, 2)

    answer = await sale.pay(ada, hold)

    assert answer.outcome is Outcome.CONFIRMED
    assert answer.order is not None
    assert answer.order.total_minor == 2 * PRICE
    assert await sale.orders.of_buyer(answer.order.order, ada.sub) == answer.order
    assert await sale.figures() == Stock(left=8, held=0, sold=2)


async def test_declined_checkout_keeps_the_hold_for_another_try(sale: Sale) -> None:
    """After a decline the same key says declined again, and a new key may pay."""
    ada, first = viewer(), new_key()
    hold = await sale.hold(ada)

    declined = await sale.pay(ada, hold, "tok_decline", key=first)
    repeated = await sale.pay(ada, hold, "tok_decline", key=first)
    paid = await sale.pay(ada, hold, "tok_approve")

    assert [declined.outcome, repeated.outcome] == [Outcome.DECLINED] * 2
    assert declined.reason == "card declined"
    assert paid.outcome is Outcome.CONFIRMED


async def test_declined_hold_is_held_again_until_its_old_deadline(sale: Sale) -> None:
    """A declined card gains no time, so it cannot hold up the closing of an offer either."""
    ada = viewer()
    assert ada.buyer is not None
    hold = await sale.hold(ada)
    [before] = (await sale.stock.buyer_state(sale.show, ada.buyer)).holds

    await sale.pay(ada, hold, "tok_decline")

    assert (await sale.stock.buyer_state(sale.show, ada.buyer)).holds == (before,)
    assert "payment.failed" not in sale.told.types(ada.buyer)  # they read it in the answer


async def test_decline_after_processing_is_told_and_the_hold_is_held_again(sale: Sale) -> None:
    """The bank says no after the buyer was answered: their channel says so, and they may retry."""
    ada, key = viewer(), new_key()
    assert ada.buyer is not None
    hold = await sale.hold(ada)
    [before] = (await sale.stock.buyer_state(sale.show, ada.buyer)).holds

    answer = await sale.pay(ada, hold, "tok_slow_decline", key=key)
    event = await sale.told.wait_for(ada.buyer, "payment.failed")
    holds = (await sale.stock.buyer_state(sale.show, ada.buyer)).holds
    again = await sale.pay(ada, hold, "tok_slow_decline", key=key)
    paid = await sale.pay(ada, hold, "tok_approve")

    assert answer.outcome is Outcome.PROCESSING
    assert (event["hold"], event["reason"]) == (answer.hold, "card declined")
    assert holds == (before,)
    assert (again.outcome, again.reason) == (Outcome.DECLINED, "card declined")
    assert paid.outcome is Outcome.CONFIRMED
    assert sale.told.types(ada.buyer) == ["payment.failed", "order.confirmed"]


async def test_slow_provider_is_answered_with_processing_in_time(sale: Sale) -> None:
    """Before the provider answers the buyer reads `processing`; the order comes by itself."""
    ada = viewer()
    hold = await sale.hold(ada)

    answer = await sale.pay(ada, hold, "tok_slow")

    assert answer.outcome is Outcome.PROCESSING
    assert ada.buyer is not None
    assert "order.confirmed" not in sale.told.types(ada.buyer)  # answered before the provider did
    event = await sale.told.wait_for(ada.buyer, "order.confirmed")
    assert event["type"] == "order.confirmed"


@pytest.mark.parametrize(
    ("token", "window_ms"),
    [("tok_action_required", PAYMENT_WINDOW_MS), ("tok_async", ASYNC_WINDOW_MS)],
)
async def test_asynchronous_payment_keeps_its_units_longer(
    sale: Sale, token: str, window_ms: int
) -> None:
    """The deadline moves to now and the window of this way of paying, by Redis' clock."""
    ada = viewer()
    hold = await sale.hold(ada)
    assert ada.buyer is not None

    before = (await sale.stock.figures(sale.show)).at
    await sale.pay(ada, hold, token)
    after = (await sale.stock.figures(sale.show)).at
    (paying,) = (await sale.stock.buyer_state(sale.show, ada.buyer)).holds

    assert paying.state is HoldState.PAYING
    assert before + window_ms <= paying.expires_at <= after + window_ms
    assert ASYNC_WINDOW_MS > PAYMENT_WINDOW_MS


async def test_action_required_goes_on_after_the_buyer_approved(sale: Sale) -> None:
    """The first answer carries the action; after the provider's page a repeat confirms."""
    ada, key = viewer(), new_key()
    hold = await sale.hold(ada)

    asked = await sale.pay(ada, hold, "tok_action_required", key=key)
    early = await sale.pay(ada, hold, "tok_action_required", key=key)
    assert asked.action is not None
    async with sale.server.client() as client:
        await client.post(asked.action.value.removeprefix("http://sandbox") + "?approve=yes")
    done = await sale.pay(ada, hold, "tok_action_required", key=key)

    assert [asked.outcome, early.outcome] == [Outcome.ACTION_REQUIRED] * 2
    assert early.action == asked.action
    assert done.outcome is Outcome.CONFIRMED


async def test_expired_hold_is_not_charged(sale: Sale) -> None:
    """A hold whose time is over is told so before anybody is asked for money."""
    ada = viewer()
    hold = await sale.hold(ada)
    await sale.desk.release(ada, sale.show, hold)

    answer = await sale.pay(ada, hold)

    assert answer.outcome is Outcome.ALREADY_RELEASED
    assert await sale.payment_states() == []


async def test_repeat_after_confirmed_gives_the_same_order(sale: Sale) -> None:
    """The same key tells the same order and charges nothing more."""
    ada, key = viewer(), new_key()
    hold = await sale.hold(ada)
    first = await sale.pay(ada, hold, key=key)
    again = await sale.pay(ada, hold, key=key)
    assert again.outcome is Outcome.CONFIRMED
    assert again.order is not None and first.order is not None
    assert again.order.order == first.order.order
    assert len(await sale.payment_states()) == 1


async def test_repeat_with_another_request_is_a_conflict(sale: Sale) -> None:
    """One key is one request: another provider's token under it is refused."""
    ada, key = viewer(), new_key()
    hold = await sale.hold(ada)
    await sale.pay(ada, hold, "tok_action_required", key=key)
    with pytest.raises(Conflict):
        await sale.pay(ada, hold, "tok_approve", key=key)


async def test_two_keys_at_once_charge_once(sale: Sale) -> None:
    """Two checkouts of one hold at the same moment make one payment and one order."""
    ada = viewer()
    hold = await sale.hold(ada)
    answers = await asyncio.gather(*(sale.pay(ada, hold) for _ in range(5)))
    outcomes = {answer.outcome for answer in answers}
    assert Outcome.CONFIRMED in outcomes
    assert outcomes <= {Outcome.CONFIRMED, Outcome.PROCESSING}
    assert len(await sale.payment_states()) == 1
    assert await sale.figures() == Stock(left=9, held=0, sold=1)


async def test_another_buyers_hold_is_not_found(sale: Sale) -> None:
    """Somebody else's key is as unknown as one that never was."""
    hold = await sale.hold(viewer())
    with pytest.raises(NotFound):
        await sale.pay(viewer(), hold)
    assert await sale.payment_states() == []


async def test_hold_that_a_rebuild_did_not_find_is_lost(sale: Sale) -> None:
    """After Redis lost data an unknown hold may be one of the lost: the buyer is told so."""
    state = sale.followed.followed[sale.show].state
    assert state is not None
    sale.followed.followed[sale.show].state = replace(state, stock_epoch=2)
    answer = await sale.pay(viewer(), new_key())
    assert answer.outcome is Outcome.HOLD_LOST
    assert await sale.payment_states() == []


async def test_order_is_told_though_stock_forgot_its_hold(sale: Sale) -> None:
    """Redis keeps a few records a buyer; a repeat after that still finds the order."""
    ada, key = viewer(), new_key()
    hold = await sale.hold(ada)
    first = await sale.pay(ada, hold, key=key)
    for _ in range(20):
        await sale.desk.release(ada, sale.show, await sale.hold(ada))
    again = await sale.pay(ada, hold, key=key)
    assert first.order is not None and again.order is not None
    assert again.order.order == first.order.order


async def test_unknown_provider_is_named(sale: Sale) -> None:
    """The error names the field, and nothing has begun."""
    ada = viewer()
    with pytest.raises(BadField, match=r"^provider: "):
        await sale.pay(ada, await sale.hold(ada), provider="nobody")


async def test_provider_down_is_processing_and_finished_later(sale: Sale) -> None:
    """With the provider away the buyer reads `processing`; the worker finishes it later."""
    ada = viewer()
    hold = await sale.hold(ada)
    await sale.server.misbehave(down=True)
    answer = await sale.pay(ada, hold)
    await sale.server.misbehave()
    await sale.work_until("captured", "paid")
    assert answer.outcome is Outcome.PROCESSING
    assert await sale.money() == (PRICE, 0)


async def test_first_paid_sells_to_who_paid_first(rush: Sale) -> None:
    """Units go to paid buyers only; who comes after the last one is told before they are
    charged."""
    buyers = [viewer() for _ in range(2)]
    bought = [await rush.buy(buyer, key=new_key()) for buyer in buyers]
    late = await rush.buy(viewer(), key=new_key())
    assert [answer.outcome for answer in bought] == [Outcome.CONFIRMED] * 2
    assert late.outcome is Outcome.SOLD_OUT
    assert len(await rush.payment_states()) == 2


async def test_first_paid_race_voids_the_losers(rush: Sale) -> None:
    """Ten pay at once for two units: two orders, and nobody else's money is kept."""
    answers = await asyncio.gather(*(rush.buy(viewer(), key=new_key()) for _ in range(10)))
    outcomes = [answer.outcome for answer in answers]
    assert sorted(outcomes) == [Outcome.CONFIRMED] * 2 + [Outcome.SOLD_OUT] * 8
    async with asyncio.timeout(60):
        while {state for state, _ in await rush.payment_states()} != {"captured", "voided"}:
            await rush.worker.run_once()
    assert await rush.money() == (2 * PRICE, 0)
    assert await rush.figures() == Stock(left=0, held=0, sold=2)


async def test_first_paid_repeat_tells_the_same_order_though_sold_out(rush: Sale) -> None:
    """The buyer of the last unit asks again: their order, not `sold_out`."""
    ada, key = viewer(), new_key()
    await rush.buy(viewer(), key=new_key())
    first = await rush.buy(ada, key=key)
    again = await rush.buy(ada, key=key)
    assert again.outcome is Outcome.CONFIRMED
    assert first.order is not None and again.order is not None
    assert again.order.order == first.order.order


async def test_first_paid_refuses_asynchronous_methods(rush: Sale) -> None:
    """A payment that may take minutes cannot win a race; nothing is charged."""
    answer = await rush.buy(viewer(), "tok_async", key=new_key())
    assert answer.outcome is Outcome.DECLINED
    assert await rush.payment_states() == []


async def test_logs_of_a_broken_checkout_name_it(
    sale: Sale, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fault of ours in a checkout is logged with the ids of what it was about."""
    ada = viewer()
    hold = await sale.hold(ada)

    async def broken(*_: object, **__: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(sale.payments, "record", broken)
    with capture_logs(processors=[merge_contextvars]) as lines:
        answer = await sale.pay(ada, hold)

    assert answer.outcome is Outcome.PROCESSING
    line = next(line for line in lines if line["event"] == "checkout.broke")
    (row,) = await sale.pool.fetch("SELECT id, order_id FROM payments")
    assert (line["show"], line["hold"]) == (sale.show, key_text(hold))
    assert (line["payment"], line["order"]) == (str(row["id"]), str(row["order_id"]))

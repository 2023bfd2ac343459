"""From a hold to a sale and back: begin, confirm, release, cancel, late money, first paid."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from live.base.errors import NotFound
from live.domain.hold import HoldState, Line
from live.domain.ids import BuyerId, HoldKey, ShowId
from live.domain.offer import Mode, Phase, Stock
from live.domain.outcomes import Outcome
from live.domain.stock import Transition
from live.stock.engine import StockEngine
from tests.support.stock_kit import buyer, key, one, terms


async def held(engine: StockEngine, show: ShowId, who: BuyerId, qty: int = 1) -> HoldKey:
    fresh = key()
    answer = await engine.hold(show, who, fresh, one(qty=qty))
    assert answer.outcome is Outcome.HELD
    return fresh


async def stock(engine: StockEngine, show: ShowId) -> Stock:
    return (await engine.figures(show)).offers[0]


async def test_begin_moves_the_deadline_once(engine: StockEngine, show: ShowId) -> None:
    """The first begin gives the payment's window; a second one answers the same."""
    await engine.apply_offer(terms(show, hold_seconds=60))
    mine = await held(engine, show, buyer(1))

    first = await engine.begin(show, buyer(1), mine, window_ms=600_000)
    second = await engine.begin(show, buyer(1), mine, window_ms=900_000)

    assert first.outcome is Outcome.HELD and first.lines == (Line(0, 1),)
    assert second == first
    [live] = (await engine.buyer_state(show, buyer(1))).holds
    assert (live.state, live.expires_at) == (HoldState.PAYING, first.expires_at)


async def test_begin_never_brings_the_deadline_closer(engine: StockEngine, show: ShowId) -> None:
    """A short window of a provider takes nothing from the time that was promised."""
    await engine.apply_offer(terms(show, hold_seconds=600))
    mine = key()
    promised = (await engine.hold(show, buyer(1), mine, one())).expires_at

    assert (await engine.begin(show, buyer(1), mine, window_ms=1)).expires_at == promised


async def test_failed_payment_takes_the_hold_back_to_its_old_deadline(
    engine: StockEngine, show: ShowId
) -> None:
    """Trying to pay and failing gains no time and loses none, however often it is tried."""
    await engine.apply_offer(terms(show, hold_seconds=60))
    mine = key()
    promised = (await engine.hold(show, buyer(1), mine, one())).expires_at

    for _ in range(3):
        began = await engine.begin(show, buyer(1), mine, window_ms=600_000)
        assert began.held_until == promised < began.expires_at
        for _ in range(2):
            back = await engine.revert(show, buyer(1), mine, held_until=began.held_until)
            assert (back.done, back.state) == (True, HoldState.HELD)

    [live] = (await engine.buyer_state(show, buyer(1))).holds
    assert (live.state, live.expires_at) == (HoldState.HELD, promised)
    assert await stock(engine, show) == Stock(9, 1, 0)


async def test_failed_payment_of_a_repeated_begin_gains_no_time(
    engine: StockEngine, show: ShowId
) -> None:
    """The reply of the first begin was lost: the repeat still knows the deadline from before it."""
    await engine.apply_offer(terms(show, hold_seconds=60))
    mine = key()
    promised = (await engine.hold(show, buyer(1), mine, one())).expires_at
    await engine.begin(show, buyer(1), mine, window_ms=900_000)

    again = await engine.begin(show, buyer(1), mine, window_ms=900_000)
    await engine.revert(show, buyer(1), mine, held_until=again.held_until)

    [live] = (await engine.buyer_state(show, buyer(1))).holds
    assert (live.state, live.expires_at) == (HoldState.HELD, promised)
    third = await engine.begin(show, buyer(1), mine, window_ms=900_000)
    assert third.held_until == promised < third.expires_at


async def test_revert_never_extends_what_was_promised(engine: StockEngine, show: ShowId) -> None:
    """Whatever deadline a caller remembers, the hold ends no later than it would have."""
    await engine.apply_offer(terms(show, hold_seconds=60))
    mine = key()
    promised = (await engine.hold(show, buyer(1), mine, one())).expires_at
    began = await engine.begin(show, buyer(1), mine, window_ms=900_000)

    await engine.revert(show, buyer(1), mine, held_until=began.expires_at)

    [live] = (await engine.buyer_state(show, buyer(1))).holds
    assert live.expires_at == promised


async def test_payment_that_failed_after_the_old_deadline_ends_its_hold(
    engine: StockEngine, show: ShowId
) -> None:
    """The hold lived on for its payment only: the next reap gives its units back."""
    await engine.apply_offer(terms(show))
    mine = await held(engine, show, buyer(1))
    began = await engine.begin(show, buyer(1), mine, window_ms=600_000)

    await engine.revert(show, buyer(1), mine, held_until=began.held_until - 3_600_000)
    assert await engine.reap(show) == 1

    assert await stock(engine, show) == Stock(10, 0, 0)
    gone = await engine.begin(show, buyer(1), mine, window_ms=1)
    assert gone.outcome is Outcome.EXPIRED


async def test_revert_leaves_what_is_not_paying(engine: StockEngine, show: ShowId) -> None:
    """A sold hold stays sold, a released one released: a late failure takes nothing back."""
    await engine.apply_offer(terms(show))
    sold, given = await held(engine, show, buyer(1)), await held(engine, show, buyer(1))
    await engine.begin(show, buyer(1), sold, window_ms=1_000)
    await engine.confirm(show, buyer(1), sold, one())
    await engine.release(show, buyer(1), given)

    for mine, state in ((sold, HoldState.CONFIRMED), (given, HoldState.RELEASED)):
        answer = await engine.revert(show, buyer(1), mine, held_until=0)
        assert (answer.done, answer.state) == (False, state)

    assert await stock(engine, show) == Stock(9, 0, 1)


async def test_hold_of_another_buyer_is_not_found(engine: StockEngine, show: ShowId) -> None:
    """A stranger's key tells nothing, not even that it exists."""
    await engine.apply_offer(terms(show))
    mine = await held(engine, show, buyer(1))

    for command in (engine.release, engine.cancel):
        with pytest.raises(NotFound):
            await command(show, buyer(2), mine)
    with pytest.raises(NotFound):
        await engine.confirm(show, buyer(2), mine, one())
    with pytest.raises(NotFound):
        await engine.begin(show, buyer(2), mine, window_ms=1)

    assert await stock(engine, show) == Stock(9, 1, 0)


async def test_confirm_needs_a_payment_that_began(engine: StockEngine, show: ShowId) -> None:
    """held -> sold is no step: money comes first."""
    await engine.apply_offer(terms(show))
    mine = await held(engine, show, buyer(1))

    answer = await engine.confirm(show, buyer(1), mine, one())

    assert (answer.done, answer.state) == (False, HoldState.HELD)
    assert await stock(engine, show) == Stock(9, 1, 0)


async def test_every_ending_happens_exactly_once(engine: StockEngine, show: ShowId) -> None:
    """Ten parallel repeats of each step move units once (Magento inventory #3036)."""
    await engine.apply_offer(terms(show))
    mine = await held(engine, show, buyer(1), qty=2)

    async def ten(step: Callable[[], Awaitable[Transition]]) -> None:
        answers = await asyncio.gather(*(step() for _ in range(10)))
        assert all(answer.done for answer in answers)

    await engine.begin(show, buyer(1), mine, window_ms=1000)
    await ten(lambda: engine.confirm(show, buyer(1), mine, one(qty=2)))
    assert await stock(engine, show) == Stock(8, 0, 2)
    await ten(lambda: engine.cancel(show, buyer(1), mine))
    assert await stock(engine, show) == Stock(10, 0, 0)
    again = await engine.release(show, buyer(1), mine)
    assert (again.done, await stock(engine, show)) == (False, Stock(10, 0, 0))


async def test_released_units_never_make_held_negative(engine: StockEngine, show: ShowId) -> None:
    """Releasing what was released, sold or cancelled changes nothing (Medusa #12401)."""
    await engine.apply_offer(terms(show))
    mine = await held(engine, show, buyer(1))
    assert (await engine.release(show, buyer(1), mine)).done

    for command in (engine.release, engine.cancel):
        await command(show, buyer(1), mine)
    await engine.confirm(show, buyer(1), mine, one())

    assert await stock(engine, show) == Stock(10, 0, 0)


async def test_late_payment_takes_stock_again(engine: StockEngine, show: ShowId) -> None:
    """The hold ended, the money came: where units are left, the buyer gets them."""
    await engine.apply_offer(terms(show))
    mine = await held(engine, show, buyer(1))
    await engine.release(show, buyer(1), mine)

    first = await engine.retake(show, buyer(1), mine, one())
    repeat = await engine.retake(show, buyer(1), mine, one())

    assert first == repeat and first.done and first.state is HoldState.CONFIRMED
    assert await stock(engine, show) == Stock(9, 0, 1)


async def test_late_payment_with_nothing_left_is_told_so(engine: StockEngine, show: ShowId) -> None:
    """Charged and then out of stock must end in a refund, not in a stuck order (Vendure #3065)."""
    await engine.apply_offer(terms(show, allotted=1))
    mine = await held(engine, show, buyer(1))
    await engine.release(show, buyer(1), mine)
    await held(engine, show, buyer(2))

    answer = await engine.retake(show, buyer(1), mine, one())

    assert (answer.done, answer.state) == (False, HoldState.RELEASED)
    assert await stock(engine, show) == Stock(0, 1, 0)


async def test_late_payment_of_a_forgotten_hold_has_its_lines(
    engine: StockEngine, show: ShowId
) -> None:
    """Where Redis does not know the hold any more, the payment's row says what it was for."""
    await engine.apply_offer(terms(show))
    lost = key()

    answer = await engine.retake(show, buyer(1), lost, one(qty=2))

    assert answer.done and answer.lines == (Line(0, 2),)
    assert await stock(engine, show) == Stock(8, 0, 2)


async def test_late_payment_stops_at_the_limit_and_at_the_close(
    engine: StockEngine, show: ShowId
) -> None:
    """Nothing is sold beyond a buyer's limit, nor behind an offer's closed entry."""
    await engine.apply_offer(terms(show, per_buyer_limit=1))
    mine = await held(engine, show, buyer(1))
    await engine.release(show, buyer(1), mine)
    second = await held(engine, show, buyer(1))

    assert not (await engine.retake(show, buyer(1), mine, one())).done
    await engine.release(show, buyer(1), second)
    await engine.apply_offer(terms(show, phase=Phase.CLOSING, version=2))
    assert await engine.close_offers(show) == 1
    assert not (await engine.retake(show, buyer(1), mine, one())).done

    assert await stock(engine, show) == Stock(10, 0, 0)


async def test_first_paid_sells_without_a_hold(engine: StockEngine, show: ShowId) -> None:
    """Peek touches nothing; sell moves units once; the loser is told before or after paying."""
    await engine.apply_offer(terms(show, mode=Mode.FIRST_PAID, allotted=1))
    mine = key()
    assert (await engine.peek(show, buyer(1), key(), one())).outcome is Outcome.HELD
    assert (await engine.peek(show, buyer(2), key(), one())).outcome is Outcome.HELD
    assert await stock(engine, show) == Stock(1, 0, 0)

    first = await engine.sell(show, buyer(1), mine, one())
    repeat = await engine.sell(show, buyer(1), mine, one())
    late = await engine.sell(show, buyer(2), key(), one())

    assert first.outcome is repeat.outcome is Outcome.CONFIRMED and repeat.repeat
    assert late.outcome is Outcome.SOLD_OUT
    assert (await engine.peek(show, buyer(2), key(), one())).outcome is Outcome.SOLD_OUT
    assert await stock(engine, show) == Stock(0, 0, 1)


async def test_seventeenth_sale_of_one_offer_is_refused_before_any_money(
    engine: StockEngine, show: ShowId
) -> None:
    """What sell would refuse peek refuses: nobody's card is charged for a certain no."""
    await engine.apply_offer(
        terms(show, mode=Mode.FIRST_PAID, allotted=100, per_buyer_limit=100)
    )  # fmt: skip
    for _ in range(15):
        await engine.sell(show, buyer(1), key(), one())
    assert (await engine.peek(show, buyer(1), key(), one())).outcome is Outcome.HELD
    last = key()
    await engine.sell(show, buyer(1), last, one(qty=50))

    seen = await engine.peek(show, buyer(1), key(), one())
    sold = await engine.sell(show, buyer(1), key(), one())

    assert seen == sold and seen.outcome is Outcome.LIMIT_REACHED
    assert (await engine.sell(show, buyer(1), last, one(qty=50))).outcome is Outcome.CONFIRMED
    assert await stock(engine, show) == Stock(35, 0, 65)


async def test_closing_lets_live_holds_finish(engine: StockEngine, show: ShowId) -> None:
    """No new hold, but what was begun may end; the closed entry comes when nothing is held."""
    await engine.apply_offer(terms(show))
    mine = await held(engine, show, buyer(1))
    await engine.apply_offer(terms(show, phase=Phase.CLOSING, version=2))

    refused = await engine.hold(show, buyer(2), key(), one())
    assert refused.outcome is Outcome.CLOSED
    assert await engine.close_offers(show) == 0
    assert (await engine.begin(show, buyer(1), mine, window_ms=1)).outcome is Outcome.HELD
    assert (await engine.confirm(show, buyer(1), mine, one())).done

    assert await engine.close_offers(show) == 1
    assert await engine.close_offers(show) == 0
    closed = await engine.apply_offer(terms(show, phase=Phase.CLOSED, version=3, allotted=1))
    assert closed == Stock(0, 0, 1)

"""What a buyer may send while they are paying: none of it changes what their money buys."""

import pytest

from live.base.errors import Conflict
from live.domain.hold import HoldState, Line
from live.domain.ids import HoldKey, ShowId
from live.domain.offer import Mode, Stock
from live.domain.outcomes import Outcome
from live.stock.engine import StockEngine
from tests.support.stock_kit import buyer, key, now_ms, one, terms

PER_OFFER = 16  # records of one buyer


async def paying(
    engine: StockEngine, show: ShowId, *, qty: int = 1, window_ms: int = 60_000
) -> HoldKey:
    mine = key()
    assert (await engine.hold(show, buyer(1), mine, one(qty=qty))).outcome is Outcome.HELD
    await engine.begin(show, buyer(1), mine, window_ms=window_ms)
    return mine


async def hold_and_release(engine: StockEngine, show: ShowId, times: int) -> None:
    """Newer records push the oldest ended ones out."""
    for _ in range(times):
        mine = key()
        answer = await engine.hold(show, buyer(1), mine, one())
        assert answer.outcome is Outcome.HELD, answer
        assert (await engine.release(show, buyer(1), mine)).done


async def expire_while_paying(engine: StockEngine, show: ShowId) -> HoldKey:
    """Its payment is not decided when its time is over."""
    mine = await paying(engine, show, window_ms=1)
    deadlines = f"live:{{{show}}}:deadlines".encode()
    # Its deadline is moved into the past, in both places, as time would.
    record = await engine._calls.send(b"HGET", f"live:{{{show}}}:buyers".encode(), buyer(1))
    assert isinstance(record, bytes)
    at = record.index(mine) + 16 + 1 + 4 + 1
    past = (now_ms() - 1_000).to_bytes(6, "big")
    changed = record[:at] + past + record[at + 6 :]
    await engine._calls.send(b"HSET", f"live:{{{show}}}:buyers".encode(), buyer(1), changed)
    await engine._calls.send(b"ZADD", deadlines, b"1", b"h" + buyer(1) + mine)
    assert await engine.reap(show) == 1
    return mine


async def test_hold_that_is_being_paid_is_not_released(engine: StockEngine, show: ShowId) -> None:
    """Its money may be on its way, so it keeps its units until that is decided."""
    await engine.apply_offer(terms(show))
    mine = await paying(engine, show)

    answer = await engine.release(show, buyer(1), mine)

    assert (answer.done, answer.state) == (False, HoldState.PAYING)
    assert (await engine.figures(show)).offers[0] == Stock(9, 1, 0)
    assert (await engine.confirm(show, buyer(1), mine, one())).done


async def test_record_is_kept_while_money_may_come_for_it(
    engine: StockEngine, show: ShowId
) -> None:
    """A hold that expired while it was paid is not forgotten for newer ones, and its key means what
    it meant."""
    await engine.apply_offer(terms(show, allotted=100, per_buyer_limit=50))
    late = await expire_while_paying(engine, show)

    await hold_and_release(engine, show, 3 * PER_OFFER)

    again = await engine.hold(show, buyer(1), late, one())
    assert (again.outcome, again.repeat) == (Outcome.EXPIRED, True)
    with pytest.raises(Conflict):
        await engine.hold(show, buyer(1), late, one(qty=3))
    assert (await engine.retake(show, buyer(1), late, one())).done
    assert (await engine.figures(show)).offers[0] == Stock(99, 0, 1)


async def test_record_may_be_forgotten_when_its_payment_failed(
    engine: StockEngine, show: ShowId
) -> None:
    """No number of payments that come to nothing keeps a buyer from an offer."""
    await engine.apply_offer(terms(show, allotted=100, per_buyer_limit=50))
    for _ in range(PER_OFFER + 4):
        late = await expire_while_paying(engine, show)
        await engine.revert(show, buyer(1), late, held_until=1)

    assert (await engine.hold(show, buyer(1), key(), one())).outcome is Outcome.HELD


async def test_reason_is_told_when_open_purchases_leave_no_room(
    engine: StockEngine, show: ShowId
) -> None:
    """It is not the offer's own limit that is reached, and the answer says so."""
    await engine.apply_offer(terms(show, allotted=100, per_buyer_limit=50))
    for _ in range(PER_OFFER):
        await engine.hold(show, buyer(1), key(), one())

    refused = await engine.hold(show, buyer(1), key(), one())
    beyond = await engine.hold(show, buyer(2), key(), one(qty=51))

    assert refused.outcome is beyond.outcome is Outcome.LIMIT_REACHED
    assert "open at once" in refused.reason and beyond.reason == ""


@pytest.mark.parametrize("way", ["confirm", "retake"])
async def test_money_buys_the_units_that_it_was_paid_for(
    engine: StockEngine, show: ShowId, way: str
) -> None:
    """A key that came to mean other units sells nothing to the money of the first."""
    await engine.apply_offer(terms(show, 0))
    await engine.apply_offer(terms(show, 1))
    mine = await paying(engine, show, qty=2)
    before = (await engine.figures(show)).offers

    for paid in (one(qty=1), one(1, qty=2), [Line(0, 2), Line(1, 1)]):
        with pytest.raises(Conflict):
            await getattr(engine, way)(show, buyer(1), mine, paid)

    assert (await engine.figures(show)).offers == before


async def test_money_that_goes_back_buys_nothing_any_more(
    engine: StockEngine, show: ShowId
) -> None:
    """Of two calls with the same money one was refused: the other finds nothing to take either."""
    await engine.apply_offer(terms(show, 0, mode=Mode.FIRST_PAID, allotted=1))
    await engine.sell(show, buyer(2), other := key(), one())
    mine = key()
    assert (await engine.sell(show, buyer(1), mine, one())).outcome is Outcome.SOLD_OUT

    assert await engine.refuse(show, buyer(1), mine, one(), payment="p1")
    await engine.cancel(show, buyer(2), other)  # a unit comes free

    assert (await engine.sell(show, buyer(1), mine, one())).outcome is Outcome.ALREADY_RELEASED
    assert not (await engine.retake(show, buyer(1), mine, one())).done
    assert (await engine.figures(show)).offers[0] == Stock(1, 0, 0)


async def test_money_that_goes_back_buys_nothing_though_its_key_was_forgotten(
    engine: StockEngine, show: ShowId
) -> None:
    """Records make room for newer ones; a refused payment is remembered apart from them."""
    await engine.apply_offer(terms(show, allotted=100, per_buyer_limit=50))
    mine = await expire_while_paying(engine, show)
    await engine.refuse(show, buyer(1), mine, one(), payment="p1")
    await hold_and_release(engine, show, 3 * PER_OFFER)

    for take in (engine.confirm, engine.retake, engine.sell):
        with pytest.raises(Conflict):
            await take(show, buyer(1), mine, one(), payment="p1")

    assert (await engine.figures(show)).offers[0] == Stock(100, 0, 0)


async def test_what_was_sold_is_not_refused(engine: StockEngine, show: ShowId) -> None:
    """The other call was faster: its money must stay where it is."""
    await engine.apply_offer(terms(show, mode=Mode.FIRST_PAID))
    mine = key()
    await engine.sell(show, buyer(1), mine, one())

    assert not await engine.refuse(show, buyer(1), mine, one(), payment="p1")

    assert (await engine.sell(show, buyer(1), mine, one())).outcome is Outcome.CONFIRMED


async def test_key_of_a_hold_is_no_key_of_a_direct_purchase(
    engine: StockEngine, show: ShowId
) -> None:
    """It is told before any money is touched."""
    await engine.apply_offer(terms(show, 0))
    await engine.apply_offer(terms(show, 1, mode=Mode.FIRST_PAID))
    mine = key()
    await engine.hold(show, buyer(1), mine, one(0))

    with pytest.raises(Conflict):
        await engine.peek(show, buyer(1), mine, one(1))
    with pytest.raises(Conflict):
        await engine.sell(show, buyer(1), mine, one(1))


async def test_key_of_a_direct_purchase_is_told_what_it_bought(
    engine: StockEngine, show: ShowId
) -> None:
    """A repeat is confirmed, another quantity or offer is a conflict."""
    await engine.apply_offer(terms(show, 0, mode=Mode.FIRST_PAID))
    await engine.apply_offer(terms(show, 1, mode=Mode.FIRST_PAID))
    mine = key()
    await engine.sell(show, buyer(1), mine, one(0))

    assert (await engine.peek(show, buyer(1), mine, one(0))).outcome is Outcome.CONFIRMED
    for other in (one(1), one(0, qty=2)):
        with pytest.raises(Conflict):
            await engine.peek(show, buyer(1), mine, other)

"""The waitlist: who is next when units come free."""

import asyncio
from dataclasses import replace

import pytest

from live.base.errors import Conflict
from live.domain.hold import HoldState, Line, MovementKind
from live.domain.ids import HoldKey, ShowId
from live.domain.offer import Phase, Stock
from live.domain.outcomes import Outcome
from live.stock.engine import StockEngine
from live.stock.outbox import Outbox
from tests.support.stock_kit import buyer, key, one, terms


async def sell_out(engine: StockEngine, show: ShowId, **changes: object) -> HoldKey:
    """An offer of four units, all held by buyer 0."""
    await engine.apply_offer(terms(show, allotted=4, per_buyer_limit=4, **changes))
    mine = key()
    assert (await engine.hold(show, buyer(0), mine, one(qty=4))).outcome is Outcome.HELD
    return mine


async def test_freed_units_go_to_the_first_whose_whole_quantity_fits(
    engine: StockEngine, show: ShowId
) -> None:
    """Waiters 1 (4 units), 2 (1), 3 (2): three freed units go to 2 and 3, and 1 keeps their
    place."""
    await engine.apply_offer(terms(show, allotted=4, per_buyer_limit=4))
    three, last = key(), key()
    await engine.hold(show, buyer(0), three, one(qty=3))
    await engine.hold(show, buyer(9), last, one(qty=1))
    for who, qty in ((1, 4), (2, 1), (3, 2)):
        answer = await engine.join_waitlist(show, buyer(who), key(), Line(0, qty))
        assert (answer.outcome, answer.position) == (Outcome.WAITLISTED, who)

    await engine.release(show, buyer(0), three)

    assert [len((await engine.buyer_state(show, buyer(n))).holds) for n in (1, 2, 3)] == [0, 1, 1]
    [waiting] = (await engine.buyer_state(show, buyer(1))).waiting
    assert (waiting.position, waiting.qty) == (1, 4)
    figures = await engine.figures(show)
    assert figures.offers[0] == Stock(0, 4, 0) and figures.waiting[0] == 1


async def test_newcomer_never_takes_units_that_a_waiter_gets(
    engine: StockEngine, show: ShowId
) -> None:
    """A release and a hundred new clicks at once: the waiter has it, whatever the order."""
    mine = await sell_out(engine, show)
    waiting = key()
    await engine.join_waitlist(show, buyer(1), waiting, Line(0, 4))

    released = asyncio.create_task(engine.release(show, buyer(0), mine))
    answers = await asyncio.gather(
        *(engine.hold(show, buyer(n), key(), one()) for n in range(2, 102))
    )
    await released

    assert all(answer.outcome is Outcome.SOLD_OUT for answer in answers)
    [hold] = (await engine.buyer_state(show, buyer(1))).holds
    assert (hold.key, hold.state, hold.lines) == (waiting, HoldState.HELD, (Line(0, 4),))


async def test_joining_while_units_are_there_holds_them(engine: StockEngine, show: ShowId) -> None:
    """Nobody waits for what is on the shelf; a repeat tells the same."""
    await engine.apply_offer(terms(show))
    mine = key()

    first = await engine.join_waitlist(show, buyer(1), mine, Line(0, 2))
    repeat = await engine.join_waitlist(show, buyer(1), mine, Line(0, 2))

    assert first.outcome is Outcome.HELD and first == repeat
    assert (await engine.figures(show)).offers[0] == Stock(8, 2, 0)


async def test_one_place_for_each_buyer_and_offer(engine: StockEngine, show: ShowId) -> None:
    """A repeat gets the present position, and so does their other window; the same key with another
    quantity is a conflict.
    """
    await sell_out(engine, show)
    first, mine = key(), key()
    await engine.join_waitlist(show, buyer(1), first, Line(0, 1))
    assert (await engine.join_waitlist(show, buyer(2), mine, Line(0, 1))).position == 2

    await engine.leave_waitlist(show, buyer(1), 0)

    assert (await engine.join_waitlist(show, buyer(2), mine, Line(0, 1))).position == 1
    other_window = await engine.join_waitlist(show, buyer(2), key(), Line(0, 1))
    assert (other_window.outcome, other_window.position) == (Outcome.WAITLISTED, 1)
    assert (await engine.figures(show)).waiting[0] == 1
    with pytest.raises(Conflict):
        await engine.join_waitlist(show, buyer(2), mine, Line(0, 2))


async def test_buyer_waits_for_the_same_quantity_of_two_offers(
    engine: StockEngine, show: ShowId
) -> None:
    """Places of different offers are different places."""
    for slot in (0, 1):
        await engine.apply_offer(terms(show, slot, allotted=0))
        answer = await engine.join_waitlist(show, buyer(1), key(), Line(slot, 1))
        assert answer.position == 1

    assert (await engine.figures(show)).waiting == {0: 1, 1: 1}
    assert await engine.leave_waitlist(show, buyer(1), 0)
    assert (await engine.figures(show)).waiting == {0: 0, 1: 1}


async def test_limit_holds_for_grants(engine: StockEngine, show: ShowId, outbox: Outbox) -> None:
    """Who got units elsewhere while they waited is passed over, and the next one is granted."""
    await engine.apply_offer(terms(show, allotted=3, per_buyer_limit=3))
    first, mine = key(), key()
    await engine.hold(show, buyer(0), first, one(qty=2))
    await engine.join_waitlist(show, buyer(1), mine, Line(0, 3))
    await engine.join_waitlist(show, buyer(2), key(), Line(0, 2))
    await engine.hold(show, buyer(1), key(), one(qty=1))
    await engine.apply_offer(terms(show, allotted=4, per_buyer_limit=3, version=2))

    await engine.release(show, buyer(0), first)

    assert (await engine.buyer_state(show, buyer(1))).waiting == ()
    assert [hold.lines for hold in (await engine.buyer_state(show, buyer(2))).holds] == [
        (Line(0, 2),)
    ]
    batches = await outbox.read([show], consumer="c", entries_max=99, block_ms=10)
    kinds = [movement.kind for movement in batches[-1].movements]
    assert kinds == [MovementKind.RELEASED, MovementKind.LEFT_WAITLIST, MovementKind.GRANTED]


async def test_unanswered_grant_goes_on_to_the_next(engine: StockEngine, show: ShowId) -> None:
    """A grant expires like any hold, and the units pass on in the same call."""
    mine = await sell_out(engine, show, hold_seconds=1)
    for who in (1, 2):
        await engine.join_waitlist(show, buyer(who), key(), Line(0, 4))
    await engine.release(show, buyer(0), mine)
    [granted] = (await engine.buyer_state(show, buyer(1))).holds

    async with asyncio.timeout(3):
        while not (await engine.buyer_state(show, buyer(2))).holds:
            await engine.reap(show)

    [passed_on] = (await engine.buyer_state(show, buyer(2))).holds
    assert passed_on.expires_at >= granted.expires_at + 1000
    assert (await engine.figures(show)).offers[0] == Stock(0, 4, 0)


async def test_closing_empties_the_waitlist_and_stops_grants(
    engine: StockEngine, show: ShowId, outbox: Outbox
) -> None:
    """Three hundred places are given up, each with its entry; freed units stay free."""
    mine = await sell_out(engine, show)
    await asyncio.gather(
        *(engine.join_waitlist(show, buyer(n), key(), Line(0, 1)) for n in range(1, 301))
    )

    await engine.apply_offer(terms(show, allotted=4, phase=Phase.CLOSING, version=2))
    await engine.release(show, buyer(0), mine)

    figures = await engine.figures(show)
    assert figures.waiting[0] == 0 and figures.offers[0] == Stock(4, 0, 0)
    assert (await engine.join_waitlist(show, buyer(5), key(), Line(0, 1))).outcome is Outcome.CLOSED
    batches = await outbox.read([show], consumer="c", entries_max=999, block_ms=10)
    kinds = [movement.kind for batch in batches for movement in batch.movements]
    assert kinds.count(MovementKind.LEFT_WAITLIST) == 300
    assert await engine.close_offers(show) == 1


async def test_restock_for_a_long_waitlist_grants_in_steps(
    engine: StockEngine, show: ShowId
) -> None:
    """One call grants 64 at most; the reaper goes on, and no newcomer gets in between."""
    await sell_out(engine, show)
    await asyncio.gather(
        *(engine.join_waitlist(show, buyer(n), key(), Line(0, 1)) for n in range(1, 201))
    )

    await engine.apply_offer(terms(show, allotted=154, per_buyer_limit=4, version=2))
    first = (await engine.figures(show)).offers[0]
    newcomer = await engine.hold(show, buyer(999), key(), one())
    async with asyncio.timeout(3):
        while await engine.reap(show):
            pass

    assert first == Stock(86, 68, 0)
    assert newcomer.outcome is Outcome.SOLD_OUT
    figures = await engine.figures(show)
    assert figures.offers[0] == Stock(0, 154, 0) and figures.waiting[0] == 50


async def test_paused_offer_grants_when_it_goes_on(engine: StockEngine, show: ShowId) -> None:
    """Pause stops grants, too; the queue stays open."""
    mine = await sell_out(engine, show)
    await engine.apply_offer(terms(show, allotted=4, phase=Phase.PAUSED, version=2))
    joined = await engine.join_waitlist(show, buyer(1), key(), Line(0, 2))
    await engine.release(show, buyer(0), mine)
    assert joined.outcome is Outcome.WAITLISTED
    assert (await engine.figures(show)).offers[0] == Stock(4, 0, 0)

    await engine.apply_offer(terms(show, allotted=4, version=3))

    assert (await engine.figures(show)).offers[0] == Stock(2, 2, 0)


async def wait_in_line(engine: StockEngine, show: ShowId, numbers: range, *, qty: int = 1) -> None:
    """Buyers with these numbers take places, in their order and not too many at once."""
    for first in range(numbers.start, numbers.stop, 100):
        some = range(first, min(first + 100, numbers.stop))
        places = [engine.join_waitlist(show, buyer(n), key(), Line(0, qty)) for n in some]
        answers = await asyncio.gather(*places)
        assert {answer.outcome for answer in answers} == {Outcome.WAITLISTED}


async def test_last_waiter_who_leaves_frees_what_was_kept_for_him(
    engine: StockEngine, show: ShowId
) -> None:
    """64 of 65 waiters are granted in one call; the 65th goes, and newcomers get the rest."""
    await sell_out(engine, show)
    await wait_in_line(engine, show, range(1, 66))
    await engine.apply_offer(terms(show, allotted=104, per_buyer_limit=4, version=2))
    assert (await engine.figures(show)).offers[0] == Stock(36, 68, 0)

    assert await engine.leave_waitlist(show, buyer(65), 0)

    assert (await engine.hold(show, buyer(999), key(), one())).outcome is Outcome.HELD
    assert (await engine.figures(show)).offers[0] == Stock(35, 69, 0)


async def test_waiters_who_all_leave_free_what_was_kept_for_them(
    engine: StockEngine, show: ShowId
) -> None:
    """Whoever goes first or last, granted or waiting: nothing stays reserved for nobody."""
    await sell_out(engine, show)
    await wait_in_line(engine, show, range(1, 71))
    await engine.apply_offer(terms(show, allotted=104, per_buyer_limit=4, version=2))

    left = [await engine.leave_waitlist(show, buyer(n), 0) for n in range(1, 71)]

    assert left.count(True) <= 6, "most were granted"
    assert await engine.reap(show) == 0
    assert (await engine.hold(show, buyer(999), key(), one())).outcome is Outcome.HELD


async def test_units_kept_while_an_offer_pauses_are_sold_when_it_goes_on(
    engine: StockEngine, show: ShowId
) -> None:
    """Waiters leave during the pause: the units are anybody's afterwards, not nobody's."""
    await sell_out(engine, show)
    await wait_in_line(engine, show, range(1, 71))
    await engine.apply_offer(terms(show, allotted=104, per_buyer_limit=4, version=2))
    paused = terms(show, allotted=104, per_buyer_limit=4, phase=Phase.PAUSED, version=3)
    await engine.apply_offer(paused)
    for n in range(1, 71):
        await engine.leave_waitlist(show, buyer(n), 0)
    assert (await engine.figures(show)).waiting[0] == 0

    opened = replace(paused, phase=Phase.SCHEDULED, opens_at=1, version=4)
    await engine.apply_offer(opened)

    assert (await engine.hold(show, buyer(999), key(), one())).outcome is Outcome.HELD


async def test_waiter_behind_thousands_who_want_more_comes_before_a_newcomer(
    engine: StockEngine, show: ShowId
) -> None:
    """2,048 places are looked at in one call; the unit is kept until the rest were, too."""
    await engine.apply_offer(terms(show, allotted=1, per_buyer_limit=5))
    mine = key()
    await engine.hold(show, buyer(0), mine, one())
    for first in range(10, 10 + 2_100, 700):
        await wait_in_line(engine, show, range(first, first + 700), qty=2)
    await wait_in_line(engine, show, range(1, 2))

    await engine.release(show, buyer(0), mine)
    newcomer = await engine.hold(show, buyer(5), key(), one())

    assert newcomer.outcome is Outcome.SOLD_OUT
    assert len((await engine.buyer_state(show, buyer(1))).holds) == 1


async def test_unit_that_fits_no_waiter_is_a_newcomers(engine: StockEngine, show: ShowId) -> None:
    """However long the line is: once all of it was looked at, what fits nobody is on sale."""
    await engine.apply_offer(terms(show, allotted=1, per_buyer_limit=5))
    mine = key()
    await engine.hold(show, buyer(0), mine, one())
    for first in range(10, 10 + 2_100, 700):
        await wait_in_line(engine, show, range(first, first + 700), qty=2)

    await engine.release(show, buyer(0), mine)

    assert (await engine.hold(show, buyer(5), key(), one())).outcome is Outcome.HELD

"""Lives of a show: what is asked of the wrong server or the wrong life is never decided."""

from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from live.base.errors import Busy, NotFound
from live.domain.hold import HoldState, Line
from live.domain.ids import ShowId
from live.domain.offer import Phase, Stock
from live.domain.outcomes import Outcome
from live.domain.stock import RebuiltHold, RebuiltWaiting, ShowStock
from live.stock.engine import StockEngine
from live.stock.keys import show_keys
from live.stock.outbox import Outbox
from live.stock.records import COUNTER_BITS, read_stock
from live.stock.replies import as_bytes, as_list
from tests.support.servers import Valkey
from tests.support.stock_kit import buyer, key, make_due, now_ms, one, terms

Question = Callable[[StockEngine, ShowId], Awaitable[object]]
QUESTIONS: dict[str, Question] = {
    "apply": lambda engine, show: engine.apply_offer(terms(show, version=9)),
    "figures": lambda engine, show: engine.figures(show),
    "hold": lambda engine, show: engine.hold(show, buyer(1), key(), one()),
    "begin": lambda engine, show: engine.begin(show, buyer(1), key(), window_ms=1),
    "confirm": lambda engine, show: engine.confirm(show, buyer(1), key(), one()),
    "revert": lambda engine, show: engine.revert(show, buyer(1), key(), held_until=1),
    "release": lambda engine, show: engine.release(show, buyer(1), key()),
    "cancel": lambda engine, show: engine.cancel(show, buyer(1), key()),
    "retake": lambda engine, show: engine.retake(show, buyer(1), key(), one()),
    "peek": lambda engine, show: engine.peek(show, buyer(1), key(), one()),
    "sell": lambda engine, show: engine.sell(show, buyer(1), key(), one()),
    "look": lambda engine, show: engine.look_at_line(show, buyer(1), key(), Line(0, 1)),
    "join": lambda engine, show: engine.join_waitlist(show, buyer(1), key(), Line(0, 1)),
    "leave": lambda engine, show: engine.leave_waitlist(show, buyer(1), 0),
    "buyer": lambda engine, show: engine.buyer_state(show, buyer(1)),
    "reap": lambda engine, show: engine.reap(show),
    "close": lambda engine, show: engine.close_offers(show),
}


@pytest.mark.parametrize("question", QUESTIONS)
@pytest.mark.parametrize("fault", ["stopped", "other run", "older epoch", "wiped"])
async def test_wrong_life_answers_busy_and_writes_nothing(
    engine: StockEngine, show: ShowId, question: str, fault: str
) -> None:
    """Every question, for every way in which Redis can be wrong about a show."""
    await engine.apply_offer(terms(show))
    await engine.hold(show, buyer(1), key(), one())
    keys, send = show_keys(show), engine._calls.send
    if fault == "stopped":
        await engine.stop_show(show)
    elif fault == "other run":
        await send(b"HSET", keys.meta, b"run_id", b"0" * 40)
    elif fault == "older epoch":
        await send(b"HSET", keys.meta, b"stock_epoch", b"0")
    else:
        await send(b"UNLINK", keys.meta, keys.offers, keys.buyers, keys.outbox, keys.deadlines)
    before = await send(b"DUMP", keys.offers), await send(b"DUMP", keys.buyers)

    with pytest.raises(Busy):
        await QUESTIONS[question](engine, show)

    assert (await send(b"DUMP", keys.offers), await send(b"DUMP", keys.buyers)) == before


async def lose(engine: StockEngine, show: ShowId, slot: int) -> None:
    await engine._calls.send(b"HDEL", show_keys(show).offers, slot.to_bytes(2, "big"))


MINE, PAID, PAYS, PLACE = key(), key(), key(), key()
STEPS: dict[str, Question] = {
    "hold": lambda engine, show: engine.hold(show, buyer(9), key(), one()),
    "hold a cart": lambda engine, show: engine.hold(
        show, buyer(9), key(), [Line(1, 1), Line(0, 1)]
    ),
    "hold again": lambda engine, show: engine.hold(show, buyer(1), MINE, one()),
    "begin": lambda engine, show: engine.begin(show, buyer(1), MINE, window_ms=1),
    "begin again": lambda engine, show: engine.begin(show, buyer(2), PAYS, window_ms=1),
    "revert": lambda engine, show: engine.revert(show, buyer(2), PAYS, held_until=1),
    "confirm": lambda engine, show: engine.confirm(show, buyer(2), PAYS, one()),
    "release": lambda engine, show: engine.release(show, buyer(1), MINE),
    "cancel": lambda engine, show: engine.cancel(show, buyer(3), PAID),
    "retake": lambda engine, show: engine.retake(show, buyer(1), MINE, one()),
    "peek": lambda engine, show: engine.peek(show, buyer(1), key(), one()),
    "sell": lambda engine, show: engine.sell(show, buyer(1), key(), one()),
    "join": lambda engine, show: engine.join_waitlist(show, buyer(9), key(), Line(0, 1)),
    "leave": lambda engine, show: engine.leave_waitlist(show, buyer(4), 0),
    "apply": lambda engine, show: engine.apply_offer(terms(show, allotted=4, version=9)),
    "figures": lambda engine, show: engine.figures(show),
    "reap": lambda engine, show: engine.reap(show),
}


@pytest.mark.parametrize("step", STEPS)
async def test_missing_offer_answers_busy_and_writes_nothing(
    engine: StockEngine, show: ShowId, step: str
) -> None:
    """Redis knows the show but not the offer: rebuilding, and never "sold out"."""
    await engine.apply_offer(terms(show, 0, allotted=4, per_buyer_limit=4))
    await engine.apply_offer(terms(show, 1))
    for who, mine in ((1, MINE), (2, PAYS), (3, PAID)):
        await engine.hold(show, buyer(who), mine, one())
    for who, mine in ((2, PAYS), (3, PAID)):
        await engine.begin(show, buyer(who), mine, window_ms=60_000)
    await engine.confirm(show, buyer(3), PAID, one())
    await engine.join_waitlist(show, buyer(4), PLACE, Line(0, 4))
    await lose(engine, show, 0)
    keys, send = show_keys(show), engine._calls.send

    async def everything() -> list[object]:
        names = (keys.meta, keys.offers, keys.buyers, keys.outbox, keys.deadlines, keys.wait)
        return [await send(b"DUMP", name) for name in names]

    before = await everything()

    with pytest.raises(Busy):
        await STEPS[step](engine, show)

    assert await everything() == before


async def test_missing_offer_keeps_no_other_from_being_reaped(
    engine: StockEngine, show: ShowId
) -> None:
    """Its due holds are passed over and counted by the rebuild that the reaper asks for."""
    for slot in (0, 1):
        await engine.apply_offer(terms(show, slot))
    lost, due, cart = key(), key(), key()
    await engine.hold(show, buyer(1), lost, one(0))
    await engine.hold(show, buyer(2), due, one(1))
    await engine.hold(show, buyer(3), cart, [Line(0, 1), Line(1, 1)])
    for who, mine in ((1, lost), (2, due), (3, cart)):
        await make_due(engine, show, who, mine)
    await lose(engine, show, 0)

    for _ in range(2):  # as long as nobody has rebuilt it
        with pytest.raises(Busy):
            await engine.reap(show)

    [left] = as_list(await engine._calls.send(b"HVALS", show_keys(show).offers))
    assert read_stock(as_bytes(left)) == Stock(9, 1, 0)
    assert (await engine.hold(show, buyer(4), key(), one(1))).outcome is Outcome.HELD
    gone = (await engine.begin(show, buyer(2), due, window_ms=1)).outcome
    assert gone is Outcome.EXPIRED

    holds = tuple(
        RebuiltHold(buyer(who), mine, HoldState.HELD, lines, 1)
        for who, mine, lines in ((1, lost, (Line(0, 1),)), (3, cart, (Line(0, 1), Line(1, 1))))
    )
    offers = (terms(show, 0), terms(show, 1))
    await engine.load_show(
        show, ShowStock(show=show, stock_epoch=2, offers=offers, holds=holds, waiting=())
    )
    assert (await engine.figures(show)).offers == {0: Stock(10, 0, 0), 1: Stock(10, 0, 0)}


async def test_lost_offer_costs_no_other_a_sale(engine: StockEngine, show: ShowId) -> None:
    """Due units of an offer that is there are given, whatever became of the one beside it."""
    for slot in (0, 1):
        await engine.apply_offer(terms(show, slot, allotted=1))
    await lose(engine, show, 0)

    async def hold(who: int) -> Outcome:
        return (await engine.hold(show, buyer(who), key(), one(1))).outcome

    async def join(who: int) -> Outcome:
        return (await engine.join_waitlist(show, buyer(who), key(), Line(1, 1))).outcome

    mine = key()
    await engine.hold(show, buyer(9), mine, one(1))
    for who, way in enumerate((hold, join, hold), 1):
        await make_due(engine, show, 9, mine)
        assert await way(who) is Outcome.HELD
        [held] = (await engine.buyer_state(show, buyer(who))).holds
        await engine.release(show, buyer(who), held.key)
        mine = key()
        await engine.hold(show, buyer(9), mine, one(1))


async def test_rebuilt_payment_that_fails_gains_no_time(engine: StockEngine, show: ShowId) -> None:
    """The ledger knows until when a paying hold was promised; without it, until when it pays."""
    stock = rebuilt(show, 2)
    paying = replace(stock.holds[1], held_until=stock.holds[1].expires_at - 30_000)
    other = replace(paying, buyer=buyer(7), key=key(), held_until=0)
    await engine.load_show(show, replace(stock, holds=(paying, other)))

    for hold, until in ((paying, paying.held_until), (other, other.expires_at)):
        again = await engine.begin(show, hold.buyer, hold.key, window_ms=900_000)
        assert (again.expires_at, again.held_until) == (hold.expires_at, until)
        await engine.revert(show, hold.buyer, hold.key, held_until=again.held_until)
        [live] = (await engine.buyer_state(show, hold.buyer)).holds
        assert live.expires_at == until


async def test_offers_of_a_rebuilt_show_are_counted_again(
    engine: StockEngine, show: ShowId
) -> None:
    """A new life may have fewer offers or more; a new one is no sign of a loss."""
    for slot in range(3):
        await engine.apply_offer(terms(show, slot))

    await engine.load_show(show, rebuilt(show, 2))
    await engine.apply_offer(terms(show, 2))

    assert len((await engine.figures(show)).offers) == 3
    await lose(engine, show, 1)
    with pytest.raises(Busy):
        await engine.figures(show)


async def test_install_is_idempotent_and_never_takes_over(
    engine: StockEngine, show: ShowId
) -> None:
    """Installing again keeps the stock; what another run left behind needs a rebuild."""
    await engine.apply_offer(terms(show))
    await engine.hold(show, buyer(1), key(), one())

    await engine.install_show(show, stock_epoch=1)
    assert (await engine.figures(show)).offers[0] == Stock(9, 1, 0)
    with pytest.raises(Busy):
        await engine.install_show(show, stock_epoch=2)
    await engine.stop_show(show)
    with pytest.raises(Busy):
        await engine.install_show(show, stock_epoch=1)


def rebuilt(show: ShowId, epoch: int) -> ShowStock:
    """Two units held, one paying, three sold, one waiting for two, of ten."""
    until = now_ms() + 60_000
    return ShowStock(
        show=show,
        stock_epoch=epoch,
        offers=(terms(show, 0, per_buyer_limit=5), terms(show, 1, allotted=0)),
        holds=(
            RebuiltHold(buyer(1), HELD, HoldState.HELD, (Line(0, 2),), until),
            RebuiltHold(buyer(2), PAYING, HoldState.PAYING, (Line(0, 1),), until),
            RebuiltHold(buyer(1), SOLD, HoldState.CONFIRMED, (Line(0, 3),), 0),
        ),
        waiting=(
            RebuiltWaiting(buyer(3), WAITS, Line(1, 2), seq=7),
            RebuiltWaiting(buyer(4), LATER, Line(1, 1), seq=9),
        ),
    )


HELD, PAYING, SOLD, WAITS, LATER = key(), key(), key(), key(), key()


async def test_rebuilt_show_goes_on_where_the_ledger_left_it(
    engine: StockEngine, show: ShowId, outbox: Outbox
) -> None:
    """Figures, limits, repeats, deadlines and places are those of the ledger (Medusa #12401)."""
    await engine.stop_show(show)

    await engine.load_show(show, rebuilt(show, 2))

    figures = await engine.figures(show)
    assert figures.offers == {0: Stock(4, 3, 3), 1: Stock(0, 0, 0)}
    assert figures.waiting == {0: 0, 1: 2}
    repeat = await engine.hold(show, buyer(1), HELD, one(qty=2))
    assert (repeat.outcome, repeat.repeat) == (Outcome.HELD, True)
    assert (await engine.hold(show, buyer(1), key(), one())).outcome is Outcome.LIMIT_REACHED
    assert (await engine.confirm(show, buyer(2), PAYING, one())).done
    assert (await engine.release(show, buyer(1), HELD)).done
    [place] = (await engine.buyer_state(show, buyer(4))).waiting
    assert place.position == 2
    keys = show_keys(show)
    for name in (keys.offers, keys.buyers, keys.deadlines, keys.wait):
        # -1: stays for ever; -2: empty by now. Staged data had an end, live data must not.
        assert await engine._calls.send(b"TTL", name) in (-1, -2)
    [first, *_] = await outbox.read([show], consumer="c", entries_max=9, block_ms=10)
    assert first.movements[0].seq > 2 << COUNTER_BITS


async def test_older_or_equal_life_is_never_swapped_in(engine: StockEngine, show: ShowId) -> None:
    """Of two rebuilds at once one wins, and a late one changes nothing."""
    await engine.load_show(show, rebuilt(show, 3))
    await engine.release(show, buyer(1), HELD)

    for epoch in (1, 2, 3):
        await engine.load_show(show, rebuilt(show, epoch))

    assert (await engine.figures(show)).offers[0] == Stock(6, 1, 3)
    await engine.load_show(show, rebuilt(show, 4))
    assert (await engine.figures(show)).offers[0] == Stock(4, 3, 3)


async def test_rebuilt_holds_end_at_their_old_deadline(engine: StockEngine, show: ShowId) -> None:
    """A rebuild gives no time away: what was due is due."""
    stock = rebuilt(show, 2)
    due = tuple(replace(hold, expires_at=min(hold.expires_at, 1)) for hold in stock.holds)

    await engine.load_show(show, replace(stock, holds=due))

    assert (await engine.figures(show)).offers[0] == Stock(7, 0, 3)


async def test_ledger_beyond_what_is_allotted_sells_nothing(
    engine: StockEngine, show: ShowId
) -> None:
    """`left` below zero is kept and refuses, until enough has come back."""
    stock = rebuilt(show, 2)
    tight = (terms(show, 0, allotted=4, phase=Phase.OPEN), stock.offers[1])

    await engine.load_show(show, replace(stock, offers=tight))

    assert (await engine.figures(show)).offers[0] == Stock(-2, 3, 3)
    assert (await engine.hold(show, buyer(9), key(), one())).outcome is Outcome.SOLD_OUT


async def test_other_gateway_follows_into_the_new_life(
    engine: StockEngine, show: ShowId, stock_server: Valkey
) -> None:
    """A process that still knows the old epoch is corrected by Redis and decides in the new one."""
    other = StockEngine(stock_server.url)
    await other.open()
    await engine.apply_offer(terms(show))
    assert (await other.hold(show, buyer(8), key(), one())).outcome is Outcome.HELD

    await engine.load_show(show, rebuilt(show, 2))

    assert (await other.hold(show, buyer(8), key(), one())).outcome is Outcome.HELD
    with pytest.raises(NotFound):
        await other.confirm(show, buyer(8), key(), one())
    assert (await engine.figures(show)).offers[0] == Stock(3, 4, 3)
    await other.close()


async def test_scripts_are_loaded_again_only_through_a_new_look_at_the_server(
    engine: StockEngine, show: ShowId
) -> None:
    """After SCRIPT FLUSH the connection is dropped and greets anew; callers notice nothing."""
    await engine.apply_offer(terms(show))
    await engine._calls.send(b"SCRIPT", b"FLUSH")

    assert (await engine.hold(show, buyer(1), key(), one())).outcome is Outcome.HELD
    assert (await engine.figures(show)).offers[0] == Stock(9, 1, 0)

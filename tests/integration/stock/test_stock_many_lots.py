"""A show of a thousand lots: no buyer comes to an end of what they may buy in it."""

import pytest

from live.domain.hold import HoldState, Line
from live.domain.ids import HoldKey, ShowId
from live.domain.offer import OfferTerms, Phase, Stock
from live.domain.outcomes import Outcome
from live.domain.stock import RebuiltHold, ShowStock
from live.stock.engine import StockEngine
from live.stock.keys import show_keys
from live.stock.records import RECORDS_MAX
from tests.support.stock_kit import buyer, key, one, terms

LOTS = 400


async def buy(engine: StockEngine, show: ShowId, slot: int) -> HoldKey:
    mine = key()
    answer = await engine.hold(show, buyer(1), mine, one(slot))
    assert answer.outcome is Outcome.HELD, (slot, answer)
    await engine.begin(show, buyer(1), mine, window_ms=60_000)
    assert (await engine.confirm(show, buyer(1), mine, one(slot))).done
    return mine


async def buy_lots(
    engine: StockEngine, show: ShowId, lots: int, *, first: int = 0
) -> list[HoldKey]:
    """One unit of each of so many small offers, one after the other."""
    bought = []
    for slot in range(first, first + lots):
        lot = terms(show, slot, allotted=2, per_buyer_limit=1)
        await engine.apply_offer(lot)
        bought.append(await buy(engine, show, slot))
        await engine.apply_offer(
            terms(show, slot, allotted=2, per_buyer_limit=1, phase=Phase.CLOSING, version=2)
        )
        assert await engine.close_offers(show) == 1
    return bought


async def size_of(engine: StockEngine, show: ShowId) -> int:
    size = await engine._calls.send(b"HSTRLEN", show_keys(show).buyers, buyer(1))
    assert isinstance(size, int)
    return size


@pytest.mark.timeout(300)
async def test_fan_buys_every_lot_of_a_long_show(engine: StockEngine, show: ShowId) -> None:
    """Lots that are over make room; what Redis keeps of the buyer does not grow."""
    await buy_lots(engine, show, RECORDS_MAX + 10)
    size = await size_of(engine, show)

    await buy_lots(engine, show, LOTS - RECORDS_MAX - 10, first=RECORDS_MAX + 10)

    assert await size_of(engine, show) == size
    figures = await engine.figures(show)
    assert all(figures.offers[slot] == Stock(1, 0, 1) for slot in range(LOTS))


async def test_limit_holds_for_lots_that_are_still_open(engine: StockEngine, show: ShowId) -> None:
    """However much they bought since, a buyer has not more of an open offer than they may."""
    await engine.apply_offer(terms(show, 900, allotted=50, per_buyer_limit=2))
    mine = [await buy(engine, show, 900), await buy(engine, show, 900)]

    await buy_lots(engine, show, RECORDS_MAX + 5)

    third = await engine.hold(show, buyer(1), key(), one(900))
    assert (third.outcome, third.reason) == (Outcome.LIMIT_REACHED, "")
    for bought in mine:
        assert (await engine.hold(show, buyer(1), bought, one(900))).outcome is Outcome.CONFIRMED


async def test_old_purchase_is_left_to_the_ledger_to_tell(
    engine: StockEngine, show: ShowId
) -> None:
    """The latest are told by Redis; an older one is said to be perhaps one, a stranger's is not."""
    bought = await buy_lots(engine, show, RECORDS_MAX + 5)

    old = await engine.hold(show, buyer(1), bought[0], one(0))
    late = await engine.hold(show, buyer(1), bought[-1], one(RECORDS_MAX + 4))
    stranger = await engine.hold(show, buyer(2), bought[0], one(0))

    assert (old.outcome, old.forgotten) == (Outcome.CLOSED, True)
    assert (late.outcome, late.forgotten) == (Outcome.CONFIRMED, False)
    assert (stranger.outcome, stranger.forgotten) == (Outcome.CLOSED, False)


async def test_rebuild_keeps_room_for_a_buyer_of_many_lots(
    engine: StockEngine, show: ShowId
) -> None:
    """What the ledger knows of them is more than Redis may hold: the oldest are left to it."""
    await engine.stop_show(show)
    lots = [_closed(show, slot) for slot in range(LOTS)]
    holds = tuple(
        RebuiltHold(
            buyer(1), HoldKey(slot.to_bytes(16, "little")), HoldState.CONFIRMED, (Line(slot, 1),), 0
        )
        for slot in range(LOTS)
    )
    stock = ShowStock(
        show=show, stock_epoch=2, offers=(*lots, terms(show, LOTS)), holds=holds, waiting=()
    )

    await engine.load_show(show, stock)

    await buy(engine, show, LOTS)
    newest = await engine.hold(show, buyer(1), holds[-1].key, one(LOTS - 1))
    oldest = await engine.hold(show, buyer(1), holds[0].key, one(0))
    assert newest.outcome is Outcome.CONFIRMED
    assert (oldest.outcome, oldest.forgotten) == (Outcome.CLOSED, True)
    assert (await engine.figures(show)).offers[0] == Stock(1, 0, 1)


def _closed(show: ShowId, slot: int) -> OfferTerms:
    return terms(show, slot, allotted=2, per_buyer_limit=1, phase=Phase.CLOSED)

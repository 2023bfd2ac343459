"""The whole facade against a real server, once each."""

import asyncio

import uvloop

from live.domain.hold import HoldState, Line
from live.domain.ids import ShowId
from live.domain.offer import Mode, Phase, Stock
from live.domain.outcomes import Outcome
from live.stock.engine import StockEngine
from live.stock.outbox import Outbox
from tests.support.servers import Valkey
from tests.support.stock_kit import buyer, key, one, terms


async def test_facade_walks_through_a_sale(
    engine: StockEngine, show: ShowId, outbox: Outbox
) -> None:
    """hold, begin, confirm, release, cancel, waitlist, reap, close and the outbox fit together."""
    assert await engine.apply_offer(terms(show, 0, allotted=3)) == Stock(3, 0, 0)
    k1, k2, k3 = key(), key(), key()
    held = await engine.hold(show, buyer(1), k1, one(qty=2))
    assert held.outcome is Outcome.HELD and held.left == 1
    again = await engine.hold(show, buyer(1), k1, one(qty=2))
    assert again.repeat and again.expires_at == held.expires_at
    assert (await engine.hold(show, buyer(2), k2, one(qty=2))).outcome is Outcome.SOLD_OUT
    joined = await engine.join_waitlist(show, buyer(2), k2, Line(0, 2))
    assert joined.outcome is Outcome.WAITLISTED and joined.position == 1
    begun = await engine.begin(show, buyer(1), k1, window_ms=300_000)
    assert begun.outcome is Outcome.HELD and begun.expires_at > held.expires_at
    sold = await engine.confirm(show, buyer(1), k1, one(qty=2))
    assert sold.done and sold.state is HoldState.CONFIRMED
    assert (await engine.cancel(show, buyer(1), k1)).done
    state = await engine.buyer_state(show, buyer(2))
    assert [hold.key for hold in state.holds] == [k2] and state.waiting == ()
    assert (await engine.release(show, buyer(2), k2)).done
    await engine.apply_offer(terms(show, 1, mode=Mode.FIRST_PAID, allotted=1))
    assert (await engine.peek(show, buyer(3), key(), one(1))).outcome is Outcome.HELD
    assert (await engine.sell(show, buyer(3), k3, one(1))).outcome is Outcome.CONFIRMED
    assert (await engine.peek(show, buyer(4), key(), one(1))).outcome is Outcome.SOLD_OUT
    await engine.apply_offer(terms(show, 0, allotted=3, version=2, phase=Phase.CLOSING))
    assert await engine.close_offers(show) == 1
    figures = await engine.figures(show)
    assert figures.offers == {0: Stock(3, 0, 0), 1: Stock(0, 0, 1)}
    assert await engine.reap(show) == 0
    batches = await outbox.read([show], consumer="c", entries_max=100, block_ms=100)
    kinds = [movement.kind.value for batch in batches for movement in batch.movements]
    assert kinds == (
        "held waitlisted began confirmed cancelled granted released sold closing closed".split()
    )
    assert batches[-1].entry == figures.last_entry
    assert (await outbox.backlog(show)).pending == len(batches)
    await outbox.ack(show, [batch.entry for batch in batches])
    assert (await outbox.backlog(show)).length == 0
    await outbox.trim(show)


async def test_hold_of_hundreds_in_one_tick_never_oversells(
    engine: StockEngine, show: ShowId
) -> None:
    """A thousand buyers press at once for a hundred units."""
    await engine.apply_offer(terms(show, 0, allotted=100))
    answers = await asyncio.gather(
        *(engine.hold(show, buyer(n), key(), one()) for n in range(1000))
    )
    held = [answer for answer in answers if answer.outcome is Outcome.HELD]
    assert len(held) == 100
    assert (await engine.figures(show)).offers[0] == Stock(0, 100, 0)


def test_engine_runs_on_uvloop(stock_server: Valkey, show: ShowId) -> None:
    """The gateway's event loop is uvloop; its transports are not asyncio's."""

    async def sale() -> Outcome:
        engine = StockEngine(stock_server.url)
        await engine.open()
        await engine.install_show(show, stock_epoch=1)
        await engine.apply_offer(terms(show))
        answer = await engine.hold(show, buyer(1), key(), one())
        await engine.close()
        return answer.outcome

    assert uvloop.run(sale()) is Outcome.HELD

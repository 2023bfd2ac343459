"""Deadlines: units come back in time, and at once where a buyer would be refused."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from live.domain.hold import Line, MovementKind
from live.domain.ids import ShowId
from live.domain.offer import Mode, Stock
from live.domain.outcomes import Outcome
from live.stock.engine import StockEngine
from live.stock.keys import show_keys
from live.stock.outbox import Outbox
from tests.support.servers import Valkey
from tests.support.stock_kit import buyer, key, make_due, now_ms, one, terms


async def until(moment_ms: int) -> None:
    """Wait for an instant of the clock; deadlines are instants, so there is no event to await."""
    await asyncio.sleep(max(0, moment_ms + 5 - now_ms()) / 1000)


async def test_hundreds_of_holds_end_with_their_batches(engine: StockEngine, show: ShowId) -> None:
    """600 holds of two offers: a reap behind the deadline of one ends its 300 and no other."""
    await engine.apply_offer(terms(show, 0, allotted=300, hold_seconds=1))
    await engine.apply_offer(terms(show, 1, allotted=300, hold_seconds=60))
    answers = await asyncio.gather(
        *(engine.hold(show, buyer(n), key(), one(n % 2)) for n in range(600))
    )

    await until(max(answer.expires_at for answer in answers if answer.slot == 0))

    assert await engine.reap(show) == 300
    figures = await engine.figures(show)
    assert figures.offers == {0: Stock(300, 0, 0), 1: Stock(0, 300, 0)}


async def test_hold_is_not_ended_before_its_deadline(
    engine: StockEngine, show: ShowId, outbox: Outbox
) -> None:
    """However often it is reaped before: by Redis' clock it ends behind the instant."""
    await engine.apply_offer(terms(show, hold_seconds=1))
    answer = await engine.hold(show, buyer(1), key(), one())

    async with asyncio.timeout(60):
        while not await engine.reap(show):
            pass

    batches = await outbox.read([show], consumer="c", entries_max=9, block_ms=10)
    [held, expired] = [movement for batch in batches for movement in batch.movements]
    assert (held.kind, expired.kind) == (MovementKind.HELD, MovementKind.EXPIRED)
    assert held.expires_at == answer.expires_at <= expired.at


async def test_our_clock_decides_nothing(
    engine: StockEngine, show: ShowId, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An hour ahead or back on this machine ends no hold and opens no offer: Redis TIME judges."""
    now = await engine_now(engine, show)
    await engine.apply_offer(terms(show, opens_at=now + 600_000))
    await engine.apply_offer(terms(show, 1, hold_seconds=60))
    answer = await engine.hold(show, buyer(1), key(), one(1))

    real = time.time
    for jump_seconds in (3_600, -3_600):
        monkeypatch.setattr(time, "time", lambda jump_seconds=jump_seconds: real() + jump_seconds)
        monkeypatch.setattr(
            time, "time_ns", lambda jump_seconds=jump_seconds: int((real() + jump_seconds) * 1e9)
        )
        assert await engine.reap(show) == 0
        early = await engine.hold(show, buyer(2), key(), one())
        assert early.outcome is Outcome.NOT_OPEN

    (kept,) = (await engine.buyer_state(show, buyer(1))).holds
    assert kept.expires_at == answer.expires_at
    assert (await engine.figures(show)).offers[1] == Stock(9, 1, 0)


async def engine_now(engine: StockEngine, show: ShowId) -> int:
    return (await engine.figures(show)).at


async def test_due_units_are_sold_at_once_without_a_keeper(
    engine: StockEngine, show: ShowId
) -> None:
    """Nobody reaps: a hundred buyers who would be refused get the due units in the same call."""
    await engine.apply_offer(terms(show, allotted=100, hold_seconds=1))
    first = [engine.hold(show, buyer(n), key(), one()) for n in range(100)]
    deadline = (await asyncio.gather(*first))[-1].expires_at
    assert (await engine.hold(show, buyer(100), key(), one())).outcome is Outcome.SOLD_OUT

    await until(deadline + 1)
    second = [engine.hold(show, buyer(n), key(), one()) for n in range(100, 300)]
    answers = await asyncio.gather(*second)

    assert sum(answer.outcome is Outcome.HELD for answer in answers) == 100
    assert (await engine.figures(show)).offers[0] == Stock(0, 100, 0)


async def test_own_due_hold_does_not_count_toward_the_limit(
    engine: StockEngine, show: ShowId
) -> None:
    """A buyer whose hold ran out may try again at once, in every way of buying."""
    await engine.apply_offer(terms(show, 0, hold_seconds=1, per_buyer_limit=1))
    answer = await engine.hold(show, buyer(1), key(), one())
    assert (await engine.hold(show, buyer(1), key(), one())).outcome is Outcome.LIMIT_REACHED

    await until(answer.expires_at + 1)

    assert (await engine.hold(show, buyer(1), key(), one())).outcome is Outcome.HELD


async def test_due_hold_cannot_begin_but_its_late_money_counts(
    engine: StockEngine, show: ShowId
) -> None:
    """Past the deadline a payment must not start; one that had started may still be confirmed."""
    await engine.apply_offer(terms(show, hold_seconds=1))
    late, paying = key(), key()
    await engine.hold(show, buyer(1), late, one())
    answer = await engine.hold(show, buyer(2), paying, one())
    await engine.begin(show, buyer(2), paying, window_ms=1)

    await until(answer.expires_at + 1)

    assert (await engine.begin(show, buyer(1), late, window_ms=1000)).outcome is Outcome.EXPIRED
    assert (await engine.hold(show, buyer(1), late, one())).outcome is Outcome.EXPIRED
    assert (await engine.buyer_state(show, buyer(1))).holds == ()
    assert (await engine.confirm(show, buyer(2), paying, one())).done
    await engine.reap(show)
    assert (await engine.figures(show)).offers[0] == Stock(9, 0, 1)
    assert (await engine.retake(show, buyer(1), late, one())).done


async def test_paying_hold_that_runs_out_is_expired_once(
    engine: StockEngine, show: ShowId, outbox: Outbox
) -> None:
    """Two keepers at once end it once, and the outbox says so once."""
    await engine.apply_offer(terms(show, hold_seconds=1))
    mine = key()
    await engine.hold(show, buyer(1), mine, one(qty=2))
    begun = await engine.begin(show, buyer(1), mine, window_ms=1_200)

    await until(begun.expires_at + 1)
    moved = await asyncio.gather(*(engine.reap(show) for _ in range(5)))

    assert sum(moved) == 1
    assert not (await engine.confirm(show, buyer(1), mine, one(qty=2))).done
    batches = await outbox.read([show], consumer="c", entries_max=9, block_ms=10)
    kinds = [movement.kind for batch in batches for movement in batch.movements]
    assert kinds == [MovementKind.HELD, MovementKind.BEGAN, MovementKind.EXPIRED]


async def test_burst_of_holds_needs_one_deadline_for_each_batch(
    engine: StockEngine, show: ShowId
) -> None:
    """No sorted-set member for each new hold: that alone would cost half of a hold."""
    await engine.apply_offer(terms(show, allotted=1000))
    await asyncio.gather(*(engine.hold(show, buyer(n), key(), one()) for n in range(1000)))

    members = await engine._calls.send(b"ZCARD", show_keys(show).deadlines)

    assert isinstance(members, int) and members - len(["mark"]) <= 4


async def fill_records(engine: StockEngine, show: ShowId, who: int, slot: int) -> None:
    """Let the buyer have as many holds of one offer as there may be; the last one is due."""
    for _ in range(16):
        mine = key()
        assert (await engine.hold(show, buyer(who), mine, one(slot))).outcome is Outcome.HELD
    await make_due(engine, show, who, mine)


Way = Callable[[StockEngine, ShowId], Awaitable[Outcome]]


async def hold_one(engine: StockEngine, show: ShowId) -> Outcome:
    return (await engine.hold(show, buyer(2), key(), one())).outcome


async def hold_cart(engine: StockEngine, show: ShowId) -> Outcome:
    return (await engine.hold(show, buyer(2), key(), [Line(1, 1), Line(0, 1)])).outcome


async def hold_own(engine: StockEngine, show: ShowId) -> Outcome:
    return (await engine.hold(show, buyer(1), key(), one())).outcome


async def join(engine: StockEngine, show: ShowId) -> Outcome:
    return (await engine.join_waitlist(show, buyer(2), key(), Line(0, 1))).outcome


async def join_own(engine: StockEngine, show: ShowId) -> Outcome:
    return (await engine.join_waitlist(show, buyer(1), key(), Line(0, 1))).outcome


async def retake(engine: StockEngine, show: ShowId) -> Outcome:
    moved = await engine.retake(show, buyer(2), key(), one())
    return Outcome.HELD if moved.done else Outcome.SOLD_OUT


async def retake_own(engine: StockEngine, show: ShowId) -> Outcome:
    moved = await engine.retake(show, buyer(1), key(), one())
    return Outcome.HELD if moved.done else Outcome.SOLD_OUT


WAYS = [hold_one, hold_cart, hold_own, join, join_own, retake, retake_own]


@pytest.fixture
async def keeper_is_first(
    engine: StockEngine, stock_server: Valkey, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[None]:
    """Between each refusal and the reap that it asks for, another process reaps."""
    other = StockEngine(stock_server.url)
    await other.open()
    reap = engine._reap

    async def after_the_keeper(show: ShowId) -> tuple[int, bool]:
        await other.reap(show)
        return await reap(show)

    monkeypatch.setattr(engine, "_reap", after_the_keeper)
    monkeypatch.setattr(engine._batcher, "_reap", after_the_keeper)
    yield
    await other.close()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("waitlist", [True, False])
async def test_no_way_of_buying_is_refused_what_is_due(
    engine: StockEngine, show: ShowId, way: Way, waitlist: bool
) -> None:
    """The only unit is held by a hold that is past its deadline: whoever asks gets it."""
    await engine.apply_offer(
        terms(show, 0, allotted=1, per_buyer_limit=1, waitlist=waitlist)
    )  # fmt: skip
    await engine.apply_offer(terms(show, 1))
    mine = key()
    await engine.hold(show, buyer(1), mine, one())
    await make_due(engine, show, 1, mine)

    assert await way(engine, show) is Outcome.HELD


@pytest.mark.parametrize("way", WAYS)
async def test_units_that_the_keeper_frees_meanwhile_are_given(
    engine: StockEngine, show: ShowId, way: Way, keeper_is_first: None
) -> None:
    """The reap before a refusal finds nothing left to do; the question is asked again even so."""
    await engine.apply_offer(terms(show, 0, allotted=1, per_buyer_limit=1, waitlist=False))
    await engine.apply_offer(terms(show, 1))
    mine = key()
    await engine.hold(show, buyer(1), mine, one())
    await make_due(engine, show, 1, mine)

    assert await way(engine, show) is Outcome.HELD


@pytest.mark.parametrize("way", [hold_own, join_own, retake_own])
async def test_due_hold_makes_room_among_the_buyers_records(
    engine: StockEngine, show: ShowId, way: Way
) -> None:
    """Sixteen live holds are the bound; one that is due is not live any more."""
    await engine.apply_offer(terms(show, 0, allotted=50, per_buyer_limit=50))
    await fill_records(engine, show, 1, 0)

    assert await way(engine, show) is Outcome.HELD


async def test_first_paid_sees_what_the_keeper_frees_meanwhile(
    engine: StockEngine, show: ShowId, keeper_is_first: None
) -> None:
    """The buyer's own due hold stands in the way of peek and sell, until somebody ends it."""
    # An offer that was held before it went over to the other mode: the one way to have both.
    await engine.apply_offer(terms(show, 0, allotted=1, per_buyer_limit=1))
    mine = key()
    await engine.hold(show, buyer(1), mine, one())
    await engine.apply_offer(
        terms(show, 0, allotted=1, per_buyer_limit=1, mode=Mode.FIRST_PAID, version=2)
    )
    await make_due(engine, show, 1, mine)
    assert (await engine.peek(show, buyer(1), key(), one())).outcome is Outcome.HELD

    again = key()
    await engine.apply_offer(terms(show, 0, allotted=1, per_buyer_limit=1, version=3))
    await engine.hold(show, buyer(1), again, one())
    await engine.apply_offer(
        terms(show, 0, allotted=1, per_buyer_limit=1, mode=Mode.FIRST_PAID, version=4)
    )
    await make_due(engine, show, 1, again)
    assert (await engine.sell(show, buyer(1), key(), one())).outcome is Outcome.CONFIRMED


async def test_first_paid_looks_at_due_units_of_a_cart(engine: StockEngine, show: ShowId) -> None:
    """A refusal of peek or sell is told only after nothing is due any more."""
    await engine.apply_offer(terms(show, 0, mode=Mode.FIRST_PAID, allotted=1))
    await engine.apply_offer(terms(show, 1, hold_seconds=1))
    other = await engine.hold(show, buyer(1), key(), one(1))
    await engine.sell(show, buyer(1), key(), one(0))

    await until(other.expires_at + 1)
    answer = await engine.peek(show, buyer(2), key(), one(0))

    assert answer.outcome is Outcome.SOLD_OUT
    assert (await engine.figures(show)).offers[1] == Stock(10, 0, 0)


async def test_join_is_told_only_after_due_units_are_granted(
    engine: StockEngine, show: ShowId
) -> None:
    """Joining while units are due holds them instead of waiting for the keeper."""
    await engine.apply_offer(terms(show, allotted=1, hold_seconds=1))
    answer = await engine.hold(show, buyer(1), key(), one())

    await until(answer.expires_at + 1)

    joined = await engine.join_waitlist(show, buyer(2), key(), Line(0, 1))
    assert joined.outcome is Outcome.HELD and joined.expires_at > answer.expires_at

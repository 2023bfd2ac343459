"""Holds: who gets units, who does not, and what a repeat is told."""

import asyncio

import pytest

from live.base.errors import BadField, Busy, Conflict
from live.domain.hold import HoldDecision, Line
from live.domain.ids import ShowId
from live.domain.offer import Mode, Phase, Stock
from live.domain.outcomes import Outcome
from live.stock.engine import StockEngine
from live.stock.keys import ShowKeys, show_keys
from live.stock.outbox import Outbox
from live.stock.replies import as_list
from tests.support.stock_kit import buyer, key, now_ms, one, terms


async def test_racing_buyers_never_over_reserve(engine: StockEngine, show: ShowId) -> None:
    """A thousand parallel requests for ten units make exactly ten holds (Medusa #16569)."""
    await engine.apply_offer(terms(show, allotted=10))

    answers = await asyncio.gather(
        *(engine.hold(show, buyer(n), key(), one()) for n in range(1000))
    )

    assert sum(answer.outcome is Outcome.HELD for answer in answers) == 10
    assert (await engine.figures(show)).offers[0] == Stock(0, 10, 0)


async def test_two_engines_share_the_same_units(
    engine: StockEngine, show: ShowId, stock_server: object
) -> None:
    """Gateways know nothing of each other; Redis decides for all."""
    await engine.apply_offer(terms(show, allotted=50))
    other = StockEngine(stock_server.url)  # type: ignore[attr-defined]  # a Valkey
    await other.open()

    answers = await asyncio.gather(
        *((engine, other)[n % 2].hold(show, buyer(n), key(), one()) for n in range(300))
    )

    assert sum(answer.outcome is Outcome.HELD for answer in answers) == 50
    await other.close()


@pytest.mark.parametrize(("asked", "outcome"), [(2, "held"), (3, "held"), (4, "sold_out")])
async def test_hold_of_exactly_what_is_left_is_given(
    engine: StockEngine, show: ShowId, asked: int, outcome: str
) -> None:
    """No off-by-one at the last unit (miaosha #11, spikeSystem #14)."""
    await engine.apply_offer(terms(show, allotted=3, per_buyer_limit=10))

    answer = await engine.hold(show, buyer(1), key(), one(qty=asked))

    assert answer.outcome == outcome
    assert answer.left == (3 - asked if outcome == "held" else 3)


@pytest.mark.parametrize(("first", "second", "outcome"), [(1, 1, "held"), (1, 2, "limit_reached")])
async def test_limit_counts_all_holds_of_the_buyer(
    engine: StockEngine, show: ShowId, first: int, second: int, outcome: str
) -> None:
    """Two units are allowed for each buyer, in one hold or in several."""
    await engine.apply_offer(terms(show, per_buyer_limit=2))
    await engine.hold(show, buyer(1), key(), one(qty=first))

    answer = await engine.hold(show, buyer(1), key(), one(qty=second))

    assert answer.outcome == outcome


async def test_fifty_sockets_of_one_buyer_get_one_unit(engine: StockEngine, show: ShowId) -> None:
    """The limit holds for the person, however many connections press at once."""
    await engine.apply_offer(terms(show, per_buyer_limit=1))

    answers = await asyncio.gather(*(engine.hold(show, buyer(1), key(), one()) for _ in range(50)))

    assert sum(answer.outcome is Outcome.HELD for answer in answers) == 1
    assert sum(answer.outcome is Outcome.LIMIT_REACHED for answer in answers) == 49


async def test_repeat_gets_the_first_answer(engine: StockEngine, show: ShowId) -> None:
    """The same key moves stock once, in one batch or in several (Shopify forum)."""
    await engine.apply_offer(terms(show))
    again = key()

    answers = await asyncio.gather(*(engine.hold(show, buyer(1), again, one()) for _ in range(20)))
    later = await engine.hold(show, buyer(1), again, one())

    assert {answer.expires_at for answer in (*answers, later)} == {answers[0].expires_at}
    assert [answer.repeat for answer in answers].count(False) == 1 and later.repeat
    assert (await engine.figures(show)).offers[0] == Stock(9, 1, 0)


@pytest.mark.parametrize("lines", [one(1), [Line(1, 1), Line(0, 1)]])
async def test_repeat_tells_what_is_left_now(
    engine: StockEngine, show: ShowId, lines: list[Line]
) -> None:
    """Live, ended or sold: a repeat is no sign that its offer is sold out."""
    await engine.apply_offer(terms(show, 0))
    await engine.apply_offer(terms(show, 1))
    live, given, sold = key(), key(), key()
    for mine, who in ((live, 1), (given, 2), (sold, 3)):
        await engine.hold(show, buyer(who), mine, lines)
    await engine.release(show, buyer(2), given)
    await engine.begin(show, buyer(3), sold, window_ms=1_000)
    await engine.confirm(show, buyer(3), sold, lines)

    repeats = [
        await engine.hold(show, buyer(who), mine, lines)
        for mine, who in ((live, 1), (given, 2), (sold, 3))
    ]

    assert all(answer.repeat for answer in repeats)
    assert [(answer.slot, answer.left) for answer in repeats] == [(1, 8)] * 3


async def test_same_key_with_another_request_is_a_conflict(
    engine: StockEngine, show: ShowId
) -> None:
    """Another quantity or another offer under a used key changes nothing."""
    await engine.apply_offer(terms(show, 0))
    await engine.apply_offer(terms(show, 1))
    used = key()
    await engine.hold(show, buyer(1), used, one())

    for lines in (one(qty=2), one(1), [Line(0, 1), Line(1, 1)]):
        with pytest.raises(Conflict):
            await engine.hold(show, buyer(1), used, lines)

    figures = await engine.figures(show)
    assert figures.offers == {0: Stock(9, 1, 0), 1: Stock(10, 0, 0)}


async def test_same_key_of_another_buyer_is_another_hold(engine: StockEngine, show: ShowId) -> None:
    """A hold is named by show, buyer and key together."""
    await engine.apply_offer(terms(show))
    shared = key()

    first = await engine.hold(show, buyer(1), shared, one())
    second = await engine.hold(show, buyer(2), shared, one())

    assert first.outcome is second.outcome is Outcome.HELD and not second.repeat


async def test_refusal_leaves_nothing_behind(
    engine: StockEngine, show: ShowId, outbox: Outbox
) -> None:
    """No record, no outbox entry; the same key may ask again after a restock."""
    await engine.apply_offer(terms(show, allotted=1))
    refused, lines = key(), one(qty=2)

    answer = await engine.hold(show, buyer(1), refused, lines)

    assert answer == HoldDecision(Outcome.SOLD_OUT, 0, 1, 0)
    assert (await engine.figures(show)).last_entry == "0-0"
    assert await engine._calls.send(b"HKEYS", show_keys(show).buyers) == [b"mark"]
    await engine.apply_offer(terms(show, allotted=2, version=2))
    assert (await engine.hold(show, buyer(1), refused, lines)).outcome is Outcome.HELD


async def test_hold_and_outbox_entry_are_one(
    engine: StockEngine, show: ShowId, outbox: Outbox
) -> None:
    """No moment at which stock is gone and nobody wrote it down (dianping #1)."""
    await engine.apply_offer(terms(show, allotted=300))
    await asyncio.gather(*(engine.hold(show, buyer(n), key(), one()) for n in range(400)))

    batches = await outbox.read([show], consumer="c", entries_max=1000, block_ms=10)

    movements = [movement for batch in batches for movement in batch.movements]
    assert len(movements) == 300
    assert len(batches) <= 4, "one entry a batch, not one a hold"
    assert len({movement.buyer for movement in movements}) == 300
    assert [m.seq for m in movements] == sorted({m.seq for m in movements})


async def test_cart_with_one_offer_twice_is_summed(engine: StockEngine, show: ShowId) -> None:
    """Two lines that share stock cannot oversell it (Medusa #16502)."""
    await engine.apply_offer(terms(show, allotted=3, per_buyer_limit=10))

    refused = await engine.hold(show, buyer(1), key(), [Line(0, 2), Line(0, 2)])
    held = await engine.hold(show, buyer(1), key(), [Line(0, 2), Line(0, 1)])

    assert (refused.outcome, refused.left) == (Outcome.SOLD_OUT, 3)
    assert held.outcome is Outcome.HELD
    assert (await engine.figures(show)).offers[0] == Stock(0, 3, 0)


@pytest.mark.parametrize("failing", [0, 1, 2])
async def test_cart_is_all_or_nothing_and_names_what_failed(
    engine: StockEngine, show: ShowId, failing: int
) -> None:
    """One empty offer refuses the whole cart and is named; the others stay untouched."""
    for slot in range(3):
        await engine.apply_offer(terms(show, slot, allotted=0 if slot == failing else 5))

    answer = await engine.hold(show, buyer(1), key(), [Line(slot, 1) for slot in range(3)])

    assert (answer.outcome, answer.slot) == (Outcome.SOLD_OUT, failing)
    assert all(stock.held == 0 for stock in (await engine.figures(show)).offers.values())


async def test_cart_is_the_same_in_any_order(engine: StockEngine, show: ShowId) -> None:
    """A repeat may list the items otherwise; another item or number is still another request."""
    for slot in range(3):
        await engine.apply_offer(terms(show, slot))
    mine, cart = key(), [Line(2, 1), Line(0, 2), Line(1, 1)]
    first = await engine.hold(show, buyer(1), mine, cart)

    repeat = await engine.hold(show, buyer(1), mine, sorted(cart, key=lambda line: line.slot))
    for other in ([Line(0, 2), Line(1, 1)], [Line(0, 1), Line(1, 2), Line(2, 1)]):
        with pytest.raises(Conflict):
            await engine.hold(show, buyer(1), mine, other)

    assert (repeat.outcome, repeat.repeat) == (Outcome.HELD, True)
    assert repeat.expires_at == first.expires_at
    figures = await engine.figures(show)
    assert [stock.held for _, stock in sorted(figures.offers.items())] == [2, 1, 1]


async def test_cart_names_the_first_that_failed_in_its_own_order(
    engine: StockEngine, show: ShowId
) -> None:
    """Two of three are sold out: the buyer is told of the one that they named first."""
    for slot in range(3):
        await engine.apply_offer(terms(show, slot, allotted=5 if slot == 1 else 0))

    for order, failed in (((1, 2, 0), 2), ((0, 1, 2), 0)):
        answer = await engine.hold(show, buyer(1), key(), [Line(slot, 1) for slot in order])
        assert (answer.outcome, answer.slot) == (Outcome.SOLD_OUT, failed)


async def test_cart_lives_as_long_as_its_shortest_offer(engine: StockEngine, show: ShowId) -> None:
    """The hold time is the offer's (Spree #13978); in a cart the earliest deadline counts."""
    await engine.apply_offer(terms(show, 0, hold_seconds=100))
    await engine.apply_offer(terms(show, 1, hold_seconds=20))

    answer = await engine.hold(show, buyer(1), key(), [Line(0, 1), Line(1, 1)])

    assert 0 <= now_ms() + 20_000 - answer.expires_at < 2_000


@pytest.mark.parametrize(
    ("changes", "outcome"),
    [
        ({"phase": Phase.DRAFT}, "not_open"),
        ({"phase": Phase.SCHEDULED}, "not_open"),
        ({"phase": Phase.OPEN}, "held"),
        ({"phase": Phase.PAUSED}, "paused"),
        ({"phase": Phase.CLOSING}, "closed"),
        ({"phase": Phase.CLOSED}, "closed"),
        ({"phase": Phase.SCHEDULED, "opens_at": 1}, "held"),
        ({"phase": Phase.SCHEDULED, "opens_at": 2**46}, "not_open"),
        ({"closes_at": 1}, "closed"),
        ({"closes_at": 2**46}, "held"),
    ],
)
async def test_phase_and_window_decide_by_the_clock_of_redis(
    engine: StockEngine, show: ShowId, changes: dict[str, object], outcome: str
) -> None:
    """A scheduled offer opens when its time has come, and an open one closes, by themselves."""
    await engine.apply_offer(terms(show, **changes))

    assert (await engine.hold(show, buyer(1), key(), one())).outcome == outcome


async def test_scheduled_offer_opens_on_time_by_itself(engine: StockEngine, show: ShowId) -> None:
    """Nobody has to tell Redis: the first hold after the instant is taken, none before."""
    opens_at = now_ms() + 300
    await engine.apply_offer(terms(show, phase=Phase.SCHEDULED, opens_at=opens_at))

    answers: list[HoldDecision] = []
    while not answers or answers[-1].outcome is not Outcome.HELD:
        answers.append(await engine.hold(show, buyer(1), key(), one()))
        assert now_ms() < opens_at + 2_000

    assert {answer.outcome for answer in answers[:-1]} == {Outcome.NOT_OPEN}
    assert answers[-1].expires_at - 120_000 >= opens_at


async def test_unknown_offer_is_never_sold_out(engine: StockEngine, show: ShowId) -> None:
    """What Redis does not know is told as "repeat later", alone and inside a cart."""
    await engine.apply_offer(terms(show, 0))

    for lines in (one(7), [Line(0, 1), Line(7, 1)]):
        with pytest.raises(Busy):
            await engine.hold(show, buyer(1), key(), lines)

    assert (await engine.figures(show)).offers == {0: Stock(10, 0, 0)}


async def test_offer_of_the_other_mode_cannot_be_held(engine: StockEngine, show: ShowId) -> None:
    """Units that go to whoever pays first are never set aside, and the other way round."""
    await engine.apply_offer(terms(show, 0, mode=Mode.FIRST_PAID))
    await engine.apply_offer(terms(show, 1))

    with pytest.raises(Conflict):
        await engine.hold(show, buyer(1), key(), one(0))
    with pytest.raises(Conflict):
        await engine.sell(show, buyer(1), key(), one(1))


async def test_lines_out_of_range_never_reach_redis(engine: StockEngine, show: ShowId) -> None:
    """Zero units, or more offers than a cart may have, raise at once."""
    await engine.apply_offer(terms(show))

    for lines in ([], one(qty=0), [Line(slot, 1) for slot in range(9)]):
        with pytest.raises(BadField):
            await engine.hold(show, buyer(1), key(), lines)


async def test_records_of_a_buyer_are_bounded_by_dropping_ended_ones(
    engine: StockEngine, show: ShowId
) -> None:
    """Whoever holds and releases for ever leaves sixteen records, not a growing pile."""
    await engine.apply_offer(terms(show))
    keys = [key() for _ in range(40)]

    for each in keys:
        assert (await engine.hold(show, buyer(1), each, one())).outcome is Outcome.HELD
        assert (await engine.release(show, buyer(1), each)).done

    value = await engine._calls.send(b"HGET", show_keys(show).buyers, buyer(1))
    assert isinstance(value, bytes) and len(value) == 16 * 28
    repeated = await engine.hold(show, buyer(1), keys[-1], one())
    assert repeated.outcome is Outcome.ALREADY_RELEASED


async def test_seventeenth_live_hold_of_one_offer_is_refused(
    engine: StockEngine, show: ShowId
) -> None:
    """Live and sold holds are never dropped, so the bound refuses instead."""
    await engine.apply_offer(terms(show, allotted=100, per_buyer_limit=100))

    answers = [await engine.hold(show, buyer(1), key(), one()) for _ in range(17)]

    assert [answer.outcome for answer in answers] == [Outcome.HELD] * 16 + [Outcome.LIMIT_REACHED]
    assert (await engine.figures(show)).offers[0] == Stock(84, 16, 0)


async def test_restock_during_a_burst_moves_by_the_difference(
    engine: StockEngine, show: ShowId
) -> None:
    """A level is never written over holds that came in the meantime (Shopify's absolute sync)."""
    await engine.apply_offer(terms(show, allotted=100))

    async def restock() -> None:
        for version in range(2, 12):
            await engine.apply_offer(terms(show, allotted=100 + 10 * version, version=version))
            await engine.apply_offer(terms(show, allotted=100, version=1))  # late and old: ignored
            figures = await engine.figures(show)
            assert figures.offers[0].allotted == 100 + 10 * version

    holds = [engine.hold(show, buyer(n), key(), one()) for n in range(2000)]
    answers, _ = await asyncio.gather(asyncio.gather(*holds), restock())

    held = sum(answer.outcome is Outcome.HELD for answer in answers)
    assert (await engine.figures(show)).offers[0] == Stock(210 - held, held, 0)
    assert 100 <= held <= 210


async def test_every_key_of_a_show_is_in_one_slot(engine: StockEngine, show: ShowId) -> None:
    """One hash tag, so a cluster keeps a show together."""
    await engine.apply_offer(terms(show))
    await engine.hold(show, buyer(1), key(), one())

    names = as_list(await engine._calls.send(b"KEYS", b"*" + show.encode() + b"*"))

    assert len(names) == len(ShowKeys.__slots__)
    assert all(bytes(name).startswith(b"live:{" + show.encode() + b"}:") for name in names)  # type: ignore[call-overload]  # bytes each

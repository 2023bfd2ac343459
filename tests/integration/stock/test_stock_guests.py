"""What guests hold of an offer is bounded, by where they come from and all together."""

from collections import Counter

import pytest

from live.domain.hold import Line
from live.domain.ids import BuyerId, ShowId, buyer_of, new_guest_sub
from live.domain.offer import Stock
from live.domain.outcomes import Outcome
from live.stock.engine import StockEngine
from live.stock.keys import show_keys
from tests.support.servers import Valkey
from tests.support.stock_kit import buyer, key, one, terms

SECRET = "s" * 32
UNITS = 400
NEAR = UNITS // 20
ALL = UNITS // 2


def guest(network: str | None) -> BuyerId:
    return buyer_of(new_guest_sub(network, secret=SECRET), secret=SECRET)


async def storm(
    engine: StockEngine, show: ShowId, networks: list[str | None], clicks: int
) -> Counter[Outcome]:
    answers = [
        await engine.hold(show, guest(networks[n % len(networks)]), key(), one())
        for n in range(clicks)
    ]
    return Counter(answer.outcome for answer in answers)


async def test_guests_of_three_networks_empty_no_offer(engine: StockEngine, show: ShowId) -> None:
    """Each range of addresses has a twentieth, whoever asks; others find the rest."""
    await engine.apply_offer(terms(show, allotted=UNITS))
    networks: list[str | None] = ["203.0.113.0/24", "198.51.100.0/24", "2001:db8::/48"]

    answers = await storm(engine, show, networks, 300)

    assert answers == {Outcome.HELD: 3 * NEAR, Outcome.LIMIT_REACHED: 300 - 3 * NEAR}
    assert (await engine.hold(show, buyer(1), key(), one())).outcome is Outcome.HELD


async def test_guests_of_the_whole_world_have_half_of_an_offer(
    engine: StockEngine, show: ShowId
) -> None:
    """The other half is for those whom the shop knows."""
    await engine.apply_offer(terms(show, allotted=UNITS))

    answers = await storm(engine, show, [None], UNITS)
    refused = await engine.hold(show, guest(None), key(), one())

    assert answers[Outcome.HELD] == ALL
    assert (refused.outcome, refused.left) == (Outcome.LIMIT_REACHED, ALL)
    assert "guests" in refused.reason
    known = [await engine.hold(show, buyer(n), key(), one()) for n in range(ALL)]
    assert {answer.outcome for answer in known} == {Outcome.HELD}


async def test_two_gateways_count_guests_together(
    engine: StockEngine, show: ShowId, stock_server: Valkey
) -> None:
    """The bound is decided where the units are, not in a process."""
    other = StockEngine(stock_server.url)
    await other.open()
    await engine.apply_offer(terms(show, allotted=UNITS))

    first = await storm(engine, show, ["203.0.113.0/24"], NEAR - 1)
    second = await storm(other, show, ["203.0.113.0/24"], NEAR)

    assert (first[Outcome.HELD], second[Outcome.HELD]) == (NEAR - 1, 1)
    await other.close()


@pytest.mark.parametrize("end", ["release", "confirm", "expire"])
async def test_units_that_a_guest_has_no_more_are_free_for_the_next(
    engine: StockEngine, show: ShowId, end: str
) -> None:
    """A bound on what is held, not on what is bought."""
    await engine.apply_offer(terms(show, allotted=20, per_buyer_limit=1))
    home = "203.0.113.0/24"
    mine, who = key(), guest(home)
    assert (await engine.hold(show, who, mine, one())).outcome is Outcome.HELD
    assert (await engine.hold(show, guest(home), key(), one())).outcome is Outcome.LIMIT_REACHED

    if end == "release":
        assert (await engine.release(show, who, mine)).done
    else:
        await engine.begin(show, who, mine, window_ms=60_000)
    if end == "confirm":
        assert (await engine.confirm(show, who, mine, one())).done
    elif end == "expire":
        await engine.revert(show, who, mine, held_until=1)

    assert (await engine.hold(show, guest(home), key(), one())).outcome is Outcome.HELD
    counts = await engine._calls.send(b"HVALS", show_keys(show).guests)
    assert counts == [b"1"] * 3  # the mark, all guests, those from home


async def test_guests_queue_no_longer_than_they_may_hold(engine: StockEngine, show: ShowId) -> None:
    """A place in the line counts as the units that it would bring."""
    await engine.apply_offer(terms(show, allotted=40, per_buyer_limit=1))
    await engine.hold(show, buyer(1), key(), one())
    home = "203.0.113.0/24"
    for n in range(2, 41):
        await engine.hold(show, buyer(n), key(), one())

    joined = [await engine.join_waitlist(show, guest(home), key(), Line(0, 1)) for _ in range(3)]

    assert [answer.outcome for answer in joined] == [
        Outcome.WAITLISTED,
        Outcome.WAITLISTED,
        Outcome.LIMIT_REACHED,
    ]
    assert (await engine.figures(show)).offers[0] == Stock(0, 40, 0)


async def test_single_guest_gets_what_one_buyer_may_have(engine: StockEngine, show: ShowId) -> None:
    """However small the offer."""
    await engine.apply_offer(terms(show, allotted=3, per_buyer_limit=3))

    answer = await engine.hold(show, guest("203.0.113.0/24"), key(), one(qty=3))

    assert answer.outcome is Outcome.HELD

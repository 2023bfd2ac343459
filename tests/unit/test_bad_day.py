"""The bad day's own parts: its faults follow from the seed, its reckoning finds broken words."""

import pytest

from live.tools.demo.host import ItemSeen, LedgerOrder
from live.tools.demo.tally import KeyVerdict, Told
from tests.faults.bad_day import FAULTS, plan_day
from tests.faults.reckoning import faults_of

FIVE = {"lamp": 5}


def test_same_seed_is_the_same_day() -> None:
    """A seed that failed can be played again; another seed is another day."""
    assert plan_day(7) == plan_day(7) != plan_day(8)


def test_days_are_bad_and_of_every_kind() -> None:
    """Each of twenty days has faults enough to prove something; together they have them all."""
    days = [plan_day(seed) for seed in range(1, 21)]

    assert all(len(day) >= 5 for day in days)
    assert {(fault.what, fault.victim) for day in days for fault in day} == set(FAULTS)


def told(verdict: KeyVerdict, outcome: str, *, order: str = "") -> Told:
    return Told(sub="ada", key="k", qty=1, verdict=verdict, outcome=outcome, order=order)


def order(*, state: str = "paid", number: str = "o", hold: str = "k", qty: int = 1) -> LedgerOrder:
    items = [ItemSeen(offer="lamp", qty=qty)]
    return LedgerOrder(order=number, hold=hold, state=state, items=items)


@pytest.mark.parametrize("outcome", ["sold_out", "declined", "expired", "released"])
def test_refused_buyer_with_an_order_is_a_fault(outcome: str) -> None:
    """Whoever was told no in the end has bought nothing; what was taken back does not count."""
    refused = [told(KeyVerdict.REFUSED, outcome)]

    assert faults_of(refused, [order()], FIVE) == [f"k was told {outcome} and has an order"]
    assert faults_of(refused, [order(state="cancelled")], FIVE) == []


def test_broken_promises_are_faults() -> None:
    """Confirmed and not there, there twice, for nobody, and more than there was."""
    confirmed = [told(KeyVerdict.OK, "confirmed", order="o")]

    assert faults_of(confirmed, [order()], FIVE) == []
    assert len(faults_of(confirmed, [], FIVE)) == 1
    assert faults_of(confirmed, [order(), order(number="p")], FIVE) == ["k has 2 orders"]
    assert len(faults_of([], [order()], FIVE)) == 1
    assert faults_of(confirmed, [order(qty=6)], FIVE) == ["6 units of lamp sold of 5"]


def test_unknown_may_be_sold_once_or_not() -> None:
    """Nobody told them, so both are true to what they know."""
    unknown = [told(KeyVerdict.UNKNOWN, "no answer")]

    assert faults_of(unknown, [], FIVE) == faults_of(unknown, [order()], FIVE) == []


def test_hostile_buyer_is_held_to_the_limit() -> None:
    """What they were told does not matter; how much they have does, whatever keys they used."""
    two = [order(), order(number="p", hold="l", qty=2)]

    assert faults_of([], two, FIVE, [{"k", "l", "m"}], 3) == []
    assert faults_of([], two, FIVE, [{"k"}, {"l"}], 2) == []
    assert len(faults_of([], two, FIVE, [{"k", "l"}], 2)) == 1
    assert len(faults_of([], two, FIVE, [{"k"}], 2)) == 1

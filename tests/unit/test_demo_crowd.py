"""What a simulated crowd plans. Method: draw many plans and look at their shares and bounds."""

import pytest

from live.tools.demo.crowd import CrowdShares, Fate, Plan, plan_viewer, units_on_sale
from live.tools.demo.service import timing


def plans(crowd: CrowdShares, count: int = 2_000, *, seed: int = 1) -> list[Plan]:
    return [plan_viewer(crowd, seed=seed, index=i, per_buyer_limit=2) for i in range(count)]


def test_plan_is_the_same_for_the_same_seed() -> None:
    """A viewer's plan depends on crowd, seed and index alone."""
    assert plans(CrowdShares(), 50) == plans(CrowdShares(), 50)


def test_plan_differs_between_seeds() -> None:
    """Another seed gives another crowd."""
    assert plans(CrowdShares(), 50, seed=1) != plans(CrowdShares(), 50, seed=2)


def test_plans_follow_the_shares() -> None:
    """Shares of a large crowd come close to what `CrowdShares` says."""
    crowd = CrowdShares(buyers=0.5, abandon=0.2, decline=0.1, decline_then_pay=0.1)

    drawn = plans(crowd)

    assert sum(plan.buys for plan in drawn) / len(drawn) == pytest.approx(0.5, abs=0.05)
    for fate, share in ((Fate.ABANDON, 0.2), (Fate.DECLINE, 0.1), (Fate.PAY, 0.6)):
        found = sum(plan.fate is fate for plan in drawn) / len(drawn)
        assert found == pytest.approx(share, abs=0.05)


def test_plan_stays_within_the_limit() -> None:
    """Nobody asks for more than the limit with one key; greedy ones do it with several."""
    drawn = plans(CrowdShares(greedy=1.0, qty_max=9))

    assert {plan.qty for plan in drawn} == {1, 2}
    assert all(plan.qty + plan.extra_keys > 2 for plan in drawn)


def test_crowd_with_too_many_fates_is_refused() -> None:
    """Shares of fates beyond one are a mistake, not a rounding matter."""
    CrowdShares(abandon=0.5, decline=0.25, decline_then_pay=0.25)
    with pytest.raises(ValueError, match="more than one"):
        CrowdShares(abandon=0.6, decline=0.25, decline_then_pay=0.25)


@pytest.mark.parametrize("viewers", [2, 50, 200, 10_000])
def test_units_are_fewer_than_wishes(viewers: int) -> None:
    """The sale is tight: buyers want more units than there are."""
    drawn = plans(CrowdShares(), viewers)
    wanted = sum(plan.qty for plan in drawn if plan.buys)

    assert 3 <= units_on_sale(CrowdShares(), viewers) < max(wanted, 4)


@pytest.mark.parametrize(("seconds", "hold"), [(6, 5), (8, 5), (30, 10), (600, 60)])
def test_hold_time_fits_into_the_sale(seconds: int, hold: int) -> None:
    """An abandoned hold expires while the offer is still open."""
    phases = timing(seconds)

    assert phases.hold_seconds == hold
    assert phases.hold_seconds < phases.sale_seconds
    assert phases.countdown_seconds >= 1

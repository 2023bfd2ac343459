"""Rules of an offer: where it may go, which ones a show tells of, what is public of it."""

from dataclasses import fields

import pytest

from live.domain.ids import ShowId
from live.domain.offer import (
    OFFERS_CLOSED_MAX,
    OfferTerms,
    OfferView,
    Phase,
    Stock,
    current,
    may_become,
    view_offer,
)
from tests.support.stock_kit import terms

SHOW = ShowId("demo")
STEPS = {
    "draft": "scheduled open closed",
    "scheduled": "open paused closing",
    "open": "paused closing",
    "paused": "open closing",
    "closing": "closed",
    "closed": "",
}


@pytest.mark.parametrize("now", Phase)
def test_offer_goes_where_the_table_says(now: Phase) -> None:
    """And to no other phase, not even to the one that it is in."""
    assert {then for then in Phase if may_become(now, then)} == set(STEPS[now].split())


def closed(slot: int, opens_at: int | None) -> OfferTerms:
    return terms(SHOW, slot, phase=Phase.CLOSED, opens_at=opens_at)


def test_show_tells_of_the_newest_closed_offers() -> None:
    """By when they were opened, then by slot, in the order given; a closed draft is gone."""
    old = [closed(slot, 1_000 - slot) for slot in range(OFFERS_CLOSED_MAX + 2)]
    never = closed(90, None)
    alive = [terms(SHOW, 50 + n, phase=phase) for n, phase in enumerate(Phase) if n < 5]
    told = current([old[0], never, *alive, *old[1:]])
    assert told == (old[0], *alive, *old[1:OFFERS_CLOSED_MAX])

    tied = [closed(slot, 7) for slot in range(OFFERS_CLOSED_MAX + 1)]
    assert current(tied) == tuple(tied[1:])


def test_view_shows_what_the_host_decided_and_what_buyers_did() -> None:
    """Every field that terms and view share, and the three figures."""
    offer = terms(SHOW, opens_at=5, closes_at=9, image_url="/mug.png", providers=("invoice",))
    view = view_offer(offer, Stock(left=3, held=2, sold=1))
    shared = {one.name for one in fields(OfferTerms)} & {one.name for one in fields(OfferView)}
    assert {name: getattr(view, name) for name in shared} == {
        name: getattr(offer, name) for name in shared
    }
    assert (view.left, view.held, view.sold) == (3, 2, 1)


@pytest.mark.parametrize(
    ("phase", "said", "left", "sold_out"),
    [
        (Phase.OPEN, False, 0, True),
        (Phase.OPEN, False, 1, False),
        (Phase.PAUSED, False, 0, False),
        (Phase.PAUSED, True, 3, True),
    ],
)
def test_sold_out_is_derived_or_said(phase: Phase, said: bool, left: int, sold_out: bool) -> None:
    """Nothing left of an open offer, or the host's word."""
    view = view_offer(terms(SHOW, phase=phase, sold_out=said), Stock(left, 0, 0))
    assert view.sold_out is sold_out

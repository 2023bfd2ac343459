"""Which events lead from one state of a show to the next, and which figures are worth telling."""

from dataclasses import replace

import pytest

from live.domain.channels import ChannelKind
from live.domain.ids import ShowId, Sku
from live.domain.offer import OfferTerms, Phase, Stock
from live.domain.show import Announcement, ShowState, ShowStatus
from live.domain.stock import ShowFigures
from live.hosting.changes import changes_between
from live.hosting.pulse import QUIET_MS, RESTOCKED_AFTER_MS, Pulses
from tests.support.show_states import make_state
from tests.support.stock_kit import terms

SHOW = ShowId("demo")


def state(*offers: OfferTerms, version: int = 1, **changes: object) -> ShowState:
    base = replace(make_state(SHOW, version=version), offers=offers)
    return replace(base, **changes)  # type: ignore[arg-type]  # names are checked by replace


def told(old: ShowState | None, new: ShowState) -> list[tuple[str, str]]:
    return [(one.channel.kind.value, one.event.type) for one in changes_between(old, new, {}, at=5)]


@pytest.mark.parametrize(
    ("before", "after", "event"),
    [
        (ShowStatus.SCHEDULED, ShowStatus.LIVE, "show.started"),
        (ShowStatus.REHEARSAL, ShowStatus.LIVE, "show.started"),
        (ShowStatus.LIVE, ShowStatus.PAUSED, "show.paused"),
        (ShowStatus.PAUSED, ShowStatus.LIVE, "show.resumed"),
        (ShowStatus.PAUSED, ShowStatus.ENDED, "show.ended"),
    ],
)
def test_turn_of_a_show_is_one_event(before: ShowStatus, after: ShowStatus, event: str) -> None:
    """Each turn has its word."""
    assert told(state(status=before), state(version=2, status=after)) == [("show", event)]


@pytest.mark.parametrize(
    "change",
    [
        {"title": "Later"},
        {"language": "de"},
        {"playback_url": "https://cdn.example/live.m3u8"},
        {"paid_partnership": True},
        {"slow_mode_seconds": 10},
        {"frozen": True},
        {"run_order": (Sku("mug"),)},
        {"starts_at": 9_000},
    ],
)
def test_changed_setting_is_told_with_the_whole_show(change: dict[str, object]) -> None:
    """Open pages and a second console hear of it; with a turn of the show that event says it."""
    changed = state(version=2, **change)

    [update] = changes_between(state(), changed, {}, at=5)
    assert (update.channel.kind, update.event.type) == (ChannelKind.SHOW, "show.updated")
    for name, value in change.items():
        assert getattr(update.event.show, name) == value  # type: ignore[union-attr]  # as told
    ended = state(version=2, status=ShowStatus.ENDED, **change)
    assert told(state(), ended) == [("show", "show.ended")]
    assert told(state(), state(version=2, passcode="secret")) == []


@pytest.mark.parametrize(
    ("before", "after", "where", "event"),
    [
        (Phase.DRAFT, Phase.SCHEDULED, "show", "offer.scheduled"),
        (Phase.DRAFT, Phase.OPEN, "show", "offer.opened"),
        (Phase.SCHEDULED, Phase.OPEN, "show", "offer.opened"),
        (Phase.OPEN, Phase.PAUSED, "show", "offer.paused"),
        (Phase.PAUSED, Phase.OPEN, "show", "offer.opened"),
        (Phase.OPEN, Phase.CLOSING, "show", "offer.closing"),
        (Phase.CLOSING, Phase.CLOSED, "show", "offer.closed"),
        (Phase.DRAFT, Phase.CLOSED, "desk", "offer.updated"),
        (Phase.OPEN, Phase.OPEN, "show", "offer.updated"),
        (Phase.DRAFT, Phase.DRAFT, "desk", "offer.updated"),
    ],
)
def test_turn_of_an_offer_is_one_event(before: Phase, after: Phase, where: str, event: str) -> None:
    """Viewers never hear of what was a draft only, and no feed calls its end "Closed"."""
    opens_at = {Phase.DRAFT: None}.get(before, 1)
    then = opens_at if after in (Phase.DRAFT, Phase.CLOSED) else 1
    old = state(terms(SHOW, phase=before, opens_at=opens_at))
    new = state(terms(SHOW, phase=after, opens_at=then, version=2), version=2)

    assert told(old, new) == [(where, event)]


def test_old_news_of_a_long_show_is_not_told_again() -> None:
    """What a stored state leaves out was closed when it was stored, and has been told."""
    closed = [terms(SHOW, slot, phase=Phase.CLOSED, opens_at=slot + 1) for slot in range(40)]
    discarded = terms(SHOW, 40, phase=Phase.CLOSED)
    whole = state(*closed, discarded, version=2, slots=41)
    stored = whole.bounded()

    assert [one.slot for one in stored.offers] == list(range(20, 40))
    assert told(stored, replace(whole, version=3)) == []
    again = replace(closed[3], phase=Phase.DRAFT, opens_at=None, version=2)  # a rehearsal is over
    assert told(stored, replace(whole, version=3, offers=(*closed[:3], again))) == [
        ("desk", "offer.updated")
    ]
    late = terms(SHOW, 41, phase=Phase.CLOSED, opens_at=9)  # begun and over while Redis was away
    assert told(stored, replace(whole, version=3, offers=(*whole.offers, late), slots=42)) == [
        ("show", "offer.closed")
    ]


def test_more_units_are_a_restock() -> None:
    """Told by the planned quantity, which only a restock raises."""
    new = state(terms(SHOW, quantity=12, allotted=12, version=2), version=2)

    assert told(state(terms(SHOW)), new) == [("show", "offer.restocked")]


def test_state_that_is_not_newer_or_was_never_seen_tells_nothing() -> None:
    """Late arrivals are silent; who joins a new show gets the whole state."""
    assert told(None, state(terms(SHOW))) == []
    assert told(state(version=3), state(version=3, title="Other")) == []
    assert told(state(version=3), state(version=2, status=ShowStatus.ENDED)) == []


def test_pins_and_announcement_are_told_whole() -> None:
    """An empty text takes the bar down; taking a pin off is its own word."""
    lamp, mug = Sku("lamp"), Sku("mug")
    bar = Announcement("Now", None)
    first = state(version=1)
    second = state(version=2, pins=(lamp, mug), announcement=bar)
    third = state(version=3, pins=(mug,))

    assert told(first, second) == [("show", "product.pinned"), ("show", "announcement")]
    assert told(second, third) == [("show", "product.unpinned"), ("show", "announcement")]
    [_, taken_down] = changes_between(second, third, {}, at=5)
    assert taken_down.event.text == ""  # type: ignore[union-attr]  # told() named its type


def test_keys_are_the_same_for_everybody_and_new_for_each_version() -> None:
    """Whoever finds a difference first publishes it; the others' copies vanish."""
    old, new = state(terms(SHOW)), state(terms(SHOW, phase=Phase.PAUSED, version=2), version=2)
    later = state(terms(SHOW, phase=Phase.PAUSED, version=2), version=7)
    again = state(terms(SHOW, phase=Phase.PAUSED, version=4), version=4)

    def keys(then: ShowState) -> list[str]:
        return [one.key for one in changes_between(old, then, {}, at=5)]

    assert keys(new) == keys(later) != keys(again)


def figures(at: int, left: int) -> ShowFigures:
    return ShowFigures(at, "1-0", {0: Stock(left, 10 - left, 0)}, {})


def test_pulse_is_told_when_it_changed_or_has_been_quiet() -> None:
    """Both sides of the quiet time."""
    pulses, on_sale = Pulses(), state(terms(SHOW))

    def is_told(at: int, left: int, viewers: int = 7) -> bool:
        return pulses.next_pulse(on_sale, figures(at, left), viewers, {"heart": 1}) is not None

    assert is_told(0, 5)
    assert not is_told(QUIET_MS - 1, 5)
    assert is_told(QUIET_MS, 5)
    assert is_told(QUIET_MS + 1, 4)
    assert is_told(QUIET_MS + 2, 4, viewers=8)


def test_pulse_leaves_out_drafts_and_closed_offers() -> None:
    """What nobody may know yet, and what has told its end."""
    shown = state(
        terms(SHOW, 0), terms(SHOW, 1, phase=Phase.DRAFT), terms(SHOW, 2, phase=Phase.CLOSED)
    )

    pulse = Pulses().next_pulse(shown, figures(0, 5), 7, {})

    assert pulse is not None and [offer.id for offer in pulse.offers] == ["o0"]


def test_sold_out_is_told_once_and_restocked_when_units_stay() -> None:
    """Units that are gone again within a second were never back."""
    pulses, on_sale = Pulses(), state(terms(SHOW))

    def kinds(at: int, left: int) -> list[str]:
        return [one.event.type for one in pulses.notices(on_sale, figures(at, left))]

    assert kinds(0, 1) == []
    assert kinds(100, 0) == ["offer.sold_out"]
    assert kinds(200, 0) == []
    assert kinds(300, 1) == []
    assert kinds(400, 0) == []
    assert kinds(500, 2) == []
    assert kinds(500 + RESTOCKED_AFTER_MS - 1, 2) == []
    assert kinds(500 + RESTOCKED_AFTER_MS, 2) == ["offer.restocked"]
    assert kinds(3_000, 0) == ["offer.sold_out"]


def test_desk_channel_is_the_hosts_own() -> None:
    """A draft's change goes where viewers cannot listen."""
    new = state(terms(SHOW, phase=Phase.DRAFT), version=2)

    [change] = changes_between(state(), new, {}, at=5)

    assert change.channel.kind is ChannelKind.DESK

"""Which events lead from one state of a show to a later one.

Pure. Every event comes with a key made of what changed and the version that changed it, so whoever
finds the difference first - the gateway that ran the host's command, or a keeper - publishes it,
and the others' copies vanish in the log.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from live.domain.channels import Channel, ChannelKind
from live.domain.events import AnnouncementEvent, Event, OfferEvent, PinEvent, ShowEvent
from live.domain.offer import OfferTerms, Phase, is_untold
from live.domain.show import ShowState, ShowStatus
from live.hosting.views import Stocks, view_show, view_terms

OfferEventType = Literal[
    "offer.scheduled",
    "offer.opened",
    "offer.updated",
    "offer.paused",
    "offer.sold_out",
    "offer.restocked",
    "offer.closing",
    "offer.closed",
]
ShowEventType = Literal["show.started", "show.paused", "show.resumed", "show.ended", "show.updated"]


@dataclass(frozen=True, slots=True)
class Change:
    channel: Channel
    event: Event
    key: str


def changes_between(
    old: ShowState | None, new: ShowState, stocks: Stocks, *, at: int
) -> list[Change]:
    """Nothing for a show that nobody has seen yet: who joins gets the whole state."""
    if old is None or old.version >= new.version:
        return []
    return [
        *_show_changes(old, new, stocks, at),
        *_pin_changes(old, new, at),
        *_announcement_changes(old, new, at),
        *_offer_changes(old, new, stocks, at),
    ]


def _show_changes(old: ShowState, new: ShowState, stocks: Stocks, at: int) -> Iterator[Change]:
    kind = _turn(old.status, new.status)
    if kind is None and _settings(old) != _settings(new):
        kind = "show.updated"
    if kind is not None:
        event = ShowEvent(type=kind, at=at, show=view_show(new, stocks, drafts=False))
        yield Change(_channel(new), event, f"{kind}:{new.version}")


def _settings(state: ShowState) -> tuple[object, ...]:
    """What pages show of a show and no other event tells. The passcode is nobody's business."""
    return (
        state.title,
        state.language,
        state.playback_url,
        state.paid_partnership,
        state.slow_mode_seconds,
        state.frozen,
        state.run_order,
        state.starts_at,
        state.providers,
    )


def _turn(old: ShowStatus, new: ShowStatus) -> ShowEventType | None:
    if old is new:
        return None
    if new is ShowStatus.ENDED:
        return "show.ended"
    if new is ShowStatus.PAUSED:
        return "show.paused"
    if new is ShowStatus.REHEARSAL:
        return "show.started"
    if new is ShowStatus.SCHEDULED:  # its rehearsal is over; the event's show says so
        return "show.ended"
    return "show.resumed" if old is ShowStatus.PAUSED else "show.started"


def _pin_changes(old: ShowState, new: ShowState, at: int) -> Iterator[Change]:
    if old.pins != new.pins:
        kind: Literal["product.pinned", "product.unpinned"] = (
            "product.unpinned" if set(new.pins) < set(old.pins) else "product.pinned"
        )
        event = PinEvent(type=kind, at=at, skus=new.pins, products=new.pinned)
        yield Change(_channel(new), event, f"pins:{new.version}")


def _announcement_changes(old: ShowState, new: ShowState, at: int) -> Iterator[Change]:
    if old.announcement != new.announcement:
        bar = new.announcement
        event = AnnouncementEvent(
            at=at,
            text="" if bar is None else bar.text,
            until=None if bar is None else bar.until,
        )
        yield Change(_channel(new), event, f"announcement:{new.version}")


def _offer_changes(old: ShowState, new: ShowState, stocks: Stocks, at: int) -> Iterator[Change]:
    before = {terms.id: terms for terms in old.offers}
    for terms in new_offers(old, new):
        was = before.get(terms.id)
        kind = _offer_event(was, terms)
        yield Change(
            Channel(ChannelKind.DESK, new.id) if is_untold(terms) else _channel(new),
            OfferEvent(type=kind, at=at, offer=view_terms(terms, stocks)),
            f"{kind}:{terms.id}:{terms.version}",
        )


def new_offers(old: ShowState | None, new: ShowState) -> Iterator[OfferTerms]:
    """Offers of `new`, which has all, that are newer than in `old`, which has the current ones.

    What is closed, was there before, and is not among the current ones any more is old news.
    """
    known = {} if old is None else {terms.id: terms.version for terms in old.offers}
    for terms in new.offers:
        if terms.id in known:
            if terms.version > known[terms.id]:
                yield terms
        elif old is None or terms.phase is not Phase.CLOSED or terms.slot >= old.slots:
            yield terms


_PHASE_EVENTS: dict[Phase, OfferEventType] = {
    Phase.DRAFT: "offer.updated",
    Phase.SCHEDULED: "offer.scheduled",
    Phase.OPEN: "offer.opened",
    Phase.PAUSED: "offer.paused",
    Phase.CLOSING: "offer.closing",
    Phase.CLOSED: "offer.closed",
}


def _offer_event(was: OfferTerms | None, terms: OfferTerms) -> OfferEventType:
    if is_untold(terms):  # a draft's end is no "Closed" to anybody
        return "offer.updated"
    if terms.sold_out and (was is None or not was.sold_out):
        return "offer.sold_out"
    if was is None or was.phase is not terms.phase:
        return _PHASE_EVENTS[terms.phase]
    return "offer.restocked" if terms.quantity > was.quantity else "offer.updated"


def _channel(state: ShowState) -> Channel:
    return Channel(ChannelKind.SHOW, state.id)

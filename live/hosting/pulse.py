"""What everybody sees of a show's figures, and when it is worth telling.

Pure, apart from remembering the last thing told. `Pulses` decides what to publish; keeper.py
publishes it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from live.domain.events import OfferEvent, Pulse, PulseOffer
from live.domain.offer import Phase
from live.domain.show import ShowState
from live.domain.stock import ShowFigures
from live.hosting.views import stock_of, view_terms

QUIET_MS = 1_000  # an unchanged pulse is told this often, so that a page knows it is not stale
RESTOCKED_AFTER_MS = 1_000  # units that are gone again within a second were never "back"

_Kind = Literal["offer.sold_out", "offer.restocked"]

_TOLD = (Phase.SCHEDULED, Phase.OPEN, Phase.PAUSED, Phase.CLOSING)


@dataclass(frozen=True, slots=True)
class Notice:
    event: OfferEvent
    key: str


@dataclass(slots=True)
class _Shelf:
    """One offer as last told: whether it was sold out, and since when (ms) units are back."""

    out: bool = False
    back_since: int | None = None


def offers_of(state: ShowState, figures: ShowFigures) -> tuple[PulseOffer, ...]:
    """The stock of offers that are on sale or about to be; a closed one has told its end."""
    told = (
        (terms.id, stock_of(terms, figures.offers))
        for terms in state.offers
        if terms.phase in _TOLD
    )
    return tuple(PulseOffer(name, stock.left, stock.held, stock.sold) for name, stock in told)


class Pulses:
    """One show's pulses."""

    def __init__(self) -> None:
        self._last: Pulse | None = None
        self._shelves: dict[str, _Shelf] = {}

    def next_pulse(
        self, state: ShowState, figures: ShowFigures, viewers: int, reactions: Mapping[str, int]
    ) -> Pulse | None:
        """The pulse to publish now, if any."""
        pulse = Pulse(
            at=figures.at,
            viewers=viewers,
            offers=offers_of(state, figures),
            reactions=dict(reactions),
        )
        last = self._last
        if (
            last is not None
            and last.at + QUIET_MS > pulse.at
            and replace(last, at=pulse.at) == pulse
        ):
            return None
        self._last = pulse
        return pulse

    def notices(self, state: ShowState, figures: ShowFigures) -> list[Notice]:
        """sold_out and restocked, as they happen; a key names the moment in the outbox."""
        found: list[Notice] = []
        for terms in state.offers:
            if terms.phase is not Phase.OPEN:
                self._shelves.pop(terms.id, None)
                continue
            shelf = self._shelves.setdefault(terms.id, _Shelf())
            kind = _step(shelf, stock_of(terms, figures.offers).left, figures.at)
            if kind is not None:
                event = OfferEvent(
                    type=kind, at=figures.at, offer=view_terms(terms, figures.offers)
                )
                found.append(Notice(event, f"{kind}:{terms.id}:{figures.last_entry}"))
        return found


def _step(shelf: _Shelf, left: int, at: int) -> _Kind | None:
    if left == 0:
        shelf.back_since = None
        if shelf.out:
            return None
        shelf.out = True
        return "offer.sold_out"
    if not shelf.out:
        return None
    if shelf.back_since is None:
        shelf.back_since = at
    if at < shelf.back_since + RESTOCKED_AFTER_MS:
        return None
    shelf.out, shelf.back_since = False, None
    return "offer.restocked"

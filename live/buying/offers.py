"""Offers of the shows that this process follows, by id and by slot.

Always: an index belongs to exactly one version of a show's state and is thrown away with it;
looking an offer up costs two dictionary reads.
"""

from dataclasses import dataclass

from live.base.errors import Busy, NotFound
from live.buying.ports import FollowedShows
from live.domain.hold import HoldItem, HoldState, HoldView, Line
from live.domain.ids import HoldKey, OfferId, ShowId, key_text
from live.domain.offer import OfferTerms
from live.domain.payment import PricedLine
from live.domain.show import ShowState

SHOWS_MAX = 1_000  # indexes kept; beyond it all are made again


@dataclass(frozen=True, slots=True)
class Offers:
    """The offers of one version of a show."""

    state: ShowState
    by_id: dict[str, OfferTerms]
    by_slot: dict[int, OfferTerms]
    narrowings: frozenset[tuple[str, ...]]  # the ways to pay of offers that do not take all

    def named(self, offer: str) -> OfferTerms:
        """Raises NotFound."""
        terms = self.by_id.get(offer)
        if terms is None:
            raise NotFound(f"unknown offer {offer}")
        return terms

    def at(self, slot: int) -> OfferTerms:
        """Raises NotFound: an offer that was added a moment ago may not be known here yet."""
        terms = self.by_slot.get(slot)
        if terms is None:
            raise NotFound(f"unknown offer in slot {slot}")
        return terms

    def priced(self, lines: tuple[Line, ...]) -> tuple[PricedLine, ...]:
        """The price is the offer's, frozen since it was scheduled; never the client's."""
        return tuple(
            PricedLine(line.slot, line.qty, self.at(line.slot).price_minor) for line in lines
        )

    def hold_view(
        self, key: HoldKey, lines: tuple[Line, ...], state: HoldState, expires_at: int
    ) -> HoldView:
        items = tuple(
            HoldItem(OfferId(terms.id), line.qty, terms.price_minor)
            for line in lines
            for terms in (self.at(line.slot),)
        )
        return HoldView(key_text(key), items, self.at(lines[0].slot).currency, state, expires_at)


class OfferBook:
    """Finds the offers of a show; `shows` is the follower."""

    def __init__(self, shows: FollowedShows) -> None:
        self._shows = shows
        self._known: dict[ShowId, Offers] = {}

    def of(self, show: ShowId) -> Offers:
        """Raises Busy while this process knows nothing of the show.

        Never NotFound: whoever asks has joined it, so it is there, and Redis has lost it or is
        away. Which shows are in no world is told at the door, by those who ask the ledger.
        """
        followed = self._shows.current(show)
        state = None if followed is None else followed.state
        if state is None:
            raise Busy("the show is being made again")
        known = self._known.get(show)
        if known is None or known.state is not state:
            if len(self._known) >= SHOWS_MAX:
                self._known.clear()
            known = Offers(
                state,
                {terms.id: terms for terms in state.offers},
                {terms.slot: terms for terms in state.offers},
                frozenset(terms.providers for terms in state.offers if terms.providers),
            )
            self._known[show] = known
        return known

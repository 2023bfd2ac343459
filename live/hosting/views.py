"""A show and its offers as the public contract shows them: what hosts decided joined with stock."""

from collections.abc import Mapping

from live.domain.offer import OfferTerms, OfferView, Phase, Stock, current, is_untold, view_offer
from live.domain.show import ShowState, ShowView

Stocks = Mapping[int, Stock]


def stock_of(terms: OfferTerms, stocks: Stocks) -> Stock:
    """The offer's stock; before Redis knows the offer, what it will begin with."""
    known = stocks.get(terms.slot)
    if known is not None:
        return known
    if terms.phase is Phase.CLOSED:  # the settler has set `allotted` to what was sold
        return Stock(left=0, held=0, sold=terms.allotted)
    return Stock(left=terms.allotted, held=0, sold=0)


def view_terms(terms: OfferTerms, stocks: Stocks) -> OfferView:
    return view_offer(terms, stock_of(terms, stocks))


def view_show(state: ShowState, stocks: Stocks, *, drafts: bool) -> ShowView:
    """The show with its current offers.

    Viewers get no drafts, and none that was closed as one: a prepared flash offer would be no
    surprise any more, and one that was thought better of is nobody's business.
    """
    return ShowView(
        id=state.id,
        title=state.title,
        status=state.status,
        language=state.language,
        currency=state.currency,
        playback_url=state.playback_url,
        pins=state.pins,
        run_order=state.run_order,
        offers=tuple(
            view_terms(terms, stocks)
            for terms in current(state.offers)
            if drafts or not is_untold(terms)
        ),
        announcement=state.announcement,
        paid_partnership=state.paid_partnership,
        slow_mode_seconds=state.slow_mode_seconds,
        version=state.version,
        frozen=state.frozen,
        starts_at=state.starts_at,
        pinned=state.pinned,
        providers=state.providers,
    )

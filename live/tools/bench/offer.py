"""The offer that every benchmark sells."""

from typing import Final

from live.domain.ids import OfferId, ShowId, Sku
from live.domain.offer import Mode, OfferTerms, Phase

OFFER: Final = "bench"


def endless_offer(show: ShowId) -> OfferTerms:
    """Open, in slot 0 of `show`: it never runs out, and no buyer reaches their limit."""
    return OfferTerms(
        id=OfferId(OFFER),
        show=show,
        slot=0,
        sku=Sku("bench"),
        title="Bench",
        image_url="",
        price_minor=100,
        currency="EUR",
        mode=Mode.HOLD,
        phase=Phase.OPEN,
        quantity=10**9,
        allotted=10**9,
        per_buyer_limit=1_000,
        hold_seconds=600,
        waitlist=False,
        guests=True,
        opens_at=None,
        closes_at=None,
        version=1,
    )

"""Shows for tests."""

from live.domain.ids import OfferId, ShowId, Sku
from live.domain.offer import Mode, OfferTerms, Phase
from live.domain.show import ShowState, ShowStatus


def make_terms(show: ShowId, slot: int) -> OfferTerms:
    return OfferTerms(
        id=OfferId(f"o{slot}"),
        show=show,
        slot=slot,
        sku=Sku(f"sku-{slot}"),
        title="Mug",
        image_url="",
        price_minor=1_500,
        currency="EUR",
        mode=Mode.HOLD,
        phase=Phase.OPEN,
        quantity=10,
        allotted=10,
        per_buyer_limit=2,
        hold_seconds=60,
        waitlist=True,
        guests=True,
        opens_at=1,
        closes_at=None,
        version=1,
    )


def make_state(show: ShowId, *, version: int, offers: int = 0) -> ShowState:
    return ShowState(
        id=show,
        title="Evening show",
        status=ShowStatus.LIVE,
        language="en",
        currency="EUR",
        playback_url="",
        pins=(),
        run_order=(),
        announcement=None,
        paid_partnership=False,
        slow_mode_seconds=0,
        frozen=False,
        stock_epoch=1,
        version=version,
        offers=tuple(make_terms(show, slot) for slot in range(offers)),
    )

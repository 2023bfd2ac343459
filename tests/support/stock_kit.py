"""Short ways to say things about stock in tests."""

from dataclasses import replace
from time import time
from uuid import uuid4

from live.domain.hold import Line
from live.domain.ids import BuyerId, HoldKey, OfferId, ShowId, Sku
from live.domain.offer import Mode, OfferTerms, Phase
from live.stock.engine import StockEngine


def buyer(number: int) -> BuyerId:
    return BuyerId(number.to_bytes(16, "big"))


def key() -> HoldKey:
    return HoldKey(uuid4().bytes)


def one(slot: int = 0, qty: int = 1) -> list[Line]:
    return [Line(slot, qty)]


def now_ms() -> int:
    return int(time() * 1000)


async def make_due(engine: StockEngine, show: ShowId, who: int, mine: HoldKey) -> None:
    """Bring a hold's deadline into the past, as a payment that fails after it does."""
    await engine.begin(show, buyer(who), mine, window_ms=60_000)
    assert (await engine.revert(show, buyer(who), mine, held_until=1)).done


def terms(show: ShowId, slot: int = 0, /, **changes: object) -> OfferTerms:
    """An open offer of ten units, at most two for each buyer, held for two minutes."""
    base = OfferTerms(
        id=OfferId(f"o{slot}"),
        show=show,
        slot=slot,
        sku=Sku("mug"),
        title="Mug",
        image_url="",
        price_minor=1500,
        currency="EUR",
        mode=Mode.HOLD,
        phase=Phase.OPEN,
        quantity=10,
        allotted=10,
        per_buyer_limit=2,
        hold_seconds=120,
        waitlist=True,
        guests=True,
        opens_at=None,
        closes_at=None,
        version=1,
    )
    return replace(base, **changes)  # type: ignore[arg-type]  # names are checked by replace

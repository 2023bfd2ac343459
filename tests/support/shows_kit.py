"""Products, shows and offers for tests of what hosts do."""

from uuid import uuid4

from live.domain.caller import Role
from live.domain.ids import OfferId, ShowId, Sku
from live.domain.offer import Mode, OfferTerms
from live.domain.show import ShowState
from live.ledger.db.pool import Pool
from live.ledger.hosting.catalogue import Catalogue, NewProduct
from live.ledger.hosting.offer_rows import NewOffer
from live.ledger.hosting.show_command import Actor
from live.ledger.hosting.shows import NewShow, ShowRows

HOST = Actor(sub="host-1", role=Role.HOST, address="127.0.0.1")


def product(sku: str = "lamp", *, on_hand: int = 10, currency: str = "EUR") -> NewProduct:
    return NewProduct(
        sku=Sku(sku),
        title=f"The {sku}",
        description="",
        image_url="",
        price_minor=2_500,
        currency=currency,
        on_hand=on_hand,
    )


def offer(
    sku: str = "lamp",
    *,
    quantity: int = 5,
    name: str = "",
    countdown: int = 0,
    duration: int | None = None,
) -> NewOffer:
    return NewOffer(
        id=OfferId(name or f"o{uuid4().hex[:12]}"),
        sku=Sku(sku),
        price_minor=1_900,
        quantity=quantity,
        per_buyer_limit=2,
        hold_seconds=60,
        mode=Mode.HOLD,
        countdown_seconds=countdown,
        duration_seconds=duration,
    )


def new_show(show: ShowId) -> NewShow:
    return NewShow(id=show, title="Friday drop", currency="EUR")


async def set_stage(pool: Pool, show: ShowId, *, on_hand: int = 10) -> None:
    """One product and one show that sells in its currency."""
    await Catalogue(pool).create(product(on_hand=on_hand))
    await ShowRows(pool).create(new_show(show), HOST)


def terms_of(state: ShowState, name: OfferId) -> OfferTerms:
    return next(terms for terms in state.offers if terms.id == name)

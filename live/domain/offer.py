"""An offer: a priced item on sale for a window, with finite stock."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from live.domain.ids import OfferId, ShowId, Sku

QUANTITY_MAX = 1_000_000  # fits the engine's fixed-width counters with room to restock
LIMIT_MAX = 1_000  # units per buyer
PURCHASES_MAX = 16  # holds and sales of one buyer and offer; bounds what a repeat is looked up in
HOLD_SECONDS_MIN, HOLD_SECONDS_MAX = 5, 86_400
COUNTDOWN_SECONDS_MAX = 300
DURATION_SECONDS_MAX = 86_400
OFFERS_PER_SHOW_MAX = 1_000
OFFERS_AHEAD_MAX = 200  # of a show, not closed: everybody who joins is sent them all
OFFERS_CLOSED_MAX = 20  # of a show, that who joins is sent; older ones are read by page


class Mode(StrEnum):
    """`hold`: a timed hold, then pay. `first_paid`: units go to whoever has paid."""

    HOLD = "hold"
    FIRST_PAID = "first_paid"


class Phase(StrEnum):
    """draft -> scheduled -> open <-> paused -> closing -> closed; "sold out" is derived."""

    DRAFT = "draft"
    SCHEDULED = "scheduled"
    OPEN = "open"
    PAUSED = "paused"
    CLOSING = "closing"
    CLOSED = "closed"


_NEXT: dict[Phase, frozenset[Phase]] = {
    Phase.DRAFT: frozenset({Phase.SCHEDULED, Phase.OPEN, Phase.CLOSED}),
    Phase.SCHEDULED: frozenset({Phase.OPEN, Phase.PAUSED, Phase.CLOSING}),
    Phase.OPEN: frozenset({Phase.PAUSED, Phase.CLOSING}),
    Phase.PAUSED: frozenset({Phase.OPEN, Phase.CLOSING}),
    Phase.CLOSING: frozenset({Phase.CLOSED}),
    Phase.CLOSED: frozenset(),
}


def may_become(now: Phase, then: Phase) -> bool:
    """Tell whether an offer in phase `now` may go to `then`."""
    return then in _NEXT[now]


@dataclass(frozen=True, slots=True, kw_only=True)
class OfferTerms:
    """An offer as Postgres knows it: everything that a host decides, nothing that buyers change.

    `slot` numbers the offers of one show from 0 and never changes; the stock engine and its outbox
    name an offer by it. `quantity` is what was planned (with restocks); `allotted` is what may be
    sold now and falls to `sold` once the offer is closed. `version` grows with every change.
    """

    id: OfferId
    show: ShowId
    slot: int
    sku: Sku
    title: str
    image_url: str
    price_minor: int
    currency: str
    mode: Mode
    phase: Phase
    quantity: int
    allotted: int
    per_buyer_limit: int
    hold_seconds: int
    waitlist: bool
    guests: bool
    opens_at: int | None  # Unix ms; None until scheduled or opened
    closes_at: int | None  # Unix ms; None: open until the host closes it
    version: int
    sold_out: bool = False  # said by the host, beside phase `paused` only
    providers: tuple[str, ...] = ()  # ways to pay for it; empty: those of its show


def is_untold(offer: "OfferTerms | OfferView") -> bool:
    """Whether viewers have never heard of an offer: it is a draft, or was closed as one."""
    if offer.phase is Phase.CLOSED:
        return offer.opens_at is None
    return offer.phase is Phase.DRAFT


def current(offers: Sequence[OfferTerms]) -> tuple[OfferTerms, ...]:
    """What a show's state and snapshot hold, in the order given: all that is not closed, and those
    OFFERS_CLOSED_MAX of the closed that were opened last. A draft that was closed is gone."""
    closed = [one for one in offers if one.phase is Phase.CLOSED and not is_untold(one)]
    closed.sort(key=lambda one: (one.opens_at or 0, one.slot))
    latest = {one.id for one in closed[-OFFERS_CLOSED_MAX:]}
    return tuple(one for one in offers if one.phase is not Phase.CLOSED or one.id in latest)


@dataclass(frozen=True, slots=True)
class Stock:
    """Units of one offer at one instant; `left + held + sold` is what is allotted.

    `held` counts live and paying holds and units reserved for the waitlist.
    """

    left: int
    held: int
    sold: int

    @property
    def allotted(self) -> int:
        return self.left + self.held + self.sold


@dataclass(frozen=True, slots=True, kw_only=True)
class OfferView:
    """The `offer` object of the public contract; `providers` empty: those of its show."""

    id: OfferId
    show: ShowId
    sku: Sku
    title: str
    image_url: str
    price_minor: int
    currency: str
    mode: Mode
    phase: Phase
    quantity: int
    left: int
    held: int
    sold: int
    per_buyer_limit: int
    hold_seconds: int
    waitlist: bool
    guests: bool
    opens_at: int | None
    closes_at: int | None
    version: int
    sold_out: bool
    providers: tuple[str, ...] = ()


def view_offer(terms: OfferTerms, stock: Stock) -> OfferView:
    """Join what the host decided with what buyers did."""
    return OfferView(
        id=terms.id,
        show=terms.show,
        sku=terms.sku,
        title=terms.title,
        image_url=terms.image_url,
        price_minor=terms.price_minor,
        currency=terms.currency,
        mode=terms.mode,
        phase=terms.phase,
        quantity=terms.quantity,
        left=stock.left,
        held=stock.held,
        sold=stock.sold,
        per_buyer_limit=terms.per_buyer_limit,
        hold_seconds=terms.hold_seconds,
        waitlist=terms.waitlist,
        guests=terms.guests,
        opens_at=terms.opens_at,
        closes_at=terms.closes_at,
        version=terms.version,
        sold_out=terms.sold_out or (terms.phase is Phase.OPEN and stock.left == 0),
        providers=terms.providers,
    )

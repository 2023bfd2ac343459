"""What publications carry. Objects are whole and absolute, so applying one twice is harmless.

Every event has `type` and `at` (Unix ms by the server's clock); orjson encodes these classes as
they stand, field for field.
"""

from dataclasses import dataclass, field
from typing import Literal

from live.domain.hold import HoldView
from live.domain.ids import AuthorId, OfferId, OrderId, ShowId, Sku
from live.domain.offer import OfferView
from live.domain.order import OrderState, OrderView
from live.domain.show import ProductCard, ShowView


@dataclass(frozen=True, slots=True, kw_only=True)
class ShowEvent:
    """`show.updated`: its settings changed, and nothing else. All name every offer but drafts."""

    type: Literal["show.started", "show.paused", "show.resumed", "show.ended", "show.updated"]
    at: int
    show: ShowView


@dataclass(frozen=True, slots=True, kw_only=True)
class PinEvent:
    """`skus`: all products that are pinned from now on; `products`: what to show of them."""

    type: Literal["product.pinned", "product.unpinned"]
    at: int
    skus: tuple[Sku, ...]
    products: tuple[ProductCard, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class OfferEvent:
    type: Literal[
        "offer.scheduled",
        "offer.opened",
        "offer.updated",
        "offer.paused",
        "offer.sold_out",
        "offer.restocked",
        "offer.closing",
        "offer.closed",
    ]
    at: int
    offer: OfferView


@dataclass(frozen=True, slots=True, kw_only=True)
class AnnouncementEvent:
    at: int
    text: str
    until: int | None
    type: Literal["announcement"] = "announcement"


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatMessage:
    """`author`: the same for one person in one show, and telling nothing else about them."""

    at: int
    id: str
    author: AuthorId
    name: str
    text: str
    reply_to: str | None = None
    type: Literal["chat.message"] = "chat.message"


@dataclass(frozen=True, slots=True, kw_only=True)
class StaffMessage(ChatMessage):
    """A line of the show's staff, by the token of its author and not by the name that they
    typed."""

    role: Literal["host", "moderator", "bot"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatAuthor:
    """Who an author of chat lines is, for the desk alone; told before the first of the lines."""

    at: int
    author: AuthorId
    sub: str
    type: Literal["chat.author"] = "chat.author"


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatDeleted:
    """A line and its pin are gone; in the log this stands where they stood, too."""

    at: int
    id: str
    type: Literal["chat.deleted"] = "chat.deleted"


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatPinned:
    """`text` is "" when the pin was taken down."""

    at: int
    id: str
    text: str
    type: Literal["chat.pinned"] = "chat.pinned"


@dataclass(frozen=True, slots=True)
class PulseOffer:
    id: OfferId
    left: int
    held: int
    sold: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Pulse:
    """The latest figures of a show; `reactions` counts each kind since the show began."""

    at: int
    viewers: int
    offers: tuple[PulseOffer, ...]
    reactions: dict[str, int] = field(default_factory=dict)
    type: Literal["pulse"] = "pulse"


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldEvent:
    type: Literal["hold.expired", "hold.granted"]
    at: int
    hold: HoldView


OrderEventType = Literal[
    "order.confirmed",
    "order.rejected",
    "order.cancelled",
    "order.paid",
    "order.refunded",
    "refund.failed",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderEvent:
    """`order.paid`: the shop says so, where no provider was asked. `refund.failed`: for the desk,
    and for a buyer who was told that it was done."""

    type: OrderEventType
    at: int
    order: OrderView


@dataclass(frozen=True, slots=True)
class StaffItem:
    offer: OfferId
    qty: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StaffOrder:
    """An order as moderators see it: no amounts, and nothing that could pay or refund it."""

    order: OrderId
    show: ShowId
    state: OrderState
    items: tuple[StaffItem, ...]
    created_at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StaffOrderEvent:
    type: OrderEventType
    at: int
    order: StaffOrder


@dataclass(frozen=True, slots=True, kw_only=True)
class ModerationEvent:
    """What somebody of the staff did in the chat; `by` is their `sub`.

    `message` for delete, pin and unpin, else `sub`; `seconds` None: until it is lifted.
    """

    at: int
    action: str
    by: str
    message: str = ""
    sub: str = ""
    seconds: int | None = None
    type: Literal["moderation"] = "moderation"


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentFailed:
    at: int
    hold: str
    reason: str
    type: Literal["payment.failed"] = "payment.failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class DeskFigures:
    """Live figures, at most one a second; `revenue_minor` is None where moderators read along."""

    at: int
    viewers: int
    offers: tuple[PulseOffer, ...]
    holds: int
    orders: int
    revenue_minor: int | None
    currency: str
    settlement_lag_ms: int
    type: Literal["desk.figures"] = "desk.figures"


Event = (
    ShowEvent
    | PinEvent
    | OfferEvent
    | AnnouncementEvent
    | ChatMessage
    | StaffMessage
    | ChatAuthor
    | ChatDeleted
    | ChatPinned
    | Pulse
    | HoldEvent
    | OrderEvent
    | StaffOrderEvent
    | ModerationEvent
    | PaymentFailed
    | DeskFigures
)

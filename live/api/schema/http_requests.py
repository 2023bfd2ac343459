"""Requests of the HTTP calls: closed lists of typed, bounded fields."""

from typing import Annotated, Literal

from msgspec import UNSET, Meta, UnsetType, field

from live.api.auth import SHOWS_PER_TOKEN_MAX, TOKEN_BYTES_MAX, TOKEN_LIFE_MAX_SECONDS
from live.api.schema.fields import (
    Amount,
    AnnouncementText,
    Body,
    Currency,
    Id,
    IdOrAll,
    Language,
    Limit,
    LineNumber,
    Link,
    ParcelWord,
    Passcode,
    Providers,
    Qty,
    Quantity,
    Reason,
    SecureLink,
    ShopKey,
    Sub,
    Text,
    TimeMs,
    Title,
)
from live.domain.hold import CART_LINES_MAX
from live.domain.offer import (
    COUNTDOWN_SECONDS_MAX,
    DURATION_SECONDS_MAX,
    HOLD_SECONDS_MAX,
    HOLD_SECONDS_MIN,
    Mode,
)
from live.domain.show import PINS_MAX, RUN_ORDER_MAX

SLOW_MODE_SECONDS_MAX = 3_600
MODERATION_SECONDS_MAX = 30 * 86_400


class ProductBody(Body, frozen=True, kw_only=True):
    sku: Id
    title: Title
    description: Text = ""
    image_url: Link = ""
    price_minor: Amount
    currency: Currency
    on_hand: Annotated[int, Meta(ge=0, le=10**9)]


class AdjustmentBody(Body, frozen=True, kw_only=True):
    sku: Id
    delta: Annotated[int, Meta(ge=-(10**9), le=10**9)]
    reason: Reason
    key: ShopKey


class ShowBody(Body, frozen=True, kw_only=True):
    id: Id | UnsetType = UNSET
    title: Title
    currency: Currency
    language: Language = "en"
    starts_at: TimeMs | None = None
    playback_url: Link = ""
    paid_partnership: bool = False
    providers: Providers = field(default_factory=list)


class ShowPatchBody(Body, frozen=True, kw_only=True):
    title: Title | UnsetType = UNSET
    playback_url: Link | UnsetType = UNSET
    frozen: bool | UnsetType = UNSET
    slow_mode_seconds: Annotated[int, Meta(ge=0, le=SLOW_MODE_SECONDS_MAX)] | UnsetType = UNSET
    rehearsal_passcode: Passcode | UnsetType = UNSET
    starts_at: TimeMs | UnsetType = UNSET
    providers: Providers | UnsetType = UNSET


class StartBody(Body, frozen=True, kw_only=True):
    """`rehearsal`: for the passcode audience only, and nothing of it stays."""

    rehearsal: bool = False


class RunOrderBody(Body, frozen=True, kw_only=True):
    skus: Annotated[list[Id], Meta(max_length=RUN_ORDER_MAX)]


class PinsBody(Body, frozen=True, kw_only=True):
    skus: Annotated[list[Id], Meta(max_length=PINS_MAX)]


class AnnouncementBody(Body, frozen=True, kw_only=True):
    text: AnnouncementText
    until: TimeMs | None = None


class OfferBody(Body, frozen=True, kw_only=True):
    id: Id | UnsetType = UNSET
    sku: Id
    price_minor: Amount
    quantity: Quantity
    per_buyer_limit: Limit
    hold_seconds: Annotated[int, Meta(ge=HOLD_SECONDS_MIN, le=HOLD_SECONDS_MAX)]
    mode: Mode
    countdown_seconds: Annotated[int, Meta(ge=0, le=COUNTDOWN_SECONDS_MAX)] = 0
    duration_seconds: Annotated[int, Meta(ge=1, le=DURATION_SECONDS_MAX)] | None = None
    waitlist: bool = True
    guests: bool = False
    providers: Providers = field(default_factory=list)


class OfferPatchBody(Body, frozen=True, kw_only=True):
    """What is named changes; only a draft has all of its terms still open."""

    price_minor: Amount | UnsetType = UNSET
    quantity: Quantity | UnsetType = UNSET
    per_buyer_limit: Limit | UnsetType = UNSET
    hold_seconds: Annotated[int, Meta(ge=HOLD_SECONDS_MIN, le=HOLD_SECONDS_MAX)] | UnsetType = UNSET
    mode: Mode | UnsetType = UNSET
    countdown_seconds: Annotated[int, Meta(ge=0, le=COUNTDOWN_SECONDS_MAX)] | UnsetType = UNSET
    duration_seconds: Annotated[int, Meta(ge=1, le=DURATION_SECONDS_MAX)] | UnsetType | None = UNSET
    waitlist: bool | UnsetType = UNSET
    guests: bool | UnsetType = UNSET
    providers: Providers | UnsetType = UNSET


class ExtendBody(Body, frozen=True, kw_only=True):
    seconds: Annotated[int, Meta(ge=1, le=DURATION_SECONDS_MAX)]


class RestockBody(Body, frozen=True, kw_only=True):
    quantity: Quantity


class ModerationBody(Body, frozen=True, kw_only=True):
    """`message` for delete, pin, unpin; `sub` for the rest; `seconds` for mute and ban.

    A message that is unknown, or too old to be known, is answered and told to pages all the same: a
    page that shows it takes it off. Of who stands as high as the caller and is not connected the
    call is answered and has no effect.
    """

    action: Literal["delete", "pin", "unpin", "mute", "unmute", "shadow_ban", "ban", "unban"]
    message: Id | UnsetType = UNSET
    sub: Sub | UnsetType = UNSET
    seconds: Annotated[int, Meta(ge=1, le=MODERATION_SECONDS_MAX)] | None = None


class ReturnedItem(Body, frozen=True, kw_only=True):
    offer: Id
    qty: Quantity


class RefundBody(Body, frozen=True, kw_only=True):
    """`restock`: units came back, those of `items`; without them all, where all the money goes.

    `amount_minor` 0 with `restock`: units alone.
    """

    amount_minor: Amount | None = None
    reason: Reason
    restock: bool = False
    items: (
        Annotated[list[ReturnedItem], Meta(min_length=1, max_length=CART_LINES_MAX)] | UnsetType
    ) = UNSET


class CallOffBody(Body, frozen=True, kw_only=True):
    reason: Reason


class PaidBody(Body, frozen=True, kw_only=True):
    """`reference`: what the shop knows the payment by."""

    reference: Reason


class ConfirmBody(Body, frozen=True, kw_only=True):
    """`reference`: the shop's own number for this payment, of one hold alone; the amount is what
    was paid, which must be the hold's."""

    reference: Reason
    amount_minor: Amount
    currency: Currency


class DeclineBody(Body, frozen=True, kw_only=True):
    """`reason`: the buyer is told."""

    reason: Reason


class LineItem(Body, frozen=True, kw_only=True):
    """Units of a line of the order, by its number."""

    line: LineNumber
    qty: Qty


# Never empty: who picked nothing would send all, where all is what no list means.
LineItems = Annotated[list[LineItem], Meta(min_length=1, max_length=CART_LINES_MAX)]


class ShipmentBody(Body, frozen=True, kw_only=True):
    """A parcel; without `items` all units that may leave, of every line."""

    items: LineItems | UnsetType = UNSET
    carrier: ParcelWord
    tracking_number: ParcelWord
    tracking_url: SecureLink = ""


class ShipmentPatchBody(Body, frozen=True, kw_only=True):
    status: Literal["delivered", "returned_to_sender"]


class CancelBody(Body, frozen=True, kw_only=True):
    """`restock`: whether the units go back to the product's shelf."""

    reason: Reason
    restock: bool


class ReturnBody(Body, frozen=True, kw_only=True):
    """Units that are to come back; without `items` all that were sent and may, of every line."""

    items: LineItems | UnsetType = UNSET
    reason: Reason


class ReturnPatchBody(Body, frozen=True, kw_only=True):
    """`refund_minor` and `restock` are decided with `received`. Without `refund_minor` the price of
    the units goes back, or what is left of it."""

    state: Literal["approved", "refused", "received"]
    refund_minor: Amount | None = None
    restock: bool = False


class SessionBody(Body, frozen=True, kw_only=True):
    token: Annotated[str, Meta(min_length=1, max_length=TOKEN_BYTES_MAX)]


class TokenBody(Body, frozen=True, kw_only=True):
    role: Literal["viewer", "moderator", "host"]
    sub: Sub
    shows: Annotated[
        list[IdOrAll],
        Meta(min_length=1, max_length=SHOWS_PER_TOKEN_MAX),
    ]
    ttl_seconds: Annotated[int, Meta(ge=1, le=TOKEN_LIFE_MAX_SECONDS)]

"""Bodies of requests: strict types, closed field lists, every value bounded.

Always: what passes here fits the columns of the ledger, so a bad request never becomes a database
error. `bool` is no int and unknown fields are refused (msgspec, strict). Patterns end in `_END`
because `$` lets a line break through in Python; this form means the same in JSON Schema.
"""

from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from live.api.auth import SHOWS_PER_TOKEN_MAX, TOKEN_BYTES_MAX, TOKEN_LIFE_MAX_SECONDS
from live.api.problems import BadInput
from live.domain.hold import CART_LINES_MAX
from live.domain.ids import SUB_BYTES_MAX, is_sub
from live.domain.links import LINK, LINK_CHARS_MAX
from live.domain.money import AMOUNT_MINOR_MAX
from live.domain.offer import (
    COUNTDOWN_SECONDS_MAX,
    DURATION_SECONDS_MAX,
    HOLD_SECONDS_MAX,
    HOLD_SECONDS_MIN,
    LIMIT_MAX,
    PURCHASES_MAX,
    QUANTITY_MAX,
    Mode,
)
from live.domain.show import ANNOUNCEMENT_CHARS_MAX, PINS_MAX, RUN_ORDER_MAX, TITLE_CHARS_MAX
from live.domain.ways import WAYS_MAX

_END = r"(?![\s\S])"
TIME_MS_MAX = 253_402_300_799_999  # the last millisecond of the year 9999
SLOW_MODE_SECONDS_MAX = 3_600
MODERATION_SECONDS_MAX = 30 * 86_400

Id = Annotated[
    str, Meta(pattern=rf"^[A-Za-z0-9_-]{{1,64}}{_END}", description="1-64 of A-Za-z0-9_-")
]
Title = Annotated[
    str,
    Meta(min_length=1, max_length=TITLE_CHARS_MAX, pattern=rf"^[^\u0000-\u001f\u007f]+{_END}"),
]
Text = Annotated[str, Meta(pattern=rf"^[^\u0000]*{_END}", max_length=5_000)]
Passcode = Annotated[str, Meta(max_length=64, pattern=rf"^[^\u0000]*{_END}")]
Reason = Annotated[
    str, Meta(min_length=1, max_length=200, pattern=rf"^[^\u0000-\u001f\u007f]+{_END}")
]
Link = Annotated[
    str,
    Meta(
        max_length=LINK_CHARS_MAX,
        pattern=rf"^({LINK})?{_END}",
        description="an http(s) address without a user, or a path of this server; empty: none",
    ),
]
Currency = Annotated[str, Meta(pattern=rf"^[A-Z]{{3}}{_END}", description="ISO 4217")]
Language = Annotated[
    str,
    Meta(
        pattern=rf"^[A-Za-z]{{2,8}}(-[A-Za-z0-9]{{1,8}})*{_END}",
        max_length=35,
        description="BCP 47",
    ),
]
Limit = Annotated[
    int,
    Meta(
        ge=1,
        le=LIMIT_MAX,
        description="units that one buyer may have, held or bought,"
        f" in at most {PURCHASES_MAX} holds and purchases",
    ),
]
Amount = Annotated[int, Meta(ge=0, le=AMOUNT_MINOR_MAX, description="minor units")]
Quantity = Annotated[int, Meta(ge=1, le=QUANTITY_MAX)]
Providers = Annotated[
    list[Id],
    Meta(max_length=WAYS_MAX, description="ways to pay; empty: no narrower than the show or shop"),
]
TimeMs = Annotated[int, Meta(ge=0, le=TIME_MS_MAX, description="Unix ms")]
Key = Annotated[str, Meta(min_length=1, max_length=255, pattern=rf"^[\u0021-\u007e]+{_END}")]
Sub = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=SUB_BYTES_MAX,
        pattern=rf"^[^\u0000-\u001f\u007f-\u009f]+{_END}",
        description="1-255 bytes of UTF-8",
    ),
]


def check_sub(field: str, sub: str) -> None:
    """Raises BadInput for a name that is too long; a pattern cannot count bytes."""
    if not is_sub(sub):
        raise BadInput(field, f"1-{SUB_BYTES_MAX} bytes of UTF-8, no control characters")


# mypy wants the options on every class, not on the base alone.
class Body(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of every request body."""


class Empty(Body, frozen=True, kw_only=True):
    """A call without fields; an empty body is as good as `{}`."""


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
    key: Key


class ShowBody(Body, frozen=True, kw_only=True):
    id: Id | UnsetType = UNSET
    title: Title
    currency: Currency
    language: Language = "en"
    starts_at: TimeMs | None = None
    playback_url: Link = ""
    paid_partnership: bool = False
    providers: Providers = []


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
    text: Annotated[str, Meta(max_length=ANNOUNCEMENT_CHARS_MAX, pattern=rf"^[^\u0000]*{_END}")]
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
    providers: Providers = []


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
    qty: Annotated[int, Meta(ge=1, le=QUANTITY_MAX)]


class RefundBody(Body, frozen=True, kw_only=True):
    """`restock`: units came back, those of `items`; without them all, where all the money goes.

    `amount_minor` 0 with `restock`: units alone.
    """

    amount_minor: Annotated[int, Meta(ge=0, le=AMOUNT_MINOR_MAX)] | None = None
    reason: Reason
    restock: bool = False
    items: Annotated[list[ReturnedItem], Meta(max_length=CART_LINES_MAX)] = []


class CallOffBody(Body, frozen=True, kw_only=True):
    reason: Reason


class PaidBody(Body, frozen=True, kw_only=True):
    """`reference`: what the shop knows the payment by."""

    reference: Reason


class SessionBody(Body, frozen=True, kw_only=True):
    token: Annotated[str, Meta(min_length=1, max_length=TOKEN_BYTES_MAX)]


class TokenBody(Body, frozen=True, kw_only=True):
    role: Literal["viewer", "moderator", "host"]
    sub: Sub
    shows: Annotated[
        list[Annotated[str, Meta(pattern=rf"^([A-Za-z0-9_-]{{1,64}}|\*){_END}")]],
        Meta(min_length=1, max_length=SHOWS_PER_TOKEN_MAX),
    ]
    ttl_seconds: Annotated[int, Meta(ge=1, le=TOKEN_LIFE_MAX_SECONDS)]

"""What requests are made of: named kinds of fields, every one bounded, and their base class.

Always: what passes here fits the columns of the ledger, so a bad request never becomes a database
error. `bool` is no int and unknown fields are refused (msgspec, strict), so a `price` or a `role`
that somebody adds is an error and not ignored. Patterns end in `_END` because `$` lets a line break
through in Python; this form means the same in JSON Schema.
"""

import re
from dataclasses import dataclass
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from live.base.errors import BadField
from live.buying.quoting.seal import QUOTE_CHARS_MAX
from live.domain.hold import QTY_MAX
from live.domain.ids import SUB_BYTES_MAX, is_sub
from live.domain.links import HTTPS, LINK, LINK_CHARS_MAX
from live.domain.money import AMOUNT_MINOR_MAX
from live.domain.offer import LIMIT_MAX, PURCHASES_MAX, QUANTITY_MAX
from live.domain.show import ANNOUNCEMENT_CHARS_MAX, TITLE_CHARS_MAX
from live.domain.ways import WAYS_MAX

_END = r"(?![\s\S])"
_NO_CONTROLS = rf"^[^\u0000-\u001f\u007f]+{_END}"
_NO_NUL = rf"^[^\u0000]*{_END}"
TIME_MS_MAX = 253_402_300_799_999  # the last millisecond of the year 9999

Id = Annotated[
    str, Meta(pattern=rf"^[A-Za-z0-9_-]{{1,64}}{_END}", description="1-64 of A-Za-z0-9_-")
]
IdOrAll = Annotated[str, Meta(pattern=rf"^([A-Za-z0-9_-]{{1,64}}|\*){_END}")]
# Text and no UUID object: making one costs more than the rest of a hold request.
Uuid = Annotated[
    str,
    Meta(pattern=rf"^[0-9a-fA-F]{{8}}-([0-9a-fA-F]{{4}}-){{3}}[0-9a-fA-F]{{12}}{_END}"),
]
ShopKey = Annotated[str, Meta(min_length=1, max_length=255, pattern=rf"^[\u0021-\u007e]+{_END}")]
Sub = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=SUB_BYTES_MAX,
        pattern=rf"^[^\u0000-\u001f\u007f-\u009f]+{_END}",
        description="1-255 bytes of UTF-8",
    ),
]

Title = Annotated[str, Meta(min_length=1, max_length=TITLE_CHARS_MAX, pattern=_NO_CONTROLS)]
REASON_CHARS_MAX = 200
Reason = Annotated[str, Meta(min_length=1, max_length=REASON_CHARS_MAX, pattern=_NO_CONTROLS)]
Text = Annotated[str, Meta(pattern=_NO_NUL, max_length=5_000)]
AnnouncementText = Annotated[str, Meta(pattern=_NO_NUL, max_length=ANNOUNCEMENT_CHARS_MAX)]
Passcode = Annotated[str, Meta(max_length=64, pattern=_NO_NUL)]
Link = Annotated[
    str,
    Meta(
        max_length=LINK_CHARS_MAX,
        pattern=rf"^({LINK})?{_END}",
        description="an http(s) address without a user, or a path of this server; empty: none",
    ),
]
SecureLink = Annotated[
    str,
    Meta(
        max_length=LINK_CHARS_MAX,
        pattern=rf"^({HTTPS})?{_END}",
        description="an https address without a user; empty: none",
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
# Postgres refuses NUL, and other control characters have no place in a token or an address.
PaymentToken = Annotated[str, Meta(min_length=1, max_length=512, pattern=_NO_CONTROLS)]
ContactLine = Annotated[str, Meta(max_length=254, pattern=rf"^[^\u0000-\u001f\u007f]*{_END}")]
ContactLines = Annotated[
    str, Meta(max_length=1_000, pattern=rf"^[^\u0000-\u0008\u000b-\u001f\u007f]*{_END}")
]
Country = Annotated[
    str, Meta(pattern=rf"^([A-Za-z]{{2}})?{_END}", description="ISO 3166-1 alpha-2")
]
AddressPart = Annotated[str, Meta(max_length=64, pattern=rf"^[^\u0000-\u001f\u007f]*{_END}")]
# What a quote came as; what it says is read where it is opened.
QuoteToken = Annotated[str, Meta(max_length=QUOTE_CHARS_MAX, pattern=rf"^[A-Za-z0-9._-]+{_END}")]
ShippingId = Annotated[str, Meta(pattern=rf"^[A-Za-z0-9_.:-]{{1,64}}{_END}")]

ParcelWord = Annotated[str, Meta(min_length=1, max_length=100, pattern=_NO_CONTROLS)]

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
Quantity = Annotated[int, Meta(ge=1, le=QUANTITY_MAX)]  # units of an offer
Qty = Annotated[int, Meta(ge=1, le=QTY_MAX)]  # units of one purchase
# Which lines there are is the order's to say: one answer, whatever the number is.
LineNumber = Annotated[int, Meta(ge=1, le=2**31 - 1)]
TimeMs = Annotated[int, Meta(ge=0, le=TIME_MS_MAX, description="Unix ms")]

Providers = Annotated[
    list[Id],
    Meta(max_length=WAYS_MAX, description="ways to pay; empty: no narrower than the show or shop"),
]
Reaction = Literal["heart", "fire", "clap", "wow", "laugh", "like"]
"""A closed set: each kind is a field of a hash that every pulse carries."""


def check_sub(field: str, sub: str) -> None:
    """Raises BadField for a name that is too long; a pattern cannot count bytes."""
    if not is_sub(sub):
        raise BadField(field, f"1-{SUB_BYTES_MAX} bytes of UTF-8, no control characters")


def is_reference(text: str) -> bool:
    """Whether a shop's own number can be this, which comes as a `Reason`."""
    return len(text) <= REASON_CHARS_MAX and re.match(_NO_CONTROLS, text) is not None


# mypy wants the options on every class, not on the base alone.
class Body(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of every request."""


class Empty(Body, frozen=True, kw_only=True):
    """A request without fields; nothing at all is as good as `{}`."""


@dataclass(frozen=True, slots=True)
class Nothing:
    """An answer without fields, `{}`: done, and nothing to tell."""

"""What RPC requests look like: typed, closed structs, and errors that name the field.

Always: a decoded request has every field in range, ids in their shape and no field too many, so a
`price` or a `role` smuggled into a request is an error and not ignored.
Not here: whether the offer or hold exists (rpc.py, sales/).
"""

import re
from typing import Annotated, Literal, TypeVar

import msgspec
from msgspec import UNSET, Meta, UnsetType

from live.base.errors import BadField
from live.domain.hold import CART_LINES_MAX, QTY_MAX

# `$(?!\n)` and not `\Z`: the patterns are published in JSON Schema, which knows no `\Z`, and
# Python's `$` alone lets a line break pass.
Id = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{1,64}$(?!\n)")]
# Text and no UUID object: making one costs more than the rest of a hold request.
Key = Annotated[
    str,
    Meta(
        pattern=r"^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$(?!\n)"
    ),
]
Qty = Annotated[int, Meta(ge=1, le=QTY_MAX)]
# No control characters: Postgres refuses NUL, and the rest has no place in a token.
Token = Annotated[str, Meta(min_length=1, max_length=512, pattern=r"^[^\x00-\x1f\x7f]*$(?!\n)")]
Line = Annotated[str, Meta(max_length=254, pattern=r"^[^\x00-\x1f\x7f]*$(?!\n)")]
Lines = Annotated[str, Meta(max_length=1_000, pattern=r"^[^\x00-\x08\x0b-\x1f\x7f]*$(?!\n)")]
Reaction = Literal["heart", "fire", "clap", "wow", "laugh", "like"]
"""A closed set: each kind is a field of a hash that every pulse carries."""


class Nothing(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """A request without fields."""


class Item(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    offer: Id
    qty: Qty


class HoldRequest(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Either `offer` and `qty`, or `items`."""

    key: Key
    offer: Id | UnsetType = UNSET
    qty: Qty | UnsetType = UNSET
    items: (
        Annotated[tuple[Item, ...], Meta(min_length=1, max_length=CART_LINES_MAX)] | UnsetType
    ) = UNSET

    def wanted(self) -> tuple[Item, ...]:
        """The lines asked for. Raises BadField."""
        if self.items is not UNSET:
            for name, value in (("offer", self.offer), ("qty", self.qty)):
                if value is not UNSET:
                    raise BadField(f"{name}: not together with items")
            if len({item.offer for item in self.items}) < len(self.items):
                raise BadField("items: names an offer twice")
            return self.items
        if self.offer is UNSET:
            raise BadField("offer: is missing")
        if self.qty is UNSET:
            raise BadField("qty: is missing")
        return (Item(self.offer, self.qty),)


class HoldName(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    hold: Key


class OfferName(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    offer: Id


class ShowName(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    show: Id


class Contact(msgspec.Struct, forbid_unknown_fields=True, frozen=True, omit_defaults=True):
    """Where to send it. Goes to Postgres only; never into a log or an event."""

    name: Line = ""
    email: Line = ""
    phone: Line = ""
    address: Lines = ""


class CheckoutRequest(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Either `hold`, or (in `first_paid` mode) `offer` and `qty`."""

    key: Key
    provider: Id
    hold: Key | UnsetType = UNSET
    offer: Id | UnsetType = UNSET
    qty: Qty | UnsetType = UNSET
    token: Token | UnsetType = UNSET
    contact: Contact | UnsetType = UNSET

    def direct(self) -> Item | None:
        """The line of a `first_paid` purchase; None for the checkout of a hold. Raises BadField."""
        if self.hold is not UNSET:
            for name, value in (("offer", self.offer), ("qty", self.qty)):
                if value is not UNSET:
                    raise BadField(f"{name}: not together with hold")
            return None
        if self.offer is UNSET:
            raise BadField("hold: is missing" if self.qty is UNSET else "offer: is missing")
        if self.qty is UNSET:
            raise BadField("qty: is missing")
        return Item(self.offer, self.qty)


class OrderName(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Either the order's id or the hold's key."""

    order: Key | UnsetType = UNSET
    hold: Key | UnsetType = UNSET

    def check(self) -> None:
        """Raises BadField unless exactly one of both is there."""
        if self.order is UNSET and self.hold is UNSET:
            raise BadField("order: is missing")
        if self.order is not UNSET and self.hold is not UNSET:
            raise BadField("hold: not together with order")


class JoinWaitlist(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    offer: Id
    qty: Qty
    key: Key


class React(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    show: Id
    kind: Reaction


Request = TypeVar("Request", bound=msgspec.Struct)


def read(decoder: msgspec.json.Decoder[Request], data: bytes) -> Request:
    """Decode one request. Raises BadField with the field's name first."""
    try:
        return decoder.decode(b"{}" if data in _NOTHING else data)
    except msgspec.ValidationError as error:
        raise BadField(explain(str(error))) from None
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise BadField("data: is no JSON object") from error


def explain(text: str) -> str:
    """Turn "Expected `int`, got `str` - at `$.qty`" into "qty: Expected `int`, got `str`"."""
    found = _MISSING.fullmatch(text)
    if found:
        return f"{_path(found[2], found[1])}: is missing"
    found = _UNKNOWN.fullmatch(text)
    if found:
        return f"{_path(found[2], found[1])}: is no field of this request"
    found = _PLACED.fullmatch(text)
    if found:
        # Nobody wants to read our regular expressions.
        fault = "has a wrong form" if "matching regex" in found[1] else found[1]
        return f"{_path(found[2], '')}: {fault}"
    return f"data: {text}"


def _path(place: str | None, field: str) -> str:
    path = (place or "$").removeprefix("$").lstrip(".")
    return ".".join(part for part in (path, field) if part)[:_PATH_CHARS_MAX] or "data"


_NOTHING = (b"", b"null")  # what clients send where a call takes no fields
_MISSING = re.compile(r"Object missing required field `(.*?)`(?: - at `(.*)`)?", re.DOTALL)
_UNKNOWN = re.compile(r"Object contains unknown field `(.*?)`(?: - at `(.*)`)?", re.DOTALL)
_PLACED = re.compile(r"(.*) - at `(.*)`", re.DOTALL)
_PATH_CHARS_MAX = 100  # an unknown field's name is the client's own text

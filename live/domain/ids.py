"""Identifiers: what they look like, and the only places where text becomes one.

Always: a value of a NewType below has passed its parser, so it may be part of a Redis key, a
channel name or a log line without quoting.
"""

import hashlib
import re
from secrets import token_bytes, token_urlsafe
from typing import Final, NewType
from uuid import UUID, uuid4

ShowId = NewType("ShowId", str)
OfferId = NewType("OfferId", str)
Sku = NewType("Sku", str)
OrderId = NewType("OrderId", str)
"""A UUID in its 36-character form; made by the server at checkout."""
Sub = NewType("Sub", str)
"""The shop's own name of a person: 1-255 bytes of UTF-8. Goes to Postgres and the desk only."""
BuyerId = NewType("BuyerId", bytes)
"""16-byte keyed digest of a `Sub`: what Redis knows people by. One exception: the desk's own short
logs name who wrote in the chat, who was moderated and who sits there: its staff must read that."""
AuthorId = NewType("AuthorId", str)
"""Who wrote a chat line: the same for one person in one show, and telling nothing else."""
HoldKey = NewType("HoldKey", bytes)
"""16 bytes of the UUID that the client made; the hold's id within (show, buyer)."""

GUEST: Final = b"gst\0"
"""How a guest's `BuyerId` begins, and nobody else's but by a chance of one in 2^32. Behind it
stands a digest of the addresses that they came from when they were made: stock counts by it."""
GUEST_RANGE_END: Final = 8
_GUEST_SUB = re.compile(r"guest-([0-9a-f]{8})\.[A-Za-z0-9_-]{16}\Z")

_ID = re.compile(r"[A-Za-z0-9_-]{1,64}\Z")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
SUB_BYTES_MAX = 255


def is_id(value: str) -> bool:
    """Tell whether a show, offer or SKU may carry this name."""
    return _ID.match(value) is not None


def is_sub(value: str) -> bool:
    """Tell whether a `sub` has 1-255 bytes of UTF-8, whatever blanks, marks and signs these are.

    Control characters are the exception: Postgres refuses NUL, and a line break rewrites logs.
    """
    if _CONTROL.search(value):
        return False
    try:
        return 1 <= len(value.encode()) <= SUB_BYTES_MAX
    except UnicodeEncodeError:  # a lone surrogate
        return False


def parse_key(text: str) -> HoldKey:
    """Read a client's key. Raises ValueError unless it is a UUID in its 36-character form."""
    if len(text) != 36:
        raise ValueError("a key is a UUID such as 6f1c0f6e-3b0a-4d9c-9a52-0d5d6a1f7f10")
    return HoldKey(UUID(text).bytes)


def key_text(key: bytes) -> str:
    """Write a key (or any other 16-byte id) the way clients read it."""
    text = key.hex()  # not by way of UUID: every answer to a hold has one of these
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def new_order_id() -> OrderId:
    """Make the id of an order; random, so it tells nothing about how many there are."""
    return OrderId(str(uuid4()))


def buyer_of(sub: str, *, secret: str) -> BuyerId:
    """Digest a person's name for Redis. Keyed, so a leaked Redis file names nobody."""
    digest = _keyed(sub.encode(), b"live.buyer", 16, secret)
    guest = _GUEST_SUB.match(sub)
    if guest is None:
        return BuyerId(digest)
    return BuyerId((GUEST + bytes.fromhex(guest.group(1)) + digest)[:16])


def new_guest_sub(network: str | None, *, secret: str) -> str:
    """Name a guest who comes from this range of addresses; None: nobody else shares their range.

    The range is in the name as a keyed digest, so that every process knows it without asking, and
    nobody reads an address there.
    """
    size = GUEST_RANGE_END - len(GUEST)
    if network is None:
        place = token_bytes(size)
    else:
        place = _keyed(network.encode(), b"live.range", size, secret)
    return f"guest-{place.hex()}.{token_urlsafe(12)}"


def _keyed(text: bytes, person: bytes, size: int, secret: str) -> bytes:
    key = hashlib.sha256(secret.encode()).digest()
    return hashlib.blake2b(text, key=key, digest_size=size, person=person).digest()


def author_of(buyer: BuyerId, show: ShowId) -> AuthorId:
    """Name the author of chat lines; another one in each show, so nobody is followed about."""
    digest = hashlib.blake2b(show.encode(), key=buyer, digest_size=8, person=b"live.author")
    return AuthorId(digest.hexdigest())

"""Cursors and page sizes of lists."""

import base64
import binascii
from collections.abc import Mapping

from live.base.errors import BadField

LIMIT_DEFAULT = 50
LIMIT_MAX = 200
CURSOR_CHARS_MAX = 256


def read_limit(query: Mapping[str, str]) -> int:
    text = query.get("limit", str(LIMIT_DEFAULT))
    if (
        not (text.isascii() and text.isdecimal())
        or len(text) > 4
        or not 1 <= int(text) <= LIMIT_MAX
    ):
        raise BadField("limit", f"a whole number from 1 to {LIMIT_MAX}")
    return int(text)


def read_cursor(query: Mapping[str, str]) -> str:
    """The last name of the page before; "" on the first page."""
    text = query.get("cursor", "")
    if not text:
        return ""
    try:
        if len(text) > CURSOR_CHARS_MAX:
            raise ValueError
        name = base64.b64decode(text, altchars=b"-_", validate=True).decode()
    except (ValueError, binascii.Error):
        raise BadField("cursor", "not a cursor of this list") from None
    if not name.isprintable():
        raise BadField("cursor", "not a cursor of this list")
    return name


def read_newest_first(query: Mapping[str, str]) -> bool:
    """`order=oldest`, for a machine that copies a list, or `newest`, for a person."""
    order = query.get("order", "oldest")
    if order not in ("oldest", "newest"):
        raise BadField("order", "oldest or newest")
    return order == "newest"


def write_cursor(name: str) -> str:
    """Opaque on purpose: a client that builds its own would break with the next change."""
    return base64.urlsafe_b64encode(name.encode()).decode()

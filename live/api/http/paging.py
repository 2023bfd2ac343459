"""Cursors and page sizes of lists."""

import base64
import binascii
from collections.abc import Mapping
from enum import StrEnum
from typing import TypeVar

from live.api.schema.fields import TIME_MS_MAX
from live.base.errors import BadField

Word = TypeVar("Word", bound=StrEnum)

LIMIT_DEFAULT = 50
LIMIT_MAX = 200
CURSOR_CHARS_MAX = 256
WORD_CHARS_TOLD = 64  # of a word that we do not know


def read_limit(query: Mapping[str, str]) -> int:
    text = query.get("limit", str(LIMIT_DEFAULT))
    if (
        not (text.isascii() and text.isdecimal())
        or len(text) > 4
        or not 1 <= int(text) <= LIMIT_MAX
    ):
        raise BadField("limit", f"a whole number from 1 to {LIMIT_MAX}")
    return int(text)


def read_cursor(query: Mapping[str, str], *, name: str = "cursor") -> str:
    """The last name of the page before; "" on the first page. `name`: of the parameter."""
    text = query.get(name, "")
    if not text:
        return ""
    try:
        if len(text) > CURSOR_CHARS_MAX:
            raise ValueError
        found = base64.b64decode(text, altchars=b"-_", validate=True).decode()
    except (ValueError, binascii.Error):
        raise BadField(name, "not a cursor of this list") from None
    if not found.isprintable():
        raise BadField(name, "not a cursor of this list")
    return found


def read_newest_first(query: Mapping[str, str]) -> bool:
    """`order=oldest`, for a machine that copies a list, or `newest`, for a person."""
    order = query.get("order", "oldest")
    if order not in ("oldest", "newest"):
        raise BadField("order", "oldest or newest")
    return order == "newest"


def read_word(query: Mapping[str, str], field: str, words: type[Word]) -> Word | None:
    """One of a closed list; None where it is not asked. Raises BadField that names what was."""
    text = query.get(field)
    if text is None:
        return None
    try:
        return words(text)
    except ValueError:
        raise BadField(
            field, f"{text[:WORD_CHARS_TOLD]!r} is not one of {', '.join(words)}"
        ) from None


def read_flag(query: Mapping[str, str], field: str) -> bool | None:
    """`true` or `false`; None where it is not asked. Raises BadField."""
    text = query.get(field)
    if text not in (None, "true", "false"):
        raise BadField(field, "true or false")
    return None if text is None else text == "true"


def read_time(field: str, text: str) -> int:
    """Unix ms. Raises BadField."""
    digits = text.isascii() and text.isdecimal() and len(text) <= len(str(TIME_MS_MAX))
    if not digits or int(text) > TIME_MS_MAX:
        raise BadField(field, f"Unix ms, a whole number from 0 to {TIME_MS_MAX}")
    return int(text)


def write_cursor(name: str) -> str:
    """Opaque on purpose: a client that builds its own would break with the next change."""
    return base64.urlsafe_b64encode(name.encode()).decode()

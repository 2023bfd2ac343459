"""The one reader of clients' JSON: a value of a type, or BadField that names the field.

Always: what is wrong is told in the same words to every way of calling, and nothing but BadField is
raised, whatever the bytes are. Not here: the types (api/schema), and what only the ledger can know.
"""

import re
from typing import TypeVar

import msgspec

from live.base.errors import BadField

T = TypeVar("T")


def read(decoder: msgspec.json.Decoder[T], data: bytes, *, whole_floats: bool = False) -> T:
    """Decode one request; no bytes at all are an empty one. Raises BadField.

    `whole_floats`: 1.0 counts as 1, as JSON Schema has it.
    """
    try:
        return decoder.decode(data or b"{}")
    except msgspec.ValidationError as error:
        if whole_floats and "got `float`" in str(error):
            return _read_whole(decoder, data)
        raise explain(str(error)) from None
    except _NO_JSON as error:
        raise BadField("", "is no JSON") from error


def _read_whole(decoder: msgspec.json.Decoder[T], data: bytes) -> T:
    try:
        return msgspec.convert(_whole(msgspec.json.decode(data)), type=decoder.type)
    except msgspec.ValidationError as error:
        raise explain(str(error)) from None
    except _NO_JSON as error:  # behind the number
        raise BadField("", "is no JSON") from error


def _whole(value: object) -> object:
    """The value with each whole float as an integer. Raises RecursionError for an endless nest."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {name: _whole(one) for name, one in value.items()}
    return [_whole(one) for one in value] if isinstance(value, list) else value


def explain(text: str) -> BadField:
    """Turn msgspec's "Expected `int`, got `str` - at `$.qty`" into the fault of `qty`."""
    for pattern, words in ((_MISSING, "is missing"), (_UNKNOWN, "is no field of this request")):
        found = pattern.fullmatch(text)
        if found:
            return BadField(_path(found[2], found[1]), words)
    found = _PLACED.fullmatch(text)
    fault, place = (text, None) if found is None else (found[1], found[2])
    # Nobody wants to read our regular expressions.
    return BadField(_path(place), "has a wrong form" if "matching regex" in fault else fault)


def _path(place: str | None, field: str = "") -> str:
    path = (place or "$").removeprefix("$").lstrip(".")
    return ".".join(part for part in (path, field) if part)[:_PATH_CHARS_MAX]


_NO_JSON = (msgspec.DecodeError, RecursionError, UnicodeDecodeError)
_MISSING = re.compile(r"Object missing required field `(.*?)`(?: - at `(.*)`)?", re.DOTALL)
_UNKNOWN = re.compile(r"Object contains unknown field `(.*?)`(?: - at `(.*)`)?", re.DOTALL)
_PLACED = re.compile(r"(.*) - at `(?:key in )?(.*)`", re.DOTALL)
_PATH_CHARS_MAX = 100  # an unknown field's name is the client's own text

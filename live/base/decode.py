"""The one reader of clients' JSON: a value of a type, or BadField that names the field.

Always: what is wrong is told in the same words to every way of calling, and nothing but BadField is
raised, whatever the bytes are. Not here: the types (api/schema), and what only the ledger can know.
"""

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import TypeVar

import msgspec
from msgspec import inspect

from live.base.errors import BadField

T = TypeVar("T")

_FORMS_KEPT = 128  # kinds of requests of which the form is known; there are fewer
_WORD_CHARS_TOLD = 64  # of a word that we do not know


def read(decoder: msgspec.json.Decoder[T], data: bytes, *, whole_floats: bool = False) -> T:
    """Decode one request; no bytes at all are an empty one. Raises BadField.

    `whole_floats`: 1.0 counts as 1, as JSON Schema has it.
    """
    try:
        return decoder.decode(data or b"{}")
    except msgspec.ValidationError as error:
        if whole_floats and "got `float`" in str(error):
            return _read_whole(decoder, data)
        raise explain(str(error), decoder.type) from None
    except _NO_JSON as error:
        raise BadField("", "is no JSON") from error


def _read_whole(decoder: msgspec.json.Decoder[T], data: bytes) -> T:
    try:
        return msgspec.convert(_whole(msgspec.json.decode(data)), type=decoder.type)
    except msgspec.ValidationError as error:
        raise explain(str(error), decoder.type) from None
    except _NO_JSON as error:  # behind the number
        raise BadField("", "is no JSON") from error


def _whole(value: object) -> object:
    """The value with each whole float as an integer. Raises RecursionError for an endless nest."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {name: _whole(one) for name, one in value.items()}
    return [_whole(one) for one in value] if isinstance(value, list) else value


def explain(text: str, kind: object) -> BadField:
    """Turn msgspec's "Expected `int`, got `str` - at `$.qty`" into the fault of that field."""
    for pattern, words in ((_MISSING, "is missing"), (_UNKNOWN, "is no field of this request")):
        found = pattern.fullmatch(text)
        if found:
            return BadField(_path(found[2], found[1]), words)
    found = _PLACED.fullmatch(text)
    fault, place = (text, None) if found is None else (found[1], found[2])
    if "matching regex" in fault:  # which nobody wants to read
        said = next(filter(None, map(_description, _kinds_at(kind, place))), "")
        fault = f"has a wrong form: {said}" if said else "has a wrong form"
    elif word := _NO_WORD.fullmatch(fault):
        known = [str(one) for there in _apart(_kinds_at(kind, place)) for one in _words(there)]
        fault = f"{word[1][:_WORD_CHARS_TOLD]} is not one of {', '.join(known)}"
    return BadField(_path(place), fault)


def _kinds_at(kind: object, place: str | None) -> list[inspect.Type]:
    """What may stand at a place such as `$.items[0].qty`: one kind, or several of a union."""
    found = [_form(kind)]
    for name in _STEP.findall(place or ""):
        found = [inner for one in _apart(found) for inner in _inside(one, name)]
    return found


@lru_cache(maxsize=_FORMS_KEPT)
def _form(kind: object) -> inspect.Type:
    return inspect.type_info(kind)


def _apart(kinds: Iterable[inspect.Type]) -> Iterator[inspect.Type]:
    """The kinds without what is only said of them, and those of a union one by one."""
    for one in kinds:
        if isinstance(one, inspect.Metadata):
            yield from _apart([one.type])
        elif isinstance(one, inspect.UnionType):
            yield from _apart(one.types)
        else:
            yield one


def _inside(kind: inspect.Type, name: str) -> Iterator[inspect.Type]:
    """What stands in a field of this name, or, where it is "", in an element."""
    if isinstance(kind, inspect.StructType | inspect.DataclassType):
        yield from (field.type for field in kind.fields if field.encode_name == name)
    elif isinstance(kind, inspect.ListType | inspect.VarTupleType):
        yield kind.item_type
    elif isinstance(kind, inspect.DictType):
        yield kind.value_type


def _description(kind: inspect.Type) -> str:
    if isinstance(kind, inspect.UnionType):
        return next(filter(None, map(_description, kind.types)), "")
    schema = kind.extra_json_schema if isinstance(kind, inspect.Metadata) else None
    return str((schema or {}).get("description", ""))


def _words(kind: inspect.Type) -> Iterable[object]:
    """The words of a closed list; none of any other kind."""
    if isinstance(kind, inspect.LiteralType):
        return kind.values
    return (one.value for one in kind.cls) if isinstance(kind, inspect.EnumType) else ()


def _path(place: str | None, field: str = "") -> str:
    path = (place or "$").removeprefix("$").lstrip(".")
    return ".".join(part for part in (path, field) if part)[:_PATH_CHARS_MAX]


_NO_JSON = (msgspec.DecodeError, RecursionError, UnicodeDecodeError)
_MISSING = re.compile(r"Object missing required field `(.*?)`(?: - at `(.*)`)?", re.DOTALL)
_UNKNOWN = re.compile(r"Object contains unknown field `(.*?)`(?: - at `(.*)`)?", re.DOTALL)
_PLACED = re.compile(r"(.*) - at `(?:key in )?(.*)`", re.DOTALL)
_NO_WORD = re.compile(r"Invalid enum value (.*)", re.DOTALL)
_STEP = re.compile(r"\.(\w+)|\[[^\]]*\]")  # the name of a field; of an element: ""
_PATH_CHARS_MAX = 100  # an unknown field's name is the client's own text

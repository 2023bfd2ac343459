"""Texts that JSON can write and nobody can store: half a character.

A browser that cuts "😀" with `slice` and writes it with `JSON.stringify` sends a lone surrogate
(`"\\ud83d"`). It is valid JSON and no valid text: it has no UTF-8. The client is told which field
it was, as for any other bad field, and stays.
"""

import json
import re
from typing import Final

FAULT: Final = "has half of a character in it"
PATH_CHARS_MAX: Final = 100  # names of fields are the client's own text

_ESCAPED = re.compile(rb"\\u[dD][89a-fA-F]")
_SURROGATE = re.compile("[\ud800-\udfff]")


def read_with_halves(data: bytes) -> object:
    """Read what a strict reader has refused; None where halves were not the reason."""
    if not _ESCAPED.search(data):
        return None
    try:
        found: object = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return found


def path_of_half(value: object) -> str | None:
    """Tell where the first text with half a character stands, as `contact.name`."""
    waiting: list[tuple[str, object]] = [("", value)]
    while waiting:
        path, found = waiting.pop()
        if isinstance(found, str) and _SURROGATE.search(found):
            return path[:PATH_CHARS_MAX]
        if isinstance(found, list):
            waiting += [(path, item) for item in reversed(found)]
        elif isinstance(found, dict):
            if any(_SURROGATE.search(key) for key in found):
                return path[:PATH_CHARS_MAX]
            waiting += [(_join(path, key), item) for key, item in reversed(found.items())]
    return None


def _join(path: str, key: str) -> str:
    # Cut here as well: a deep value must not make long paths of long names.
    return (f"{path}.{key}" if path else key)[: PATH_CHARS_MAX + 1]

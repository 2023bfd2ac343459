"""What identifiers of the service must not be. Method: reads the sources, imports nothing."""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

LIVE = Path(__file__).parents[2] / "live"


def _sources() -> Iterator[tuple[str, ast.Module]]:
    for path in sorted(LIVE.rglob("*.py")):
        yield str(path.relative_to(LIVE)), ast.parse(path.read_text())


_UNITS = re.compile(r"_(s|sec|secs|msec|msecs|millis)(_max|_min)?$|^_*(max|min)_", re.IGNORECASE)
"""Seconds are `_seconds`, milliseconds `_ms`, and a bound says so at its end: `_max`, `_min`."""


def _named(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Names that a module gives; those of others, such as a library's `max_size`, are theirs."""
    for node in ast.walk(tree):
        match node:
            case ast.arg(arg=name, lineno=line):
                yield line, name
            case ast.Name(id=name, ctx=ast.Store(), lineno=line):
                yield line, name
            case ast.Attribute(attr=name, ctx=ast.Store(), lineno=line):
                yield line, name
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                yield node.lineno, node.name


_FORBIDDEN = re.compile(
    r"kick|turnstile|(?!^carrier$)^.*carrier|seat|room|(?<![a-z])toll(?![a-z])", re.IGNORECASE
)
"""What the glossary (docs/glossary.md) and the protocol have another word for: disconnect, limiter,
projector, subscription, budget, and show or channel for a room. A `carrier` is who brings a parcel,
a field of the contract, and nothing else has that word in its name."""


def _given(tree: ast.Module) -> Iterator[tuple[int, str]]:
    yield from _named(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            yield node.lineno, node.name


def _doubled(sources: Mapping[str, ast.Module]) -> dict[str, list[str]]:
    """Public class names that two modules define, with where."""
    places: defaultdict[str, list[str]] = defaultdict(list)
    for name, tree in sources.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].append(f"{name}:{node.lineno}")
    return {name: where for name, where in places.items() if len(where) > 1}


def test_no_public_class_name_is_there_twice() -> None:
    """Who searches for a class finds one; a name that fits two things says too little of each."""
    assert _doubled(dict(_sources())) == {}


def test_doubled_class_name_is_seen() -> None:
    """The check above can fail; names of one module's own may repeat."""
    one, other = "class A: ...\nclass _B: ...\n", "def f():\n    class A: ...\nclass _B: ...\n"

    found = _doubled({"one": ast.parse(one), "other": ast.parse(other)})

    assert found == {"A": ["one:1", "other:2"]}


def test_units_are_spelled_in_one_way() -> None:
    """Nobody has to remember which of two spellings a name has."""
    found = [
        f"{name}:{line} {given}"
        for name, tree in _sources()
        for line, given in _named(tree)
        if _UNITS.search(given)
    ]

    assert found == []


def test_other_spelling_of_a_unit_is_seen() -> None:
    """The check above can fail."""
    source = "def wait_s(max_size, *, pause_seconds_max):\n    self.ttl_sec = LEASE_S_MAX = 1\n"

    found = {name for _, name in _named(ast.parse(source)) if _UNITS.search(name)}

    assert found == {"wait_s", "max_size", "ttl_sec", "LEASE_S_MAX"}


def test_no_name_has_a_forbidden_word() -> None:
    """One thing has one word, and it is the field's."""
    found = [
        f"{name}:{line} {given}"
        for name, tree in _sources()
        for line, given in _given(tree)
        if _FORBIDDEN.search(given)
    ]

    assert found == []


def test_forbidden_word_is_seen() -> None:
    """The check above can fail; `tolling` is not `toll`."""
    source = "class ShowRoom:\n    def kick(self, room, tolling):\n        self.seats = 1\n"

    found = {name for _, name in _given(ast.parse(source)) if _FORBIDDEN.search(name)}

    assert found == {"ShowRoom", "kick", "room", "seats"}

"""What identifiers of the service must not be. Method: reads the sources, imports nothing."""

import ast
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

LIVE = Path(__file__).parents[2] / "live"


def _sources() -> Iterator[tuple[str, ast.Module]]:
    for path in sorted(LIVE.rglob("*.py")):
        yield str(path.relative_to(LIVE)), ast.parse(path.read_text())


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

"""Sets of payment and order states are typed in `live/domain/` and nowhere else.

Method: reads the sources, with the SQL in their strings. Migrations are what they were.
"""

import ast
import re
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path

import pytest

from live.domain import order, payment_states
from live.domain.order import OrderState
from live.domain.payment import PaymentState

ROOT = Path(__file__).parents[2]
HOME = {"payment.py", "payment_states.py", "payment_flow.py", "order.py"}
ENUMS: tuple[type[StrEnum], ...] = (PaymentState, OrderState)
_LIST = re.compile(r"[(\[]\s*'\w+'(?:\s*,\s*'\w+')+\s*[)\]]|'\{\w+(?:,\w+)+\}'")
_EITHER = re.compile(r"state\s*=\s*'(\w+)'\s+OR\s+(?:\w+\.)?state\s*=\s*'(\w+)'")


def _are_states(words: list[str]) -> bool:
    """Whether two or more words are all states of the same kind of thing."""
    found = set(words)
    return len(found) > 1 and any(found <= {state.value for state in enum} for enum in ENUMS)


def _names_state(node: ast.AST) -> bool:
    if isinstance(node, ast.MatchValue):
        return _names_state(node.value)
    if isinstance(node, ast.Attribute) and node.attr == "value":
        return _names_state(node.value)
    return isinstance(node, ast.Attribute) and any(
        isinstance(node.value, ast.Name)
        and node.value.id in (enum.__name__, "S")
        and node.attr in enum.__members__
        for enum in ENUMS
    )


def _is_set(node: ast.AST) -> bool:
    match node:
        case ast.Set(elts=parts):  # with one member it is there to make another set of a named one
            return any(_names_state(part) for part in parts) or _are_states(_words(parts))
        case ast.List(elts=parts) | ast.Tuple(elts=parts):
            return sum(map(_names_state, parts)) > 1 or _are_states(_words(parts))
        case ast.MatchOr(patterns=patterns):
            return sum(map(_names_state, patterns)) > 1
        case ast.BoolOp(values=values):
            compared = [
                part for one in values if isinstance(one, ast.Compare) for part in one.comparators
            ]
            return sum(map(_names_state, compared)) > 1
        case ast.Constant(value=str(text)):
            lists = [re.findall(r"\w+", found) for found in _LIST.findall(text)]
            return any(map(_are_states, [*lists, *map(list, _EITHER.findall(text))]))
    return False


def _words(parts: list[ast.expr]) -> list[str]:
    """What the parts say, where all of them are strings."""
    words = [str(part.value) for part in parts if isinstance(part, ast.Constant)]
    return words if len(words) == len(parts) else []


def _sets(source: str, name: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if _is_set(node):
            assert isinstance(node, ast.expr | ast.pattern)
            yield f"{name}:{node.lineno}"


def test_sets_of_states_are_typed_in_the_domain_alone() -> None:
    """A set that is typed twice is one that is changed once."""
    found = [
        place
        for path in sorted((ROOT / "live").rglob("*.py"))
        if not (path.parent.name == "domain" and path.name in HOME)
        for place in _sets(path.read_text(), str(path.relative_to(ROOT)))
    ]

    assert found == []


@pytest.mark.parametrize(
    "source",
    [
        "GONE = {PaymentState.DECLINED, PaymentState.VOIDED}",
        "GONE = FINAL | {S.CAPTURED}",
        "GONE = [OrderState.PAID.value, OrderState.REFUNDED.value]",
        "GONE = ('declined', 'voided')",
        "gone = state is S.DECLINED or state is S.VOIDED",
        "match state:\n    case S.DECLINED | S.VOIDED: ...",
        "SQL = \"SELECT 1 WHERE state IN ('declined',\\n 'voided')\"",
        "SQL = f\"SELECT {x} WHERE state = ANY(ARRAY['declined', 'voided'])\"",
        "SQL = f\"SELECT {x} WHERE kinds && '{{captured,refunded}}'\"",
        "SQL = \"SELECT 1 WHERE p.state = 'declined' OR p.state = 'voided'\"",
    ],
)
def test_every_way_to_type_a_set_is_seen(source: str) -> None:
    """The search itself finds what it is for."""
    assert list(_sets(source, "here"))


@pytest.mark.parametrize(
    "source",
    [
        "KINDS = {S.CAPTURED: 'captured', S.REFUNDED: 'refunded'}",
        "ANSWER = (PaymentState.AUTHORISED, '')",
        "SQL = \"SELECT 1 WHERE m.kind IN ('sold', 'cancelled')\"",
        "SQL = \"SELECT 1 WHERE state = 'captured' OR kind = 'void'\"",
    ],
)
def test_what_is_no_set_is_left_alone(source: str) -> None:
    """Mappings, single states and other words are not what is looked for."""
    assert not list(_sets(source, "here"))


def test_every_named_set_is_used() -> None:
    """A name that nobody uses is a rule that nobody keeps."""
    sources = "\n".join(path.read_text() for path in (ROOT / "live").rglob("*.py"))
    names = [
        name
        for module in (payment_states, order)
        for name, value in vars(module).items()
        if isinstance(value, frozenset)
    ]

    assert len(names) > 10
    assert [name for name in names if len(re.findall(rf"\b{name}\b", sources)) < 2] == []

"""SQL is written in one way: each statement is a named constant. Method: reads the sources."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

LEDGER = Path(__file__).parents[2] / "live" / "ledger"

_STATEMENT = re.compile(r"\s*(SELECT|INSERT INTO|UPDATE|DELETE FROM|WITH)\s.*\s", re.DOTALL)


def _text(node: ast.AST) -> str:
    if isinstance(node, ast.JoinedStr):
        parts = (part.value if isinstance(part, ast.Constant) else "?" for part in node.values)
        return "".join(str(part) for part in parts)
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def _inside(tree: ast.Module) -> Iterator[int]:
    """Lines of statements that stand in functions; a docstring is no statement."""
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            for node in ast.walk(function):
                if isinstance(node, ast.Constant | ast.JoinedStr) and _STATEMENT.match(_text(node)):
                    yield node.lineno


def test_functions_of_the_ledger_hold_no_statement() -> None:
    """Who looks for a table finds constants, and by their names who runs them."""
    found = [
        f"{path.relative_to(LEDGER)}:{line}"
        for path in sorted(LEDGER.rglob("*.py"))
        for line in sorted(set(_inside(ast.parse(path.read_text()))))
    ]

    assert found == []


def test_statement_in_a_function_is_seen() -> None:
    """The check above can fail."""
    inner = "_A = 'SELECT 1 FROM t'\nasync def f(n):\n    await g(f'SELECT {n} FROM t')\n"
    many = 'def f():\n    return """\n    WITH a AS (SELECT 1)\n    SELECT * FROM a"""\n'
    words = "def f():\n    return 'UPDATE what is behind'.lower(), 'SELECT'\n"

    assert list(_inside(ast.parse(inner))) == [3]
    assert list(_inside(ast.parse(many))) == [2]
    assert list(_inside(ast.parse(words))) == [2]  # words that read like one are not worth a rule

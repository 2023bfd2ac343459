"""The import arrows of ARCHITECTURE.md hold. Method: reads the sources, imports nothing.

A package is a direct child of `live`, or of `live.ledger`: `live.stock`, `live.ledger.settle`.
"""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

FOUNDATION = {"aio", "base", "domain", "redis"}
"""What most packages may import; `domain` imports nothing but itself."""

FANOUT = {"protocol", "fanout", "showlog", "connection", "transport"}
"""From a publication to a socket, the lowest first: each imports those before it."""

LEDGER = {
    *("ledger", "ledger.db", "ledger.money", "ledger.hosting", "ledger.orders", "ledger.events"),
    *("ledger.settle", "ledger.audit"),
    "ledger.housekeeping",
}
"""The lowest first; `ledger` itself has what all of them want from other packages."""

LEDGER_ROWS = {"ledger", "ledger.db", "ledger.money", "ledger.hosting", "ledger.orders"}
"""What the ledger's moving parts stand on."""

LOWER = {*FANOUT, *LEDGER, "stock", "payments", "outgoing"}
"""Fan-out, stock, ledger, payments and what goes out never import one another."""

ALLOWED: dict[str, set[str]] = {
    "__init__": set(),
    "__main__": {"run"},
    "domain": set(),
    "base": {"domain"},
    "aio": {"base", "domain"},
    "redis": {"aio", "base", "domain"},
    "protocol": {"base", "domain"},
    "client": {"base", "domain", "protocol"},
    "fanout": {*FOUNDATION, "protocol"},
    "showlog": {*FOUNDATION, "protocol", "fanout"},
    "connection": {*FOUNDATION, "protocol", "fanout", "showlog"},
    "transport": {*FOUNDATION, "protocol", "fanout", "showlog", "connection"},
    "stock": FOUNDATION,
    "ledger.db": FOUNDATION,
    "ledger": FOUNDATION,
    "ledger.money": {*FOUNDATION, "ledger", "ledger.db"},
    "ledger.hosting": {*FOUNDATION, "ledger", "ledger.db", "ledger.money"},
    "ledger.orders": {*FOUNDATION, "ledger", "ledger.db", "ledger.money", "ledger.hosting"},
    "ledger.events": {*FOUNDATION, *LEDGER_ROWS},
    "ledger.settle": {*FOUNDATION, *LEDGER_ROWS},
    "ledger.audit": {*FOUNDATION, *LEDGER},
    "ledger.housekeeping": {*FOUNDATION, *LEDGER},
    "payments": FOUNDATION,
    "outgoing": FOUNDATION,
    "buying": {*FOUNDATION, *LOWER},
    "hosting": {*FOUNDATION, *LOWER},
    "chat": {*FOUNDATION, *LOWER, "hosting"},
    "keeping": {*FOUNDATION, *LOWER, "hosting", "chat"},
    "commerce": {*FOUNDATION, *LOWER},
    "api": {*FOUNDATION, *LOWER, "buying", "hosting", "chat", "commerce"},
    "pages": {*FOUNDATION, *LOWER, "api", "hosting"},
    "wiring": {
        *FOUNDATION,
        *LOWER,
        *("api", "buying", "chat", "commerce", "hosting", "keeping", "pages"),
    },
}
TOP = {"run", "tools"}
"""Commands, and what they alone load: may import every package; only these import one another."""


def _modules() -> Iterator[tuple[str, ast.Module]]:
    for path in sorted((ROOT / "live").rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 2 else parts)
        yield name, ast.parse(path.read_text(), filename=str(path))


SOURCES = dict(_modules())


def _package(module: str) -> str:
    parts = module.split(".")[1:3] or ["__init__"]
    inner = ".".join(parts)
    return inner if inner in ALLOWED else parts[0]


def _targets(module: str, node: ast.AST) -> Iterator[str]:
    """Yield the modules of `live` that one statement imports, by their full names."""
    if isinstance(node, ast.Import):
        names = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
        base = node.module or ""
        if node.level:  # a relative import is turned into the name it stands for
            base = ".".join([*module.split(".")[: -node.level], base]).rstrip(".")
        names = [
            full if (full := f"{base}.{alias.name}") in SOURCES else base for alias in node.names
        ]
    else:
        return
    yield from (name for name in names if name == "live" or name.startswith("live."))


def _imports(module: str) -> set[str]:
    return {name for node in ast.walk(SOURCES[module]) for name in _targets(module, node)}


def _wrong(module: str, target: str) -> bool:
    own, other = _package(module), _package(target)
    if own == other or own in TOP:
        return False
    return own not in ALLOWED or other not in ALLOWED[own]


MODULES_MAX = 16  # of a folder of the server: as many names as an eye takes in


def test_no_folder_is_a_drawer() -> None:
    """A folder that gets fuller is divided by what its modules are about."""
    folders = {path.parent for path in (ROOT / "live").rglob("*.py") if "tools" not in path.parts}
    full = {
        str(folder.relative_to(ROOT)): len(modules)
        for folder in folders
        if len(modules := [one for one in folder.glob("*.py") if one.stem != "__init__"])
        > MODULES_MAX
    }
    assert full == {}


def test_packages_import_along_the_arrows_only() -> None:
    """Every import of one package by another is one that the architecture states."""
    wrong = [
        f"{module} imports {target}"
        for module in SOURCES
        for target in sorted(_imports(module))
        if _wrong(module, target)
    ]

    assert wrong == []


def test_modules_import_without_a_cycle() -> None:
    """No module reaches itself by its imports."""
    graph = {module: _imports(module) & SOURCES.keys() for module in SOURCES}

    assert _cycle(graph) is None


LATE = {"live.run.cli", "live.wiring.shared"}
"""Import what is asked for when it is asked for: a command, a provider's large library."""


def test_functions_import_nothing() -> None:
    """Every import stands at the top of its module, where a reader and these tests see it."""
    inner = [
        f"{module}:{statement.lineno}"
        for module, tree in SOURCES.items()
        if module not in LATE
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for statement in ast.walk(function)
        if isinstance(statement, ast.Import | ast.ImportFrom)
    ]

    assert inner == []


LATER = {"live.run.supervisor", "live.client", "stripe"}
"""Not of the tools, and no business of a worker's either."""

TOOLS_OF = {"gateway": set[str](), "settler": set[str](), "sandbox": {"live.tools.sandbox"}}


@pytest.mark.parametrize("role", TOOLS_OF)
def test_processes_of_a_service_import_no_tools(role: str) -> None:
    """A worker that died is back sooner, and has less in its memory; a tool loads itself alone."""
    lines = f"import sys, live.run.cli, live.run.commands.{role}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", lines], capture_output=True, text=True, check=True)
    imported = set(done.stdout.split())
    tools = {".".join(name.split(".")[:3]) for name in imported if name.startswith("live.tools.")}

    assert f"live.run.commands.{role}" in imported
    assert tools == TOOLS_OF[role]
    assert not LATER & imported


def test_settler_follows_no_show() -> None:
    """Who only publishes has no hub and subscribes to nothing."""
    lines = "import sys, live.run.commands.settler; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", lines], capture_output=True, text=True, check=True)
    imported = set(done.stdout.split())

    assert "live.showlog.log" in imported
    assert not {"live.showlog.follower", "live.fanout.hub", "live.redis.subscribers"} & imported


CLIENT_SHELLS = {"live.client", "live.client.aio", "live.client.green"}


def test_rules_need_no_event_loop() -> None:
    """The domain and the client's core import no I/O, no clock and no loop."""
    forbidden = {"asyncio", "socket", "time", "os", "threading", "redis", "asyncpg", "httpx"}
    forbidden |= {"gevent", "ssl"}
    found = [
        f"{module} imports {name}"
        for module, tree in SOURCES.items()
        if _package(module) in ("domain", "client") and module not in CLIENT_SHELLS
        for node in ast.walk(tree)
        for name in _outside(node)
        if name in forbidden
    ]

    assert found == []


def test_wrong_arrows_and_cycles_are_seen() -> None:
    """The checks above can fail: each is shown what it is there to find."""
    assert _wrong("live.stock.engine", "live.ledger.db.pool")
    assert _wrong("live.domain.offer", "live.base.errors")
    assert _wrong("live.api.http", "live.wiring.gateway")
    assert _wrong("live.unheard_of.x", "live.domain.offer")
    assert not _wrong("live.buying.hold", "live.stock.engine")
    assert _cycle({"a": {"b"}, "b": {"c"}, "c": {"a"}}) == ["a", "b", "c", "a"]
    assert _cycle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) is None


def _outside(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name.partition(".")[0] for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        return [(node.module or "").partition(".")[0]]
    return []


def _cycle(graph: dict[str, set[str]]) -> list[str] | None:
    """Return the first cycle found, as a path that ends where it began."""
    finished: set[str] = set()

    def walk(module: str, path: list[str]) -> list[str] | None:
        if module in path:
            return [*path[path.index(module) :], module]
        if module in finished:
            return None
        for target in sorted(graph.get(module, ())):
            found = walk(target, [*path, module])
            if found:
                return found
        finished.add(module)
        return None

    for module in sorted(graph):
        found = walk(module, [])
        if found:
            return found
    return None

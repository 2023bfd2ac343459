"""The documents name what exists: links, commands, variables, metrics, codes, events, files.

Method: reads the Markdown and the sources, and asks the command line and the settings themselves.
"""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import click
import pytest
import yaml

import live.api.auth
import live.api.problems
from live.api.schema.rpc_answers import METHODS
from live.base.errors import CallError
from live.base.settings import known_variables
from live.domain.outcomes import Outcome
from live.protocol import codes
from live.run.cli import main

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
REFERENCE = DOCS / "reference"
PAGES = sorted(
    {
        *ROOT.glob("*.md"),
        *DOCS.rglob("*.md"),
        *(ROOT / "examples").rglob("*.md"),
        *(ROOT / "loadtests").glob("*.md"),
        *(ROOT / "tests").rglob("*.md"),
    }
)
# Of the past: what a changelog names may be gone.
PRESENT = [page for page in PAGES if page.name != "CHANGELOG.md"]
GLOSSARY_MAX = 25


def each(pages: list[Path]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("page", pages, ids=lambda page: str(page.relative_to(ROOT)))


def code_of(text: str) -> Iterator[str]:
    """Lines of code blocks, and what stands between backticks."""
    blocks = re.findall(r"^ *```\w*\n(.*?)^ *```", text, re.S | re.M)
    for block in blocks:
        yield from block.replace("\\\n", " ").splitlines()
    yield from re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.S))


def anchors(text: str) -> set[str]:
    """Of the headings, as hosts make them."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"```.*?```", "", text, flags=re.S), re.M)
    return {re.sub(r"[^\w\- ]", "", one.lower()).replace(" ", "-") for one in headings}


# Links


@each(PAGES)
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.S)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith(("https://", "http://")):
            continue
        path, _, anchor = target.partition("#")
        found = (page.parent / path).resolve() if path else page
        assert found.exists(), target
        if anchor:
            assert anchor in anchors(found.read_text()), target


def test_every_page_is_reached_from_the_index() -> None:
    """Nothing is written for a drawer."""
    index = (DOCS / "README.md").read_text() + (ROOT / "README.md").read_text()
    for page in DOCS.rglob("*.md"):
        assert page.name == "README.md" or str(page.relative_to(DOCS)) in index, page


# Commands


def commands() -> dict[str, click.Command]:
    assert isinstance(main, click.Group)
    return dict(main.commands)


def options(command: click.Command) -> set[str]:
    return {name for one in command.params for name in one.opts if name.startswith("--")}


@each(PRESENT)
def test_commands_exist(page: Path) -> None:
    """Each `live …` that is shown, with its options; each script; each option of pytest of ours."""
    known = commands()
    conftest = (ROOT / "tests" / "conftest.py").read_text()
    for line in code_of(page.read_text()):
        shown = line.partition("  #")[0]
        for name, rest in re.findall(
            r"(?:^\s*|[(;&]\s*|=\S*\s+)live ([a-z]+(?:-[a-z]+)*)([^|;&)]*)", shown
        ):
            assert name in known, line
            assert set(re.findall(r"--[a-z-]+", rest)) <= options(known[name]) | {"--help"}, line
        for script, rest in re.findall(r"(\./scripts/\w+)([^|;&]*)", shown):
            assert (ROOT / script).is_file(), line
            if script == "./scripts/test":
                for option in set(re.findall(r"--[a-z-]+", rest)) - {"--cov"}:
                    assert f'"{option}"' in conftest, line


def test_every_command_and_option_is_in_the_reference() -> None:
    text = (REFERENCE / "commands.md").read_text()
    for name, command in commands().items():
        if command.hidden:
            continue
        rows = re.findall(rf"^\| `live {name}[ `].*(?:\n\| \|.*)*", text, re.M)
        assert rows, name
        assert all(f"`{option}" in "".join(rows) for option in options(command)), name
    for script in (ROOT / "scripts").iterdir():
        if not script.suffix:
            assert f"`./scripts/{script.name}`" in text


# Variables and metrics


@each(PRESENT)
def test_variables_exist(page: Path) -> None:
    named = set(re.findall(r"\bLIVE_[A-Z]+(?:_[A-Z]+)*\b", page.read_text()))
    assert named - known_variables() == set()


def test_every_variable_is_in_the_reference() -> None:
    text = (REFERENCE / "environment.md").read_text()
    assert [name for name in sorted(known_variables()) if f"`{name}`" not in text] == []


@cache
def metrics() -> dict[str, set[str]]:
    """Each metric under the name that Prometheus shows, with its series."""
    found: dict[str, set[str]] = {}
    for path in (ROOT / "live").rglob("*.py"):
        for kind, name in re.findall(
            r"\b(Counter|Gauge|Histogram)\(\s*\"(live_\w+)\"", path.read_text()
        ):
            if kind == "Counter":
                shown = name.removesuffix("_total") + "_total"
                found[shown] = {shown}
            else:
                found[name] = {name, *(name + end for end in ("_bucket", "_sum", "_count"))}
    return found


@each(PRESENT)
def test_metrics_exist(page: Path) -> None:
    parts = "http|ledger|payments|realtime|redis|shows|stock"
    named = set(re.findall(rf"\blive_(?:{parts})_\w+", page.read_text()))
    assert named - set().union(*metrics().values()) == set()


def test_every_metric_is_in_the_reference() -> None:
    text = (REFERENCE / "metrics.md").read_text()
    assert len(metrics()) > 30
    assert [name for name in sorted(metrics()) if f"| `{name}` |" not in text] == []


@each(PRESENT)
def test_alarms_exist(page: Path) -> None:
    rules = yaml.safe_load((ROOT / "deploy" / "prometheus" / "alerts.yml").read_text())["groups"]
    known = {rule["alert"] for group in rules for rule in group["rules"]}
    assert set(re.findall(r"`(Live[A-Z]\w+)`", page.read_text())) <= known


# Codes, calls, events


def kinds_of_error(kind: type[CallError] = CallError) -> Iterator[type[CallError]]:
    yield kind
    for below in kind.__subclasses__():
        yield from kinds_of_error(below)


def rows(text: str, heading: str) -> set[int]:
    """The numbers in the first column below a heading."""
    section = text.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    return {int(code) for code in re.findall(r"^\| (\d+) \|", section, re.M)}


def test_errors_and_closes_are_those_of_the_code() -> None:
    text = (REFERENCE / "errors.md").read_text()
    told = vars(codes).values()
    raised = {kind.code for kind in kinds_of_error() if kind.__module__.startswith("live.")}
    replied = {one.code for one in told if isinstance(one, codes.Failure)}
    answered = set(live.api.problems._CODES.values())

    assert rows(text, "Errors") == raised | replied | answered
    assert rows(text, "Closes") == {one.code for one in told if isinstance(one, codes.Close)}
    for one in told:
        if isinstance(one, codes.Close):
            assert one.reason in text
        elif isinstance(one, codes.Unsubscribed):
            assert str(one.code) in text


def test_calls_and_outcomes_are_those_of_the_code() -> None:
    text = (REFERENCE / "api.md").read_text()
    assert [name for name in METHODS if f"`{name}`" not in text] == []
    assert [one.value for one in Outcome if f"`{one.value}`" not in text] == []


_TELLERS = ("Seldom", "tell_fault", "as_call_error")


def events_of_the_code() -> set[str]:
    """What is logged by its own name; `tools` talks to a terminal."""
    found: set[str] = set()
    for path in (ROOT / "live").rglob("*.py"):
        if (ROOT / "live" / "tools") in path.parents:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call) or not node.args:
                continue
            first, called = node.args[0], node.func
            logs = (
                isinstance(called, ast.Attribute)
                and isinstance(called.value, ast.Name)
                and called.value.id == "log"
            ) or (isinstance(called, ast.Name) and called.id in _TELLERS)
            if logs and isinstance(first, ast.Constant):
                found.add(str(first.value))
    return found


def test_every_event_of_the_log_is_in_the_reference() -> None:
    """And the reference tells of none that nobody writes."""
    text = (REFERENCE / "log-events.md").read_text()
    columns = re.findall(r"^\| (`.+?) \|", text, re.M)
    told = {name for column in columns for name in re.findall(r"`([^`]+)`", column)}
    sources = "".join(path.read_text() for path in (ROOT / "live").rglob("*.py"))

    assert sorted(events_of_the_code() - told) == []
    assert [name for name in sorted(told) if f'"{name}"' not in sources] == []


# Files, words, decisions

ROOTS = ("live", "tests", "docs", "deploy", "scripts", "loadtests", "examples")
PATHS = re.compile(rf"(?<![\w/.~-])(?:(?:{'|'.join(ROOTS)})/[\w./*-]*|[\w-]+(?:/[\w*-]+)+\.\w+)")
BELOW = ("", "live", "live/pages", "tests")  # where a path that is cut short may begin


@each(PRESENT)
def test_files_exist(page: Path) -> None:
    """Each path between backticks, whole or from a folder of the service on."""
    for line in code_of(page.read_text()):
        if "://" in line or "…/" in line:
            continue
        for name in PATHS.findall(line):
            path = name.rstrip("./")
            places = [*(ROOT / place for place in BELOW), page.parent]
            assert any(next(place.glob(path), None) for place in places), f"{name} in {line}"


def test_map_names_every_folder() -> None:
    """ARCHITECTURE's tree is that of the disk."""
    text = (ROOT / "ARCHITECTURE.md").read_text()
    tree = text.partition("```\nlive/\n")[2].partition("```")[0]
    told = set(re.findall(r"^  (\w+)/ ", tree, re.M))
    there = {path.parent.name for path in (ROOT / "live").glob("*/__init__.py")}
    assert told == there


def test_glossary_is_short_and_each_word_stands_once() -> None:
    text = (DOCS / "glossary.md").read_text()
    lines = re.findall(r"^\| (\*\*.+?) \|", text, re.M)
    words = [word for line in lines for word in re.findall(r"\*\*(.+?)\*\*", line)]

    assert 0 < len(lines) <= GLOSSARY_MAX
    assert len(words) == len(set(words))


def test_decisions_are_numbered_and_dated() -> None:
    """In their order, so that a number may be quoted."""
    text = (DOCS / "decisions.md").read_text()
    found = re.findall(r"^## (\d+)\. .+\n\n(\d{4}-\d\d-\d\d)\n\n\S", text, re.M)
    dates = [date for _, date in found]

    assert [int(number) for number, _ in found] == list(range(1, len(found) + 1))
    assert len(found) == len(re.findall(r"^## ", text, re.M))
    assert dates == sorted(dates)

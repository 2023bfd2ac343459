"""Every Lua file says what it takes and answers, and Python agrees with what it says."""

import re
from pathlib import Path

import pytest

from live.redis.scripts import read_scripts
from live.stock.letters import Kept, StockAnswer
from live.stock.records import STATES

LIVE_FOLDER = Path(__file__).parents[2] / "live"
FILES = sorted(LIVE_FOLDER.rglob("*.lua"))
SCRIPTS = [path for path in FILES if not path.stem.startswith("_")]
STOCK = [path for path in SCRIPTS if path.parts[-3] == "stock"]
FIELDS = ("Keeps", "Retry", "Cost", "Clock", "Reply")
ANSWERS = {*StockAnswer, *STATES, Kept.WAITING, Kept.LEFT_LINE}
LIFE_ITSELF = ("install", "stop", "swap", "trim", "forget", "retire")
"""These begin or end a life of a show, or serve all of them."""

every_file = pytest.mark.parametrize(
    "path", FILES, ids=lambda path: f"{path.parts[-3]}.{path.stem}"
)
every_script = pytest.mark.parametrize(
    "path", SCRIPTS, ids=lambda path: f"{path.parts[-3]}.{path.stem}"
)
every_stock_script = pytest.mark.parametrize("path", STOCK, ids=lambda path: path.stem)


def header_and_body(path: Path) -> tuple[str, str]:
    lines = path.read_text().splitlines()
    end = next(i for i, line in enumerate(lines) if not line.startswith("--"))
    return "\n".join(lines[:end]), "\n".join(lines[end:])


def field(header: str, name: str) -> str:
    found = re.search(rf"^-- (?:.*  )?{name}:\s+(.+)$", header, re.MULTILINE)
    assert found, f"the header lacks {name}:"
    return found.group(1)


def test_three_packages_have_scripts() -> None:
    """A folder that is no more found would be tested no more."""
    assert {path.parts[-3] for path in SCRIPTS} == {"chat", "showlog", "stock"}


@every_script
def test_script_is_known_by_its_file_and_run_by_its_package(path: Path) -> None:
    """The loader finds it, and no script lies about that nobody calls."""
    package = path.parents[1]
    assert read_scripts(f"live.{package.name}")[path.stem].name == path.stem
    assert any(f'"{path.stem}"' in source.read_text() for source in package.glob("*.py"))


@every_script
def test_header_names_the_operation_and_all_fields(path: Path) -> None:
    """The first line is `-- name: what it does`, then what always holds and how to repeat it."""
    header, _ = header_and_body(path)
    assert header.startswith(f"-- {path.stem}: ")
    for wanted in FIELDS:
        field(header, wanted)


@every_script
@pytest.mark.parametrize("table", ["KEYS", "ARGV"])
def test_header_lists_exactly_what_the_body_binds(path: Path, table: str) -> None:
    """KEYS and ARGV are numbered from 1 without a gap, and each is bound to a name once."""
    header, body = header_and_body(path)
    lists = "\n".join(re.findall(r"^-- (?:KEYS|ARGV)\[.+$", header, re.MULTILINE))
    listed = [int(n) for n in re.findall(rf"{table}\[(\d+)\]", lists)]
    bound = [int(n) for n in re.findall(rf"{table}\[(\d+)\]", body)]
    assert listed == list(range(1, len(listed) + 1))
    assert sorted(bound) == listed


@every_file
def test_no_key_is_built(path: Path) -> None:
    """Every key is handed in, or a cluster could not route the call."""
    assert "live:" not in path.read_text()


@every_file
def test_lua_lines_fit_into_a_hundred_columns(path: Path) -> None:
    """The line length of the project; no linter looks at Lua."""
    assert [line for line in path.read_text().splitlines() if len(line) > 100] == []


@every_stock_script
def test_stock_script_touches_declared_keys_only(path: Path) -> None:
    """So every script is safe on a cluster."""
    _, body = header_and_body(path)
    calls = re.findall(r"call\('(\w+)',\s*([^,)]+)", body)
    allowed = {"meta_key", "offers_key", "buyers_key", "outbox_key", "deadlines_key", "wait_key"}
    allowed |= {"guests_key", "refused_key"}
    allowed |= {"staged", "live", "'STREAM'", "'GROUPS'", "'CREATE'", "staged_offers"}
    allowed |= {"'CONSUMERS'", "'DELCONSUMER'"}
    assert {key.strip() for verb, key in calls if verb != "TIME"} <= allowed


@every_stock_script
def test_codes_are_those_that_python_reads(path: Path) -> None:
    """A code in a header is one that Python knows, and the body uses each letter it promises."""
    header, _ = header_and_body(path)
    field(header, "Needs")
    codes = field(header, "Codes")
    if codes == "none":
        return
    letters = set(codes.split())
    assert letters <= ANSWERS
    text = read_scripts("live.stock")[path.stem].text.decode()
    for letter in letters - set("HPSREXW"):  # states are read from the record as they stand
        assert f"'{letter}'" in text


def test_one_letter_has_one_meaning() -> None:
    """What Redis keeps is never an answer of another meaning: an answer that Redis keeps is a
    state."""
    assert not {*Kept} & {*StockAnswer}


def test_every_letter_of_the_scripts_is_in_the_table() -> None:
    """And none is left in the table that no script knows."""
    found = set()
    for path in FILES:
        if path.parts[-3] == "stock":
            _, body = header_and_body(path)
            code = re.sub(r"--.*|'XADD'.*", "", body)
            found |= set(re.findall(r"'([A-Za-z])'", code)) | set(
                re.findall(r"'([A-Za-z]) ?'", code)
            )
    assert found == {*Kept, *StockAnswer}


@pytest.mark.parametrize("name", [path.stem for path in STOCK if path.stem not in LIFE_ITSELF])
def test_script_checks_the_life_and_the_keys_of_the_show_before_anything_else(name: str) -> None:
    """Epoch, run and keys come first; nothing is read or written before they are right. Offers are
    counted instead: a show may have none."""
    _, body = header_and_body(LIVE_FOLDER / "stock" / "lua" / f"{name}.lua")
    check = re.search(
        r"if must_rebuild\(meta_key, epoch, run, ([^)]*)\) then\s+return 'a'\s+end"
        r"|local now = open_work\(epoch, run, meta_key, offers_key,([^)]*)\)\n"
        r"if not now then return 'a' end",
        body,
    )
    assert check is not None
    assert "call(" not in body[: check.start()]
    checked = set(re.findall(r"\w+_key", check.group(1) or check.group(2)))
    checked |= set(re.findall(r"call\('(?:HGET|ZSCORE)', (\w+_key), 'mark'\)", body))
    bound = set(re.findall(r"\w+_key", "".join(re.findall(r"local [^=]+=\s+KEYS", body))))
    assert checked | {"meta_key", "offers_key"} == bound | {"offers_key"}

"""Every Lua file says what it takes and answers, and Python agrees with what it says."""

import re
from pathlib import Path

import pytest

import live.stock
from live.redis.scripts import NAMES, script
from live.stock.answers import CONFLICT, HELD, LIVE, REFUSALS, REPEATS, UNKNOWN, WRONG_MODE
from live.stock.records import STATES, WAITING

LUA = Path(live.stock.__file__).parent / "lua"
FIELDS = ("Keeps", "Retry", "Needs", "Reply", "Codes")
ANSWERS = {chr(code) for code in (HELD, LIVE, CONFLICT, UNKNOWN, WRONG_MODE)}
ANSWERS |= {chr(code) for code in (*REFUSALS, *REPEATS)}
STATE_CODES = {*STATES, WAITING, "U", "L"}
"""U: unknown; L: left a waitlist."""
LIFE_ITSELF = ("install", "stop", "swap", "trim", "forget", "retire")
"""These begin or end a life of a show, or serve all of them."""


def header_and_body(name: str) -> tuple[str, str]:
    lines = (LUA / f"{name}.lua").read_text().splitlines()
    end = next(i for i, line in enumerate(lines) if not line.startswith("--"))
    return "\n".join(lines[:end]), "\n".join(lines[end:])


def field(header: str, name: str) -> str:
    found = re.search(rf"^-- {name}:\s+(.+)$", header, re.MULTILINE)
    assert found, f"the header lacks {name}:"
    return found.group(1)


def test_every_lua_file_is_a_known_script_or_shared_part() -> None:
    """No script lies about unused, none is missing."""
    files = {path.stem for path in LUA.glob("*.lua")}
    assert {name for name in files if not name.startswith("_")} == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_header_names_the_operation_and_all_fields(name: str) -> None:
    """The first line is `-- name: what it does`, then what always holds and how to repeat it."""
    header, _ = header_and_body(name)
    assert header.startswith(f"-- {name}: ")
    for wanted in FIELDS:
        field(header, wanted)
    assert "Cost:" in header and "Clock:" in header


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("table", ["KEYS", "ARGV"])
def test_header_lists_exactly_what_the_body_binds(name: str, table: str) -> None:
    """KEYS and ARGV are numbered from 1 without a gap, and each is bound to a name once."""
    header, body = header_and_body(name)
    listed = [int(n) for n in re.findall(rf"{table}\[(\d+)\]", header)]
    bound = [int(n) for n in re.findall(rf"{table}\[(\d+)\]", body)]
    assert listed == list(range(1, len(listed) + 1))
    assert sorted(bound) == listed


@pytest.mark.parametrize("name", NAMES)
def test_body_touches_declared_keys_only(name: str) -> None:
    """No key is built in Lua, so every script is safe on a cluster."""
    _, body = header_and_body(name)
    calls = re.findall(r"call\('(\w+)',\s*([^,)]+)", body)
    allowed = {"meta_key", "offers_key", "buyers_key", "outbox_key", "deadlines_key", "wait_key"}
    allowed |= {"guests_key", "refused_key"}
    allowed |= {"staged", "live", "'STREAM'", "'GROUPS'", "'CREATE'", "staged_offers"}
    allowed |= {"'CONSUMERS'", "'DELCONSUMER'"}
    assert {key.strip() for verb, key in calls if verb != "TIME"} <= allowed


@pytest.mark.parametrize("name", NAMES)
def test_codes_are_those_that_python_reads(name: str) -> None:
    """A code in a header is one that Python knows, and the body uses each letter it promises."""
    codes = field(header_and_body(name)[0], "Codes")
    if codes == "none":
        return
    letters = set(codes.split())
    assert letters <= ANSWERS | STATE_CODES
    text = script(name).text.decode()
    for letter in letters - set("HPSREXW"):  # states are read from the record as they stand
        assert f"'{letter}'" in text


@pytest.mark.parametrize("name", [name for name in NAMES if name not in LIFE_ITSELF])
def test_script_checks_the_life_and_the_keys_of_the_show_before_anything_else(name: str) -> None:
    """Epoch, run and keys come first; nothing is read or written before they are right. Offers are
    counted instead: a show may have none."""
    _, body = header_and_body(name)
    check = re.search(
        r"if must_rebuild\(meta_key, epoch, run, ([^)]*)\) then\s+return 'R'\s+end"
        r"|local now = open_work\(epoch, run, meta_key, offers_key,([^)]*)\)\n"
        r"if not now then return 'R' end",
        body,
    )
    assert check is not None
    assert "call(" not in body[: check.start()]
    checked = set(re.findall(r"\w+_key", check.group(1) or check.group(2)))
    checked |= set(re.findall(r"call\('(?:HGET|ZSCORE)', (\w+_key), 'mark'\)", body))
    bound = set(re.findall(r"\w+_key", "".join(re.findall(r"local [^=]+=\s+KEYS", body))))
    assert checked | {"meta_key", "offers_key"} == bound | {"offers_key"}


@pytest.mark.parametrize("path", sorted(LUA.glob("*.lua")), ids=lambda path: path.name)
def test_lua_lines_fit_into_a_hundred_columns(path: Path) -> None:
    """The line length of the project; no linter looks at Lua."""
    assert [line for line in path.read_text().splitlines() if len(line) > 100] == []

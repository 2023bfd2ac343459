"""Headers of the Lua scripts say what the scripts take; prose that nobody reads rots."""

import re
from pathlib import Path

import pytest

SCRIPTS = sorted((Path(__file__).parents[2] / "live" / "showlog" / "lua").glob("*.lua"))


def header(text: str) -> str:
    """Return the comment lines at the top."""
    lines = []
    for line in text.splitlines():
        if not line.startswith("--"):
            break
        lines.append(line)
    return "\n".join(lines)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_header_names_every_key_and_argument(script: Path) -> None:
    """Each KEYS[n] and ARGV[n] that the body binds is described, and no other."""
    text = script.read_text()
    top = header(text)
    body = text.removeprefix(top)
    assert top.startswith(f"-- {script.stem}: ")
    for words in ("Keeps:", "Retry:", "Cost:", "Clock:", "Reply:"):
        if words in ("Keeps:", "Retry:", "Reply:") or words in top:
            assert words in top, words
    for name in ("KEYS", "ARGV"):
        described = {int(number) for number in re.findall(rf"{name}\[(\d+)", top)}
        used = {int(number) for number in re.findall(rf"{name}\[(\d+)\]", body)}
        assert used <= described, name
        assert described <= used or "#ARGV" in body, name


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_script_builds_no_key(script: Path) -> None:
    """Every key is handed in, or a cluster could not route the call."""
    assert "live:" not in script.read_text()

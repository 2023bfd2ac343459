"""Every LIVE_* variable that something here reads is known, or a right one would be warned of."""

import re
from pathlib import Path

from live.base.settings import known_variables, unknown_variables

ROOT = Path(__file__).parents[2]
READ_IN = (
    "live",
    "loadtests",
    "scripts",
    "deploy",
    "docker-compose.yml",
    "Dockerfile",
    "README.md",
)


def named() -> set[str]:
    found: set[str] = set()
    for place in READ_IN:
        path = ROOT / place
        files = (
            [path]
            if path.is_file()
            else [one for one in path.rglob("*") if one.is_file() and one.suffix != ".pyc"]
        )
        for file in files:
            text = file.read_bytes().decode(errors="ignore")
            found |= set(re.findall(r"\bLIVE_[A-Z]+(?:_[A-Z]+)*\b", text))
    return found


def test_every_variable_that_is_read_is_known() -> None:
    assert named() - known_variables() == set()


def test_environment_of_the_children_is_known() -> None:
    """What the supervisor tells its processes is warned of by none of them."""
    assert unknown_variables(dict.fromkeys(known_variables(), "x")) == ()


def test_nearest_name_is_told_and_a_stranger_has_none() -> None:
    found = dict(unknown_variables({"LIVE_SECRETS": "x", "LIVE_ZZZZZZZZZZZZZZ": "x", "OTHER": "x"}))

    assert found == {"LIVE_SECRETS": "LIVE_SECRET", "LIVE_ZZZZZZZZZZZZZZ": ""}

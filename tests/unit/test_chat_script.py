"""admit.lua says what it takes and answers, and chat.py knows every answer."""

import re
from importlib import resources

import pytest

from live.base.errors import CallError
from live.chat.rules import _refuse
from live.chat.store import ChatAdmission

SOURCE = resources.files("live.chat").joinpath("lua/admit.lua").read_text()
HEADER = "\n".join(line for line in SOURCE.splitlines() if line.startswith("-- "))


@pytest.mark.parametrize("table", ["KEYS", "ARGV"])
def test_header_lists_exactly_what_the_body_binds(table: str) -> None:
    """Numbered from 1 without a gap, each bound to a name once."""
    lines = [line for line in SOURCE.splitlines() if not line.startswith("--")]
    listed = [int(n) for n in re.findall(rf"{table}\[(\d+)\]", HEADER)]
    bound = [int(n) for n in re.findall(rf"{table}\[(\d+)\]", "\n".join(lines))]

    assert listed == list(range(1, len(listed) + 1)) == sorted(bound)


@pytest.mark.parametrize("code", ["ban", "mute", "slow", "rate", "duplicate"])
def test_refusal_of_the_script_is_an_error_with_a_text(code: str) -> None:
    """A code that nobody translates would let the message through."""
    assert f"'{code}'" in SOURCE or code in HEADER
    with pytest.raises(CallError):
        _refuse(ChatAdmission(code, "1500"))

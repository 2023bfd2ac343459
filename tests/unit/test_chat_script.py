"""Chat knows every answer of admit.lua."""

import pytest

from live.base.errors import CallError
from live.chat.rules import _refuse
from live.chat.store import ChatAdmission
from live.redis.scripts import read_source

SOURCE = read_source("live.chat", "admit")


@pytest.mark.parametrize("code", ["ban", "mute", "slow", "rate", "duplicate"])
def test_refusal_of_the_script_is_an_error_with_a_text(code: str) -> None:
    """A code that nobody translates would let the message through."""
    assert code in SOURCE
    with pytest.raises(CallError):
        _refuse(ChatAdmission(code, "1500"))

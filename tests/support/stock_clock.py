"""The stock scripts as simulators run them: by the test's clock, and granting in small steps.

Thousands of deadlines must pass in a second, and a dozen waiters must reach the bounds of a grant.
"""

import pytest

from live.redis import scripts
from tests.support.stock_rules import GRANTS_MAX, LOOKS_MAX

TEST_CLOCK = b"test:clock"
START_MS = 1_800_000_000_000


def prepare_scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the scripts read their time from a key of the test, and grant in small steps."""
    plain = scripts.read_source
    changes = {
        "_records": {
            "local time = call('TIME')\n  return time[1] * 1000 + floor(time[2] / 1000)": (
                f"return tonumber(call('GET', '{TEST_CLOCK.decode()}'))"
            )
        },
        "_work": {
            "GRANT_PAGE, LOOKS_MAX = 64, 2048": f"GRANT_PAGE, LOOKS_MAX = 2, {LOOKS_MAX}",
            "GRANTS_MAX = 64 ": f"GRANTS_MAX = {GRANTS_MAX} ",
        },
    }

    def prepared(package: str, name: str) -> str:
        text = plain(package, name)
        for real, small in changes.get(name, {}).items():
            assert text.count(real) == 1
            text = text.replace(real, small)
        return text

    monkeypatch.setattr(scripts, "read_source", prepared)
    scripts.read_scripts.cache_clear()

"""Lists about engines that the code keeps agree with what they are about."""

import re
import tomllib
from datetime import date
from pathlib import Path

from live.base.errors import EngineError, reason_of
from live.run.checks.redis_rights import acl_rule, rights
from live.run.doctor import AGE_DAYS_MAX, age
from live.tools.engines.locate import PACKED, Binary

ROOT = Path(__file__).parents[2]


def test_every_command_of_the_scripts_is_in_the_list_of_rights() -> None:
    """A script runs with the rights of its caller, so what it calls is on the list."""
    text = "\n".join(path.read_text() for path in sorted((ROOT / "live").rglob("*.lua")))
    found = re.findall(r"\bp?call\(\s*['\"](\w+)['\"](?:,\s*['\"]([A-Z]+)['\"])?", text)
    allowed = set(rights(clustered=False))
    families = {name.partition("|")[0] for name in allowed if "|" in name}
    called = {
        f"{name}|{part}" if name in families else name
        for name, part in ((name.lower(), part.lower()) for name, part in found)
    }

    assert called
    assert called - allowed == set()


def test_rights_stand_in_the_operators_guide() -> None:
    """The line to copy is the list of the code."""
    assert acl_rule() in (ROOT / "docs" / "how-to" / "engines.md").read_text()


def test_dates_of_carried_engines_are_those_of_the_lock() -> None:
    """Whoever takes a newer package writes down when it was published."""
    lock = tomllib.loads((ROOT / "uv.lock").read_text())
    locked = {package["name"]: package for package in lock["package"]}

    for (name, version), packed in PACKED.items():
        assert locked[name]["version"] == version
        assert packed.isoformat() == locked[name]["wheels"][0]["upload-time"][:10]


def test_old_engine_is_a_warning() -> None:
    """An embedded engine that nobody renews misses the security fixes of its project."""
    binary = Binary(Path("/x"), Path("/x"), "postgres", (18, 6))
    packed = date(2026, 1, 1)

    young = age("postgres", binary, packed, today=date.fromordinal(packed.toordinal() + 1))
    last = packed.toordinal() + AGE_DAYS_MAX
    old = age("postgres", binary, packed, today=date.fromordinal(last + 1))

    assert young.ok and age("postgres", binary, packed, today=date.fromordinal(last)).ok
    assert (old.ok, old.stops) == (False, False)
    assert "18.6" in old.detail and old.fix


def test_every_error_has_its_reason() -> None:
    """A time-out has no text of its own, and some others have none either."""
    assert reason_of(TimeoutError()) == "no answer in time"
    assert reason_of(ConnectionResetError()) == "ConnectionResetError"
    assert reason_of(OSError(111, "refused")) == "[Errno 111] refused"
    assert str(EngineError("it is off", fix="switch it on")) == "it is off; switch it on"

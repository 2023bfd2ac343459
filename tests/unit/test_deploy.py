"""The units of systemd leave a drain the time and the quiet that it needs; CI calls our scripts."""

import configparser
from pathlib import Path

import pytest
import yaml

from live.run.supervisor import STOP_GRACE_SECONDS
from live.transport.descriptors import WANTED

ROOT = Path(__file__).parents[2]
UNITS = sorted((ROOT / "deploy" / "systemd").glob("*.service"))


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_unit_lets_the_supervisor_stop_in_order(path: Path) -> None:
    """The signal goes to it alone, and nobody is killed before it would kill them itself."""
    unit = configparser.ConfigParser(interpolation=None, strict=False)
    unit.optionxform = str  # type: ignore[assignment,method-assign]  # systemd's names have cases
    unit.read(path)
    service = unit["Service"]

    assert service["KillMode"] == "mixed"
    assert int(service["TimeoutStopSec"]) > 2 * STOP_GRACE_SECONDS  # gateways, then the settler
    assert int(service["LimitNOFILE"]) >= WANTED
    assert path.stem.removeprefix("live-") in service["ExecStart"]


def test_both_roles_have_a_unit() -> None:
    assert [path.stem for path in UNITS] == ["live-gateway", "live-settler"]


def test_public_ci_and_hooks_call_our_own_commands() -> None:
    """What is checked elsewhere is what is checked here, by the same two scripts."""
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())["jobs"]
    steps = [step["run"] for job in jobs.values() for step in job["steps"] if "run" in step]
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]

    assert {"./scripts/check", "./scripts/test"} <= set(steps)
    assert {hook["entry"].split()[0] for hook in hooks} == {"./scripts/check", "./scripts/test"}
    assert all((ROOT / place).exists() for hook in hooks for place in hook["entry"].split())

"""The units of systemd leave a drain the time and the quiet that it needs."""

import configparser
from pathlib import Path

import pytest

from live.run.supervisor import STOP_GRACE_S
from live.transport.descriptors import WANTED

UNITS = sorted((Path(__file__).parents[2] / "deploy" / "systemd").glob("*.service"))


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_unit_lets_the_supervisor_stop_in_order(path: Path) -> None:
    """The signal goes to it alone, and nobody is killed before it would kill them itself."""
    unit = configparser.ConfigParser(interpolation=None, strict=False)
    unit.optionxform = str  # type: ignore[assignment,method-assign]  # systemd's names have cases
    unit.read(path)
    service = unit["Service"]

    assert service["KillMode"] == "mixed"
    assert int(service["TimeoutStopSec"]) > 2 * STOP_GRACE_S  # gateways, then the settler
    assert int(service["LimitNOFILE"]) >= WANTED
    assert path.stem.removeprefix("live-") in service["ExecStart"]


def test_both_roles_have_a_unit() -> None:
    assert [path.stem for path in UNITS] == ["live-gateway", "live-settler"]

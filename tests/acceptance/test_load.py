"""The Locust profile runs headless against a real service, and the audit holds after it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.acceptance.conftest import Service, Stage

LOCUSTFILE = Path(__file__).parents[2] / "loadtests" / "locustfile.py"

pytestmark = pytest.mark.timeout(120)


async def test_short_load_run_finds_nothing(service: Service, stage: Stage, tmp_path: Path) -> None:
    """Viewers, buyers, chatters and a host for ten seconds: no failure, and every promise holds."""
    await stage.offer(30)
    command = [sys.executable, "-m", "locust", "-f", str(LOCUSTFILE), "--headless"]
    command += ["--host", f"ws://127.0.0.1:{service.port}", "-u", "40", "-r", "40", "-t", "10s"]
    command += ["--csv", str(tmp_path / "load")]
    environment = service.env | {"LIVE_SHOW": stage.show}

    done = subprocess.run(  # noqa: ASYNC221 - nothing else runs on this loop meanwhile
        command, env=environment, capture_output=True, timeout=90, check=False
    )

    output = done.stdout.decode() + done.stderr.decode()
    assert done.returncode == 0, output[-4000:]
    stats = (tmp_path / "load_stats.csv").read_text()
    for name in ("connect", "offer.hold", "hold.checkout", "publish"):
        assert f",{name}," in stats, stats
    audit = service.live("audit", "--json")
    assert audit.returncode == 0, audit.stdout.decode()
    assert json.loads(audit.stdout)["ok"]

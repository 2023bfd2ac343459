"""The Locust profile runs headless against a real service, and the audit holds after it."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import asyncpg
import pytest

from tests.acceptance.conftest import Service, Stage
from tests.support.servers import Postgres, Valkey, scratch_directory

LOCUSTFILE = Path(__file__).parents[2] / "loadtests" / "locustfile.py"

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def deployed(scratch: Path, postgres: Postgres) -> Iterator[Service]:
    """A service on configured engines: nobody runs a sandbox for it, so it takes invoices."""
    name = f"t{uuid4().hex}"
    asyncio.run(_execute(postgres.url(), f'CREATE DATABASE "{name}"'))
    (scratch / name).mkdir()
    valkey = Valkey(scratch / name)
    valkey.start()
    engines = {"LIVE_REDIS_URL": valkey.url, "LIVE_DATABASE_URL": postgres.url(name)}
    engines |= {"LIVE_PROVIDERS": "invoice", "LIVE_GUESTS": "watch"}
    found = Service(scratch_directory(), (), engines)
    assert found.live("migrate").returncode == 0
    found.start()
    yield found
    found.stop()
    valkey.close()


async def _execute(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url)
    await connection.execute(statement)
    await connection.close()


def _run(service: Service, show: str, folder: Path) -> str:
    """Ten seconds of everybody; Locust's table. No failure of any kind is allowed."""
    command = [sys.executable, "-m", "locust", "-f", str(LOCUSTFILE), "--headless"]
    command += ["--host", f"ws://127.0.0.1:{service.port}", "-u", "40", "-r", "40", "-t", "10s"]
    command += ["--csv", str(folder / "load")]
    environment = service.env | {"LIVE_SHOW": show}
    done = subprocess.run(command, env=environment, capture_output=True, timeout=90, check=False)
    output = done.stdout.decode() + done.stderr.decode()
    assert done.returncode == 0, output[-4000:]
    return (folder / "load_stats.csv").read_text()


def test_deployment_without_a_sandbox_is_paid_by_invoice(deployed: Service, tmp_path: Path) -> None:
    """Where the server does not know the sandbox, buyers ask once and take the invoice."""
    stats = _run(deployed, "evening", tmp_path)
    for _ in range(3):  # on a busy machine ten seconds may end before the first buyer's checkout
        if ",hold.checkout," in stats:
            break
        stats = _run(deployed, "evening", tmp_path)
    audit = deployed.live("audit", "--json")

    assert ",hold.checkout," in stats, stats
    assert audit.returncode == 0, audit.stdout.decode()


async def test_short_load_run_finds_nothing(service: Service, stage: Stage, tmp_path: Path) -> None:
    """Viewers, buyers, chatters and a host for ten seconds: no failure, and every promise holds."""
    await stage.offer(30)

    stats = _run(service, stage.show, tmp_path)  # nothing else runs on this loop meanwhile

    for name in ("connect", "offer.hold", "hold.checkout", "publish"):
        assert f",{name}," in stats, stats
    audit = service.live("audit", "--json")
    assert audit.returncode == 0, audit.stdout.decode()
    assert json.loads(audit.stdout)["ok"]

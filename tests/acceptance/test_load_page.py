"""Locust's web page: a host that may not be loaded ends that run, and nothing else."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.acceptance.conftest import until
from tests.support.cluster import free_ports

LOCUSTFILE = Path(__file__).parents[2] / "loadtests" / "locustfile.py"


@pytest.fixture
def page(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """Locust with its web page, and the page's address."""
    port = free_ports(1)[0]
    command = [sys.executable, "-m", "locust", "-f", str(LOCUSTFILE)]
    command += ["--web-host", "127.0.0.1", "--web-port", str(port)]
    environment = dict(os.environ) | {"LIVE_SECRET": "s" * 32}
    with (tmp_path / "log").open("wb") as log:
        locust = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    yield locust, f"http://127.0.0.1:{port}"
    locust.terminate()
    locust.wait(30)


async def test_page_outlives_a_host_that_may_not_be_loaded(
    page: tuple[subprocess.Popen[bytes], str],
) -> None:
    """The page says why, and goes on; nobody of the run was let loose."""
    locust, base = page
    async with (
        httpx.AsyncClient(base_url=base, trust_env=False, timeout=10) as http,
        asyncio.timeout(60),
    ):

        async def answers() -> bool:
            try:
                return (await http.get("/")).is_success
            except httpx.TransportError:
                return False

        await until(answers, seconds=50)
        form = {"user_count": "1", "spawn_rate": "1", "host": "ws://192.0.2.1:8000"}
        await http.post("/swarm", data=form)
        faults: list[dict[str, str]] = []
        while not faults:
            faults = (await http.get("/exceptions")).json()["exceptions"]
        state = ""
        while state != "stopped":
            state = (await http.get("/stats/requests")).json()["state"]

    assert "may be loaded" in faults[0]["msg"]
    assert locust.poll() is None

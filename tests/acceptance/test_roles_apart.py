"""Gateway and settler as commands of their own, on the embedded engines of one data directory."""

import asyncio
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.acceptance.conftest import Service, Stage
from tests.support.servers import scratch_directory

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    """`live serve --role gateway`, and `--role settler` beside it."""
    gateway = Service(scratch_directory(), ("--role", "gateway"))
    gateway.start()
    command = [sys.executable, "-m", "live", "serve", "--role", "settler"]
    with (gateway.data / "settler.log").open("wb") as log:
        settler = subprocess.Popen(command, env=gateway.env, stdout=log, stderr=log)
    yield gateway
    settler.terminate()
    code = settler.wait(60)
    gateway.stop()
    assert code == 0, (gateway.data / "settler.log").read_text()[-4000:]


async def test_roles_complete_a_sale_together(stage: Stage) -> None:
    """No URL is configured: one starts the engines and the sandbox, the other uses them."""
    offer = await stage.offer(2)
    async with await stage.viewer() as viewer:
        held = await viewer.hold(offer)
        await viewer.checkout(held["hold"])
        async with asyncio.timeout(60):
            confirmed = await viewer.event("order.confirmed")

    done = await asyncio.to_thread(stage.service.live, "audit", "--json")

    assert confirmed["order"]["hold"] == held["hold"]
    assert done.returncode == 0, done.stdout + done.stderr

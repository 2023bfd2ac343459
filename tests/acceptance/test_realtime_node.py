"""The official JavaScript SDK under Node, where Node and npm are found.

Its packages are installed by name into a directory of the test run; a machine that cannot do that
says so and skips.
"""

import asyncio
import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from live.domain.ids import ShowId
from tests.support.realtime_app import Spawned

PACKAGES = ("centrifuge@5.8.0", "ws@8.18.0")  # Node below 22 has no WebSocket of its own
INSTALL_SECONDS = 90
SCRIPT = Path(__file__).with_name("centrifuge_client.cjs")
SCRIPT_SECONDS = 30

pytestmark = pytest.mark.timeout(180)


@pytest.fixture(scope="module")
def modules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the SDK and the script beside it."""
    npm, node = shutil.which("npm"), shutil.which("node")
    if npm is None or node is None:
        pytest.skip("node and npm are needed to run the JavaScript SDK")
    directory = tmp_path_factory.mktemp("node")
    command = [npm, "install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix"]
    try:
        done = subprocess.run(
            [*command, str(directory), *PACKAGES],
            capture_output=True,
            text=True,
            timeout=INSTALL_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        pytest.skip("npm did not install the JavaScript SDK in time")
    if done.returncode != 0:
        pytest.skip(f"npm could not install the JavaScript SDK: {done.stderr[-200:]}")
    shutil.copy(SCRIPT, directory)
    return directory


@pytest.fixture(params=["", "--compression"], ids=["plain", "compressed"])
def server(redis_url: str, show: ShowId, request: pytest.FixtureRequest) -> Iterator[Spawned]:
    """The `ws` package offers permessage-deflate; the setting decides."""
    spawned = Spawned(redis_url, show, *filter(None, [request.param]))
    yield spawned
    spawned.close()


@pytest.mark.parametrize("codec", ["json", "protobuf"])
async def test_javascript_sdk_publishes_calls_and_recovers(
    modules: Path, server: Spawned, codec: str
) -> None:
    """It hears its own publication, its rpc is answered, and it recovers what it missed."""
    process = await asyncio.create_subprocess_exec(
        "node",
        SCRIPT.name,
        server.url,
        codec,
        cwd=modules,
        stdout=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(SCRIPT_SECONDS):
        out, _ = await process.communicate()

    steps = [json.loads(line) for line in out.splitlines()]
    assert process.returncode == 0, steps
    heard = [(step["offset"], step["data"]) for step in steps if step["step"] == "publication"]
    assert heard == [(1, {"n": 1}), (2, {"n": 2})]
    rest = {step["step"]: step for step in steps if step["step"] != "publication"}
    assert rest["rpc"]["data"] == {"asked": True}
    assert rest["resumed"] == {"step": "resumed", "recovered": True, "wasRecovering": True}
    assert "error" not in rest

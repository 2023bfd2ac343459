"""The examples do what their first lines say, against a running service."""

import asyncio
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from uuid import uuid4

import pytest

from live.api.auth import Authenticator
from live.base.settings import Guests
from live.domain.caller import Role
from tests.acceptance.conftest import SECRET, Service
from tests.support.wire import join

EXAMPLES = Path(__file__).parents[2] / "examples"

pytestmark = pytest.mark.timeout(120)

TOKENS = {
    "token.py": [sys.executable],
    "token.mjs": ["node"],
    "token.php": ["php"],
    "token.sh": ["sh"],
}


@pytest.mark.parametrize("name", list(TOKENS))
@pytest.mark.parametrize("secrets", [SECRET, f"{SECRET},an older one of the acceptance tests"])
def test_token_is_taken(name: str, secrets: str) -> None:
    """The server takes it for the person and the show that were named; the first secret signs."""
    program = TOKENS[name]
    if shutil.which(program[0]) is None:
        pytest.skip(f"{program[0]} is not installed: examples/tokens/{name} was not tried here")
    command = [*program, str(EXAMPLES / "tokens" / name), "alice", "show1"]
    environment = {**os.environ, "LIVE_SECRET": secrets}
    made = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)

    caller = Authenticator(SECRET, guests=Guests.OFF).caller(made.stdout.strip())

    assert (caller.sub, caller.role) == ("alice", Role.VIEWER)
    assert caller.shows == {"show1"}
    assert caller.expires_at is not None


def test_every_token_example_is_tried() -> None:
    assert {path.name for path in (EXAMPLES / "tokens").iterdir()} == set(TOKENS)


async def test_curl_sells(service: Service) -> None:
    """The script runs to its end, and its stream and its report tell of what it did."""
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    token = service.token(Role.HOST, "curl")
    environment = {**os.environ, "SERVER": service.url, "HOST_TOKEN": token, "SECONDS_OPEN": "3"}
    running = await asyncio.create_subprocess_exec(
        str(EXAMPLES / "curl" / "sale.sh"),
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    assert running.stdout is not None
    said: list[bytes] = []
    bought = None
    async for line in running.stdout:
        said.append(line)
        if line.startswith(b'{"id":"offer-') and b'"phase":"open"' in line:
            offer = json.loads(line)
            buyer = service.token(Role.VIEWER, f"v{uuid4().hex[:8]}", offer["show"])
            async with await join(service.socket_url, buyer, offer["show"]) as wire:
                held = await wire.hold(offer["id"])
                bought = await wire.checkout(held["hold"])
    assert await running.wait() == 0, b"".join(said)

    told = b"".join(said).decode()
    assert bought is not None and bought["outcome"] in ("confirmed", "processing")
    assert '"type":"offer.opened"' in told and '"type":"show.ended"' in told
    report = json.loads(next(line for line in said if b'"average_order_minor"' in line))
    assert report["orders"] == 1, report

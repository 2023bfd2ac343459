"""Who is let in by address: the same bounds at both WebSocket doors and at the event stream.

Method: a gateway that takes loopback for a proxy, so that each connection may come from anywhere.
"""

import json
from collections.abc import Iterator
from uuid import uuid4

import pytest

from tests.raw import Answer, Raw, handshake
from tests.realtime_app import Spawned
from tests.servers import Valkey

BURST = 3
LIMITS = {"handshakes_burst": BURST, "handshakes_per_second": 0.001}
EVENTS = "GET /connection/uni_sse HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Forwarded-For: {}\r\n\r\n"


def spawned(valkey: Valkey, *options: str, **limits: object) -> Iterator[Spawned]:
    found = Spawned(valkey.url, f"s{uuid4().hex[:12]}", *options, "--admission", json.dumps(limits))
    yield found
    found.close()


@pytest.fixture(scope="module", params=["front", "asgi", "events"])
def door(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def options(door: str) -> list[str]:
    return ["--asgi"] if door == "asgi" else []


@pytest.fixture(scope="module")
def proxied(valkey: Valkey, options: list[str]) -> Iterator[Spawned]:
    yield from spawned(valkey, *options, "--proxy", "127.0.0.0/8", **LIMITS)


@pytest.fixture(scope="module")
def direct(valkey: Valkey, options: list[str]) -> Iterator[Spawned]:
    yield from spawned(valkey, *options, **LIMITS)


async def knock(server: Spawned, door: str, address: str) -> tuple[Raw, Answer]:
    """Come as this address by the proxy."""
    raw = await Raw.dial(server.port)
    request = handshake(f"X-Forwarded-For: {address}")
    if door == "events":
        request = EVENTS.format(address).encode()
    return raw, await raw.ask(request)


async def statuses(server: Spawned, door: str, *addresses: str) -> list[int]:
    """What each gets who comes and goes at once."""
    found = []
    for address in addresses:
        raw, answer = await knock(server, door, address)
        found.append(answer.status)
        await raw.close()
    return found


async def test_client_behind_a_named_proxy_is_bounded(proxied: Spawned, door: str) -> None:
    """429 with Retry-After beyond the burst; what he writes left of his address is nothing."""
    welcome = 200 if door == "events" else 101
    spoofs = [f"198.51.100.{number}, 203.0.113.9" for number in range(BURST)]
    assert await statuses(proxied, door, *spoofs) == [welcome] * BURST
    raw, answer = await knock(proxied, door, "10.0.0.1, 203.0.113.9")
    await raw.close()
    assert (answer.status, answer.headers["retry-after"]) == (429, "1")
    assert await statuses(proxied, door, "203.0.113.10") == [welcome]


async def test_forwarded_header_of_a_stranger_is_ignored(direct: Spawned, door: str) -> None:
    """Nobody was named, so all of these are this machine, which has no bound."""
    welcome = 200 if door == "events" else 101
    assert await statuses(direct, door, *["203.0.113.9"] * (BURST + 2)) == [welcome] * (BURST + 2)

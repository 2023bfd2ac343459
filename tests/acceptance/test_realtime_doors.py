"""Who is let in, by address and by Host: the same at both WebSocket doors and for event streams.

Method: a gateway that takes loopback for a proxy, so that each connection may come from anywhere.
"""

import asyncio
import json
from collections.abc import Iterator
from uuid import uuid4

import pytest

from live.transport import handshake as front
from live.transport.plain import PlainHttp
from tests.acceptance.conftest import until
from tests.support.raw import Answer, Raw, handshake
from tests.support.realtime_app import Spawned, build, serving
from tests.support.servers import Valkey

BURST = 3
LIMITS = {"handshakes_burst": BURST, "handshakes_per_second": 0.001}
EVENTS = "GET /connection/uni_sse HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Forwarded-For: {}\r\n\r\n"


def spawned(valkey: Valkey, *options: str, **limits: object) -> Iterator[Spawned]:
    found = Spawned(valkey.url, f"s{uuid4().hex[:12]}", *options, "--admission", json.dumps(limits))
    yield found
    found.close()


WELCOME = {"front": 101, "asgi": 101, "events": 200}


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


@pytest.fixture(scope="module")
def plain(valkey: Valkey, options: list[str]) -> Iterator[Spawned]:
    yield from spawned(valkey, *options)


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


@pytest.fixture(scope="module")
def narrow(valkey: Valkey, options: list[str]) -> Iterator[Spawned]:
    yield from spawned(valkey, *options, "--proxy", "127.0.0.0/8", per_address_max=2)


@pytest.fixture(scope="module")
def small(valkey: Valkey, options: list[str]) -> Iterator[Spawned]:
    yield from spawned(valkey, *options, connections_max=1)


async def test_client_behind_a_named_proxy_is_bounded(proxied: Spawned, door: str) -> None:
    """429 with Retry-After beyond the burst; what they write left of their address is nothing."""
    welcome = WELCOME[door]
    spoofs = [f"198.51.100.{number}, 203.0.113.9" for number in range(BURST)]
    assert await statuses(proxied, door, *spoofs) == [welcome] * BURST
    raw, answer = await knock(proxied, door, "10.0.0.1, 203.0.113.9")
    await raw.close()
    assert (answer.status, answer.headers["retry-after"]) == (429, "1")
    assert await statuses(proxied, door, "203.0.113.10") == [welcome]


async def test_forwarded_header_of_a_stranger_is_ignored(direct: Spawned, door: str) -> None:
    """Nobody was named, so all of these are this machine, which has no bound."""
    welcome = WELCOME[door]
    assert await statuses(direct, door, *["203.0.113.9"] * (BURST + 2)) == [welcome] * (BURST + 2)


@pytest.mark.parametrize(
    "addresses",
    [["203.0.113.9"] * 3, ["2001:db8::1", "2001:db8::2", "2001:db8::3"]],
    ids=["IPv4", "home network"],
)
async def test_one_address_has_so_many_connections(
    narrow: Spawned, door: str, addresses: list[str]
) -> None:
    """At the bound all stay, the next is refused before the upgrade; a closed one makes room."""
    open_ = [await knock(narrow, door, address) for address in addresses[:2]]
    assert [answer.status for _, answer in open_] == [WELCOME[door]] * 2

    raw, answer = await knock(narrow, door, addresses[2])
    await raw.close()

    assert (answer.status, answer.headers["retry-after"]) == (429, "1")
    assert await statuses(narrow, door, "198.51.100.1", "2001:db8:1::1") == [WELCOME[door]] * 2
    for raw, _ in open_:
        await raw.close()

    async def has_room() -> bool:
        return await statuses(narrow, door, addresses[2]) == [WELCOME[door]]

    await until(has_room)


async def test_this_machine_has_as_many_as_it_likes(narrow: Spawned, door: str) -> None:
    """A load test from here, past the proxy, is not bounded."""
    open_ = [await knock(narrow, door, "127.0.0.1") for _ in range(4)]
    assert [answer.status for _, answer in open_] == [WELCOME[door]] * 4
    for raw, _ in open_:
        await raw.close()


async def test_full_process_refuses_with_503(small: Spawned, door: str) -> None:
    """With Retry-After, before the upgrade; other paths still answer."""
    inside, answer = await knock(small, door, "")
    assert answer.status == WELCOME[door]
    late, answer = await knock(small, door, "")
    assert (answer.status, answer.headers["retry-after"]) == (503, "1")
    await late.close()
    raw = await Raw.dial(small.port)
    assert (await raw.ask(b"GET /elsewhere HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")).status == 404
    for one in (raw, inside):
        await one.close()


async def test_both_hands_share_one_deadline(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A head that the door passes on has what is left of its time, not the same again."""
    due: list[float] = []

    class Door(front._Waiting):
        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            assert self._deadline is not None
            due.append(self._deadline.when())

    class Guard(PlainHttp):
        def _expect_head(self) -> None:
            super()._expect_head()
            assert self._deadline is not None
            due.append(self._deadline.when())

    monkeypatch.setattr(front, "_Waiting", Door)
    monkeypatch.setattr(front, "PlainHttp", Guard)
    async with serving(build(redis_url, f"s{uuid4().hex[:12]}")) as url:
        raw = await Raw.dial(int(url.split(":")[2].partition("/")[0]))
        for _ in range(2):  # the second head has a time of its own
            answer = await raw.ask(b"GET /elsewhere HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            assert answer.status == 404
            await raw.reader.readexactly(int(answer.headers["content-length"]))
        await raw.close()
    at_the_door, first, second = due
    assert first == at_the_door
    assert second > first


def asking(door: str, *hosts: str, origin: str = "") -> bytes:
    """A request with these Host lines."""
    lines = [f"Host: {host}" for host in hosts] + ([f"Origin: {origin}"] if origin else [])
    if door == "events":
        return "\r\n".join(["GET /connection/uni_sse HTTP/1.1", *lines, "", ""]).encode()
    return handshake(*lines, host=None)


@pytest.mark.parametrize(
    ("hosts", "origin"),
    [
        ([], ""),
        (["evil.example"], ""),
        (["evil.example:8000"], "http://evil.example:8000"),
        (["127.0.0.1", "evil.example"], ""),
        (["127.0.0.1", "127.0.0.1"], ""),
        (["local host"], ""),
    ],
    ids=["none", "unknown", "rebound with its Origin", "two", "the same twice", "no host at all"],
)
async def test_unknown_host_is_400(
    plain: Spawned, door: str, hosts: list[str], origin: str
) -> None:
    """A page whose name was led to our address is not let in by having the same name as it."""
    raw = await Raw.dial(plain.port)
    assert (await raw.ask(asking(door, *hosts, origin=origin))).status == 400
    await raw.close()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost:{port}", "[::1]:{port}"])
async def test_own_names_are_welcome(plain: Spawned, door: str, host: str) -> None:
    """With the Origin of a page that was loaded by the same name."""
    host = host.format(port=plain.port)
    raw = await Raw.dial(plain.port)
    answer = await raw.ask(asking(door, host, origin=f"http://{host}"))
    assert answer.status == WELCOME[door]
    await raw.close()


@pytest.mark.parametrize(
    ("method", "status", "header"),
    [
        ("POST", 405, ("allow", "GET, HEAD")),
        ("DELETE", 405, ("allow", "GET, HEAD")),
        ("GET", 426, ("upgrade", "websocket")),
    ],
)
async def test_path_of_the_socket_says_what_it_wants(
    plain: Spawned, method: str, status: int, header: tuple[str, str]
) -> None:
    """A wrong method is told the right one, a request without an upgrade that it needs one."""
    raw = await Raw.dial(plain.port)
    line = f"{method} /connection/websocket HTTP/1.1"
    answer = await raw.ask(f"{line}\r\nHost: 127.0.0.1\r\nContent-Length: 0\r\n\r\n".encode())
    name, value = header
    assert (answer.status, ", ".join(sorted(answer.headers[name].split(", ")))) == (status, value)
    await raw.close()

"""Odd heads of a handshake, as the RFCs want them answered; nobody's head writes a traceback."""

import asyncio
import logging
from collections.abc import AsyncIterator
from uuid import uuid4

import pytest

from tests.support.raw import Raw, frame, handshake, text
from tests.support.realtime_app import build, serving

CONNECT = text('{"id":1,"connect":{}}')
ORIGINS = [
    "http://[",
    "http://[::1",
    "http://a]b",
    "http://[not an address]",
    "http://\xe9",
    "http://\xb2\xaf",
    "http://",
    "//",
    "null",
    "\x7f",
    "http://127.0.0.1:x",
]


@pytest.fixture(params=["front", "plain"])
async def port(request: pytest.FixtureRequest, redis_url: str) -> AsyncIterator[int]:
    front = request.param == "front"
    async with serving(build(redis_url, f"s{uuid4().hex[:12]}"), front=front) as url:
        yield int(url.split(":")[2].partition("/")[0])


def errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]


@pytest.mark.parametrize("origin", ORIGINS)
@pytest.mark.parametrize("path", ["/connection/websocket", "/connection/uni_sse"])
async def test_what_is_no_origin_is_refused(
    port: int, path: str, origin: str, caplog: pytest.LogCaptureFixture
) -> None:
    """403, or 400 where it is no header at all; and not a word in the error log."""
    raw = await Raw.dial(port)
    if path.endswith("websocket"):
        request = handshake().removesuffix(b"\r\n") + b"Origin: %s\r\n\r\n"
    else:
        request = b"GET /connection/uni_sse HTTP/1.1\r\nHost: 127.0.0.1\r\nOrigin: %s\r\n\r\n"
    answer = await raw.ask(request % origin.encode("latin-1"))
    await raw.close()
    assert answer.status in (400, 403)
    assert errors(caplog) == []


@pytest.mark.parametrize("host", ["[", "[::1", "a]b", "\xe9", "127.0.0.1:x", "127.0.0.1:999999"])
async def test_what_is_no_host_is_refused(
    port: int, host: str, caplog: pytest.LogCaptureFixture
) -> None:
    """400 at every door."""
    raw = await Raw.dial(port)
    request = handshake(host=None).removesuffix(b"\r\n") + b"Host: %s\r\n\r\n"
    assert (await raw.ask(request % host.encode("latin-1"))).status == 400
    await raw.close()
    assert errors(caplog) == []


async def test_refused_origin_is_no_error_of_ours(
    port: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Anybody can ask with any; a line for each would be theirs to write."""
    raw = await Raw.dial(port)
    assert (await raw.ask(handshake("Origin: http://elsewhere"))).status == 403
    await raw.close()
    assert errors(caplog) == []


async def test_peer_gone_at_any_moment_is_no_error_of_ours(
    port: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Before, in and after the handshake; over and over, an answer was on its way each time."""
    head = handshake()
    events = b"GET /connection/uni_sse HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    for sent in (head[:40], head, head + CONNECT, head + CONNECT * 2, events, events[:30]):
        for _ in range(5):
            raw = await Raw.dial(port)
            raw.writer.write(sent)
            await asyncio.sleep(0)
            raw.writer.transport.abort()
    raw = await Raw.upgraded(port)  # whoever comes later is served
    await raw.close()
    assert errors(caplog) == []


async def test_unknown_version_is_told_the_known_one(port: int) -> None:
    """RFC 6455, 4.4."""
    raw = await Raw.dial(port)
    asked = handshake().replace(b"Sec-WebSocket-Version: 13", b"Sec-WebSocket-Version: 12")
    answer = await raw.ask(asked)
    assert answer.status in (400, 426)
    assert answer.headers["sec-websocket-version"] == "13"
    await raw.close()


async def test_plain_request_is_told_the_version(port: int) -> None:
    """426 with what to upgrade to, and in which version."""
    raw = await Raw.dial(port)
    answer = await raw.ask(b"GET /connection/websocket HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
    assert (answer.status, answer.headers["sec-websocket-version"]) == (426, "13")
    await raw.close()


async def test_http_1_0_cannot_upgrade(port: int) -> None:
    """RFC 6455, 4.2.1."""
    raw = await Raw.dial(port)
    answer = await raw.ask(handshake().replace(b"HTTP/1.1", b"HTTP/1.0"))
    assert answer.status == 400
    await raw.close()


@pytest.mark.parametrize(
    "head",
    [
        handshake().replace(b": ", b":\t").replace(b"\r\n", b" \t\r\n", 0),
        handshake().replace(b"websocket\r\nConn", b"websocket\t\r\nConn"),
        handshake(path="http://127.0.0.1/connection/websocket"),
    ],
    ids=["tab before", "tab behind", "absolute target"],
)
async def test_unusual_but_right_heads_are_taken(port: int, head: bytes) -> None:
    """RFC 9110, 5.6.3; RFC 9112, 3.2.2."""
    raw = await Raw.dial(port)
    assert (await raw.ask(head)).status == 101
    raw.writer.write(CONNECT)
    assert b'"connect"' in (await raw.read_frame())[1]
    await raw.close()


async def test_absolute_target_of_another_host_is_400(port: int) -> None:
    """The Host that is checked must be the one that is asked for."""
    raw = await Raw.dial(port)
    answer = await raw.ask(handshake(path="http://evil.example/connection/websocket"))
    assert answer.status == 400
    await raw.close()


async def test_frames_behind_the_head_are_not_lost(port: int) -> None:
    """Clients ought to wait for the answer; what came with the head is answered behind it."""
    raw = await Raw.dial(port)
    answer = await raw.ask(handshake() + frame(0x89, b"early") + CONNECT)
    assert answer.status == 101
    assert await raw.read_frame() == (0xA, b"early")
    assert b'"connect"' in (await raw.read_frame())[1]
    await raw.close()

"""No peer keeps an HTTP connection for longer than a named deadline, whatever it sends or does not.

Method: raw sockets against both doors and the ports beside them, with deadlines of a fraction of a
second; the clock of the server decides, the test only waits for its close.
"""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from live.connection.admission import AdmissionLimits
from live.connection.headcount import Headcount
from live.domain.ids import ShowId
from live.run.serving import serve_beside
from live.transport.handshake import FrontDoor
from live.transport.hosts import Hosts
from live.transport.http_guard import GuardedHttp, HttpLimits, guarded
from tests.support.raw import ANSWER_SECONDS, Raw, handshake
from tests.support.realtime_parts import gateway as make_gateway

LIMITS = HttpLimits(
    head_seconds=0.3, body_seconds=0.4, idle_seconds=0.3, life_seconds=0.8, unread_seconds=0.5
)
HOST = b"Host: 127.0.0.1\r\n"
BIG = b"x" * 8_000_000  # more than what the kernels of both ends keep


async def read(request: Request) -> Response:
    return PlainTextResponse(str(len(await request.body())))


async def deaf(_request: Request) -> Response:
    return PlainTextResponse("did not listen")


async def big(_request: Request) -> Response:
    return Response(BIG)


APP = Starlette(
    routes=[
        Route("/read", read, methods=["POST"]),
        Route("/deaf", deaf, methods=["GET", "POST"]),
        Route("/healthz", deaf, methods=["GET"]),
        Route("/big", big, methods=["GET"]),
    ]
)


@asynccontextmanager
async def serving(http: Callable[..., asyncio.Protocol]) -> AsyncIterator[int]:
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    stop = asyncio.Event()
    running = asyncio.create_task(serve_beside(APP, listener, stop, http=http))
    try:
        yield int(listener.getsockname()[1])
    finally:
        stop.set()
        await running


@pytest.fixture(params=["front", "plain"])
async def door(
    request: pytest.FixtureRequest, redis_url: str, show: ShowId
) -> AsyncIterator[tuple[int, Headcount]]:
    """A port, and what counts its connections."""
    hosts = Hosts("127.0.0.1")
    if request.param == "plain":
        headcount = Headcount(in_all_max=100, per_address_max=100)
        async with serving(
            partial(GuardedHttp, hosts=hosts, headcount=headcount, limits=LIMITS)
        ) as port:
            yield port, headcount
        return
    async with make_gateway(redis_url, show) as found:
        front = FrontDoor(found, hosts=hosts, limits=LIMITS)
        async with serving(front.protocol) as port:
            yield port, found.admission.http


async def ended(raw: Raw) -> bytes:
    """All that the server says until it closes."""
    said = b""
    async with asyncio.timeout(ANSWER_SECONDS):
        try:
            while part := await raw.reader.read(65_536):
                said += part
        except ConnectionResetError:
            pass
    await raw.close()
    return said


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110  # the server is this process
        await asyncio.sleep(0.01)


async def dribble(raw: Raw, data: bytes) -> None:
    """Send this again and again for as long as the other end takes it."""
    try:
        while True:
            raw.writer.write(data)
            await raw.writer.drain()
            await asyncio.sleep(0.05)
    except OSError:
        pass


def post(path: str, *lines: str) -> bytes:
    head = "".join(f"{line}\r\n" for line in lines)
    return f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{head}\r\n".encode()


ENDLESS = {
    "silence": (b"", b""),
    "line breaks": (b"", b"\r\n"),
    "half a head": (b"GET /deaf HTTP/1.1\r\n" + HOST, b""),
    "a dribbled head": (b"GET /deaf HTTP/1.1\r\n" + HOST, b"X: y\r\n"),
    "no body": (post("/read", "Content-Length: 60000"), b""),
    "a dribbled body": (post("/read", "Content-Length: 60000"), b"x"),
    "chunks without end": (post("/read", "Transfer-Encoding: chunked"), b"1\r\nx\r\n"),
    "a body that is expected to be wanted": (
        post("/read", "Content-Length: 9", "Expect: 100-continue"),
        b"",
    ),
}


@pytest.mark.parametrize(("first", "then"), ENDLESS.values(), ids=ENDLESS)
async def test_whoever_does_not_finish_a_request_is_told_408(
    door: tuple[int, Headcount], first: bytes, then: bytes
) -> None:
    """The connection ends by itself, and nothing of it is left in the count."""
    port, headcount = door
    raw = await Raw.dial(port)
    raw.writer.write(first)
    sending = asyncio.create_task(dribble(raw, then)) if then else None

    said = await ended(raw)

    assert b" 408 " in said, said
    assert headcount.in_all == 0
    if sending is not None:
        await sending


@pytest.mark.parametrize("then", [b"", b"x", b"\r\n"], ids=["silent", "body", "line breaks"])
async def test_body_that_nobody_wants_ends_as_well(
    door: tuple[int, Headcount], then: bytes
) -> None:
    """The call answers without reading; the rest of the body is not waited for."""
    port, headcount = door
    raw = await Raw.dial(port)
    raw.writer.write(post("/deaf", "Content-Length: 60000"))
    sending = asyncio.create_task(dribble(raw, then)) if then else None

    said = await ended(raw)

    assert said.startswith(b"HTTP/1.1 200 ") and said.endswith(b"did not listen")
    assert headcount.in_all == 0
    if sending is not None:
        await sending


@pytest.mark.parametrize("then", [b"", b"\r\n"], ids=["silent", "line breaks"])
async def test_idle_connection_is_closed(door: tuple[int, Headcount], then: bytes) -> None:
    """Behind its answer a connection waits for the next request, and not for ever."""
    port, headcount = door
    raw = await Raw.dial(port)
    raw.writer.write(b"GET /deaf HTTP/1.1\r\n" + HOST + b"\r\n")
    sending = asyncio.create_task(dribble(raw, then)) if then else None

    said = await ended(raw)

    assert said.startswith(b"HTTP/1.1 200 ") and said.endswith(b"did not listen")
    assert headcount.in_all == 0
    if sending is not None:
        await sending


async def test_connection_that_is_kept_alive_has_an_end(door: tuple[int, Headcount]) -> None:
    """Its last answer says so; a client that goes on asking opens another one."""
    port, headcount = door
    raw = await Raw.dial(port)
    answer = await raw.ask(b"GET /deaf HTTP/1.1\r\n" + HOST + b"\r\n")
    assert answer.headers.get("connection") != "close"

    while answer.headers.get("connection") != "close":
        await raw.reader.readexactly(int(answer.headers["content-length"]))
        await asyncio.sleep(0.02)
        answer = await raw.ask(b"GET /deaf HTTP/1.1\r\n" + HOST + b"\r\n")

    assert await ended(raw) == b"did not listen"
    assert headcount.in_all == 0


async def test_answer_that_is_not_read_is_given_up(door: tuple[int, Headcount]) -> None:
    """A peer who asks for much and reads nothing keeps neither memory nor a connection."""
    port, headcount = door
    raw = await Raw.dial(port)
    raw.reader._limit = 1  # type: ignore[attr-defined]  # so that this end stops reading, too
    raw.writer.write(b"GET /big HTTP/1.1\r\n" + HOST + b"\r\n")
    await raw.writer.drain()
    async with asyncio.timeout(ANSWER_SECONDS):
        await until(lambda: headcount.in_all == 1)
        await until(lambda: headcount.in_all == 0)
    await raw.close()


UPGRADES = {
    "a length": ("Content-Length: 5", b"hello"),
    "a length without its body": ("Content-Length: 5", b""),
    "chunks": ("Transfer-Encoding: chunked", b"5\r\nhello\r\n0\r\n\r\n"),
    "another coding": ("Transfer-Encoding: xchunked", b""),
}


@pytest.mark.parametrize("path", ["/connection/websocket", "/healthz", "/nowhere"])
@pytest.mark.parametrize(("line", "body"), UPGRADES.values(), ids=UPGRADES)
async def test_upgrade_with_a_body_is_400(
    door: tuple[int, Headcount], path: str, line: str, body: bytes
) -> None:
    """Nobody reads a body behind an upgrade, so nobody waits for one."""
    port, headcount = door
    raw = await Raw.dial(port)
    raw.writer.write(handshake(line, path=path) + body)

    said = await ended(raw)

    assert said.startswith(b"HTTP/1.1 400 "), said
    assert headcount.in_all == 0


async def test_other_upgrade_with_a_body_is_plain_http(door: tuple[int, Headcount]) -> None:
    """Java's client offers HTTP/2 that way with every POST; the offer may be ignored."""
    port, _headcount = door
    raw = await Raw.dial(port)
    lines = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABk")
    answer = await raw.ask(post("/read", *lines, "Content-Length: 5") + b"hello")

    assert answer.status == 200
    await raw.close()


async def test_crowd_is_told_503_until_one_leaves(redis_url: str, show: ShowId) -> None:
    """Silent connections count; who comes when all places are taken is told to come back."""
    hosts = Hosts("127.0.0.1")
    async with make_gateway(redis_url, show, admission=AdmissionLimits(http_max=2)) as found:
        async with serving(FrontDoor(found, hosts=hosts).protocol) as port:
            silent, asking = await Raw.dial(port), await Raw.dial(port)
            await until(lambda: found.admission.http.in_all == 2)
            late = await Raw.dial(port)
            assert (await ended(late)).startswith(b"HTTP/1.1 503 ")

            await silent.close()
            await until(lambda: found.admission.http.in_all == 1)
            again = await Raw.dial(port)
            for raw in (asking, again):
                assert (await raw.ask(b"GET /deaf HTTP/1.1\r\n" + HOST + b"\r\n")).status == 200
                await raw.close()


async def test_socket_gives_its_http_place_back(redis_url: str, show: ShowId) -> None:
    """A viewer is counted as a socket, by either door, and HTTP has its place again."""
    hosts = Hosts("127.0.0.1")
    async with make_gateway(redis_url, show, admission=AdmissionLimits(http_max=1)) as found:
        async with serving(FrontDoor(found, hosts=hosts).protocol) as port:
            raws = [await Raw.upgraded(port) for _ in range(3)]

            assert (found.admission.connections, found.admission.http.in_all) == (3, 0)
            for raw in raws:
                await raw.close()


async def test_unix_socket_may_be_asked_by_any_name(tmp_path: Path) -> None:
    """Our own clients of one write a made-up Host; no page's name leads there."""
    path = str(tmp_path / "s")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()
    stop = asyncio.Event()
    running = asyncio.create_task(
        serve_beside(APP, listener, stop, http=guarded(Hosts("127.0.0.1")))
    )
    raw = Raw(*await asyncio.open_unix_connection(path))
    assert (await raw.ask(b"GET /deaf HTTP/1.1\r\nHost: sandbox\r\n\r\n")).status == 200
    await raw.close()
    stop.set()
    await running

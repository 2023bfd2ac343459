"""One connection has one request worked on at a time, whatever it sends behind it.

Method: raw sockets against every kind of port, whose application answers when the test lets it; the
servers are in this process, so that what they keep for a connection can be counted.
"""

import asyncio
import gc
import logging
import os
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from uuid import uuid4

import pytest
import uvloop
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from live.connection.headcount import Headcount
from live.domain.ids import ShowId
from live.run.serving import serve_beside
from live.transport.exchange import Exchange
from live.transport.handshake import FrontDoor
from live.transport.hosts import Hosts
from live.transport.http_guard import GuardedHttp, HttpLimits, guarded
from tests.support.raw import ANSWER_SECONDS, Raw, handshake, text
from tests.support.realtime_app import build
from tests.support.realtime_app import serving as serving_gateway
from tests.support.realtime_parts import gateway as make_gateway
from tests.support.servers import READY_SECONDS

HOSTS = Hosts("127.0.0.1")
LIMITS = HttpLimits(early_seconds=0.3)
READ_BYTES = 262_144  # that a loop gives us at once


class Shop:
    """An application that answers `/slow` when it may, and says how much it does at once."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.asked: list[str] = []
        self.at_once = self.most_at_once = 0
        routes = [
            Route("/slow/{name}", self.slow),
            Route("/read", self.read, methods=["POST"]),
            Route("/deaf", self.deaf, methods=["GET", "POST"]),
            Route("/events", self.events),
        ]
        self.app = Starlette(routes=routes)

    async def slow(self, request: Request) -> Response:
        self.asked.append(request.path_params["name"])
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await self.open.wait()
        await asyncio.sleep(0)
        self.at_once -= 1
        return PlainTextResponse(request.path_params["name"])

    async def read(self, request: Request) -> Response:
        return PlainTextResponse((await request.body()).decode())

    async def deaf(self, _request: Request) -> Response:
        return PlainTextResponse("did not listen")

    async def events(self, _request: Request) -> Response:
        async def endless() -> AsyncIterator[bytes]:
            yield b"data: first\n\n"
            await asyncio.Event().wait()

        return StreamingResponse(endless(), media_type="text/event-stream")


@asynccontextmanager
async def serving(shop: Shop, http: Callable[..., asyncio.Protocol]) -> AsyncIterator[int]:
    listener = socket.create_server(("127.0.0.1", 0))
    stop = asyncio.Event()
    running = asyncio.create_task(serve_beside(shop.app, listener, stop, http=http))
    try:
        yield int(listener.getsockname()[1])
    finally:
        shop.open.set()
        stop.set()
        await running


def bounded(limits: HttpLimits) -> Callable[..., asyncio.Protocol]:
    headcount = Headcount(in_all_max=100, per_address_max=100)
    return partial(GuardedHttp, hosts=HOSTS, headcount=headcount, limits=limits)


@pytest.fixture
def shop() -> Shop:
    return Shop()


@pytest.fixture(params=["front door", "plain route", "beside a settler"])
async def port(
    request: pytest.FixtureRequest, shop: Shop, redis_url: str, show: ShowId
) -> AsyncIterator[int]:
    if request.param == "front door":
        async with make_gateway(redis_url, show) as found:
            front = FrontDoor(found, hosts=HOSTS, limits=LIMITS)
            async with serving(shop, front.protocol) as port:
                yield port
        return
    http = bounded(LIMITS) if request.param == "plain route" else guarded(HOSTS)
    async with serving(shop, http) as port:
        yield port


def get(path: str, *lines: str, host: str = "127.0.0.1") -> bytes:
    return "\r\n".join([f"GET {path} HTTP/1.1", f"Host: {host}", *lines, "", ""]).encode()


def post(path: str, body: bytes, *lines: str) -> bytes:
    head = [f"POST {path} HTTP/1.1", "Host: 127.0.0.1", f"Content-Length: {len(body)}", *lines]
    return "\r\n".join([*head, "", ""]).encode() + body


async def answer(raw: Raw, request: bytes = b"") -> tuple[int, str]:
    """Send this; the next answer's status and body."""
    found = await raw.ask(request)
    body = await raw.reader.readexactly(int(found.headers["content-length"]))
    return found.status, body.decode()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(ANSWER_SECONDS):
        while not condition():  # noqa: ASYNC110  # the server is this process
            await asyncio.sleep(0.01)


def unfinished() -> int:
    """Requests that the servers of this process keep something for."""
    cycles = (thing for thing in gc.get_objects() if isinstance(thing, RequestResponseCycle))
    return sum(not (cycle.response_complete or cycle.disconnected) for cycle in cycles)


def kept() -> int:
    """Bytes that were read and not parsed, of all connections."""
    found = (thing for thing in gc.get_objects() if isinstance(thing, Exchange))
    return sum(protocol._unparsed() for protocol in found)


async def test_requests_without_waiting_are_answered_one_by_one(shop: Shop, port: int) -> None:
    """In order, and the next one is not looked at before the one in front of it is answered."""
    names = [str(number) for number in range(200)]
    raw = await Raw.dial(port)
    raw.writer.write(b"".join(get(f"/slow/{name}") for name in names))
    await until(lambda: bool(shop.asked))
    await raw.writer.drain()
    assert (shop.asked, unfinished()) == (["0"], 1)

    shop.open.set()

    assert [await answer(raw) for _ in names] == [(200, name) for name in names]
    assert (shop.asked, shop.most_at_once) == (names, 1)
    await raw.close()


async def test_what_is_sent_behind_an_unanswered_request_is_not_taken(
    shop: Shop, port: int
) -> None:
    """One read at most; the sender's kernel keeps the rest, until the answer is there."""
    raw = await Raw.dial(port)
    blob = get("/slow/next") * 100_000
    raw.writer.write(get("/slow/first"))
    await until(lambda: bool(shop.asked))
    raw.writer.write(blob)
    await until(lambda: kept() > 0)
    for _ in range(100):  # turns in which more could be read
        await asyncio.sleep(0)

    assert 0 < kept() <= READ_BYTES
    assert (shop.asked, unfinished()) == (["first"], 1)
    raw.writer.transport.abort()


async def test_next_request_follows_its_answer_at_once(port: int) -> None:
    """Whoever waits for each answer is never held back, with a body or without one."""
    raw = await Raw.dial(port)
    for number in range(100):
        body = b"x" * (number * 331)
        assert await answer(raw, post("/read", body)) == (200, body.decode())
        assert await answer(raw, get("/deaf")) == (200, "did not listen")
    await raw.close()


BODIES = {
    "a length": post("/read", b"GET /slow/"),
    "chunks": (
        b"POST /read HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"4\r\nGET \r\n6\r\n/slow/\r\n0\r\n\r\n"
    ),
    "empty lines": post("/read", b"\r\n\r\n\r\n\r\n"),
}


@pytest.mark.parametrize("first", BODIES.values(), ids=BODIES)
async def test_request_ends_where_it_ends_however_it_arrives(port: int, first: bytes) -> None:
    """Cut in two anywhere, with the next request's head behind the body in the same read."""
    told = "\r\n\r\n\r\n\r\n" if b"\r\n" * 6 in first else "GET /slow/"
    both = first + get("/deaf") + first
    raw = await Raw.dial(port)
    for cut in range(len(both)):
        raw.writer.write(both[:cut])
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert await answer(raw, both[cut:]) == (200, told)
        assert await answer(raw) == (200, "did not listen")
        assert await answer(raw) == (200, told)
    await raw.close()


async def test_body_that_was_asked_for_may_bring_the_next_head(port: int) -> None:
    """`Expect: 100-continue`: the body is called for, and what is behind it waits."""
    raw = await Raw.dial(port)
    whole = post("/read", b"hello", "Expect: 100-continue")
    assert (await raw.ask(whole.removesuffix(b"hello"))).status == 100

    assert await answer(raw, b"hello" + get("/deaf")) == (200, "hello")

    assert await answer(raw) == (200, "did not listen")
    await raw.close()


async def test_body_of_another_upgrade_is_read(port: int) -> None:
    """Java's client offers HTTP/2 with its first POST; the body is not the next request."""
    raw = await Raw.dial(port)
    offer = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABk")
    whole = post("/read", b"hello", *offer)
    for cut in (len(whole), len(whole) - 5, len(whole) - 2):
        raw.writer.write(whole[:cut])
        await asyncio.sleep(0.01)
        assert await answer(raw, whole[cut:] + get("/deaf")) == (200, "hello")
        assert await answer(raw) == (200, "did not listen")
    await raw.close()


async def test_chunks_behind_another_upgrade_are_411(port: int) -> None:
    """Nobody can tell where they end."""
    raw = await Raw.dial(port)
    head = get("/read", "Connection: Upgrade", "Upgrade: h2c", "Transfer-Encoding: chunked")
    assert (await answer(raw, head + b"0\r\n\r\n"))[0] == 411
    assert await raw.reader.read() == b""
    await raw.close()


async def test_empty_line_behind_a_request_is_nothing(shop: Shop, port: int) -> None:
    """Old clients send one behind a body; the answer may take as long as it likes."""
    raw = await Raw.dial(port)
    raw.writer.write(get("/slow/one") + b"\r\n")
    await until(lambda: bool(shop.asked))
    await asyncio.sleep(2 * LIMITS.early_seconds)
    shop.open.set()

    assert await answer(raw) == (200, "one")
    assert await answer(raw, get("/deaf")) == (200, "did not listen")
    await raw.close()


async def test_request_behind_a_slow_answer_waits_for_it(shop: Shop, port: int) -> None:
    """However long the application thinks: an answer that has not begun will come."""
    raw = await Raw.dial(port)
    raw.writer.write(get("/slow/one") + get("/slow/two"))
    await until(lambda: bool(shop.asked))
    await asyncio.sleep(2 * LIMITS.early_seconds)
    shop.open.set()

    assert await answer(raw) == (200, "one")
    assert await answer(raw) == (200, "two")
    await raw.close()


async def test_wrong_host_behind_an_answer_is_told(port: int) -> None:
    """The refusal of a later request is no part of an earlier answer."""
    raw = await Raw.dial(port)
    assert await answer(raw, get("/deaf") + get("/deaf", host="evil.example")) == (
        200,
        "did not listen",
    )
    assert (await answer(raw))[0] == 400
    assert await raw.reader.read() == b""
    await raw.close()


async def test_fault_in_a_body_that_nobody_wanted_is_not_answered_again(port: int) -> None:
    """It ends the connection; a second answer would be taken for the next request's."""
    raw = await Raw.dial(port)
    head = b"POST /deaf HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert await answer(raw, head) == (200, "did not listen")
    raw.writer.write(b"no chunk\r\n")
    assert await raw.reader.read() == b""
    await raw.close()


@pytest.mark.parametrize("port", ["front door", "plain route"], indirect=True)
async def test_stream_of_events_takes_nothing_more(port: int) -> None:
    """What is sent behind it is neither parsed nor kept: the stream is ended soon."""
    raw = await Raw.dial(port)
    assert (await raw.ask(get("/events"))).status == 200
    await raw.reader.readuntil(b"first\n\n")
    raw.writer.write(get("/slow/next") * 20_000)
    await until(lambda: kept() > 0)
    assert kept() <= READ_BYTES
    assert unfinished() == 1

    await until(lambda: unfinished() == 0)
    assert kept() == 0
    raw.writer.transport.abort()


@pytest.mark.parametrize("front", [True, False], ids=["front door", "plain route"])
async def test_upgrade_behind_a_request_waits_for_its_answer(redis_url: str, front: bool) -> None:
    """And the socket behind it is none the worse for it."""
    async with serving_gateway(build(redis_url, f"s{uuid4().hex[:12]}"), front=front) as url:
        raw = await Raw.dial(int(url.split(":")[2].partition("/")[0]))
        raw.writer.write(
            get("/elsewhere") * 3 + handshake() + text('{"id":1,"connect":{}}') + b"\x81"
        )
        statuses = [(await answer(raw))[0] for _ in range(3)]
        assert [*statuses, (await raw.ask(b"")).status] == [404, 404, 404, 101]

        assert b'"connect"' in (await raw.read_frame())[1]
        raw.writer.write(text('{"id":2,"rpc":{"method":"echo","data":1}}')[1:])
        assert b'"rpc"' in (await raw.read_frame())[1]
        await raw.close()


@pytest.fixture
def sandbox(scratch: Path) -> Iterator[Path]:
    """The socket of a provider that is run as `live serve` runs it."""
    data = scratch / uuid4().hex[:8]
    data.mkdir()
    command = [sys.executable, "-m", "live", "run-sandbox", "--uds", str(data / "s")]
    own = {"LIVE_DATA_DIR": str(data), "LIVE_SANDBOX_KEY": "a key of the tests only"}
    with subprocess.Popen(command, env=os.environ | own) as process:
        deadline = time.monotonic() + READY_SECONDS
        while not _listens(data / "s") and time.monotonic() < deadline:
            time.sleep(0.02)
        yield data / "s"
        process.terminate()


def _listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(path)) == 0


async def test_port_of_the_sandbox_provider_is_the_same(sandbox: Path) -> None:
    """Answers in order, and the refusal of what comes behind them is the last."""
    raw = Raw(*await asyncio.open_unix_connection(str(sandbox)))
    offer = get("/", "Connection: Upgrade", "Upgrade: h2c", "Transfer-Encoding: chunked")
    raw.writer.write(get("/nowhere") * 3 + offer)

    assert [(await answer(raw))[0] for _ in range(4)] == [404, 404, 404, 411]
    assert await raw.reader.read() == b""
    await raw.close()


def test_peer_gone_in_the_middle_of_an_answer_is_no_error_of_ours(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """On the loop that serves: its transports raise when they are closed and not yet told so."""

    async def leave() -> None:
        shop = Shop()
        async with serving(shop, bounded(LIMITS)) as port:
            raw = await Raw.dial(port)
            raw.writer.write(get("/slow/one"))
            await until(lambda: bool(shop.asked))
            found = [thing for thing in gc.get_objects() if isinstance(thing, Exchange)]
            (protocol,) = [one for one in found if not one.transport.is_closing()]
            shop.open.set()  # the answer is ready to be written,
            protocol.transport.abort()  # and in the same turn of the loop the peer is lost
            await until(lambda: shop.at_once == 0)
            raw.writer.transport.abort()
            raw = await Raw.dial(port)
            raw.writer.write(post("/read", b"hello")[:-3])
            await until(lambda: unfinished() == 1)
            raw.writer.transport.abort()
            await until(lambda: unfinished() == 0)

    uvloop.run(leave())

    assert [line.getMessage() for line in caplog.records if line.levelno >= logging.ERROR] == []

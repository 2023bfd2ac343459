"""One-way delivery by server-sent events: connect, publications, resuming, refusals."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from uuid import uuid4

import httpx
import pytest
from websockets.asyncio.client import connect

from live.connection.admission import Admission
from live.protocol.codec_sse import SSE
from live.protocol.codes import Failure
from live.transport import sse
from tests.support.raw import Raw
from tests.support.realtime_app import Spawned, build, serving
from tests.support.servers import Valkey


@pytest.fixture(scope="module")
def server(valkey: Valkey) -> Iterator[Spawned]:
    spawned = Spawned(valkey.url, f"s{uuid4().hex[:12]}")
    yield spawned
    spawned.close()


@pytest.fixture
def room() -> str:
    return f"room-{uuid4().hex}"


class Events:
    """Events of one stream, as (id, data); who comes and goes is left out."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self._lines = response.aiter_lines()

    async def next(self) -> tuple[str, dict[str, object]]:
        identity, data = "", ""
        async with asyncio.timeout(60):
            while True:
                line = await anext(self._lines)
                if line.startswith("id: "):
                    identity = line[4:]
                elif line.startswith("data: "):
                    data = line[6:]
                elif not line and data:
                    event = json.loads(data)
                    if "join" not in event and "leave" not in event:
                        return identity, event
                    identity, data = "", ""


@asynccontextmanager
async def stream(
    server: Spawned, request: str, *, method: str = "GET", last: str = ""
) -> AsyncIterator[Events]:
    url = f"http://127.0.0.1:{server.port}/connection/uni_sse"
    headers = {"last-event-id": last} if last else {}
    async with httpx.AsyncClient(timeout=5) as client:
        options: dict[str, object] = (
            {"params": {"cf_connect": request}} if method == "GET" else {"content": request}
        )
        async with client.stream(method, url, headers=headers, **options) as response:  # type: ignore[arg-type]
            assert response.headers["content-type"].startswith("text/event-stream")
            yield Events(response)


async def publish(server: Spawned, room: str, count: int) -> None:
    async with connect(server.url, compression=None) as connection:
        await connection.send('{"id":1,"connect":{}}')
        await connection.recv()
        for number in range(count):
            command = {"id": number + 2, "publish": {"channel": room, "data": {"n": number}}}
            await connection.send(json.dumps(command))
            await connection.recv()


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_stream_begins_with_connect_and_carries_publications(
    server: Spawned, room: str, method: str
) -> None:
    """The first event is the connect result, without a wrapper; then pushes with their position."""
    asked = json.dumps({"subs": {room: {}}}, indent=1)
    async with stream(server, asked, method=method) as events:
        _, first = await events.next()
        result = first["connect"]
        assert isinstance(result, dict) and result["client"] and "pong" not in result
        epoch = result["subs"][room]["epoch"]

        await publish(server, room, 1)

        identity, event = await events.next()
        assert identity == f"{epoch}:1"
        assert event["channel"] == room
        assert event["pub"]["data"] == {"n": 0}  # type: ignore[index]


async def test_browser_resumes_by_its_last_event_id(server: Spawned, room: str) -> None:
    """EventSource sends the last id by itself and gets exactly what it missed."""
    asked = json.dumps({"subs": {room: {}}})
    await publish(server, room, 1)
    async with stream(server, asked) as events:
        await events.next()
        await publish(server, room, 1)
        last, _ = await events.next()
    await publish(server, room, 3)

    async with stream(server, asked, last=last) as events:
        _, first = await events.next()

    sub = first["connect"]["subs"][room]  # type: ignore[index]
    assert sub["recovered"] is True
    assert [publication["offset"] for publication in sub["publications"]] == [3, 4, 5]


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        ('{"token":"x.y.z"}', 3500),
        ("no json", 3501),
        ('{"subs":5}', 3501),
        ('{}}\n{"id":2,"rpc":{"method":"echo"}', 3501),
    ],
)
async def test_refusal_is_a_disconnect_event(server: Spawned, asked: str, code: int) -> None:
    """One event with the code and the reason, then the end of the stream."""
    async with stream(server, asked) as events:
        _, only = await events.next()
        assert only["disconnect"]["code"] == code and only["disconnect"]["reason"]  # type: ignore[index]
        with pytest.raises(StopAsyncIteration):
            await events.next()


@pytest.fixture
async def here(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[int, Admission]]:
    """A gateway in this process that waits for bodies but a moment: its port and its counts."""
    monkeypatch.setattr(sse, "BODY_SECONDS", 0.3)
    app = build(redis_url, f"s{uuid4().hex[:12]}")
    async with serving(app) as url:
        yield int(url.split(":")[2].partition("/")[0]), app.state.gateway.admission


POST = b"POST /connection/uni_sse HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: %d\r\n\r\n"


@pytest.mark.parametrize("start", [b"", b'{"subs":'], ids=["silent", "half"])
async def test_body_that_does_not_come_is_408(here: tuple[int, Admission], start: bytes) -> None:
    """The connection counts from its start, and no longer than its end."""
    port, admission = here
    raw = await Raw.dial(port)
    asking = asyncio.ensure_future(raw.ask(POST % 100 + start))
    async with asyncio.timeout(60):
        while not admission.connections:  # noqa: ASYNC110  # the server is this process
            await asyncio.sleep(0)

    answer = await asking

    assert answer.status == 408
    assert await raw.reader.read() == b"Request Timeout\n"  # and then the end
    assert admission.connections == 0
    await raw.close()


async def test_body_over_64_kib_is_413(here: tuple[int, Admission]) -> None:
    """One byte more than a message may have."""
    port, admission = here
    raw = await Raw.dial(port)
    assert (await raw.ask(POST % 65_537 + b" " * 65_537)).status == 413
    assert admission.connections == 0
    await raw.close()


@pytest.mark.parametrize(
    ("failure", "code", "comes_back"),
    [
        (Failure(1404, "unknown show x"), 3508, False),
        (Failure(1400, "show: is missing"), 3508, False),
        (Failure(1403, "the show is being rehearsed", temporary=True), 3004, True),
        (Failure(111, "the show's log does not answer", temporary=True), 3013, True),
        (Failure(103, "permission denied"), 3507, False),
        (Failure(109, "token expired"), 3005, True),
        (Failure(100, "internal error", temporary=True), 3004, True),
    ],
    ids=lambda value: str(getattr(value, "code", value)),
)
def test_stream_tells_what_a_reply_would_have_told(
    failure: Failure, code: int, comes_back: bool
) -> None:
    """The number says whether to come back, the reason why: final stays final."""
    event = SSE.error(1, failure).decode()
    told = json.loads(event.removeprefix("data: "))["disconnect"]
    assert told["code"] == code
    assert told.get("reconnect", False) is comes_back
    assert failure.code == 109 or told["reason"] == failure.message

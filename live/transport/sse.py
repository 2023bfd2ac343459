"""One-way delivery as server-sent events: for curl, EventSource, networks that cut WebSockets.

`GET /connection/uni_sse?cf_connect=<JSON>`, or POST with that JSON. The same session runs behind
it, fed with the connect request; pings need no answer. A stream of one channel with a log carries
`id: <epoch>:<offset>`, so a browser's EventSource resumes by `Last-Event-ID`.
Bounded like a WebSocket: a client that does not read loses figures first, then the stream.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import aclosing
from http import HTTPStatus
from typing import ClassVar

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from live.connection.admission import Admission
from live.connection.application import Gateway
from live.connection.headcount import Place
from live.connection.viewer import take
from live.fanout.cohort import BUFFER_HARD_BYTES
from live.protocol import codes
from live.protocol.codec import MESSAGE_BYTES_MAX
from live.protocol.codec_sse import SSE, connect_frame, disconnect_event
from live.protocol.codes import Close
from live.protocol.commands import SubscribeRequest
from live.protocol.session import Session
from live.protocol.shared import Shared
from live.transport.asgi import address_of, page_allowed

BODY_SECONDS = 5.0  # for the body of a POST, as for a request's head

HEADERS = {"cache-control": "no-store", "x-accel-buffering": "no"}
_DISCONNECT = b'data: {"disconnect"'


class StreamPort:
    """The way out of one event stream."""

    compresses: ClassVar[bool] = False

    def __init__(self) -> None:
        self._queue: deque[bytes] = deque()
        self._queued = 0
        self._ended = False
        self._filled = asyncio.Event()

    def write(self, data: bytes) -> None:
        if self._ended:
            return
        if self._queued > BUFFER_HARD_BYTES:
            self.close(codes.SLOW)
            return
        self._queue.append(data)
        self._queued += len(data)
        # An error reply is a disconnect already; the close behind it adds nothing.
        self._ended = data.startswith(_DISCONNECT)
        self._filled.set()

    def write_shared(self, frame: Shared) -> None:
        self.write(frame.payload)

    def close(self, close: Close) -> None:
        if not self._ended:
            self._queue.append(disconnect_event(close))
            self._ended = True
            self._filled.set()

    def buffered(self) -> int:
        return self._queued

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """Yield what is to be sent, until the stream has ended."""
        while True:
            await self._filled.wait()
            self._filled.clear()
            while self._queue:
                data = self._queue.popleft()
                yield data
                self._queued -= len(data)  # only now has the server taken it
            if self._ended:
                return


class SseEndpoint:
    """`Route("/connection/uni_sse", endpoint.serve, methods=["GET", "POST"])`."""

    def __init__(self, gateway: Gateway, *, allowed_origins: tuple[str, ...] = ()) -> None:
        self._gateway = gateway
        self._allowed_origins = allowed_origins

    async def serve(self, request: Request) -> Response:
        if not page_allowed(request, self._allowed_origins):
            return PlainTextResponse("this origin may not connect\n", status_code=403)
        status = self._refusal(request)
        if status is not None:
            return PlainTextResponse(f"{status.phrase}\n", status, {"retry-after": "1"})
        admission = self._gateway.admission
        counted_as = admission.opened(address_of(request))
        stream: Response | None = None
        try:
            async with asyncio.timeout(BODY_SECONDS):
                asked = await _read_request(request)
            if asked is None:
                return _refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
            stream = self._start(request, asked, counted_as)
            return stream
        except TimeoutError:
            return _refused(HTTPStatus.REQUEST_TIMEOUT)
        except ClientDisconnect:
            return _refused(HTTPStatus.BAD_REQUEST)  # nobody reads it
        finally:
            if stream is None:  # else it is counted until it has ended
                admission.closed(counted_as)

    def _start(self, request: Request, asked: bytes, counted_as: Place) -> "_EventStream":
        port = StreamPort()
        last_event = request.headers.get("last-event-id", "")
        address = address_of(request)
        session = self._gateway.session(port, SSE, one_way=True, address=address)
        take(session, _with_position(asked, last_event))
        return _EventStream(port, session, self._gateway.admission, counted_as)

    def _refusal(self, request: Request) -> HTTPStatus | None:
        if self._gateway.hub.draining:
            return HTTPStatus.SERVICE_UNAVAILABLE
        return self._gateway.admission.refusal(address_of(request))


class _EventStream(StreamingResponse):
    """Ends its session whatever ends the response, even before the first byte went out.

    Not as Starlette streams: the exception that ends its task group holds all of it in a cycle.
    """

    def __init__(
        self, port: StreamPort, session: Session, admission: Admission, counted_as: Place
    ) -> None:
        super().__init__((), media_type="text/event-stream", headers=HEADERS)
        self._port = port
        self._session = session
        self._admission = admission
        self._counted_as = counted_as

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        tasks = (asyncio.create_task(self._write(send)), asyncio.create_task(_wait_gone(receive)))
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._admission.closed(self._counted_as)
            self._session.lost()
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        if not tasks[0].cancelled():
            tasks[0].result()  # a fault in it is the server's to log

    async def _write(self, send: Send) -> None:
        start = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
        await send(start)
        async with aclosing(self._port.chunks()) as chunks:
            async for chunk in chunks:
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _wait_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _refused(status: HTTPStatus) -> Response:
    """An answer behind which the connection ends, because its body was not read."""
    return PlainTextResponse(f"{status.phrase}\n", status, {"connection": "close"})


async def _read_request(request: Request) -> bytes | None:
    """Return the connect request as JSON; None if it is too long."""
    if request.method == "GET":
        return request.query_params.get("cf_connect", "{}").encode()
    body = b""
    async for chunk in request.stream():
        if len(body) + len(chunk) > MESSAGE_BYTES_MAX:
            return None
        body += chunk
    return body or b"{}"


class _Subs(msgspec.Struct):
    subs: dict[str, SubscribeRequest] = {}


def _with_position(request: bytes, last_event: str) -> bytes:
    """Make the session's frame; a browser's Last-Event-ID is where the one channel goes on."""
    try:
        compact = msgspec.json.format(request, indent=-1)
        subs = msgspec.json.decode(request, type=_Subs).subs
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return b""  # no frame at all, so that a line break in it cannot smuggle in a command
    epoch, colon, offset = last_event.rpartition(":")
    if not colon or not offset.isdecimal() or len(subs) != 1 or len(offset) > 19:
        return connect_frame(compact)
    (channel,) = subs
    position = {channel: {"recover": True, "epoch": epoch, "offset": int(offset)}}
    whole = msgspec.json.decode(request, type=dict[str, msgspec.Raw])
    whole["subs"] = msgspec.Raw(msgspec.json.encode(position))
    return connect_frame(msgspec.json.encode(whole))

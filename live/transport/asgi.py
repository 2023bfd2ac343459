"""The WebSocket route through plain ASGI: works on any server, costs more than the front door.

One reader that always sits in `receive`, so pongs are read and a slow command delays nobody; one
writer that empties a bounded buffer, so nothing ever awaits a slow peer.
"""

import asyncio
from collections import deque
from collections.abc import Coroutine, Sequence
from http import HTTPStatus
from typing import ClassVar
from urllib.parse import parse_qs

from starlette.requests import HTTPConnection, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect

from live.base.faults import tell_fault
from live.connection.application import Gateway
from live.connection.viewer import take
from live.fanout import metrics
from live.fanout.cohort import BUFFER_HARD_BYTES
from live.protocol import codes
from live.protocol.codec import MESSAGE_BYTES_MAX, Codec
from live.protocol.codec_json import JSON
from live.protocol.codec_protobuf import PROTOBUF
from live.protocol.codes import Close
from live.protocol.session import Session
from live.protocol.shared import Shared
from live.transport.origin import origin_allowed

FLUSH_SECONDS = 5.0  # for the last replies of a connection that we close


PATH = "/connection/websocket"
PROTOBUF_NAME = "centrifuge-protobuf"


def choose_codec(offered: Sequence[str], query: str) -> Codec:
    """JSON, unless the client asks for Protobuf in one of the ways that the protocol knows."""
    asked = parse_qs(query)
    named = "protobuf" in (asked.get("format", []) + asked.get("cf_protocol", []))
    return PROTOBUF if named or PROTOBUF_NAME in offered else JSON


def address_of(connection: HTTPConnection) -> str | None:
    """The client's address; None for a unix socket."""
    return None if connection.client is None else connection.client.host


def page_allowed(connection: HTTPConnection, allowed: tuple[str, ...]) -> bool:
    """Whether the page that asks, if it is one, may connect; counts those that may not."""
    headers, secure = connection.headers, connection.url.scheme in ("https", "wss")
    welcome = origin_allowed(headers.get("origin"), headers.get("host"), allowed, secure=secure)
    if not welcome:
        metrics.refused(HTTPStatus.FORBIDDEN)
    return welcome


class WebSocketPort:
    """The way out of one ASGI WebSocket."""

    compresses: ClassVar[bool] = False  # servers would compress for each connection

    def __init__(self, socket: WebSocket, codec: Codec) -> None:
        self._socket = socket
        self._binary = codec.binary
        self._queue: deque[tuple[bytes | str, int]] = deque()
        self._queued = 0
        self._closing: Close | None = None
        self._filled = asyncio.Event()

    def write(self, data: bytes) -> None:
        self._put(data if self._binary else data.decode(), len(data))

    def write_shared(self, frame: Shared) -> None:
        self._put(frame.payload if self._binary else frame.text, len(frame.payload))

    def close(self, close: Close) -> None:
        if self._closing is None:
            self._closing = close
            self._filled.set()

    def buffered(self) -> int:
        return self._queued

    @property
    def closing(self) -> bool:
        """Whether the connection is to end, or has ended, by our close frame."""
        return self._closing is not None

    def _put(self, message: bytes | str, size: int) -> None:
        if self._closing is not None:
            return
        if self._queued > BUFFER_HARD_BYTES:  # replies nobody reads; broadcasts stop earlier
            self.close(codes.SLOW)
            return
        self._queue.append((message, size))
        self._queued += size
        self._filled.set()

    async def run(self) -> None:
        """Send what is queued until closed; ends when the close frame is out."""
        while True:
            await self._filled.wait()
            self._filled.clear()
            if self._closing is not None:
                break
            await self._flush()
        if self._closing is not codes.SLOW:
            async with asyncio.timeout(FLUSH_SECONDS):
                await self._flush()
        async with asyncio.timeout(FLUSH_SECONDS):  # a peer that does not read is not told
            await self._socket.close(self._closing.code, self._closing.reason)

    async def _flush(self) -> None:
        socket = self._socket
        while self._queue:
            message, size = self._queue.popleft()
            if isinstance(message, str):
                await socket.send_text(message)
            else:
                await socket.send_bytes(message)
            # Counted until the server has taken it: `send` waits while the peer does not read.
            self._queued -= size


class WebSocketEndpoint:
    """An ASGI app for Starlette: put `endpoint.routes()` into its table."""

    def __init__(self, gateway: Gateway, *, allowed_origins: tuple[str, ...] = ()) -> None:
        self._gateway = gateway
        self._allowed_origins = allowed_origins

    def routes(self) -> list[Route | WebSocketRoute]:
        """The socket, and what a plain request to its path is told (another method: 405)."""
        return [WebSocketRoute(PATH, self), Route(PATH, _ask_for_upgrade, methods=["GET"])]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        socket = WebSocket(scope, receive, send)
        if not page_allowed(socket, self._allowed_origins):
            refusal = PlainTextResponse("this origin may not connect\n", status_code=403)
            await socket.send_denial_response(refusal)
            return
        status = self._refusal(socket)
        if status is not None:
            refusal = PlainTextResponse(f"{status.phrase}\n", status, {"retry-after": "1"})
            await socket.send_denial_response(refusal)
            return
        counted_as = self._gateway.admission.opened(address_of(socket))
        try:
            await self._serve(socket)
        finally:
            self._gateway.admission.closed(counted_as)

    def _refusal(self, socket: WebSocket) -> HTTPStatus | None:
        if self._gateway.hub.draining:
            return HTTPStatus.SERVICE_UNAVAILABLE
        return self._gateway.admission.refusal(address_of(socket))

    async def _serve(self, socket: WebSocket) -> None:
        codec = choose_codec(socket.scope["subprotocols"], socket.url.query)
        # The subprotocol is echoed where it was offered: browsers and SDKs insist on it.
        chosen = PROTOBUF_NAME if PROTOBUF_NAME in socket.scope["subprotocols"] else None
        await socket.accept(subprotocol=chosen)
        port = WebSocketPort(socket, codec)
        session = self._gateway.session(port, codec, address=address_of(socket))
        reader = asyncio.create_task(_seen_through(_read(socket, session, codec), session))
        writer = asyncio.create_task(_seen_through(port.run(), session))
        try:
            await asyncio.wait((reader, writer), return_when=asyncio.FIRST_COMPLETED)
            if port.closing:  # their last replies and the close; nothing more of theirs is read
                await asyncio.wait((writer,))
        finally:
            session.lost()
            reader.cancel()
            writer.cancel()
            await asyncio.gather(reader, writer, return_exceptions=True)  # cancelled, or ended


async def _ask_for_upgrade(_request: Request) -> Response:
    headers = {"upgrade": "websocket", "connection": "Upgrade", "sec-websocket-version": "13"}
    return PlainTextResponse("this path speaks WebSocket\n", status_code=426, headers=headers)


async def _seen_through(work: Coroutine[object, object, None], session: Session) -> None:
    """Half of a connection, to its end; a bug in it ends this connection alone, and is seen."""
    try:
        await work
    except (WebSocketDisconnect, TimeoutError):
        pass  # the peer left while something was sent to them, or has stopped reading
    except Exception as error:
        tell_fault("session.failed", error, connection=session.client)
        session.close(codes.SERVER_ERROR)


async def _read(socket: WebSocket, session: Session, codec: Codec) -> None:
    """Feed the session until it or the peer is gone; faults of the frame itself end it here."""
    while not session.closed:
        event = await socket.receive()
        if event["type"] == "websocket.disconnect":
            return
        data: bytes | None = event.get("bytes")
        if codec.binary is (data is None):
            session.close(codes.WRONG_PROTOCOL)
            continue
        frame = event["text"].encode() if data is None else data
        if len(frame) > MESSAGE_BYTES_MAX:
            session.close(codes.TOO_BIG)
            continue
        take(session, frame)

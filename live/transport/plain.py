"""The plain route's two protocols of uvicorn, with what they lack for hostile or odd clients.

`PlainHttp` reads a head as RFC 9110 and 9112 want it and hands the socket over; `PlainSocket` is
the WebSocket behind it. Frames that are no whole message have a budget, one pass parses so many,
what was read and not yet taken by the application is one read at most, little is endured behind a
close frame, and a lost connection keeps no cycle - the same as line.py does for the front door.

Only this file, exchange.py, http_guard.py and handshake.py know the inside of uvicorn
(tests/unit/test_uvicorn_parts.py).
"""

import asyncio
import logging
from http import HTTPStatus
from typing import Any, Final

import httptools
from uvicorn._types import ASGIReceiveEvent, ASGISendEvent
from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.exceptions import InvalidHandshake
from websockets.frames import Frame
from websockets.http11 import Request, Response
from websockets.protocol import State
from websockets.server import ServerProtocol

from live.protocol import codes
from live.transport.fast.core import free
from live.transport.fast.frame_budget import PASS_FRAMES_MAX, SLICE_BYTES, FrameBudget, is_extra
from live.transport.fast.line import CLOSE_SECONDS
from live.transport.fast.turns import TURNS
from live.transport.http_guard import GuardedHttp

VERSION: Final = "13"  # of the WebSocket protocol, the only one there is


class PlainHttp(GuardedHttp):
    """Takes heads that other servers take: tabs around values, a target with its scheme."""

    def on_header(self, name: bytes, value: bytes) -> None:
        super().on_header(name, value.strip(b" \t"))

    def on_headers_complete(self) -> None:
        if not self.url.startswith(b"/") and self.parser.get_method() != b"CONNECT":
            self._take_absolute()
        asked = dict(self.headers).get(b"upgrade", b"").lower()
        if asked == b"websocket" and self.parser.get_http_version() != "1.1":
            self._refused = self._refused or HTTPStatus.BAD_REQUEST  # RFC 6455, 4.2.1
        super().on_headers_complete()

    def _take_absolute(self) -> None:
        """Keep path and query of an absolute target; it must name the Host that is checked."""
        try:
            parsed = httptools.parse_url(self.url)
        except httptools.HttpParserInvalidURLError:
            self._refused = self._refused or HTTPStatus.BAD_REQUEST
            return
        if not parsed.schema or not parsed.host:
            return  # `*`, and what the router refuses
        authority = parsed.host if b":" not in parsed.host else b"[%s]" % parsed.host
        if parsed.port is not None:
            authority += b":%d" % parsed.port
        if authority.lower() != dict(self.headers).get(b"host", b"").lower():
            self._refused = self._refused or HTTPStatus.BAD_REQUEST
        self.url = (parsed.path or b"/") + (b"?" + parsed.query if parsed.query else b"")


class _Handshake(ServerProtocol):
    def accept(self, request: Request) -> Response:
        response = super().accept(request)
        if isinstance(self.handshake_exc, InvalidHandshake):
            # Which version we speak, RFC 6455, 4.4.
            response.headers["Sec-WebSocket-Version"] = VERSION
        return response


class PlainSocket(WebSocketsSansIOProtocol):
    """`uvicorn.Config(ws=PlainSocket)`."""

    # Any: as uvicorn calls it.
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        free(self.conn)  # the one that we replace
        self.conn = _Handshake(
            max_size=self.config.ws_max_size, logger=logging.getLogger("uvicorn.error")
        )
        self._frame_budget = FrameBudget()
        self._unparsed = b""
        self._turn_due = False
        self._taken = 0  # messages, by the application
        self._deaf = False
        self._ending: asyncio.TimerHandle | None = None

    # From the transport

    def data_received(self, data: bytes) -> None:
        if not self.handshake_initiated:
            super().data_received(data)  # the request's head, whole
            return
        self._unparsed += data
        self._go_on()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._read_or_not()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._go_on()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._unparsed = b""
        if self._ending is not None:
            self._ending.cancel()
        free(self.conn)

    # From the application

    async def receive(self) -> ASGIReceiveEvent:
        """As uvicorn's, but what was read and is not parsed yet comes before more is read."""
        message = await self.queue.get()
        self._taken += 1
        if self._taken % PASS_FRAMES_MAX == 0:
            await asyncio.sleep(0)  # a queue with something in it lets nobody else run
        if self.queue.empty():
            self.read_paused = False
            self._go_on()
        return message

    async def send(self, message: ASGISendEvent) -> None:
        await self.writable.wait()
        closed = self.close_sent  # for what the peer sent
        if closed:
            raise ClientDisconnected  # uvicorn would blame the application
        await super().send(message)
        if message["type"] == "websocket.http.response.body" and not message.get("more_body"):
            self.handshake_complete = True  # refused; uvicorn would log that it never was
        if self.close_sent:
            self._end_soon()
        self._go_on()

    def on_task_complete(self, task: asyncio.Task[None]) -> None:
        super().on_task_complete(task)
        self._end_soon()  # whatever is left unread by the peer

    # Passes

    def _go_on(self) -> None:
        """Parse what was read, until the application has to take a message or others their turn."""
        frames = 0
        while self._may_parse():
            if frames >= PASS_FRAMES_MAX:
                self._turn_due = True
                TURNS.later(self._take_turn)
                break
            data, self._unparsed = self._unparsed[:SLICE_BYTES], self._unparsed[SLICE_BYTES:]
            frames += self._parse(data)
        self._read_or_not()

    def _may_parse(self) -> bool:
        return (
            bool(self._unparsed)
            and self.handshake_complete
            and not (self._turn_due or self.read_paused or self._deaf or self.disconnected)
            and self.writable.is_set()
        )

    def _take_turn(self) -> None:
        self._turn_due = False
        self._go_on()

    def _parse(self, data: bytes) -> int:
        """Let websockets and uvicorn take a slice; returns the number of frames."""
        closing = self.close_sent
        self.conn.receive_data(data)
        frames = [event for event in self.conn.events if isinstance(event, Frame)]
        if closing:
            self._deaf = not self._frame_budget.endure(len(data), len(frames))
        elif not self._frame_budget.pay(sum(map(is_extra, frames))):
            self._close_flood()
            return len(frames)
        if self.conn.parser_exc is not None and not closing:
            self.handle_parser_exception()
        else:
            self.handle_events()
        return len(frames)

    def _close_flood(self) -> None:
        close = codes.FLOOD
        self.conn.events_received()  # thrown away
        if self.conn.state is State.OPEN:
            self.conn.send_close(close.code, close.reason)
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_sent = True
        gone = {"type": "websocket.disconnect", "code": close.code, "reason": close.reason}
        self.queue.put_nowait(gone)  # type: ignore[arg-type]  # a TypedDict
        self._end_soon()

    def _read_or_not(self) -> None:
        """uvicorn pauses where a message waits; this is the only other place that decides."""
        if self.transport.is_closing():
            return
        waits = self.read_paused and not self.close_sent
        if self._unparsed or self._deaf or waits or not self.writable.is_set():
            self.transport.pause_reading()
        else:
            self.transport.resume_reading()

    def _end_soon(self) -> None:
        """A peer that neither answers our close nor reads what they are owed is cut off."""
        if self._ending is None and not self.disconnected:
            self._ending = self.loop.call_later(CLOSE_SECONDS, self.transport.abort)

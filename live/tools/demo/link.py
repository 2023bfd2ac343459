"""One viewer's WebSocket: the sans-I/O core of `websockets` on an asyncio transport.

Owns: one socket, the answers awaited on it, the liveness clock. A link lives once; who wants to
come back makes another one with the same `Memory`.
Always: every command ends in an answer, a `CallFailed`, or `NoAnswer` within its time-out; after
`closed` nothing is delivered.
Why not `websockets.connect`: an arrival is stamped in `data_received`, before any task is switched
to, so the measured latency is the server's and not this process' queue of tasks.
"""

import asyncio
import ssl
import time
from collections.abc import Callable
from typing import Protocol

import msgspec
from websockets.client import ClientProtocol
from websockets.frames import Frame as WsFrame
from websockets.frames import Opcode
from websockets.http11 import Response
from websockets.protocol import State
from websockets.uri import parse_uri

from live.tools.demo.wire import (
    MESSAGE_BYTES_MAX,
    PONG,
    Connected,
    Frame,
    Memory,
    Publication,
    decode,
    encode_command,
)

COMMAND_SECONDS = 5.0  # what the official SDKs wait
PING_GRACE_SECONDS = 10.0  # beyond the server's ping interval, as the SDKs have it
NORMAL_CLOSE = 1000
ABNORMAL_CLOSE = 1006


class NoAnswer(Exception):
    """The outcome is unknown: a time-out or a lost connection. Repeat with the same key."""


class CallFailed(Exception):
    """The server answered with an error."""

    def __init__(self, code: int, text: str, *, temporary: bool) -> None:
        super().__init__(f"{code} {text}")
        self.code = code
        self.temporary = temporary


class Listener(Protocol):
    """Who owns the link; called in `data_received`, so nothing here may block."""

    def on_publication(self, channel: str, publication: Publication, at: float | None) -> None:
        """`at`: arrival in Unix ms by this machine's clock; None for one that was recovered."""

    def on_closed(self, code: int, reason: str) -> None: ...


class Link(asyncio.Protocol):
    def __init__(self, url: str, memory: Memory, listener: Listener) -> None:
        self.memory = memory
        self.listener = listener
        self.closed = False
        self.ping_seconds = 0.0
        self.heard_at = time.monotonic()
        self._ws = ClientProtocol(parse_uri(url), max_size=MESSAGE_BYTES_MAX)
        self._transport: asyncio.Transport | None = None
        self._loop = asyncio.get_running_loop()
        self._opened: asyncio.Future[None] = self._loop.create_future()
        self._waiting: dict[int, asyncio.Future[Frame]] = {}
        self._number = 0
        self._pong = False
        self._parts: list[bytes] = []

    # -- what the owner calls

    async def join(self, token: str, show: str) -> Connected:
        """Connect to the show. Raises CallFailed, NoAnswer, OSError."""
        try:
            await asyncio.wait_for(self._opened, COMMAND_SECONDS)
        except TimeoutError:
            raise NoAnswer("the upgrade took too long") from None
        frame = await self._ask("connect", self.memory.connect_request(token, show))
        return frame.connect or Connected()

    async def rpc(self, method: str, data: object) -> bytes:
        """Call a method; the answer's JSON. Raises CallFailed or NoAnswer."""
        frame = await self._ask("rpc", {"method": method, "data": data})
        return bytes(frame.rpc.data) if frame.rpc is not None else b"null"

    async def publish(self, channel: str, data: object) -> None:
        """Publish to a channel. Raises CallFailed or NoAnswer."""
        await self._ask("publish", {"channel": channel, "data": data})

    def close(self) -> None:
        """Say goodbye and end; safe to call twice."""
        if self._transport is not None and not self._transport.is_closing():
            if self._ws.state is State.OPEN:
                self._ws.send_close(NORMAL_CLOSE, "goodbye")
                self._flush()
            self._transport.close()

    def cut(self) -> None:
        """End as a lost network does: without a word."""
        if self._transport is not None:
            self._transport.abort()

    def is_silent(self, now: float) -> bool:
        """Whether the server missed its ping for too long."""
        if self.closed or not self.ping_seconds:
            return False
        return now - self.heard_at > self.ping_seconds + PING_GRACE_SECONDS

    # -- commands and answers

    async def _ask(self, method: str, params: object) -> Frame:
        if self.closed or self._ws.state is not State.OPEN:
            raise NoAnswer("the connection is closed")
        self._number += 1
        answer: asyncio.Future[Frame] = self._loop.create_future()
        self._waiting[self._number] = answer
        number = self._number
        self._ws.send_text(encode_command(number, method, params))
        self._flush()
        try:
            frame = await asyncio.wait_for(answer, COMMAND_SECONDS)
        except TimeoutError:
            raise NoAnswer(f"no answer to {method} in {COMMAND_SECONDS:.0f} s") from None
        finally:
            self._waiting.pop(number, None)
        if frame.error is not None:
            error = frame.error
            raise CallFailed(error.code, error.message, temporary=error.temporary)
        return frame

    def _on_frame(self, frame: Frame, at: float) -> None:
        if frame.id:
            answer = self._waiting.get(frame.id)
            if answer is not None and not answer.done():
                answer.set_result(frame)
            if frame.connect is not None:
                # Here, not in `join`: a push or a ping may follow in the same message.
                self._pong = frame.connect.pong
                self.ping_seconds = float(frame.connect.ping)
                for channel, missed in self.memory.joined(frame.connect):
                    self.listener.on_publication(channel, missed, None)
        elif frame.push is not None:
            push = frame.push
            if push.pub is not None and self.memory.accept(push.channel, push.pub):
                self.listener.on_publication(push.channel, push.pub, at)
            elif push.disconnect is not None:
                self._finish(push.disconnect.code, push.disconnect.reason)
                self.cut()
        elif frame.error is None and self._pong and self._ws.state is State.OPEN:
            self._ws.send_text(PONG)

    # -- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport), "a stream transport was asked for"
        self._transport = transport
        self._ws.send_request(self._ws.connect())
        self._flush()

    def data_received(self, data: bytes) -> None:
        at = time.time() * 1000
        self.heard_at = time.monotonic()
        self._ws.receive_data(data)
        for event in self._ws.events_received():
            if isinstance(event, Response):
                self._on_handshake()
            elif isinstance(event, WsFrame):
                self._on_ws_frame(event, at)
        self._flush()
        if self._ws.close_expected() and self._transport is not None:
            self._transport.close()

    def eof_received(self) -> None:
        self._ws.receive_eof()

    def connection_lost(self, exc: Exception | None) -> None:
        code = self._ws.close_rcvd.code if self._ws.close_rcvd else ABNORMAL_CLOSE
        reason = self._ws.close_rcvd.reason if self._ws.close_rcvd else str(exc or "cut off")
        self._finish(code, reason)

    # -- below

    def _on_handshake(self) -> None:
        fault = self._ws.handshake_exc
        if self._opened.done():
            return
        if fault is None:
            self._opened.set_result(None)
        else:
            self._opened.set_exception(NoAnswer(f"the upgrade was refused: {fault}"))

    def _on_ws_frame(self, frame: WsFrame, at: float) -> None:
        if frame.opcode not in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
            return
        self._parts.append(bytes(frame.data))
        if not frame.fin:
            return
        message, self._parts = b"".join(self._parts), []
        try:
            frames = decode(message)
        except msgspec.DecodeError as fault:
            self._finish(ABNORMAL_CLOSE, f"the server's frame is not the protocol: {fault}")
            self.cut()
            return
        for one in frames:
            self._on_frame(one, at)

    def _flush(self) -> None:
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        for chunk in self._ws.data_to_send():
            if chunk:
                transport.write(chunk)

    def _finish(self, code: int, reason: str) -> None:
        if self.closed:
            return
        self.closed = True
        lost = NoAnswer(f"closed with {code}: {reason}")
        if not self._opened.done():
            self._opened.set_exception(lost)
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(lost)
        if self._opened.done() and not self._opened.cancelled():
            self._opened.exception()  # nobody may be waiting any more; that is no bug
        self.listener.on_closed(code, reason)


async def open_link(url: str, memory: Memory, listener: Listener) -> Link:
    """Open the TCP connection and begin the handshake. Raises OSError or TimeoutError."""
    target = parse_uri(url)
    make: Callable[[], Link] = lambda: Link(url, memory, listener)  # noqa: E731  # typed for mypy
    secure = ssl.create_default_context() if target.secure else None
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(COMMAND_SECONDS):
        _, link = await loop.create_connection(make, target.host, target.port, ssl=secure)
    return link

"""A viewer's connection on gevent: the sans-I/O core of `websockets` over a cooperative socket.

Owns: one socket and the greenlet that reads it. The protocol's meaning: `live/tools/demo/wire.py`.
Always: a command ends in an answer, `CallFailed`, or `NoAnswer`; after `closed` nothing is heard.
"""

import ssl
import time
from collections.abc import Callable

import gevent
import msgspec
from gevent import socket
from gevent.event import AsyncResult, Event
from gevent.lock import RLock
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
READ_BYTES = 65_536
ABNORMAL_CLOSE = 1006
NORMAL_CLOSE = 1000

OnPublication = Callable[[str, Publication, float | None], None]


class NoAnswer(Exception):
    """A time-out or a lost connection: the outcome is unknown."""


class CallFailed(Exception):
    """The server answered with an error."""

    def __init__(self, code: int, text: str, *, temporary: bool) -> None:
        super().__init__(f"error {code}: {text}")
        self.code = code
        self.temporary = temporary


class Client:
    """Connects in `__init__`. Raises OSError and NoAnswer."""

    def __init__(
        self, url: str, memory: Memory, on_publication: OnPublication, *, receive_bytes: int = 0
    ) -> None:
        """`receive_bytes`: the kernel's receive buffer, 0 for the system's choice."""
        target = parse_uri(url)
        self.closed = Event()
        self.close_code = 0
        self.close_reason = ""
        self.bytes_received = 0
        self._memory = memory
        self._on_publication = on_publication
        self._pong = False
        self._number = 0
        self._waiting: dict[int, AsyncResult[Frame]] = {}
        self._parts: list[bytes] = []
        self._opened: AsyncResult[None] = AsyncResult()
        self._sending = RLock()
        self._reading = Event()
        self._reading.set()
        self._ws = ClientProtocol(target, max_size=MESSAGE_BYTES_MAX)
        self._socket = _open_socket(target.host, target.port, receive_bytes, secure=target.secure)
        self._reader = gevent.spawn(self._read)
        self._ws.send_request(self._ws.connect())
        self._flush()
        try:
            self._opened.get(timeout=COMMAND_SECONDS)
        except gevent.Timeout:
            self.cut()
            raise NoAnswer("the upgrade took too long") from None

    # -- commands

    def join(self, token: str, show: str) -> Connected:
        frame = self._ask("connect", self._memory.connect_request(token, show))
        return frame.connect or Connected()

    def rpc(self, method: str, data: object) -> bytes:
        frame = self._ask("rpc", {"method": method, "data": data})
        return bytes(frame.rpc.data) if frame.rpc is not None else b"null"

    def publish(self, channel: str, data: object) -> None:
        self._ask("publish", {"channel": channel, "data": data})

    def _ask(self, method: str, params: object) -> Frame:
        if self.closed.is_set() or self._ws.state is not State.OPEN:
            raise NoAnswer("the connection is closed")
        self._number += 1
        number = self._number
        answer = self._waiting[number] = AsyncResult()
        try:
            self._ws.send_text(encode_command(number, method, params))
            self._flush()
            frame = answer.get(timeout=COMMAND_SECONDS)
        except gevent.Timeout:
            raise NoAnswer(f"no answer to {method} in {COMMAND_SECONDS:.0f} s") from None
        finally:
            self._waiting.pop(number, None)
        assert frame is not None, "what is waited for is a frame or an error"
        if frame.error is not None:
            error = frame.error
            raise CallFailed(error.code, error.message, temporary=error.temporary)
        return frame

    # -- the end of it

    def close(self) -> None:
        """Say goodbye and hang up."""
        if self._ws.state is State.OPEN:
            self._ws.send_close(NORMAL_CLOSE, "goodbye")
            self._flush()
        self.cut()

    def cut(self) -> None:
        """Hang up without a word, as a lost network does."""
        self._finish(ABNORMAL_CLOSE, "cut off by ourselves")
        if gevent.getcurrent() is not self._reader:
            self._reader.kill(block=False)
        self._socket.close()

    def stop_reading(self) -> None:
        """Behave like a phone in a tunnel: the socket stays open, nothing is taken from it."""
        self._reading.clear()

    def read_on(self) -> None:
        self._reading.set()

    # -- below

    def _read(self) -> None:
        try:
            while not self.closed.is_set():
                self._reading.wait()
                data = self._socket.recv(READ_BYTES)
                at = time.time() * 1000
                self.bytes_received += len(data)
                if data:
                    self._ws.receive_data(data)
                else:
                    self._ws.receive_eof()
                self._take_events(at)
                self._flush()
                if not data or self._ws.close_expected():
                    break
        except OSError as fault:
            self._finish(ABNORMAL_CLOSE, str(fault))
        except msgspec.DecodeError as fault:
            self._finish(ABNORMAL_CLOSE, f"the frame is not the protocol: {fault}")
        received = self._ws.close_rcvd
        if received is not None:
            self._finish(received.code, received.reason)
        else:
            self._finish(ABNORMAL_CLOSE, "the connection was lost")
        self._socket.close()

    def _take_events(self, at: float) -> None:
        for event in self._ws.events_received():
            if isinstance(event, Response):
                fault = self._ws.handshake_exc
                if fault is None:
                    self._opened.set(None)
                else:
                    self._opened.set_exception(NoAnswer(f"the upgrade was refused: {fault}"))
            elif isinstance(event, WsFrame):
                self._take_ws_frame(event, at)

    def _take_ws_frame(self, frame: WsFrame, at: float) -> None:
        if frame.opcode not in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
            return
        self._parts.append(bytes(frame.data))
        if frame.fin:
            message, self._parts = b"".join(self._parts), []
            for one in decode(message):
                self._take_frame(one, at)

    def _take_frame(self, frame: Frame, at: float) -> None:
        if frame.id:
            if frame.connect is not None:
                # Here, not in `join`: a push or a ping may follow in the same message.
                self._pong = frame.connect.pong
                for channel, missed in self._memory.joined(frame.connect):
                    self._on_publication(channel, missed, None)
            answer = self._waiting.get(frame.id)
            if answer is not None:
                answer.set(frame)
        elif frame.push is not None:
            push = frame.push
            if push.pub is not None and self._memory.accept(push.channel, push.pub):
                self._on_publication(push.channel, push.pub, at)
            elif push.disconnect is not None:
                self._finish(push.disconnect.code, push.disconnect.reason)
        elif frame.error is None and self._pong and self._ws.state is State.OPEN:
            self._ws.send_text(PONG)

    def _flush(self) -> None:
        try:
            with self._sending:  # two greenlets in `sendall` would mix their frames
                for chunk in self._ws.data_to_send():
                    if chunk:
                        self._socket.sendall(chunk)
        except OSError as fault:
            self._finish(ABNORMAL_CLOSE, str(fault))

    def _finish(self, code: int, reason: str) -> None:
        if self.closed.is_set():
            return
        self.close_code, self.close_reason = code, reason
        self.closed.set()
        lost = NoAnswer(f"closed with {code}: {reason}")
        if not self._opened.ready():
            self._opened.set_exception(lost)
        for answer in self._waiting.values():
            if not answer.ready():
                answer.set_exception(lost)


def _open_socket(host: str, port: int, receive_bytes: int, *, secure: bool) -> socket.socket:
    plain = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        if receive_bytes:
            # Before connect: afterwards the window has been announced already.
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        plain.settimeout(COMMAND_SECONDS)
        plain.connect((host, port))
        plain.settimeout(None)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if secure:
            return ssl.create_default_context().wrap_socket(plain, server_hostname=host)
    except BaseException:
        plain.close()
        raise
    return plain

"""One phone of a crowd: a WebSocket connection on the level of frames, as light as can be.

What it sends was built before; what comes back is counted by searching it. Where it is an ear it
also reads when each publication was sent: the monotonic clock is the same for all processes.
"""

import asyncio
import re
import time
import zlib
from collections.abc import Callable, Iterator
from typing import ClassVar, Final, Protocol

MARK: Final = b"T@"  # before the 18 digits of the nanosecond at which a publication was sent
HELD: Final = b'"outcome":"held"'
UNPACKED_MAX: Final = 256  # packed messages that are remembered; later ones come within that
REFUSED_SECONDS: Final = 5.0  # what a click counts that was told "busy": the SDKs' patience
FIRST_CLICK: Final = 2  # the id of the command; connect is 1

_STAMP = re.compile(rb"T@(\d{18})")
_STAMP_BYTES = 20
_ANSWER = re.compile(rb'"id":(\d+),"(?:rpc":\{"data":\{"outcome":"held"|(error)":\{"code":111,)')
_FAULT = re.compile(rb'"error":\{"code":(?!111,)\d+,')
_ANSWER_BYTES = 64  # at least one less than what it matches, so that none is counted twice
_PING, _PONG = b"\x81\x02{}", b"\x81\x82\0\0\0\0{}"
HANDSHAKE = (
    b"GET /connection/websocket HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\n"
    b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n%s\r\n"
)
_OFFER = b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n"
_SYNC_TAIL = b"\0\0\xff\xff"


def text_frame(text: bytes) -> bytes:
    """Frame a client's message."""
    length = len(text)
    if length < 126:
        return bytes((0x81, 0x80 | length)) + b"\0\0\0\0" + text
    return b"\x81\xfe" + length.to_bytes(2, "big") + b"\0\0\0\0" + text


class Company(Protocol):
    """What a phone tells its crowd."""

    latencies: list[float]
    received: int  # bytes, of publications and what frames them

    def arrived(self) -> None:
        """It has done what all were asked to do."""
        ...

    def heard(self, publications: int) -> None: ...

    def fail(self, reason: str) -> None: ...

    def sent_away(self, client: "Phone") -> None:
        """It was told to come back later."""
        ...

    def lost(self, client: "Phone") -> None: ...


class Phone(asyncio.Protocol):
    """One phone."""

    __slots__ = (
        "_crowd",
        "_ear",
        "_pressed",
        "_rest",
        "_take",
        "clicks",
        "pressed_at",
        "transport",
    )

    offer: ClassVar[bytes] = b""

    def __init__(self, crowd: Company, *, ear: bool) -> None:
        self._crowd = crowd
        self._ear = ear
        self._rest = b""
        self._take: Callable[[bytes], None] = self._shaking
        self.transport: asyncio.Transport | None = None
        self.clicks: Iterator[bytes] = iter(())
        self.pressed_at = 0.0
        self._pressed: list[float] = []  # when, of each click at random

    # uvloop's transports have the methods of Transport but are no subclass of it.
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.transport = transport
        transport.write(HANDSHAKE % self.offer)

    def data_received(self, data: bytes) -> None:
        self._take(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._crowd.lost(self)

    def join(self, frame: bytes) -> None:
        self._take = self._joining
        self._write(frame)

    def press(self) -> bool:
        """Send the next click; False if there is none left."""
        frame = next(self.clicks, None)
        if frame is None:
            return False
        self._take = self._pressing
        self.pressed_at = time.perf_counter()
        self._write(frame)
        return True

    def press_at_random(self) -> None:
        """Send the next click, whether or not the last one is answered."""
        self._take = self._answering
        self._pressed.append(time.perf_counter())
        self._write(next(self.clicks))

    def _write(self, data: bytes) -> None:
        assert self.transport is not None, "connected"
        self.transport.write(data)

    def _shaking(self, data: bytes) -> None:
        if not data.startswith(b"HTTP/1.1 101"):
            self._crowd.fail(f"handshake: {data[:80]!r}")
            return
        self._crowd.arrived()

    def _joining(self, data: bytes) -> None:
        self._rest += data
        if b'"connect":' in self._rest:
            self._rest = b""
            self._take = self._listening
            self._crowd.arrived()
        elif b'"error":' in self._rest:
            if b'"temporary":true' in self._rest:
                self._crowd.sent_away(self)
            else:
                self._crowd.fail(f"connect: {self._rest[:200]!r}")

    def _listening(self, data: bytes) -> None:
        self._crowd.received += len(data)
        if _PING in data:
            self._write(_PONG)
        data = self._rest + data
        if self._ear:
            self._listen_closely(data)
        else:
            self._rest = data[-1:]  # the mark has two bytes, which may come in two reads
            self._crowd.heard(data.count(MARK))

    def _listen_closely(self, data: bytes) -> None:
        now, end, count = time.monotonic_ns(), 0, 0
        latencies = self._crowd.latencies
        for found in _STAMP.finditer(data):
            latencies.append((now - int(found[1])) / 1e9)
            end, count = found.end(), count + 1
        self._rest = data[max(end, len(data) - _STAMP_BYTES + 1) :]
        self._crowd.heard(count)

    def _pressing(self, data: bytes) -> None:
        if _PING in data:
            self._write(_PONG)
        self._rest += data
        if HELD in self._rest:
            self._rest = b""
            self._crowd.latencies.append(time.perf_counter() - self.pressed_at)
            if not self.press():
                self._take = self._listening
                self._crowd.arrived()
        elif b'"error":' in self._rest or b'"outcome":' in self._rest:
            self._crowd.fail(f"click: {self._rest[:200]!r}")

    def _answering(self, data: bytes) -> None:
        if _PING in data:
            self._write(_PONG)
        data, now, end, count = self._rest + data, time.perf_counter(), 0, 0
        for found in _ANSWER.finditer(data):
            took = now - self._pressed[int(found[1]) - FIRST_CLICK]
            # Whoever was told to come back has waited in vain, however soon they were told.
            self._crowd.latencies.append(REFUSED_SECONDS if found[2] else took)
            end, count = found.end(), count + 1
        if _FAULT.search(data):
            self._crowd.fail(f"click: {data[:200]!r}")
        self._rest = data[max(end, len(data) - _ANSWER_BYTES) :]
        self._crowd.heard(count)


class Unpacker:
    """Inflates for a whole crowd: who shares a stream gets the same bytes, so once is enough."""

    def __init__(self) -> None:
        self._reader = zlib.decompressobj(wbits=-15)
        self._known: dict[bytes, list[int]] = {}

    def stamps(self, packed: bytes) -> list[int]:
        """When each publication in a packed message was sent."""
        found = self._known.get(packed)
        if found is None:
            text = self._reader.decompress(packed + _SYNC_TAIL)
            found = self._known[packed] = [int(stamp) for stamp in _STAMP.findall(text)]
            if len(self._known) > UNPACKED_MAX:
                del self._known[next(iter(self._known))]
        return found


class PackedPhone(Phone):
    """A phone that takes compressed broadcasts; it reads whole frames."""

    __slots__ = ("_unpacker",)

    offer: ClassVar[bytes] = _OFFER

    def __init__(self, crowd: Company, unpacker: Unpacker, *, ear: bool) -> None:
        super().__init__(crowd, ear=ear)
        self._unpacker = unpacker

    def _listening(self, data: bytes) -> None:
        self._crowd.received += len(data)
        data, at, count = self._rest + data, 0, 0
        while (frame := _read_frame(data, at)) is not None:
            packed, payload, at = frame
            if payload == b"{}":
                self._write(_PONG)
                continue
            if packed:
                stamps = self._unpacker.stamps(payload)
            else:
                stamps = [int(stamp) for stamp in _STAMP.findall(payload)]
            count += len(stamps)
            if self._ear:
                now = time.monotonic_ns()
                self._crowd.latencies += [(now - stamp) / 1e9 for stamp in stamps]
        self._rest = data[at:]
        self._crowd.heard(count)


def _read_frame(data: bytes, at: int) -> tuple[bool, bytes, int] | None:
    """Whether it is packed, its payload, and where the next one begins; None if it is not whole."""
    if len(data) - at < 2:
        return None
    length, body = data[at + 1], at + 2
    if length >= 126:
        size = 2 if length == 126 else 8
        length, body = int.from_bytes(data[body : body + size], "big"), body + size
    end = body + length
    return None if end > len(data) else (bool(data[at] & 0x40), data[body:end], end)

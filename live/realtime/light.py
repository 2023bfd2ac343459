"""A WebSocket connection without an ASGI server around it: one small object per viewer.

The fast path reads only one shape: complete, masked, final data frames up to the message limit.
Anything else - fragments, pings, closes, bad frames, long remainders - promotes the connection for
good to `websockets.protocol.Protocol`, the documented sans-I/O core, so conformance is theirs and
only odd clients pay for its memory. Our own close frame goes through it, too, for the handshake
that follows.

Always: nothing is written after a close frame; a due pong leaves before the message behind it is
delivered; while the peer does not read, we do not read either.
Runs on: the event loop; uvloop joins what is written in one loop turn into one system call.
"""

import asyncio
from typing import TYPE_CHECKING, ClassVar, Protocol

import structlog
from websockets.frames import Frame, Opcode
from websockets.protocol import SERVER, State
from websockets.protocol import Protocol as SansIO
from websockets.speedups import apply_mask

from live.protocol import codes
from live.protocol.codec import MESSAGE_BYTES_MAX, Codec
from live.protocol.codes import Close
from live.protocol.session import Session
from live.protocol.shared import Shared, frame_header
from live.realtime.headcount import Place

if TYPE_CHECKING:  # the front door makes connections; a connection only reports back to it
    from asyncio import Transport

REST_BYTES_MAX = 4_096  # of an incomplete frame that the fast path keeps; more goes to the core
CLOSE_SECONDS = 5.0  # for the peer's half of the closing handshake
LATE_BYTES_MAX = 65_536  # read behind our close frame: what an honest peer had on its way
WRITE_HIGH_BYTES = 65_536  # unsent bytes at which we stop to read from this peer

_FINAL = 0x80
_MASKED = 0x80
_HEADERS = {
    opcode: tuple(frame_header(_FINAL | opcode, length) for length in range(126))
    for opcode in (Opcode.TEXT, Opcode.BINARY)
}

log = structlog.get_logger()


class Owner(Protocol):
    """What a connection tells the front door."""

    def ended(self, connection: "LightConnection") -> None: ...


class LightConnection(asyncio.Protocol):
    """Port of one session and protocol of one transport that has been upgraded."""

    __slots__ = (
        "_core",
        "_late",
        "_owner",
        "_rest",
        "codec",
        "counted_as",
        "session",
        "transport",
    )

    compresses: ClassVar[bool] = False

    def __init__(self, transport: "Transport", codec: Codec, owner: Owner) -> None:
        self.transport = transport
        self.codec = codec
        self.session: Session | None = None  # set right after, by the front door
        self.counted_as: Place | None = None  # this, too: its place in admission's count
        self._owner = owner
        self._rest = b""  # the incomplete frame at the end of the last read
        self._core: SansIO | None = None  # None while the connection is on the fast path
        self._late = 0  # bytes that came behind our close frame
        transport.set_write_buffer_limits(high=WRITE_HIGH_BYTES)

    # Port

    def write(self, data: bytes) -> None:
        if self._writable():
            length = len(data)
            opcode = Opcode.BINARY if self.codec.binary else Opcode.TEXT
            if length < 126:
                self.transport.write(_HEADERS[opcode][length] + data)
            else:
                self.transport.write(frame_header(_FINAL | opcode, length) + data)

    def write_shared(self, frame: Shared) -> None:
        core = self._core
        if core is None or core.state is State.OPEN:
            self.transport.write(frame.wire)

    def close(self, close: Close) -> None:
        core = self._core or self._promote()
        if core.state is State.OPEN:
            core.send_close(close.code, close.reason)
            self._flush(core)
            self._end_soon()

    @property
    def promoted(self) -> bool:
        """Whether the sans-I/O core has taken over."""
        return self._core is not None

    def buffered(self) -> int:
        return self.transport.get_write_buffer_size()

    def _writable(self) -> bool:
        return self._core is None or self._core.state is State.OPEN

    # asyncio.Protocol

    def data_received(self, data: bytes) -> None:
        if self._core is not None:
            self._feed_core(data)
            return
        if self._rest:
            data = self._rest + data
            self._rest = b""
        opcode = Opcode.BINARY if self.codec.binary else Opcode.TEXT
        first = _FINAL | opcode
        at, end = 0, len(data)
        while end - at >= 6:  # the shortest head with a mask
            length, body = data[at + 1] & 0x7F, at + 6
            kind = data[at]
            if kind != first and not self._reads(kind):
                break
            if data[at + 1] < _MASKED or length == 127:
                break
            if length == 126:
                length, body = int.from_bytes(data[at + 2 : at + 4], "big"), at + 8
            if length > MESSAGE_BYTES_MAX or body + length > end:
                break
            message = apply_mask(data[body : body + length], data[body - 4 : body])
            if kind != first:
                inflated = self._inflate(message)
                if inflated is None:
                    break
                message = inflated
            self._deliver(message)
            at = body + length
            if self.promoted:  # closed meanwhile; the rest is the core's
                self._feed_core(data[at:])
                return
        self._keep_or_promote(data, at, first)

    def _keep_or_promote(self, data: bytes, at: int, first: int) -> None:
        """Keep the start of an ordinary frame; give anything else to the core."""
        rest = data[at:]
        odd = (
            (len(rest) > 0 and rest[0] != first)
            or (len(rest) > 1 and (rest[1] < _MASKED or rest[1] & 0x7F == 127))
            or len(rest) > REST_BYTES_MAX
        )
        if odd:
            self._promote()
            self._feed_core(rest)
        else:
            self._rest = rest

    def _reads(self, kind: int) -> bool:
        """Whether the fast path knows what to do with another first byte of a frame."""
        return False

    def _inflate(self, data: bytes) -> bytes | None:
        """Return the message; None leaves the frame, and what is wrong with it, to the core."""
        raise AssertionError("only connections that compress read such frames")

    def eof_received(self) -> None:
        """Close our side, too: there is no half-open WebSocket."""

    def connection_lost(self, exc: Exception | None) -> None:
        if self.session is not None:
            self.session.lost()
        self._owner.ended(self)

    def pause_writing(self) -> None:
        if not self.transport.is_closing():
            self.transport.pause_reading()

    def resume_writing(self) -> None:
        if not self.transport.is_closing():
            self.transport.resume_reading()

    def shutdown(self) -> None:
        """Called by uvicorn for all that is still open when it stops."""
        if self.session is not None:
            self.session.close(codes.SHUTDOWN)

    # The core

    def _promote(self) -> SansIO:
        self._core = self._make_core()
        rest, self._rest = self._rest, b""
        if rest:
            self._core.receive_data(rest)
        return self._core

    def _make_core(self) -> SansIO:
        return SansIO(SERVER, state=State.OPEN, max_size=MESSAGE_BYTES_MAX)

    def _feed_core(self, data: bytes) -> None:
        core = self._core
        assert core is not None, "only promoted connections have a core"
        was_open = core.state is State.OPEN
        core.receive_data(data)
        if was_open:
            self._flush(core)  # a due pong goes first
        else:
            self._flush_end(core)
            self._count_late(len(data))
        for event in core.events_received():
            assert isinstance(event, Frame), "after the handshake there are only frames"
            self._take_frame(event)
        self._flush(core)
        if was_open and core.state is not State.OPEN:
            self._end_soon()
        if core.close_rcvd is not None:
            # Not before: to end with unread data in the kernel is a reset, which can take our
            # close frame with it, and the client would never learn the code.
            self.transport.close()

    def _count_late(self, size: int) -> None:
        """Stop to read from a peer that goes on sending; the deadline cuts him off."""
        self._late += size
        if self._late > LATE_BYTES_MAX and not self.transport.is_closing():
            self.transport.pause_reading()

    def _end_soon(self) -> None:
        """A peer that does not finish the closing handshake is cut off."""
        asyncio.get_running_loop().call_later(CLOSE_SECONDS, self.transport.abort)

    def _take_frame(self, frame: Frame) -> None:
        if frame.opcode in (Opcode.PING, Opcode.PONG, Opcode.CLOSE):
            return  # answered by the core
        if frame.opcode is Opcode.CONT or not frame.fin:
            self._take_fragment(frame)
            return
        self._take_message(frame.opcode, bytes(frame.data))

    def _take_fragment(self, frame: Frame) -> None:
        """Collect the parts; the core has checked their order and their sum against the limit."""
        if frame.opcode is not Opcode.CONT:
            self._rest = bytes((frame.opcode,)) + bytes(frame.data)
        else:
            self._rest += bytes(frame.data)
        if frame.fin:
            whole, self._rest = self._rest, b""
            self._take_message(Opcode(whole[0]), whole[1:])

    def _take_message(self, opcode: Opcode, data: bytes) -> None:
        if (opcode is Opcode.BINARY) is not self.codec.binary:
            if self.session is not None:
                self.session.close(codes.WRONG_PROTOCOL)
            return
        self._deliver(data)

    def _flush(self, core: SansIO) -> None:
        for chunk in core.data_to_send():
            if chunk:
                self.transport.write(chunk)
            elif self.transport.can_write_eof():
                self.transport.write_eof()

    def _flush_end(self, core: SansIO) -> None:
        """After our close frame only the end itself may follow; the core would still pong."""
        if b"" in core.data_to_send() and self.transport.can_write_eof():
            self.transport.write_eof()

    def _deliver(self, message: bytes) -> None:
        session = self.session
        assert session is not None, "the front door sets it before data arrives"
        try:
            session.receive(message)
        except Exception:  # a bug in one command must end this connection only, and be seen
            log.exception("session failed", client=session.client)
            session.close(codes.SERVER_ERROR)

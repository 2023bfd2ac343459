"""One light connection as the loop knows it: what is written, whose turn it is, how it ends.

Beneath light.py, which reads the usual frames fast. Here is the rest: the port of the session,
`websockets`' sans-I/O core (core.py) for all that is unusual, and for the closing handshake.

Always: nothing is written after a close frame; a due pong leaves before the message behind it is
delivered; while the peer does not read, we do not read either; what they do not read is bounded;
one pass parses so many frames (frame_budget.py), the rest waits for its turn. A lost connection
refers to nothing that refers to it.
Runs on: the event loop; uvloop joins what is written in one loop turn into one system call.
"""

import asyncio
from typing import TYPE_CHECKING, ClassVar, Final, Protocol

from websockets.extensions import Extension
from websockets.frames import Opcode

from live.connection.headcount import Place
from live.connection.viewer import take
from live.fanout import metrics
from live.fanout.cohort import BUFFER_HARD_BYTES
from live.protocol import codes
from live.protocol.codec import Codec
from live.protocol.codes import Close
from live.protocol.session import Session
from live.protocol.shared import Shared, frame_header
from live.transport.fast.core import Core
from live.transport.fast.frame_budget import PASS_FRAMES_MAX, SLICE_BYTES
from live.transport.fast.turns import TURNS

if TYPE_CHECKING:  # the front door makes connections; a connection only reports back to it
    from asyncio import Transport

CLOSE_SECONDS = 5.0  # for the peer's half of the closing handshake
WRITE_HIGH_BYTES = 65_536  # unsent bytes at which we stop to read from this peer

# Why we do not read; several may hold at once.
_UNREAD: Final = 1  # they do not take what we write
_PUT_OFF: Final = 2  # what was read is not parsed yet
_DEAF: Final = 4  # enough came behind our close frame

FINAL = 0x80
_HEADERS = {
    opcode: tuple(frame_header(FINAL | opcode, length) for length in range(126))
    for opcode in (Opcode.TEXT, Opcode.BINARY)
}


class Owner(Protocol):
    """What a connection tells the front door."""

    def ended(self, connection: "UpgradedLine") -> None: ...


class UpgradedLine(asyncio.Protocol):
    """Port of one session and protocol of one transport that has been upgraded."""

    __slots__ = (
        "_core",
        "_ending",
        "_owner",
        "_put_off",
        "_rest",
        "_stopped",
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
        self._core: Core | None = None  # None while the connection is on the fast path
        self._put_off = b""  # read, and left for a later turn
        self._stopped = 0  # why we do not read
        self._ending: asyncio.TimerHandle | None = None  # of a closing handshake
        transport.set_write_buffer_limits(high=WRITE_HIGH_BYTES)

    # Port

    def write(self, data: bytes) -> None:
        core = self._core
        if core is not None and not core.open:
            return
        if self.transport.get_write_buffer_size() > BUFFER_HARD_BYTES:
            self._give_up()
            return
        length = len(data)
        opcode = Opcode.BINARY if self.codec.binary else Opcode.TEXT
        if length < 126:
            self.transport.write(_HEADERS[opcode][length] + data)
        else:
            self.transport.write(frame_header(FINAL | opcode, length) + data)

    def write_shared(self, frame: Shared) -> None:
        core = self._core
        if core is None or core.open:
            self.transport.write(frame.wire)

    def close(self, close: Close) -> None:
        core = self._core or self._promote()
        if core.open:
            core.close(close)
            self._flush(core)
            self._end_soon()

    @property
    def promoted(self) -> bool:
        """Whether the sans-I/O core has taken over."""
        return self._core is not None

    def buffered(self) -> int:
        return self.transport.get_write_buffer_size()

    def _give_up(self) -> None:
        """They ask and do not read: broadcasts stop earlier (cohort.py), replies here."""
        metrics.SLOW_CLOSES.inc()
        if self.session is not None:
            self.session.close(codes.SLOW)

    # asyncio.Protocol

    def data_received(self, data: bytes) -> None:
        if self._core is None and not self._stopped:
            self._read_fast(data)
        elif self._stopped & _PUT_OFF:
            self._put_off += data  # at most one read, until the transport has stopped
        elif self._core is None:
            self._wait_for_turn(data)
        else:
            self._feed_core(data)

    def _read_fast(self, data: bytes) -> None:
        """Read as many usual frames as one pass may; the rest is put off, kept or the core's."""
        raise NotImplementedError

    # Turns

    def _wait_for_turn(self, rest: bytes) -> None:
        """Parse no more now: others have a turn before this connection has its next one."""
        self._put_off = rest
        self._stop_reading(_PUT_OFF)
        TURNS.later(self._go_on)

    def _go_on(self) -> None:
        reads = not self._stopped & _UNREAD or self.transport.is_closing()
        if not self._stopped & _PUT_OFF or not reads:
            return  # done already, or it goes on when they read again
        data, self._put_off = self._put_off, b""
        self._stopped &= ~_PUT_OFF
        if self.session is None or self.transport.is_closing():
            return
        self.data_received(data)
        self._read_again()

    def _stop_reading(self, why: int) -> None:
        if not self._stopped and not self.transport.is_closing():
            self.transport.pause_reading()
        self._stopped |= why

    def _read_again(self) -> None:
        if not self._stopped and not self.transport.is_closing():
            self.transport.resume_reading()

    def eof_received(self) -> None:
        """Close our side, too: there is no half-open WebSocket."""

    def connection_lost(self, exc: Exception | None) -> None:
        session, self.session = self.session, None
        if session is not None:
            session.lost()
        if self._core is not None:
            self._core.end()
        if self._ending is not None:
            self._ending.cancel()
        self._put_off = b""
        self._owner.ended(self)

    def pause_writing(self) -> None:
        self._stop_reading(_UNREAD)

    def resume_writing(self) -> None:
        self._stopped &= ~_UNREAD
        if self._stopped & _PUT_OFF:
            TURNS.later(self._go_on)
        self._read_again()

    def shutdown(self) -> None:
        """Called by uvicorn for all that is still open when it stops."""
        if self.session is not None:
            self.session.close(codes.SHUTDOWN)

    # The core

    def _promote(self) -> Core:
        core = self._core = Core(self._extensions())
        rest, self._rest = self._rest, b""
        if rest:
            core.receive(rest)
        return core

    def _extensions(self) -> list[Extension]:
        """What the core has to know to read this peer's frames."""
        return []

    def _feed_core(self, data: bytes) -> None:
        core = self._core
        assert core is not None, "only promoted connections have a core"
        frames = at = 0
        while at < len(data) and not self._stopped & _DEAF:
            if frames >= PASS_FRAMES_MAX or self._stopped:
                self._wait_for_turn(data[at:])
                return
            frames += self._feed_slice(core, data[at : at + SLICE_BYTES])
            at += SLICE_BYTES

    def _feed_slice(self, core: Core, data: bytes) -> int:
        """Let the core parse this, and deliver what it finds; returns the number of frames."""
        was_open = core.open
        frames = core.receive(data)
        if was_open:
            self._flush(core)  # a due pong goes first
            if not core.pays(frames):
                self._close_flood()
                return len(frames)
        else:
            self._flush_end(core)
            if not core.endures(len(data), frames):
                self._stop_reading(_DEAF)
        for frame in frames:
            message = core.message(frame)
            if message is not None:
                self._take_message(*message)
        self._flush(core)
        if was_open and not core.open:
            self._end_soon()
        if core.answered:
            # Not before: to end with unread data in the kernel is a reset, which can take our
            # close frame with it, and the client would never learn the code.
            self.transport.close()
        return len(frames)

    def _close_flood(self) -> None:
        if self.session is not None:
            self.session.close(codes.FLOOD)

    def _end_soon(self) -> None:
        """A peer that does not finish the closing handshake is cut off."""
        if self._ending is None:
            loop = asyncio.get_running_loop()
            self._ending = loop.call_later(CLOSE_SECONDS, self.transport.abort)

    def _take_message(self, opcode: Opcode, data: bytes) -> None:
        if (opcode is Opcode.BINARY) is not self.codec.binary:
            if self.session is not None:
                self.session.close(codes.WRONG_PROTOCOL)
            return
        self._deliver(data)

    def _flush(self, core: Core) -> None:
        for chunk in core.data_to_send():
            if chunk:
                self.transport.write(chunk)
            elif self.transport.can_write_eof():
                self.transport.write_eof()

    def _flush_end(self, core: Core) -> None:
        """After our close frame only the end itself may follow; the core would still pong."""
        if b"" in core.data_to_send() and self.transport.can_write_eof():
            self.transport.write_eof()

    def _deliver(self, message: bytes) -> None:
        if self.session is not None:  # not lost by what came just before
            take(self.session, message)

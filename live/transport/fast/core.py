"""websockets' sans-I/O core under one light connection, and what we add to it.

Owns: the frames of a connection that has left the fast path - parts are put together, all that is
no whole message is paid for from a budget, behind our close frame little is endured.
Always: after `end` nothing here refers to itself, because a cycle would outlive the viewer.
Not here: the transport, and whose turn it is (line.py).
"""

from websockets.extensions import Extension
from websockets.frames import Frame, Opcode
from websockets.protocol import SERVER, Protocol, State

from live.protocol.codec import MESSAGE_BYTES_MAX
from live.protocol.codes import Close
from live.transport.fast.frame_budget import FrameBudget, is_extra


class Core:
    """Give it slices (frame_budget.py); after each call send what `data_to_send` returns."""

    __slots__ = ("_frame_budget", "_opcode", "_parts", "_protocol")

    def __init__(self, extensions: list[Extension]) -> None:
        self._protocol = Protocol(SERVER, state=State.OPEN, max_size=MESSAGE_BYTES_MAX)
        self._protocol.extensions = extensions
        self._frame_budget = FrameBudget()
        self._opcode = Opcode.TEXT  # of the message that comes in parts
        self._parts = bytearray()  # the core has checked their order and their sum

    @property
    def open(self) -> bool:
        return self._protocol.state is State.OPEN

    @property
    def answered(self) -> bool:
        """Whether the peer's close frame is here."""
        return self._protocol.close_rcvd is not None

    def close(self, close: Close) -> None:
        self._protocol.send_close(close.code, close.reason)

    def data_to_send(self) -> list[bytes]:
        """What is due to the peer; empty bytes stand for the end of the stream."""
        return self._protocol.data_to_send()

    def receive(self, data: bytes) -> list[Frame]:
        """Parse a slice; pings are answered by the core."""
        self._protocol.receive_data(data)
        return [event for event in self._protocol.events_received() if isinstance(event, Frame)]

    def pays(self, frames: list[Frame]) -> bool:
        """Pay for what is no whole message; False: a flood."""
        return self._frame_budget.pay(sum(map(is_extra, frames)))

    def endures(self, size: int, frames: list[Frame]) -> bool:
        """Count what came behind our close frame; False: enough of it."""
        return self._frame_budget.endure(size, len(frames))

    def message(self, frame: Frame) -> tuple[Opcode, bytes] | None:
        """The message that is whole with this frame, if one is."""
        if frame.opcode in (Opcode.PING, Opcode.PONG, Opcode.CLOSE):
            return None
        if frame.opcode is not Opcode.CONT:
            if frame.fin:
                return frame.opcode, bytes(frame.data)
            self._opcode = frame.opcode
        self._parts += frame.data
        if not frame.fin:
            return None
        whole = bytes(self._parts)
        self._parts.clear()
        return self._opcode, whole

    def end(self) -> None:
        """The connection is lost. The core's parser runs inside the core, so it holds it."""
        free(self._protocol)


def free(protocol: Protocol) -> None:
    """Break the cycles of websockets' protocol, once it is not used any more."""
    protocol.parser.close()
    protocol.parser_exc = None
    protocol.handshake_exc = None

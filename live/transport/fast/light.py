"""A WebSocket connection without an ASGI server around it: one small object per viewer.

The fast path reads only one shape: complete, masked, final data frames up to the message limit.
Anything else - fragments, pings, closes, bad frames, long remainders - promotes the connection for
good to `websockets`' documented sans-I/O core (line.py, core.py), so conformance is theirs and only
odd clients pay for its memory. Our own close frame goes through it, too, for the handshake behind.

Runs on: the event loop. Not here: all that is written, turns, the core, the end (line.py).
"""

from typing import Final

from websockets.frames import Opcode
from websockets.speedups import apply_mask

from live.protocol.codec import MESSAGE_BYTES_MAX
from live.transport.fast.frame_budget import PASS_FRAMES_MAX
from live.transport.fast.line import FINAL, UpgradedLine

REST_BYTES_MAX = 4_096  # of an incomplete frame that the fast path keeps; more goes to the core
_MASKED: Final = 0x80


class LightConnection(UpgradedLine):
    """A line that reads the usual frames fast."""

    __slots__ = ()

    def _read_fast(self, data: bytes) -> None:
        if self._rest:
            data = self._rest + data
            self._rest = b""
        opcode = Opcode.BINARY if self.codec.binary else Opcode.TEXT
        first = FINAL | opcode
        at, end, left = 0, len(data), PASS_FRAMES_MAX
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
            if not left or self._stopped:
                self._wait_for_turn(data[at:])
                return
            left -= 1
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

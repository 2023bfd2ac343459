"""What a peer may send beside whole messages, and how much of the loop they may take for it.

Messages are paid for by the session, command by command. A frame that is no message - a ping, a
pong, a part of one, an empty one - costs the loop as much as a short command, so it has a bucket of
its own here, before `connect` and after, at both doors.
"""

import time
from typing import Final

from websockets.frames import Frame, Opcode

FRAMES_PER_SECOND: Final = 50.0  # a careful client pings once in some seconds
FRAMES_BURST: Final = 512.0  # a whole message of 64 KiB in parts of 128 bytes
# Frames that one connection may have parsed before others get a turn: 0.3 ms of the loop.
PASS_FRAMES_MAX: Final = 64
# The core parses all that it is given; an empty frame has 6 bytes, so this is at most 170 frames.
SLICE_BYTES: Final = 1_024
# Behind our close frame only the peer's own matters; honest peers have little on its way.
LATE_BYTES_MAX: Final = 65_536
LATE_FRAMES_MAX: Final = 256


class FrameBudget:
    """The account of one connection that has sent an unusual frame."""

    __slots__ = ("_late_bytes", "_late_frames", "_refilled_at", "_tokens")

    def __init__(self) -> None:
        self._tokens = FRAMES_BURST
        self._refilled_at = time.monotonic()
        self._late_bytes = 0
        self._late_frames = 0

    def pay(self, frames: int) -> bool:
        """Pay for frames that are no whole message; False: they flood, close 3013."""
        if not frames:
            return True
        now = time.monotonic()
        filled = self._tokens + (now - self._refilled_at) * FRAMES_PER_SECOND
        self._refilled_at = now
        self._tokens = min(FRAMES_BURST, filled) - frames
        return self._tokens >= 0.0

    def endure(self, size: int, frames: int) -> bool:
        """Count what comes behind our close frame; False: read no more, the deadline ends it."""
        self._late_bytes += size
        self._late_frames += frames
        return self._late_bytes <= LATE_BYTES_MAX and self._late_frames <= LATE_FRAMES_MAX


def is_extra(frame: Frame) -> bool:
    """Whether it is anything but a whole message."""
    return not frame.fin or frame.opcode not in (Opcode.TEXT, Opcode.BINARY)

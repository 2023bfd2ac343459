"""A light connection whose client takes compressed frames, and may send them.

Always: a packed frame is sent only to who has been sent the one before it in the same stream, or
where the stream starts anew; so it does not matter why somebody missed one - they came later, fell
behind, or listened to something else for a while.
What a client compresses is inflated, each message by itself and never beyond a message's bound.
Browsers compress all they send, so a whole good frame is read on the fast path; anything else is
left to websockets' core, as ever.
"""

from typing import TYPE_CHECKING, ClassVar

from websockets.extensions import Extension

from live.protocol.codec import MESSAGE_BYTES_MAX, Codec
from live.protocol.deflate import inflate, inflater
from live.protocol.shared import COMPRESSED, Shared, frame_opcode
from live.transport.fast.light import LightConnection
from live.transport.fast.line import Owner

if TYPE_CHECKING:
    from asyncio import Transport


class DeflatedConnection(LightConnection):
    __slots__ = ("_read",)

    compresses: ClassVar[bool] = True

    def __init__(self, transport: "Transport", codec: Codec, owner: Owner) -> None:
        super().__init__(transport, codec, owner)
        self._read = 0  # the last packed frame that was sent here

    def write_shared(self, frame: Shared) -> None:
        core = self._core
        if core is None or core.open:
            packed = frame.packed
            if packed is not None and packed.after in (0, self._read):
                self._read = packed.serial
                self.transport.write(packed.wire)
            else:
                self.transport.write(frame.wire)

    def _reads(self, kind: int) -> bool:
        return kind == frame_opcode(binary=self.codec.binary) | COMPRESSED

    def _inflate(self, data: bytes) -> bytes | None:
        return inflate(data, MESSAGE_BYTES_MAX)

    def _extensions(self) -> list[Extension]:
        return [inflater()]

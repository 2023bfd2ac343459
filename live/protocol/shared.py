"""A message that many connections get: encoded once, framed once, in each form once."""

COMPRESSED = 0x40  # RSV1 of a frame's first byte (RFC 7692, 6)
_TEXT, _BINARY = 0x81, 0x82  # FIN with opcode text or binary


def frame_opcode(*, binary: bool) -> int:
    """The first byte of a whole data frame."""
    return _BINARY if binary else _TEXT


def frame_header(opcode: int, length: int) -> bytes:
    """Write the head of an unmasked frame, as servers send it (RFC 6455, 5.2)."""
    if length < 126:
        return bytes((opcode, length))
    if length < 65_536:
        return bytes((opcode, 126)) + length.to_bytes(2, "big")
    return bytes((opcode, 127)) + length.to_bytes(8, "big")


class Packed:
    """A whole frame, compressed; readable by who has read the one `after`, or by all (0)."""

    __slots__ = ("after", "serial", "wire")

    def __init__(self, wire: bytes, *, serial: int, after: int) -> None:
        self.wire = wire
        self.serial = serial  # names this frame among all of the process
        self.after = after


class Shared:
    """`payload` is the message; `wire` a whole WebSocket frame; `text` what ASGI wants of JSON.

    `packed` is the frame compressed; None where the cohort has no stream.
    """

    __slots__ = ("_text", "_wire", "binary", "packed", "payload")

    def __init__(self, payload: bytes, *, binary: bool, packed: Packed | None = None) -> None:
        self.payload = payload
        self.binary = binary
        self.packed = packed
        self._wire: bytes | None = None
        self._text: str | None = None

    @property
    def wire(self) -> bytes:
        if self._wire is None:
            opcode = frame_opcode(binary=self.binary)
            self._wire = frame_header(opcode, len(self.payload)) + self.payload
        return self._wire

    @property
    def text(self) -> str:
        if self._text is None:
            self._text = self.payload.decode()
        return self._text

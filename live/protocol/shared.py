"""A message that many connections get: encoded once, framed once, in each form once."""

_TEXT, _BINARY = 0x81, 0x82  # FIN with opcode text or binary


def frame_header(opcode: int, length: int) -> bytes:
    """Write the head of an unmasked frame, as servers send it (RFC 6455, 5.2)."""
    if length < 126:
        return bytes((opcode, length))
    if length < 65_536:
        return bytes((opcode, 126)) + length.to_bytes(2, "big")
    return bytes((opcode, 127)) + length.to_bytes(8, "big")


class Shared:
    """`payload` is the message; `wire` a whole WebSocket frame; `text` what ASGI wants of JSON."""

    __slots__ = ("_text", "_wire", "binary", "payload")

    def __init__(self, payload: bytes, *, binary: bool) -> None:
        self.payload = payload
        self.binary = binary
        self._wire: bytes | None = None
        self._text: str | None = None

    @property
    def wire(self) -> bytes:
        if self._wire is None:
            opcode = _BINARY if self.binary else _TEXT
            self._wire = frame_header(opcode, len(self.payload)) + self.payload
        return self._wire

    @property
    def text(self) -> str:
        if self._text is None:
            self._text = self.payload.decode()
        return self._text

"""A client below WebSocket: sends exactly these bytes, reads exactly what comes."""

import asyncio
import base64
import os
from contextlib import suppress
from dataclasses import dataclass

ANSWER_SECONDS = 8
MASK = b"\x00\x00\x00\x00"
"""Leaves the payload as it is, and is as good as any other."""


def handshake(
    *extra: str, path: str = "/connection/websocket", host: str | None = "127.0.0.1"
) -> bytes:
    """An ordinary upgrade, with more header lines behind it."""
    key = base64.b64encode(os.urandom(16)).decode()
    lines = [f"GET {path} HTTP/1.1", *([] if host is None else [f"Host: {host}"])]
    lines += ["Upgrade: websocket", "Connection: Upgrade", f"Sec-WebSocket-Key: {key}"]
    lines += ["Sec-WebSocket-Version: 13", *extra]
    return "\r\n".join([*lines, "", ""]).encode()


def frame(first: int, payload: bytes, *, masked: bool = True) -> bytes:
    """One frame with this first byte; payloads up to 65,535 bytes."""
    bit = 0x80 if masked else 0
    if len(payload) < 126:
        head = bytes((first, bit | len(payload)))
    else:
        head = bytes((first, bit | 126)) + len(payload).to_bytes(2, "big")
    return head + (MASK if masked else b"") + payload


def text(payload: str | bytes) -> bytes:
    return frame(0x81, payload.encode() if isinstance(payload, str) else payload)


@dataclass
class Answer:
    """An HTTP answer's head."""

    status: int
    headers: dict[str, str]


class Raw:
    """One TCP connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def dial(cls, port: int) -> "Raw":
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    @classmethod
    async def upgraded(cls, port: int, *extra: str) -> "Raw":
        """Dial and finish the handshake."""
        raw = await cls.dial(port)
        try:
            answer = await raw.ask(handshake(*extra))
            assert answer.status == 101, answer
        except BaseException:  # nobody else could close it
            raw.writer.transport.abort()
            raise
        return raw

    async def ask(self, request: bytes) -> Answer:
        """Send a request; read the answer's head."""
        self.writer.write(request)
        async with asyncio.timeout(ANSWER_SECONDS):
            head = await self.reader.readuntil(b"\r\n\r\n")
        status, *lines = head.decode().split("\r\n")
        pairs = (line.partition(": ") for line in lines if line)
        return Answer(int(status.split(" ")[1]), {name.lower(): value for name, _, value in pairs})

    async def read_frame(self) -> tuple[int, bytes]:
        """The next frame's opcode and payload."""
        async with asyncio.timeout(ANSWER_SECONDS):
            first, length = await self.reader.readexactly(2)
            if length == 126:
                length = int.from_bytes(await self.reader.readexactly(2), "big")
            return first & 0x0F, await self.reader.readexactly(length)

    async def closed(self) -> tuple[int, str]:
        """Read up to the close frame; its code and reason."""
        while True:
            opcode, payload = await self.read_frame()
            if opcode == 8:
                return int.from_bytes(payload[:2], "big"), payload[2:].decode()

    async def close(self) -> None:
        self.writer.close()
        with suppress(OSError):  # the server was quicker
            await self.writer.wait_closed()

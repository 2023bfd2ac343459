"""The hostile end of `live bench floods`: sends one kind of rubbish as fast as it can, or may.

`python -m live.tools.bench.flooder SHOW`. A flood is told by the order's name, lasts `number`
milliseconds and goes to `port`. Who is cut off dials again, `DIALS_PER_SECOND` times at most: as
often as one address may. Frames are masked with zeros, which is as good a mask as any.
"""

import asyncio
import sys
import time
from dataclasses import dataclass
from functools import partial
from typing import Final
from urllib.parse import quote

import uvloop

from live.client.frames import encode_command
from live.run.process import follow_parent
from live.tools.bench.link import Figures, Order, obey
from live.tools.bench.phone import HANDSHAKE, text_frame

DIALS_PER_SECOND: Final = 20
CHUNK_BYTES: Final = 65_536
DIAL_SECONDS: Final = 20.0  # a worker that is frozen accepts late
_MASK: Final = b"\0\0\0\0"
# A repeated line is no ordinary handshake, so the front door leaves it to the plain route.
_ODD: Final = b"X-Odd: 1\r\nX-Odd: 2\r\n"


def _frame(first: int, payload: bytes = b"") -> bytes:
    return bytes((first, 0x80 | len(payload))) + _MASK + payload


@dataclass(frozen=True, slots=True)
class Flood:
    """`first` is sent once, then `again` without end; `rate` is in bytes a second, 0: no bound."""

    again: bytes
    first: bytes = b""
    plain: bool = False  # through the plain route
    http: bool = False  # never a WebSocket
    reads: bool = True
    rate: int = 0
    connections: int = 1


def _connect(show: str) -> bytes:
    return text_frame(encode_command(1, "connect", {"data": {"show": show}}))


def _histories(show: str) -> bytes:
    """One message with as many calls as may run at once."""
    asked = {"channel": f"chat:{show}", "limit": 300}
    return text_frame(b"\n".join(encode_command(n, "history", asked) for n in range(2, 34)))


def _request(line: str, body: bytes = b"") -> bytes:
    length = f"Content-Length: {len(body)}\r\n" if body else ""
    return f"{line} HTTP/1.1\r\nHost: 127.0.0.1\r\n{length}\r\n".encode() + body


def floods(show: str) -> dict[str, Flood]:
    """All kinds by name."""
    return _frame_floods(show) | _request_floods(show)


def _request_floods(show: str) -> dict[str, Flood]:
    """Requests that are sent without waiting for the answers in front of them."""
    nowhere = _request("GET /v1/nowhere")
    webhook = _request("POST /v1/payments/sandbox/webhook", b"x" * 60_000)
    asked = quote(f'{{"data":{{"show":"{show}"}}}}')
    stream = _request(f"GET /connection/uni_sse?cf_connect={asked}")
    return {
        "pipelined_requests": Flood(nowhere, http=True),
        "pipelined_requests_of_50": Flood(nowhere, http=True, connections=50),
        "pipelined_requests_unread": Flood(nowhere, http=True, reads=False, connections=10),
        "pipelined_bodies": Flood(webhook, http=True),
        "pipelined_behind_events": Flood(nowhere, stream, http=True, connections=50),
    }


def _frame_floods(show: str) -> dict[str, Flood]:
    ping, pong, part = _frame(0x89), _frame(0x8A), _frame(0x00)
    open_text, joined = _frame(0x01, b"{"), _connect(show)
    clock = text_frame(b'{"id":9,"rpc":{"method":"time.now","data":{}}}')
    asked = _histories(show)
    return {
        "pongs_before_connect": Flood(pong),
        "pongs_2_mb_per_second": Flood(pong, rate=2_000_000),
        "pings": Flood(ping, joined),
        "pings_plain": Flood(ping, joined, plain=True),
        "pings_unread": Flood(_frame(0x89, b"x" * 125), joined, reads=False),
        "empty_parts": Flood(part, joined + open_text),
        "empty_parts_plain": Flood(part, joined + open_text, plain=True),
        "one_byte_parts": Flood(_frame(0x00, b" "), joined + open_text),
        "one_byte_parts_plain": Flood(_frame(0x00, b" "), joined + open_text, plain=True),
        "commands": Flood(clock, joined),
        "commands_plain": Flood(clock, joined, plain=True),
        "history": Flood(asked, joined, rate=10_000, connections=10),
        "history_unread": Flood(asked, joined, rate=10_000, reads=False, connections=10),
    }


async def _flood(flood: Flood, order: Order) -> Figures:
    until = time.monotonic() + order.number / 1000
    tallies = await asyncio.gather(
        *(_one(flood, order.port, until) for _ in range(flood.connections))
    )
    codes = [code for _, _, found in tallies for code in found]
    return {
        "sent_bytes": float(sum(sent for sent, _, _ in tallies)),
        "read_bytes": float(sum(read for _, read, _ in tallies)),
        "closes": float(len(codes)),
        "close_code": float(codes[0] if codes else 0),
    }


async def _one(flood: Flood, port: int, until: float) -> tuple[int, int, list[int]]:
    """Flood, dial again, flood on; bytes sent and read, and the codes of the closes that came."""
    sent = read = 0
    codes: list[int] = []
    while time.monotonic() < until:
        began = time.monotonic()
        line = _Line()
        try:
            async with asyncio.timeout(DIAL_SECONDS):
                await _dial(line, flood, port)
        except (TimeoutError, OSError):
            continue
        sent += await _pour(line, flood, until)
        read += line.read
        if line.code:
            codes.append(line.code)
        line.transport.abort()
        await asyncio.sleep(max(0.0, began + 1 / DIALS_PER_SECOND - time.monotonic()))
    return sent, read, codes


async def _dial(line: "_Line", flood: Flood, port: int) -> None:
    loop = asyncio.get_running_loop()
    await loop.create_connection(lambda: line, "127.0.0.1", port)
    if not flood.http:
        line.transport.write(HANDSHAKE % (_ODD if flood.plain else b""))
        await line.upgraded.wait()


async def _pour(line: "_Line", flood: Flood, until: float) -> int:
    """Send until cut off, or until the time is up; return how many bytes went out."""
    if not flood.reads:
        line.transport.pause_reading()
    line.transport.write(flood.first)
    step_bytes = flood.rate // 100 if flood.rate else CHUNK_BYTES
    chunk = flood.again * max(1, step_bytes // len(flood.again))
    sent = len(flood.first)
    while time.monotonic() < until and not line.gone.is_set():
        line.transport.write(chunk)
        sent += len(chunk)
        await asyncio.sleep(len(chunk) / flood.rate if flood.rate else 0)
        while not line.writable.is_set() and not line.gone.is_set():
            try:
                async with asyncio.timeout_at(asyncio.get_running_loop().time() + 0.1):
                    await line.writable.wait()
            except TimeoutError:
                if time.monotonic() >= until:
                    return sent
    return sent


class _Line(asyncio.Protocol):
    """One connection; finds the close frame at the end of what comes."""

    def __init__(self) -> None:
        self.upgraded = asyncio.Event()
        self.writable = asyncio.Event()
        self.writable.set()
        self.gone = asyncio.Event()
        self.read = 0
        self.code = 0
        self._tail = b""

    # uvloop's transports have the methods of Transport but are no subclass of it.
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.read += len(data)
        self._tail = (self._tail + data)[-64:]
        self.upgraded.set()
        self.code = self.code or _close_code(self._tail)
        if self.code:
            self.gone.set()

    def eof_received(self) -> None:
        self.gone.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.upgraded.set()
        self.gone.set()

    def pause_writing(self) -> None:
        self.writable.clear()

    def resume_writing(self) -> None:
        self.writable.set()


def _close_code(tail: bytes) -> int:
    """The code of a close frame that ends here; 0 where none does."""
    at = tail.rfind(b"\x88")
    if at < 0 or len(tail) < at + 4 or tail[at + 1] != len(tail) - at - 2:
        return 0
    return int.from_bytes(tail[at + 2 : at + 4], "big")


async def main(show: str) -> None:
    await obey({name: partial(_flood, flood) for name, flood in floods(show).items()})


if __name__ == "__main__":
    follow_parent()
    uvloop.run(main(*sys.argv[1:]))

"""Whatever one connection sends without end, at both doors: it is cut off, and the server lives.

Method: a gateway in a process of its own; a client below WebSocket that sends nothing but one kind
of frame until it reads how it ends. What a bystander notices is `live bench floods`' to measure.
"""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from uuid import uuid4

import pytest

from live.fanout.cohort import BUFFER_HARD_BYTES
from tests.support.raw import Raw, frame, handshake, text
from tests.support.realtime_app import Spawned
from tests.support.servers import Valkey

CONNECT = text('{"id":1,"connect":{}}')
FLOODS = {
    "empty pongs before connect": (b"", frame(0x8A, b"")),
    "empty pings": (CONNECT, frame(0x89, b"")),
    "long pings": (CONNECT, frame(0x89, b"x" * 125)),
    "empty parts of a message": (CONNECT + frame(0x01, b"{"), frame(0x00, b"")),
    "one byte parts of a message": (CONNECT + frame(0x01, b"{"), frame(0x00, b" ")),
    "empty parts before connect": (frame(0x01, b"{"), frame(0x00, b"")),
    "client pongs": (CONNECT, text("{}")),
    "commands": (CONNECT, text('{"id":9,"rpc":{"method":"echo","data":1}}')),
}
FLOOD_BYTES = 8 * 2**20  # far more than any of these may send
TRIES_MAX = 20
LATE_BYTES = 32 * 2**20  # what the kernel keeps of it is much less
ENTRIES, ENTRY_BYTES, HISTORIES = 20, 30_000, 8


@pytest.fixture(scope="module", params=["front", "asgi"])
def server(request: pytest.FixtureRequest, valkey: Valkey) -> Iterator[Spawned]:
    options = ["--asgi"] if request.param == "asgi" else []
    found = Spawned(valkey.url, f"s{uuid4().hex[:12]}", "--no-presence", *options)
    yield found
    found.close()


async def answers(server: Spawned) -> bool:
    """Whether a newcomer is served."""
    raw = await Raw.upgraded(server.port)
    raw.writer.write(CONNECT)
    _, reply = await raw.read_frame()
    await raw.close()
    return b'"connect"' in reply


async def pour(raw: Raw, again: bytes, size: int) -> int:
    """Send it again and again until cut off; returns how many bytes went out."""
    chunk, sent = again * (65_536 // len(again)), 0
    with suppress(OSError):
        while sent < size:
            raw.writer.write(chunk)
            await raw.writer.drain()
            sent += len(chunk)
    return sent


@pytest.mark.parametrize("flood", FLOODS)
async def test_flood_ends_with_3013(server: Spawned, flood: str) -> None:
    """Frames that are no messages are counted like those that are."""
    ends = [end async for end in ends_of_floods(server, *FLOODS[flood])]

    assert ends[-1] == (3013, "too many requests")
    assert await answers(server)


async def ends_of_floods(
    server: Spawned, first: bytes, again: bytes
) -> AsyncIterator[tuple[int, str] | None]:
    """How connections that flood end, until one is told why.

    None: cut off. What is sent behind the close makes the kernel throw it away, where it had not
    been read yet; at a client that sends without end that is a matter of luck.
    """
    for _ in range(TRIES_MAX):
        raw = await Raw.upgraded(server.port)
        raw.writer.write(first)
        pouring = asyncio.create_task(pour(raw, again, FLOOD_BYTES))
        try:
            end = await raw.closed()
        except ConnectionError:
            yield None
        else:
            yield end
            return
        finally:
            pouring.cancel()
            raw.writer.transport.abort()


async def test_nothing_is_read_behind_a_close(server: Spawned) -> None:
    """Who goes on sending after 3013 is not heard any more, and then cut off."""
    raw = await Raw.upgraded(server.port)
    pouring = asyncio.create_task(pour(raw, frame(0x8A, b""), LATE_BYTES))
    assert (await raw.closed())[0] == 3013
    assert await asyncio.wait_for(pouring, 30) < LATE_BYTES
    assert await answers(server)
    await raw.close()


async def test_unread_answers_are_bounded(server: Spawned) -> None:
    """Who asks for long logs and does not read is closed 3008, not buffered for."""
    channel = f"longhistory:{uuid4().hex[:8]}"
    subscribe = text(json.dumps({"id": 2, "subscribe": {"channel": channel}}))
    line = json.dumps({"id": 3, "publish": {"channel": channel, "data": "x" * ENTRY_BYTES}})
    author = await Raw.upgraded(server.port)
    author.writer.write(CONNECT)
    await author.read_frame()
    for _ in range(ENTRIES):
        author.writer.write(text(line))
        assert b'"publish"' in (await author.read_frame())[1]
    await author.close()
    raw = await narrow(server.port)
    raw.writer.write(CONNECT + subscribe)
    assert b'"connect"' in (await raw.read_frame())[1]
    assert b'"subscribe"' in (await raw.read_frame())[1]

    asked = {"channel": channel, "limit": ENTRIES}
    histories = [json.dumps({"id": 10 + n, "history": asked}) for n in range(HISTORIES)]
    raw.writer.write(text("\n".join(histories)))
    assert await answers(server)

    read, code = await read_to_the_end(raw)
    reply = ENTRIES * ENTRY_BYTES
    assert code in (3008, 0)  # 0: cut off before the close frame got through
    # One more in each of: the socket, the writer, the call that was under way.
    assert read <= BUFFER_HARD_BYTES + 3 * reply < HISTORIES * reply
    await raw.close()


async def narrow(port: int) -> Raw:
    """An upgraded connection whose kernel takes little for it."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    sock.connect(("127.0.0.1", port))
    raw = Raw(*await asyncio.open_connection(sock=sock, limit=4_096))
    assert (await raw.ask(handshake())).status == 101
    return raw


async def read_to_the_end(raw: Raw) -> tuple[int, int]:
    """Bytes of payload that still come, and the code of the close; 0 without one."""
    read = 0
    with suppress(asyncio.IncompleteReadError, OSError):
        while True:
            first, length = await raw.reader.readexactly(2)
            if length >= 126:
                length = int.from_bytes(await raw.reader.readexactly(2 if length == 126 else 8))
            payload = await raw.reader.readexactly(length)
            if first & 0x0F == 8:
                return read, int.from_bytes(payload[:2])
            read += length
    return read, 0

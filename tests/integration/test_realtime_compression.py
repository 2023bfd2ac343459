"""Compressed broadcasts on real sockets: a real client reads what a plain one reads."""

import asyncio
import json
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory

from live.domain.ids import ShowId
from live.fanout.hub import Hub
from live.protocol import deflate
from tests.support.realtime_app import Server, build, config

FULL_FLUSH_EVERY = 5
WORDS = "the walnut lamp from Copenhagen is on sale now, and only a few of them are left"


@asynccontextmanager
async def served(
    redis_url: str, show: ShowId, *, front: bool = True, compression: bool = True
) -> AsyncIterator[tuple[str, Hub]]:
    app = build(redis_url, show, presence=False)
    server = Server(config(app, 0, front=front, compression=compression))
    running = asyncio.create_task(server.serve())
    await asyncio.wait_for(server.listening.wait(), 60)
    try:
        yield f"ws://127.0.0.1:{server.port}/connection/websocket", app.state.gateway.hub
    finally:
        server.should_exit = True
        await running


class Listener:
    """A client that keeps the publications it reads, and counts what they cost on the wire."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.read: list[str] = []
        self.bytes = 0
        self.packed = 0
        inner = socket.protocol.receive_data

        def receive_data(data: bytes | bytearray) -> None:
            self.bytes += len(data)
            inner(data)

        socket.protocol.receive_data = receive_data  # type: ignore[method-assign]

    @classmethod
    async def join(cls, url: str, *, compression: str | None = "deflate") -> "Listener":
        self = cls(await connect(url, compression=compression))
        await self.socket.send('{"id":1,"connect":{}}\n{"id":2,"subscribe":{"channel":"room"}}')
        async with asyncio.timeout(60):
            while '"id":2' not in str(await self.socket.recv()):
                pass
        return self

    async def hear(self, number: int) -> None:
        """Read on until so many publications have been heard."""
        async with asyncio.timeout(60):
            while len(self.read) < number:
                lines = str(await self.socket.recv()).split("\n")
                self.read += [line for line in lines if '"pub"' in line]


async def publish(talker: Listener, first: int, count: int, words: str = WORDS) -> None:
    """One after another, so that each is a message of its own."""
    for number in range(first, first + count):
        data = {"n": number, "words": words}
        command = {"id": number + 10, "publish": {"channel": "room", "data": data}}
        await talker.socket.send(json.dumps(command))
        await talker.hear(number + 1)


@pytest.fixture(autouse=True)
def short_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deflate, "FULL_FLUSH_EVERY", FULL_FLUSH_EVERY)


async def test_compressed_client_reads_what_a_plain_one_does(redis_url: str, show: ShowId) -> None:
    """From the start, and from the middle of the stream; in a fraction of the bytes."""
    async with served(redis_url, show) as (url, _):
        plain = await Listener.join(url, compression=None)
        early = await Listener.join(url)
        await publish(plain, 0, 8)
        late = await Listener.join(url)
        before = plain.bytes
        await publish(plain, 8, 12)
        await early.hear(20)
        await late.hear(12)
        assert early.read == plain.read
        assert late.read == plain.read[8:]
        assert early.bytes < 0.7 * plain.bytes
        assert late.bytes < plain.bytes - before
        for each in (plain, early, late):
            await each.socket.close()


async def test_reader_that_falls_behind_unpacks_the_rest(redis_url: str, show: ShowId) -> None:
    """What waits in buffers for a while is in order; nobody's context is broken by it."""
    async with served(redis_url, show) as (url, _):
        plain, slow = await Listener.join(url, compression=None), await Listener.join(url)
        slow.socket.transport.pause_reading()
        noise = "".join(map(chr, range(0x100, 0x1000)))  # which compresses little
        await publish(plain, 0, 20, noise)
        slow.socket.transport.resume_reading()
        await publish(plain, 20, 10)
        await slow.hear(30)
        assert slow.read == plain.read
        for each in (plain, slow):
            await each.socket.close()


async def test_client_that_was_cut_starts_afresh(redis_url: str, show: ShowId) -> None:
    """A new connection has an empty window, whatever the old one had read."""
    async with served(redis_url, show) as (url, _):
        plain, first = await Listener.join(url, compression=None), await Listener.join(url)
        await publish(plain, 0, 3)
        await first.hear(3)
        first.socket.transport.abort()
        again = await Listener.join(url)
        await publish(plain, 3, 12)
        await again.hear(12)
        assert again.read == plain.read[3:]
        for each in (plain, again):
            await each.socket.close()


@pytest.mark.parametrize(
    ("front", "compression", "taken"),
    [(True, True, True), (True, False, False), (False, True, False)],
    ids=["shared", "off", "asgi"],
)
async def test_offer_is_taken_where_the_setting_says_so(
    redis_url: str, show: ShowId, front: bool, compression: bool, taken: bool
) -> None:
    """Off by default; the plain route, which would compress for each client, always declines."""
    async with (
        served(redis_url, show, front=front, compression=compression) as (url, _),
        connect(url) as socket,
    ):
        assert [extension.name for extension in socket.protocol.extensions] == (
            ["permessage-deflate"] if taken else []
        )
        await socket.send('{"id":1,"connect":{}}')
        assert json.loads(await socket.recv())["id"] == 1


async def test_client_without_context_is_served_plain(redis_url: str, show: ShowId) -> None:
    """One that insists on a fresh window for each message cannot read a shared stream."""
    factory = ClientPerMessageDeflateFactory(server_no_context_takeover=True)
    async with (
        served(redis_url, show) as (url, _),
        connect(url, compression=None, extensions=[factory]) as socket,
    ):
        assert socket.protocol.extensions == []


async def test_bomb_is_1009_and_costs_nobody_else(redis_url: str, show: ShowId) -> None:
    """50 MB in 50 KB end the connection that sent them."""
    async with served(redis_url, show) as (url, hub):
        other = await Listener.join(url)
        bomber = await connect(url)
        deflater = zlib.compressobj(wbits=-15)
        bomb = deflater.compress(b"x" * 50_000_000) + deflater.flush(zlib.Z_SYNC_FLUSH)
        data = bomb.removesuffix(b"\0\0\xff\xff")
        head = b"\xc1\xfe" + len(data).to_bytes(2, "big") + b"\0\0\0\0"
        assert len(data) < 65_536
        bomber.transport.write(head + data)
        with pytest.raises(ConnectionClosed) as end:
            await asyncio.wait_for(bomber.recv(), 60)
        assert end.value.rcvd is not None and end.value.rcvd.code == 1009
        await publish(other, 0, 3)
        assert len(hub.sessions()) == 1
        await other.socket.close()

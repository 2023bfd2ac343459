"""The gateway on real sockets of this process, where its side of them can be looked at."""

import asyncio
import base64
import json
import os
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from io import BytesIO

import pytest
from centrifuge.protocol import client_pb2 as pb
from google.protobuf.proto import parse_length_prefixed
from msgspec import Raw, Struct
from msgspec import json as typed_json
from prometheus_client import REGISTRY
from structlog.testing import capture_logs
from websockets.asyncio.client import ClientConnection, connect

from live.domain.ids import ShowId
from live.fanout.cohort import BUFFER_HARD_BYTES, JOINED_BYTES_MAX
from live.fanout.hub import Hub
from live.protocol.codec_protobuf import frame_of
from live.transport.fast.frame_budget import SLICE_BYTES
from live.transport.http_guard import SEND_BUFFER_BYTES, USER_TIMEOUT_MS
from tests.support.realtime_app import Server, build, config

DOORS = pytest.mark.parametrize("front", [True, False], ids=["front", "asgi"])
CONNECT = {"id": 1, "connect": {}}
SUBSCRIBE = {"id": 2, "subscribe": {"channel": "room"}}


@dataclass
class Served:
    """A gateway of this process and the uvicorn server in front of it."""

    server: Server
    hub: Hub

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.server.port}/connection/websocket"

    def transport_to(self, address: object) -> asyncio.Transport:
        """The server's end of a client's socket."""
        transports = [found.transport for found in self.server.server_state.connections]
        (found,) = [t for t in transports if t.get_extra_info("peername") == address]
        return found


@asynccontextmanager
async def served(redis_url: str, show: ShowId, *, front: bool) -> AsyncIterator[Served]:
    app = build(redis_url, show)
    server = Server(config(app, 0, front=front))
    running = asyncio.create_task(server.serve())
    await asyncio.wait_for(server.listening.wait(), 60)
    try:
        yield Served(server, app.state.gateway.hub)
    finally:
        server.should_exit = True
        await running


@DOORS
@pytest.mark.skipif(sys.platform != "linux", reason="TCP_USER_TIMEOUT is Linux'")
async def test_kernel_keeps_little_for_a_client(redis_url: str, show: ShowId, front: bool) -> None:
    """An accepted socket has a small send buffer and gives up on an unreachable peer."""
    async with served(redis_url, show, front=front) as found, connect(found.url) as client:
        await ask(client, CONNECT)
        ours = found.transport_to(client.local_address).get_extra_info("socket")
        # Linux doubles what it is told, for its own bookkeeping.
        kept = ours.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
        assert kept == 2 * SEND_BUFFER_BYTES
        assert ours.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == USER_TIMEOUT_MS
        assert ours.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1


# A reader that stops


@dataclass
class Stuck:
    """A client that reads only when the test says so."""

    socket: socket.socket

    async def join(self) -> None:
        """Handshake, connect, subscribe."""
        key = base64.b64encode(os.urandom(16)).decode()
        head = "GET /connection/websocket HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\n"
        head += f"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n"
        await self.send(f"{head}\r\n".encode())
        await self.read_until(b"\r\n\r\n")
        for command in (CONNECT, SUBSCRIBE):
            data = json.dumps(command).encode()
            await self.send(bytes((0x81, 0x80 | len(data), 0, 0, 0, 0)) + data)
        await self.read_until(b'"subscribe":')

    async def send(self, data: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self.socket, data)

    async def read_until(self, mark: bytes) -> None:
        read = b""
        while mark not in read:
            chunk = await asyncio.get_running_loop().sock_recv(self.socket, 4_096)
            assert chunk, "ended before"
            read += chunk

    async def read_to_the_close(self) -> bytes:
        """The last frame, which ends with the word."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1_000_000)
        read = b""
        while not read.endswith(b"slow"):
            chunk = await asyncio.get_running_loop().sock_recv(self.socket, 65_536)
            assert chunk, "ended without a word"
            read += chunk
        return read[-8:]


@asynccontextmanager
async def stuck_client(found: Served) -> AsyncIterator[Stuck]:
    with socket.socket() as raw:
        raw.setblocking(False)
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        await asyncio.get_running_loop().sock_connect(raw, ("127.0.0.1", found.server.port))
        stuck = Stuck(raw)
        await stuck.join()
        yield stuck


@DOORS
async def test_slow_reader_is_told_3008_and_owes_little(
    redis_url: str, show: ShowId, front: bool
) -> None:
    """What waits for them is bounded; the close is the last thing they read. Others lose
    nothing."""
    closes = slow_closes()
    async with served(redis_url, show, front=front) as found, stuck_client(found) as stuck:
        (session,) = found.hub.sessions()
        transport = found.transport_to(stuck.socket.getsockname())
        owed: list[int] = []
        async with connect(found.url) as quick:
            await ask(quick, CONNECT)
            await ask(quick, SUBSCRIBE)
            for number in range(3, 43):
                offset = await publish_and_hear(quick, number)
                assert offset == number - 2
                # The plain route has a queue of its own before the transport's buffer.
                queued = 0 if front else session.port.buffered()
                owed.append(transport.get_write_buffer_size() + queued)
        assert session.closed, "2.4 MB are more than anybody may owe"
        assert slow_closes() == closes + 1
        one_more = JOINED_BYTES_MAX  # what put them over the bound, and uvicorn's part in hand
        assert max(owed) <= BUFFER_HARD_BYTES + one_more
        end = await asyncio.wait_for(stuck.read_to_the_close(), 60)
        assert end == b"\x88\x06" + (3008).to_bytes(2, "big") + b"slow"


def slow_closes() -> float:
    return REGISTRY.get_sample_value("live_realtime_slow_closes_total") or 0.0


async def publish_and_hear(client: ClientConnection, number: int) -> int:
    """Publish 60 kB and hear it; its offset."""
    await client.send(
        json.dumps({"id": number, "publish": {"channel": "room", "data": "x" * 60_000}})
    )
    offset, replied = 0, False
    async with asyncio.timeout(60):
        while not (offset and replied):
            for message in map(json.loads, str(await client.recv()).split("\n")):
                replied = replied or message.get("id") == number
                offset = message.get("push", {}).get("pub", {}).get("offset", offset)
    return offset


async def ask(client: ClientConnection, command: dict[str, object]) -> dict[str, object]:
    await client.send(json.dumps(command))
    async with asyncio.timeout(60):
        while True:
            for line in str(await client.recv()).split("\n"):
                reply: dict[str, object] = json.loads(line)
                if reply.get("id") == command["id"]:
                    return reply


# A peer that floods


@DOORS
async def test_flood_while_a_reply_is_due_is_no_bug(
    redis_url: str, show: ShowId, front: bool
) -> None:
    """The server closes by itself; what we still had to say to them is no fault of ours."""
    ping = b"\x89\x80\0\0\0\0"
    pings = ping * 169 + b"\x89\x84\0\0\0\0ping"  # parsed at once, as the command is
    command = b"%-*b" % (SLICE_BYTES - 8, b'{"id":3,"rpc":{"method":"echo"}}')
    asked = b"\x81\xfe" + len(command).to_bytes(2, "big") + bytes(4) + command
    with capture_logs() as lines:
        async with served(redis_url, show, front=front) as found, stuck_client(found) as stuck:
            (session,) = found.hub.sessions()
            await stuck.send(pings * 3 + asked + pings)
            await stuck.read_until(b"\x0b\xc5")  # 3013
        assert session.closed

    assert [line for line in lines if line["log_level"] == "error"] == []


# Both codecs


class Info(Struct):
    user: str = ""
    client: str = ""


class Pub(Struct):
    data: Raw
    offset: int
    info: Info


class Push(Struct):
    channel: str = ""
    pub: Pub | None = None


class Reply(Struct):
    id: int = 0
    push: Push | None = None


PAYLOADS = (
    '{"n":1.50,"big":123456789012345678901234567890,"small":1e-9}',
    '{"text":"caf\u00e9 \u2028 \U0001f6cd","escaped":"\\u00e9\\n\\"\\\\"}',
    '[[],{},"",null,true,-0]',
    '"just words"',
    '{"spaced" : [1,\n 2]}',
)

Heard = tuple[bytes, int, str, str]


@DOORS
async def test_both_codecs_carry_equal_payloads(redis_url: str, show: ShowId, front: bool) -> None:
    """Subscribers of one channel, whichever codec they and the publisher speak."""
    async with (
        served(redis_url, show, front=front) as found,
        connect(found.url) as text,
        connect(f"{found.url}?cf_protocol=protobuf") as binary,
    ):
        for command in (CONNECT, SUBSCRIBE):
            await ask(text, command)
        for request in (
            pb.Command(id=1, connect=pb.ConnectRequest()),
            pb.Command(id=2, subscribe=pb.SubscribeRequest(channel="room")),
        ):
            await binary.send(frame_of(request))
            await asyncio.wait_for(binary.recv(), 60)
        for number, payload in enumerate(PAYLOADS):
            compact = payload.replace("\n", "")  # one command is one line
            await text.send(
                f'{{"id":{number + 3},"publish":{{"channel":"room","data":{compact}}}}}'
            )
            request = pb.PublishRequest(channel="room", data=payload.encode())
            await binary.send(frame_of(pb.Command(id=number + 3, publish=request)))

        async with asyncio.timeout(60):
            heard = await hear_text(text, 2 * len(PAYLOADS))
            also_heard = await hear_binary(binary, 2 * len(PAYLOADS))

    assert heard == also_heard
    assert [offset for _, offset, _, _ in heard] == list(range(1, 2 * len(PAYLOADS) + 1))
    values = sorted(json.dumps(json.loads(data)) for data, _, _, _ in heard)
    assert values == sorted(json.dumps(json.loads(payload)) for payload in PAYLOADS * 2)


async def hear_text(client: ClientConnection, number: int) -> list[Heard]:
    heard: list[Heard] = []
    while len(heard) < number:
        for line in str(await client.recv()).split("\n"):
            push = typed_json.decode(line, type=Reply).push
            if push is not None and push.pub is not None:
                pub = push.pub
                heard.append((bytes(pub.data), pub.offset, pub.info.user, pub.info.client))
    return heard


async def hear_binary(client: ClientConnection, number: int) -> list[Heard]:
    heard: list[Heard] = []
    while len(heard) < number:
        frame = await client.recv()
        assert isinstance(frame, bytes)
        stream = BytesIO(frame)
        while stream.tell() < len(frame):
            reply = parse_length_prefixed(pb.Reply, stream)
            if reply.push.HasField("pub"):
                pub = reply.push.pub
                heard.append((pub.data, pub.offset, pub.info.user, pub.info.client))
    return heard

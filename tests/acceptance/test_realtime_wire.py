"""What hostile, broken and slow clients get: raw sockets against both ways in.

Rows of the public table "What happens -> Answer" that concern the connection, and the handshake
cases that uvicorn alone would leave hanging.
"""

import asyncio
import base64
import contextlib
import json
import os
import socket
import time
from collections.abc import AsyncIterator, Iterator
from uuid import uuid4

import jwt
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Origin, Subprotocol

from tests.support.realtime_app import KEY, Spawned
from tests.support.servers import Valkey

CONNECT = '{"id":1,"connect":{}}'
LIMITS = {"stale_seconds": 1.5, "commands_burst": 40, "commands_per_second": 1, "excess_max": 20}


@pytest.fixture(scope="module", params=["front", "asgi"])
def server(valkey: Valkey, request: pytest.FixtureRequest) -> Iterator[Spawned]:
    options = ["--asgi"] if request.param == "asgi" else []
    limits = ["--limits", json.dumps(LIMITS)]
    spawned = Spawned(valkey.url, f"s{uuid4().hex[:12]}", *options, *limits)
    yield spawned
    spawned.close()


@pytest.fixture
async def socket_(server: Spawned) -> AsyncIterator[ClientConnection]:
    async with connect(server.url, compression=None) as opened:
        yield opened


@pytest.fixture
async def joined(socket_: ClientConnection) -> ClientConnection:
    await socket_.send(CONNECT)
    reply = json.loads(await socket_.recv())
    assert reply["id"] == 1 and reply["connect"]["pong"] is True
    return socket_


async def closed_with(connection: ClientConnection, seconds: float = 5) -> tuple[int, str]:
    """Read to the end; return code and reason of the close."""
    try:
        async with asyncio.timeout(seconds):
            while True:
                await connection.recv()
    except ConnectionClosed as end:
        assert end.rcvd is not None, "the server says why it closes"
        return end.rcvd.code, end.rcvd.reason


async def ask(connection: ClientConnection, command: dict[str, object]) -> dict[str, object]:
    """Send one command and return its reply; pushes in between are skipped."""
    await connection.send(json.dumps(command))
    async with asyncio.timeout(60):
        while True:
            for line in str(await connection.recv()).split("\n"):
                reply: dict[str, object] = json.loads(line)
                if reply.get("id") == command["id"]:
                    return reply


def rpc(number: int, method: str) -> str:
    return json.dumps({"id": number, "rpc": {"method": method}})


# After the handshake


async def test_command_before_connect_is_3501(socket_: ClientConnection) -> None:
    """A connection starts with connect."""
    await socket_.send('{"id":1,"rpc":{"method":"echo"}}')
    assert await closed_with(socket_) == (3501, "bad request")


async def test_garbage_is_3501(joined: ClientConnection) -> None:
    """What does not parse ends the connection."""
    await joined.send("garbage")
    assert await closed_with(joined) == (3501, "bad request")


async def test_second_connect_is_3501(joined: ClientConnection) -> None:
    """Connecting twice is a fault."""
    await joined.send(CONNECT)
    assert await closed_with(joined) == (3501, "bad request")


async def test_binary_frame_on_json_is_3506(joined: ClientConnection) -> None:
    """The codec was chosen in the handshake."""
    await joined.send(b"\x00")
    assert await closed_with(joined) == (3506, "inappropriate protocol")


async def test_message_over_64_kib_is_1009(joined: ClientConnection) -> None:
    """In one frame or in fragments."""
    await joined.send("x" * 65_537)
    assert (await closed_with(joined))[0] == 1009


async def test_fragments_over_64_kib_are_1009(joined: ClientConnection) -> None:
    """The sum counts."""
    await joined.send(["x" * 40_000, "y" * 40_000])
    assert (await closed_with(joined))[0] == 1009


async def test_fragmented_command_is_understood(joined: ClientConnection) -> None:
    """A client may split a message; it is answered like any other."""
    command = json.dumps({"id": 2, "rpc": {"method": "echo", "data": "x" * 300}})
    await joined.send([command[:100], command[100:]])
    reply = json.loads(await joined.recv())
    assert reply == {"id": 2, "rpc": {"data": "x" * 300}}


async def test_invalid_utf8_is_1007(server: Spawned) -> None:
    """Text is UTF-8."""
    async with connect(server.url, compression=None) as connection:
        await connection.send(CONNECT)
        await connection.recv()
        await connection.send(b'{"id":2,"rpc":{"method":"echo","data":"\xff"}}', text=True)
        assert (await closed_with(connection))[0] == 1007


async def test_invalid_token_is_3500(socket_: ClientConnection) -> None:
    """Nothing is executed and the SDK stays away."""
    await socket_.send('{"id":1,"connect":{"token":"x.y.z"}}\n{"id":2,"subscribe":{"channel":"a"}}')
    assert await closed_with(socket_) == (3500, "invalid token")


@pytest.mark.filterwarnings("ignore::jwt.warnings.InsecureKeyLengthWarning")  # the suites' key
async def test_expired_token_is_error_109(socket_: ClientConnection) -> None:
    """The SDK then fetches a new one."""
    old = jwt.encode({"sub": "42", "exp": int(time.time()) - 5}, KEY, algorithm="HS256")
    reply = await ask(socket_, {"id": 1, "connect": {"token": old}})
    assert reply["error"] == {"code": 109, "message": "token expired"}


async def test_stale_connection_is_3502(socket_: ClientConnection) -> None:
    """Who never connects is closed."""
    assert await closed_with(socket_) == (3502, "stale")


async def test_unknown_rpc_is_104_and_bad_types_are_107(joined: ClientConnection) -> None:
    """The connection stays for both."""
    first = await ask(joined, {"id": 2, "rpc": {"method": "nope"}})
    second = await ask(joined, {"id": 3, "subscribe": {"channel": 7}})
    third = await ask(joined, {"id": 4, "rpc": {"method": "echo", "data": 1}})
    assert first["error"] == {"code": 104, "message": "method not found"}
    error = second["error"]
    assert isinstance(error, dict) and error["code"] == 107
    assert third["rpc"] == {"data": 1}


async def test_flood_is_111_and_then_3013(joined: ClientConnection) -> None:
    """The first excess is told, the flood is cut."""
    for number in range(2, 90):
        await joined.send(rpc(number, "echo"))
    seen: list[int | None] = []
    try:
        while True:
            replies = map(json.loads, str(await joined.recv()).split("\n"))
            seen += [reply.get("error", {}).get("code") for reply in replies]
    except ConnectionClosed as end:
        assert end.rcvd is not None
        assert (end.rcvd.code, end.rcvd.reason) == (3013, "too many requests")
    assert seen.count(111) == LIMITS["excess_max"]
    assert seen.index(111) >= LIMITS["commands_burst"]


async def test_flood_costs_its_neighbour_nothing(server: Spawned, joined: ClientConnection) -> None:
    """While one client floods until it is cut off, each command of another is answered."""

    async def flood() -> tuple[int, str]:
        async with connect(server.url, compression=None) as flooder:
            await ask(flooder, {"id": 1, "connect": {}})
            reading = asyncio.create_task(closed_with(flooder))
            with contextlib.suppress(ConnectionClosed):
                for number in range(2, 100_000):
                    await flooder.send(rpc(number, "echo"))
            return await reading

    flooding = asyncio.create_task(flood())
    answered = 0
    for number in range(2, 32):  # within its own bounds, beside the flood and after it
        reply = await ask(joined, {"id": number, "rpc": {"method": "echo", "data": number}})
        answered += reply["rpc"] == {"data": number}
    assert await asyncio.wait_for(flooding, 60) == (3013, "too many requests")
    assert answered == 30


async def test_twenty_errors_are_3509(joined: ClientConnection) -> None:
    """A client that only makes mistakes is sent away."""
    for number in range(2, 22):
        await joined.send(rpc(number, "nope"))
    assert await closed_with(joined) == (3509, "too many errors")


async def test_slow_rpc_delays_nobody_and_ends_111(joined: ClientConnection) -> None:
    """An rpc behind it is answered first; the slow one is given up before the SDK does."""
    await joined.send('{"id":2,"rpc":{"method":"slow"}}')
    assert (await ask(joined, {"id": 3, "rpc": {"method": "echo", "data": 3}}))["rpc"]
    reply = json.loads(await joined.recv())
    assert reply["id"] == 2 and reply["error"]["code"] == 111
    assert reply["error"]["temporary"] is True


async def test_pings_of_the_websocket_are_answered(joined: ClientConnection) -> None:
    """An odd client stays connected after its ping."""
    await asyncio.wait_for(await joined.ping(b"there?"), 60)
    assert (await ask(joined, {"id": 2, "rpc": {"method": "echo", "data": 2}}))["rpc"]


async def test_protobuf_subprotocol_is_echoed(server: Spawned) -> None:
    """Swift, Java and Dart insist on it."""
    async with connect(
        server.url,
        subprotocols=[Subprotocol("centrifuge-protobuf")],
        compression=None,
    ) as connection:
        assert connection.subprotocol == "centrifuge-protobuf"
        await connection.send(b"\x04\x08\x01\x22\x00")
        assert isinstance(await connection.recv(), bytes)


# The handshake


async def test_foreign_origin_is_refused(server: Spawned) -> None:
    """403 before anything else; also for null and for a look-alike."""
    for origin in ("https://shop.example", "null", f"http://127.0.0.1:{server.port}.evil.example"):
        with pytest.raises(InvalidStatus) as refused:
            async with connect(server.url, origin=Origin(origin)):
                pass
        assert refused.value.response.status_code == 403


async def test_own_origin_is_allowed(server: Spawned) -> None:
    """The page that this server delivered may connect."""
    origin = Origin(f"http://127.0.0.1:{server.port}")
    async with connect(server.url, origin=origin) as connection:
        await connection.send(CONNECT)
        assert json.loads(await connection.recv())["id"] == 1


def handshake(*extra: str, path: str = "/connection/websocket", host: bool = True) -> bytes:
    key = base64.b64encode(os.urandom(16)).decode()
    lines = [f"GET {path} HTTP/1.1", *(["Host: 127.0.0.1"] if host else [])]
    lines += ["Upgrade: websocket", "Connection: Upgrade", f"Sec-WebSocket-Key: {key}"]
    lines += ["Sec-WebSocket-Version: 13", *extra]
    return "\r\n".join([*lines, "", ""]).encode()


async def answer(server: Spawned, *chunks: bytes, pause: float = 0.0) -> bytes:
    """Send chunks on a new TCP connection; return what comes until it is closed or says 101."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    try:
        for chunk in chunks:
            writer.write(chunk)
            await writer.drain()
            await asyncio.sleep(pause)
        async with asyncio.timeout(60):
            head = await reader.readuntil(b"\r\n\r\n")
        return head
    finally:
        writer.close()


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (handshake(host=False), 400),
        (handshake(*[f"X-{n}: 1" for n in range(80)]), 431),
        (handshake(f"X-Long: {'a' * 9_000}"), 431),
        (handshake(*[f"X-{n}: {'a' * 4_000}" for n in range(5)]), 431),
        (handshake(path="/connection/websocket?" + "q" * 9_000), 414),
        (b"\x00\x01garbage\r\n\r\n", 400),
        (handshake().replace(b"Version: 13", b"Version: 12"), 400),
        (handshake().replace(b"Sec-WebSocket-Key", b"X-Key"), 400),
    ],
    ids=["no host", "many", "long line", "big head", "long url", "garbage", "version", "no key"],
)
async def test_odd_handshake_is_refused_at_once(
    server: Spawned, request_bytes: bytes, status: int
) -> None:
    """Each gets a status and is closed; none is left hanging."""
    head = await answer(server, request_bytes)
    assert int(head.split(b" ")[1]) == status


async def test_endless_header_is_refused(server: Spawned) -> None:
    """A line that never ends is cut at the cap, not collected."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    answered = asyncio.ensure_future(reader.readuntil(b"\r\n\r\n"))
    writer.write(handshake()[:-2] + b"X-Endless: ")
    for _ in range(10):
        writer.write(b"a" * 4_096)
        done, _ = await asyncio.wait([answered], timeout=0.1)
        if done:
            break
    assert (await asyncio.wait_for(answered, 30)).startswith(b"HTTP/1.1 431 ")
    writer.close()


async def test_split_handshake_is_accepted(server: Spawned) -> None:
    """A slow but honest head takes uvicorn's way to the same protocol."""
    whole = handshake()
    head = await answer(server, whole[:30], whole[30:], pause=0.05)
    assert head.startswith(b"HTTP/1.1 101 ")


async def test_silent_and_half_handshakes_are_408(server: Spawned) -> None:
    """Five seconds for a head, dribbled or not."""
    began = time.monotonic()

    async def dribble() -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        reading = asyncio.ensure_future(reader.read())
        for byte in handshake():
            if reading.done():
                break
            writer.write(bytes((byte,)))
            await asyncio.sleep(0.5)
        writer.close()
        return await reading

    heads = await asyncio.gather(
        answer(server), answer(server, handshake()[:40]), asyncio.wait_for(dribble(), 60)
    )
    assert all(head.startswith(b"HTTP/1.1 408 ") for head in heads)
    assert 4 < time.monotonic() - began < 8


async def test_reader_that_stops_is_closed_and_costs_nobody_else(server: Spawned) -> None:
    """A client that never reads is cut; the others get everything, promptly."""
    room = f"room-{uuid4().hex}"
    stuck = socket.socket()
    stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    stuck.connect(("127.0.0.1", server.port))
    stuck.sendall(handshake())
    while b"\r\n\r\n" not in stuck.recv(4_096):
        pass
    subscribe = json.dumps({"id": 2, "subscribe": {"channel": room}})
    for command in (CONNECT, subscribe):
        data = command.encode()
        stuck.sendall(bytes((0x81, 0x80 | len(data), 0, 0, 0, 0)) + data)

    async with connect(server.url, compression=None) as connection:
        await ask(connection, {"id": 1, "connect": {}})
        await ask(connection, {"id": 2, "subscribe": {"channel": room}})
        offsets = [await publish_and_hear(connection, number, room) for number in range(3, 33)]
        assert offsets == list(range(1, 31))
        # 1.8 MB went to the room; the stuck one was closed long before that, and others know it.
        stats = await ask(connection, {"id": 40, "presence_stats": {"channel": room}})
        assert stats["presence_stats"] == {"num_clients": 1, "num_users": 1}
    stuck.close()


async def publish_and_hear(connection: ClientConnection, number: int, room: str) -> int:
    """Publish 60 kB; wait for the reply and for the publication, return its offset."""
    payload = {"id": number, "publish": {"channel": room, "data": "x" * 60_000}}
    await connection.send(json.dumps(payload))
    offset, replied = 0, False
    async with asyncio.timeout(2):
        while not (offset and replied):
            for line in str(await connection.recv()).split("\n"):
                message = json.loads(line)
                replied = replied or message.get("id") == number
                offset = message.get("push", {}).get("pub", {}).get("offset", offset)
    return offset

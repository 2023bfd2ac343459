"""Frames and texts that no correct client sends: the same answer at both doors.

Method: bytes on a TCP connection, below any WebSocket library.
"""

import json
from collections.abc import AsyncIterator, Iterator
from uuid import uuid4

import jwt
import pytest

from tests.support.raw import Raw, frame, handshake, text
from tests.support.realtime_app import KEY, Spawned
from tests.support.servers import Valkey

TEXT, PING, CLOSE = 0x81, 0x89, 0x88
RPC = '{"id":%s,"rpc":{"method":"echo","data":%s}}'


@pytest.fixture(scope="module", params=["front", "asgi"])
def server(valkey: Valkey, request: pytest.FixtureRequest) -> Iterator[Spawned]:
    options = ["--asgi"] if request.param == "asgi" else []
    admission = ["--admission", json.dumps({"per_person_max": 2})]
    spawned = Spawned(valkey.url, f"s{uuid4().hex[:12]}", *options, *admission)
    yield spawned
    spawned.close()


async def connected(server: Spawned, token: str = "") -> tuple[Raw, dict[str, object]]:
    raw = await Raw.upgraded(server.port)
    raw.writer.write(text(json.dumps({"id": 1, "connect": {"token": token}})))
    return raw, await reply(raw)


async def reply(raw: Raw) -> dict[str, object]:
    """The next message that answers something."""
    while True:
        opcode, payload = await raw.read_frame()
        assert opcode == 1, (opcode, payload)
        for line in payload.split(b"\n"):
            message: dict[str, object] = json.loads(line)
            if "id" in message:
                return message


@pytest.fixture
async def joined(server: Spawned) -> AsyncIterator[Raw]:
    raw, answer = await connected(server)
    assert "connect" in answer, answer
    yield raw
    await raw.close()


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (frame(TEXT, b"{}", masked=False), 1002),
        (frame(TEXT | 0x40, b"{}"), 1002),
        (frame(TEXT | 0x20, b"{}"), 1002),
        (frame(0x83, b"{}"), 1002),
        (frame(0x8B, b""), 1002),
        (frame(0x80, b"{}"), 1002),
        (frame(PING & 0x7F, b""), 1002),
        (frame(PING, b"x" * 126), 1002),
        (frame(CLOSE, (1005).to_bytes(2, "big")), 1002),
        (frame(CLOSE, b"\x03"), 1002),
        (bytes((TEXT, 0xFF)) + (2**40).to_bytes(8, "big") + b"\0\0\0\0{}", 1009),
        (frame(TEXT, b'{"id":2,"rpc":{"method":"\xff"}}'), 1007),
    ],
    ids=[
        "unmasked",
        "compressed, which was not agreed on",
        "reserved bit",
        "reserved opcode",
        "reserved control opcode",
        "continuation of nothing",
        "fragmented ping",
        "ping over 125 bytes",
        "close 1005",
        "close of one byte",
        "declared 2^40 bytes",
        "no UTF-8",
    ],
)
async def test_broken_frame_is_closed_with_its_code(joined: Raw, sent: bytes, code: int) -> None:
    """At once; 2^40 bytes are not waited for."""
    joined.writer.write(sent)
    assert (await joined.closed())[0] == code


@pytest.mark.parametrize(
    "line",
    [
        RPC % ("NaN", "1"),
        RPC % ("1e999", "1"),
        RPC % ("2", "NaN"),
        RPC % ("2", "-Infinity"),
        RPC % ("2", '"a\x00b"'),
        "[" * 60_000,
        RPC % ("2", "[" * 20_000 + "]" * 20_000),
    ],
    ids=[
        "id NaN",
        "id 1e999",
        "data NaN",
        "data -Infinity",
        "raw NUL",
        "deep nesting",
        "deep nesting in data",
    ],
)
async def test_text_that_is_no_command_is_3501(joined: Raw, line: str) -> None:
    """Numbers that JSON has not, raw control characters, depths without end."""
    joined.writer.write(text(line))
    assert await joined.closed() == (3501, "bad request")


@pytest.mark.parametrize(
    ("line", "code", "field"),
    [
        (RPC % ("2", r'{"text":"hi \ud83d"}'), 1400, "text"),
        (r'{"id":2,"publish":{"channel":"a","data":{"text":"\ud83d!"}}}', 1400, "text"),
        (r'{"id":2,"subscribe":{"channel":"\udfff"}}', 107, "channel"),
    ],
)
async def test_half_a_character_is_told_by_its_field(
    joined: Raw, line: str, code: int, field: str
) -> None:
    """What `slice` leaves of an emoji; the connection stays."""
    joined.writer.write(text(line))
    error = (await reply(joined))["error"]
    assert isinstance(error, dict) and error["code"] == code
    assert f"{field}: " in error["message"]
    joined.writer.write(text(RPC % ("3", "3")))
    assert await reply(joined) == {"id": 3, "rpc": {"data": 3}}


async def test_number_without_end_is_error_107(joined: Raw) -> None:
    """Where the command can be told, it is; the connection stays."""
    joined.writer.write(text('{"id":2,"subscribe":{"channel":"a","offset":1e999}}'))
    error = (await reply(joined))["error"]
    assert isinstance(error, dict) and error["code"] == 107
    joined.writer.write(text(RPC % ("3", "3")))
    assert await reply(joined) == {"id": 3, "rpc": {"data": 3}}


async def test_last_of_two_equal_keys_counts(joined: Raw) -> None:
    """As most readers of JSON have it."""
    joined.writer.write(text('{"id":2,"id":3,"rpc":{"method":"nope","method":"echo","data":4}}'))
    assert await reply(joined) == {"id": 3, "rpc": {"data": 4}}


@pytest.mark.filterwarnings("ignore::jwt.warnings.InsecureKeyLengthWarning")  # the suites' key
async def test_oldest_connection_of_a_person_is_closed_3504(server: Spawned) -> None:
    """One more than a person may have."""
    token = jwt.encode({"sub": uuid4().hex}, KEY, algorithm="HS256")
    raws = [(await connected(server, token))[0] for _ in range(3)]
    assert await raws[0].closed() == (3504, "connection limit")
    for raw in raws[1:]:
        raw.writer.write(text(RPC % ("2", "2")))
        assert (await reply(raw))["id"] == 2
    for raw in raws:
        await raw.close()


@pytest.mark.parametrize(
    "lines",
    [
        ["Content-Length: 5", "Transfer-Encoding: chunked"],
        ["Content-Length: 5", "Content-Length: 6"],
        ["Transfer-Encoding: chunked, identity"],
    ],
    ids=["length and chunks", "two lengths", "chunks not last"],
)
async def test_request_of_unclear_length_is_400(server: Spawned, lines: list[str]) -> None:
    """Two servers could take two different requests out of it."""
    raw = await Raw.dial(server.port)
    head = ["POST /connection/uni_sse HTTP/1.1", "Host: 127.0.0.1", *lines, "", ""]
    answer = await raw.ask("\r\n".join(head).encode() + b"0\r\n\r\nGET /smuggled HTTP/1.1\r\n\r\n")
    assert answer.status == 400
    await raw.close()


async def test_handshake_with_a_body_is_400(server: Spawned) -> None:
    """What stands behind an upgrade with a length belongs to nobody."""
    raw = await Raw.dial(server.port)
    request = handshake("Content-Length: 5", "Transfer-Encoding: chunked")
    assert (await raw.ask(request)).status == 400
    await raw.close()

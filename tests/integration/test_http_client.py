"""The HTTP client against real sockets: what counts as an answer, and what is used again."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from live.payments.http_client import ANSWER_BYTES_MAX, Answer, HttpClient

Serve = Callable[[int, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


@asynccontextmanager
async def serving(uds: Path, serve: Serve) -> AsyncIterator[HttpClient]:
    """A server that does what `serve` says with each connection, and a client of it."""
    count = 0

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal count
        count += 1
        try:
            await serve(count, reader, writer)
        except ConnectionError:
            pass  # the client went away, as some tests want
        finally:
            writer.close()

    server = await asyncio.start_unix_server(connected, uds)
    client = HttpClient("http://test", headers={"x-key": "k"}, timeout_seconds=0.5, uds=str(uds))
    yield client
    await client.close()
    server.close()


async def request(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    for line in head.split(b"\r\n"):
        if line.lower().startswith(b"content-length: "):
            return head + await reader.readexactly(int(line.split(b": ")[1]))
    return head


async def get(client: HttpClient) -> Answer | None:
    return await client.call("GET", "/x", headers={})


async def test_call_sends_headers_and_body(tmp_path: Path) -> None:
    """The request on the wire is complete."""
    seen: list[bytes] = []

    async def serve(_: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await request(reader))
        writer.write(OK)

    async with serving(tmp_path / "s", serve) as client:
        answer = await client.call("POST", "/pay", headers={"idempotency-key": "i"}, content=b"{}")
    assert answer == Answer(200, b"{}")
    assert seen[0].startswith(b"POST /pay HTTP/1.1\r\nHost: test\r\nx-key: k\r\n")
    assert b"\r\nidempotency-key: i\r\n" in seen[0]
    assert seen[0].lower().endswith(b"content-length: 2\r\n\r\n{}")


async def test_answer_without_content_is_an_answer(tmp_path: Path) -> None:
    """204 has no body and no length, and the connection stays."""

    async def serve(_: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await request(reader):
            writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")

    async with serving(tmp_path / "s", serve) as client:
        assert [await get(client) for _ in range(2)] == [Answer(204, b"")] * 2


async def test_connection_is_used_again(tmp_path: Path) -> None:
    """Calls one after the other share a connection."""
    connections: list[int] = []

    async def serve(
        number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        connections.append(number)
        while await request(reader):
            writer.write(OK)

    async with serving(tmp_path / "s", serve) as client:
        assert [await get(client) for _ in range(3)] == [Answer(200, b"{}")] * 3
    assert connections == [1]


async def test_connection_that_the_server_closed_is_replaced(tmp_path: Path) -> None:
    """A server that ends idle connections costs a new connection, not a lost call."""

    async def serve(_: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request(reader)
        writer.write(OK)

    async with serving(tmp_path / "s", serve) as client:
        assert [await get(client) for _ in range(3)] == [Answer(200, b"{}")] * 3


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Le",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1e3\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (ANSWER_BYTES_MAX + 1),
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * (64 * 1024) + b"\r\n\r\n",
        b"SSH-2.0-nothing\r\n\r\n",
        b"\x00" * 100,
    ],
    ids=["nothing", "cut head", "cut body", "negative", "no number", "too long",
         "long head", "no HTTP", "zeros"],
)  # fmt: skip
async def test_what_is_no_whole_answer_is_none(tmp_path: Path, raw: bytes) -> None:
    """Cut, unreadable or endless: the call says that it does not know."""

    async def serve(_: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request(reader)
        writer.write(raw)
        await writer.drain()

    async with serving(tmp_path / "s", serve) as client:
        assert await get(client) is None


async def test_late_answer_is_not_read_as_the_next_one(tmp_path: Path) -> None:
    """After a call ran out of time its connection is gone, and so is its late answer."""

    async def serve(
        number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await request(reader)
        if number == 1:
            await reader.read()  # until the client gives up
            return
        writer.write(b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n")

    async with serving(tmp_path / "s", serve) as client:
        assert await get(client) is None
        assert await get(client) == Answer(201, b"")


async def test_server_that_is_not_there_is_no_answer(tmp_path: Path) -> None:
    """Connection refused is as good as silence."""
    client = HttpClient("http://test", headers={}, timeout_seconds=0.5, uds=str(tmp_path / "none"))
    assert await get(client) is None
    await client.close()


async def test_waiting_for_a_connection_counts_as_time(tmp_path: Path) -> None:
    """When all connections hang, the next call ends by its deadline, too."""

    async def serve(_: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with serving(tmp_path / "s", serve):
        client = HttpClient(
            "http://test",
            headers={},
            timeout_seconds=0.2,
            uds=str(tmp_path / "s"),
            connections_max=1,
        )
        async with asyncio.timeout(2):
            assert await asyncio.gather(*(get(client) for _ in range(3))) == [None] * 3
        await client.close()

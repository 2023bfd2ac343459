"""A viewer who left leaves nothing behind, however they went and by whichever door they had come.

Method: no garbage collector; objects of our classes and of the servers' beneath us are counted
after many have come and gone, and after as many more. A cycle shows as one object for each.
"""

import asyncio
import gc
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from uuid import uuid4

import pytest

from tests.support.raw import Raw, frame, handshake, text
from tests.support.realtime_app import build, serving

ROUND = 20
CONNECT = text('{"id":1,"connect":{}}')
WATCHED = ("live.", "uvicorn.", "starlette.", "websockets.", "httptools.")


@pytest.fixture(params=["front", "plain"])
async def port(request: pytest.FixtureRequest, redis_url: str) -> AsyncIterator[int]:
    app = build(redis_url, f"s{uuid4().hex[:12]}", presence=False)
    async with serving(app, front=request.param == "front") as url:
        yield int(url.split(":")[2].partition("/")[0])


@pytest.fixture
def uncollected() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


async def say_goodbye(raw: Raw) -> None:
    raw.writer.write(frame(0x88, b"\x03\xe8"))
    assert (await raw.closed())[0] == 1000


async def hang_up(raw: Raw) -> None:
    raw.writer.transport.abort()


async def break_the_protocol(raw: Raw) -> None:
    raw.writer.write(frame(0x83, b"no such opcode"))
    assert (await raw.closed())[0] == 1002


async def be_sent_away(raw: Raw) -> None:
    raw.writer.write(text("[]"))
    assert (await raw.closed())[0] == 3501
    raw.writer.write(frame(0x88, b"\x0d\xad"))


async def ping_and_hang_up(raw: Raw) -> None:
    raw.writer.write(frame(0x89, b"x"))
    assert (await raw.read_frame())[0] == 0xA
    raw.writer.transport.abort()


async def subscribe_and_leave(raw: Raw) -> None:
    raw.writer.write(text('{"id":2,"subscribe":{"channel":"room","recover":true}}'))
    assert b'"subscribe"' in (await raw.read_frame())[1]
    raw.writer.write(text('{"id":3,"rpc":{"method":"echo","data":1}}'))
    assert b'"rpc"' in (await raw.read_frame())[1]
    await say_goodbye(raw)


WAYS = [
    say_goodbye,
    hang_up,
    break_the_protocol,
    be_sent_away,
    ping_and_hang_up,
    subscribe_and_leave,
]


async def come_and_go(port: int, leave: Callable[[Raw], Awaitable[None]]) -> None:
    raw = await Raw.upgraded(port)
    raw.writer.write(CONNECT)
    assert b'"connect"' in (await raw.read_frame())[1]
    await leave(raw)
    await ended(raw)


async def hear_and_go(port: int) -> None:
    raw = await Raw.dial(port)
    request = b"GET /connection/uni_sse HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    assert (await raw.ask(request)).status == 200
    await raw.reader.readuntil(b"\n\n")
    raw.writer.transport.abort()


async def knock_and_go(port: int) -> None:
    """Never says connect."""
    raw = await Raw.upgraded(port)
    raw.writer.transport.abort()


async def be_refused(port: int) -> None:
    raw = await Raw.dial(port)
    assert (await raw.ask(handshake("Origin: http://elsewhere"))).status == 403
    await ended(raw)


async def ended(raw: Raw) -> None:
    """Wait for the server's end of it."""
    try:
        await raw.reader.read()
    except OSError:
        pass
    await raw.close()


def alive() -> Counter[str]:
    found: Counter[str] = Counter()
    for thing in gc.get_objects():
        name = f"{type(thing).__module__}.{type(thing).__qualname__}"
        if name.startswith(WATCHED):
            found[name] += 1
    return found


async def grown(visit: Callable[[], Awaitable[None]]) -> dict[str, int]:
    """Which classes have grown by as many objects as visits, once all have gone."""
    for _ in range(ROUND):  # what is made once and kept
        await visit()
    await asyncio.sleep(0.1)
    before = alive()
    for _ in range(ROUND):
        await visit()
    left: dict[str, int] = {}
    for _ in range(50):  # the last ones may still be on their way out
        left = {kind: n for kind, n in (alive() - before).items() if n >= ROUND // 2}
        if not left:
            break
        await asyncio.sleep(0.1)
    return left


@pytest.mark.usefixtures("uncollected")
@pytest.mark.parametrize("leave", WAYS, ids=lambda way: way.__name__)
async def test_connection_leaves_nothing_behind(
    port: int, leave: Callable[[Raw], Awaitable[None]]
) -> None:
    """No session, viewer, port, protocol, parser, task or timer of it."""
    assert await grown(lambda: come_and_go(port, leave)) == {}


@pytest.mark.usefixtures("uncollected")
@pytest.mark.parametrize("visit", [hear_and_go, knock_and_go, be_refused])
async def test_visitor_leaves_nothing_behind(
    port: int, visit: Callable[[int], Awaitable[None]]
) -> None:
    """An event stream, one who never connected, one who was not let in."""
    assert await grown(lambda: visit(port)) == {}

"""A gateway on its way out, on real sockets: commands in flight are answered, then 3001."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from live.connection.ports import RpcCall
from live.domain.ids import ShowId
from live.fanout.hub import Hub
from tests.support.realtime_app import build, serving

LONG_WINDOW = 60.0  # no test waits for its end


@dataclass
class Kitchen:
    """An rpc that takes until the test lets it go."""

    url: str
    hub: Hub
    go: asyncio.Event
    taken: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(0))

    async def cook(self, call: RpcCall) -> object:
        self.taken.release()
        await self.go.wait()
        return "done"


@asynccontextmanager
async def kitchen(redis_url: str, show: ShowId, *, front: bool) -> AsyncIterator[Kitchen]:
    made = Kitchen("", Hub(), asyncio.Event())
    app = build(redis_url, show, rpcs={"cook": made.cook})
    made.hub = app.state.gateway.hub
    async with serving(app, front=front) as made.url:
        yield made


async def order(socket: ClientConnection, found: Kitchen) -> None:
    """Connect and leave an rpc in flight."""
    await socket.send('{"id":1,"connect":{}}\n{"id":2,"rpc":{"method":"cook"}}')
    await asyncio.wait_for(found.taken.acquire(), 60)


async def to_the_end(socket: ClientConnection) -> tuple[list[int], int]:
    """Ids of all replies until the server closes, and the code of the close."""
    ids: list[int] = []
    try:
        async with asyncio.timeout(60):
            while True:
                lines = str(await socket.recv()).split("\n")
                ids += [reply["id"] for reply in map(json.loads, lines) if "id" in reply]
    except ConnectionClosed as end:
        assert end.rcvd is not None
        return ids, end.rcvd.code


@pytest.mark.parametrize("front", [True, False], ids=["front", "asgi"])
async def test_command_in_flight_is_answered_before_3001(
    redis_url: str, show: ShowId, front: bool
) -> None:
    """After its mark a connection stays, and is served, until nothing is outstanding."""
    async with kitchen(redis_url, show, front=front) as found, connect(found.url) as socket:
        await order(socket, found)
        draining = asyncio.create_task(found.hub.drain(LONG_WINDOW))
        await asyncio.sleep(0)  # the only connection has its mark now
        await socket.send('{"id":3,"rpc":{"method":"echo"}}')
        async with asyncio.timeout(60):
            while '"id":3' not in str(await socket.recv()):
                pass

        found.go.set()

        assert await to_the_end(socket) == ([2], 3001)
        await asyncio.wait_for(draining, 60)  # and does not sit the window out


async def test_ten_commands_in_flight_are_all_answered(redis_url: str, show: ShowId) -> None:
    """Wherever in the window a connection has its mark."""
    async with kitchen(redis_url, show, front=True) as found:
        sockets = [await connect(found.url) for _ in range(10)]
        for socket in sockets:
            await order(socket, found)
        draining = asyncio.create_task(found.hub.drain(2.0))
        asyncio.get_running_loop().call_later(0.3, found.go.set)
        ends = await asyncio.gather(*map(to_the_end, sockets))
        await draining
        for socket in sockets:
            await socket.close()
    assert [code for _, code in ends] == [3001] * 10
    assert [2 in ids for ids, _ in ends] == [True] * 10


async def test_command_that_takes_too_long_ends_with_the_window(
    redis_url: str, show: ShowId
) -> None:
    """The drain is bounded: then the client repeats its call elsewhere, with the same key."""
    async with kitchen(redis_url, show, front=True) as found, connect(found.url) as socket:
        await order(socket, found)
        await asyncio.wait_for(found.hub.drain(0.2), 60)
        assert (await to_the_end(socket))[1] == 3001
        found.go.set()

"""A viewer's connection against a scripted server: pings, repeats, nonsense, recovery."""

import asyncio

import msgspec
import orjson
import pytest
from websockets.asyncio.server import ServerConnection, serve

from live.tools.demo.link import CallFailed, Link, open_link
from live.tools.demo.wire import Connected, Memory, Publication
from tests.support.answers import Json
from tests.support.demo_script import PATIENCE, SHOW, Refuse, Script, server, until


class _Ear:
    def __init__(self) -> None:
        self.heard: list[bytes] = []
        self.closed: list[int] = []

    def on_publication(self, channel: str, publication: Publication, at: float | None) -> None:
        self.heard.append(bytes(publication.data))

    def on_closed(self, code: int, reason: str) -> None:
        self.closed.append(code)


async def linked(script: Script, ear: _Ear) -> Link:
    link = await open_link(script.url, Memory(), ear)
    await link.join("token", SHOW)
    return link


async def test_link_answers_pings() -> None:
    """An empty message is answered with an empty message where the server asks for pongs."""
    heard: asyncio.Queue[str] = asyncio.Queue()

    async def ping(line: ServerConnection) -> None:
        command = orjson.loads(await line.recv())
        reply = {"client": "c", "ping": 25, "pong": True}
        await line.send(orjson.dumps({"id": command["id"], "connect": reply}).decode() + "\n{}")
        heard.put_nowait(str(await line.recv()))

    async with serve(ping, "127.0.0.1", 0, compression=None) as listening:
        port = next(iter(listening.sockets)).getsockname()[1]
        link = await open_link(f"ws://127.0.0.1:{port}/", Memory(), _Ear())
        await link.join("token", SHOW)
        assert await asyncio.wait_for(heard.get(), PATIENCE) == "{}"
        link.close()


async def test_link_drops_what_it_has_seen() -> None:
    """The same offset twice is heard once."""
    ear = _Ear()
    script = Script({"time.now": lambda data: {}})
    async with server(script):
        link = await linked(script, ear)
        push = {"channel": f"show:{SHOW}", "pub": {"data": {"n": 1}, "offset": 1}}
        for line in script.lines:
            await line.send(orjson.dumps({"push": push}).decode())
            await line.send(orjson.dumps({"push": push}).decode())
        await link.rpc("time.now", {})
        link.close()

    assert ear.heard == [b'{"n":1}']


async def test_link_ends_on_nonsense() -> None:
    """A frame that is not the protocol ends the link; nothing is guessed."""
    ear = _Ear()
    script = Script()
    async with server(script):
        await linked(script, ear)
        for line in script.lines:
            await line.send("no json")
        await until(lambda: ear.closed)

    assert ear.closed == [1006]


async def test_link_raises_what_the_server_refuses() -> None:
    """An error answer carries its code and whether to repeat."""

    def busy(data: Json) -> Json:
        raise Refuse(111)

    script = Script({"offer.hold": busy})
    async with server(script):
        link = await linked(script, _Ear())
        with pytest.raises(CallFailed) as failure:
            await link.rpc("offer.hold", {})
        link.close()

    assert (failure.value.code, failure.value.temporary) == (111, True)


def test_memory_takes_the_snapshot_where_recovery_failed() -> None:
    """Not recovered: the position jumps to the server's, and nothing is replayed."""
    memory = Memory()
    connected = {"subs": {"show:x": {"recoverable": True, "epoch": "a", "offset": 7}}}
    from_server = msgspec.convert(connected, type=Connected)
    memory.joined(from_server)

    again = {"recoverable": True, "epoch": "b", "offset": 3, "was_recovering": True}
    missed = memory.joined(msgspec.convert({"subs": {"show:x": again}}, type=Connected))

    assert missed == []
    request = memory.connect_request("t", "x")
    assert request["subs"] == {"show:x": {"recover": True, "epoch": "b", "offset": 3}}

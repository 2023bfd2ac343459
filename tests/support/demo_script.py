"""A scripted server on a real socket, for what a healthy service does not do on demand."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import orjson
from websockets.asyncio.server import ServerConnection, serve

from live.domain.ids import ShowId
from tests.support.answers import Json

SHOW = ShowId("demo")
OFFER = "flash-1"
SUB = "anna"
PATIENCE = 10.0


class Hang(Exception):
    """Say nothing."""


class Drop(Exception):
    """Cut the connection instead of an answer."""


class Refuse(Exception):
    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


@dataclass
class Script:
    """A server that plays one show; `on` answers RPCs and may raise Hang, Drop or Refuse."""

    on: dict[str, Callable[[Json], Json]] = field(default_factory=dict)
    asked: list[tuple[str, Json]] = field(default_factory=list)
    connects: list[Json] = field(default_factory=list)
    lines: set[ServerConnection] = field(default_factory=set)
    log: list[tuple[str, Json]] = field(default_factory=list)  # (channel, data), one log for all
    url: str = ""
    joined: asyncio.Event = field(default_factory=asyncio.Event)
    reject: int = 0  # close code instead of a connect answer
    ping: int = 0  # seconds that are promised, and never kept

    async def handle(self, line: ServerConnection) -> None:
        async for message in line:
            for part in message.splitlines():
                command = orjson.loads(part)
                if "connect" in command:
                    await self.connect(line, command["id"], command["connect"])
                elif "rpc" in command:
                    await self.rpc(line, command["id"], **command["rpc"])

    async def connect(self, line: ServerConnection, number: int, request: Json) -> None:
        self.connects.append(request)
        if self.reject:
            await line.close(self.reject, "not you")
            return
        subs: dict[str, Json] = {}
        for channel in (f"show:{SHOW}", f"#{SUB}"):
            pubs = self.publications(channel)
            subs[channel] = {"recoverable": True, "epoch": "e", "offset": len(pubs)}
            wanted = request.get("subs", {}).get(channel)
            if wanted is not None:
                missed = pubs[wanted["offset"] :]
                subs[channel] |= {"was_recovering": True, "recovered": True}
                subs[channel] |= {"offset": wanted["offset"], "publications": missed}
        self.lines.add(line)
        reply = {"client": "c", "ping": self.ping, "subs": subs, "data": {"show": {"offers": []}}}
        await line.send(orjson.dumps({"id": number, "connect": reply}).decode())
        self.joined.set()

    async def rpc(self, line: ServerConnection, number: int, method: str, data: Json) -> None:
        self.asked.append((method, data))
        try:
            answer: Json = {"rpc": {"data": self.on[method](data)}}
        except Hang:
            return
        except Drop:
            line.transport.abort()
            return
        except Refuse as refusal:
            busy = refusal.code == 111
            answer = {"error": {"code": refusal.code, "message": "no", "temporary": busy}}
        await line.send(orjson.dumps({"id": number} | answer).decode())

    def publications(self, channel: str) -> list[Json]:
        data = [data for name, data in self.log if name == channel]
        return [{"data": one, "offset": at} for at, one in enumerate(data, start=1)]

    async def publish(self, channel: str, data: Json) -> None:
        self.log.append((channel, data))
        push = {"channel": channel, "pub": self.publications(channel)[-1]}
        for line in self.lines:
            await line.send(orjson.dumps({"push": push}).decode())

    async def offer(self, kind: str, phase: str) -> None:
        offer = {"id": OFFER, "phase": phase}
        data = {"type": f"offer.{kind}", "at": round(time.time() * 1000), "offer": offer}
        await self.publish(f"show:{SHOW}", data)

    def keys(self, method: str) -> list[str]:
        return [data.get("key") or data["hold"] for name, data in self.asked if name == method]


@asynccontextmanager
async def server(script: Script) -> AsyncIterator[Script]:
    async with serve(script.handle, "127.0.0.1", 0, compression=None) as listening:
        port = next(iter(listening.sockets)).getsockname()[1]
        script.url = f"ws://127.0.0.1:{port}/connection/websocket"
        yield script


async def until(holds: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not holds():  # noqa: ASYNC110  # the record has no event, on purpose: it is data
            await asyncio.sleep(0.01)

"""A raw client of the JSON protocol: sends exactly what a test says, sees exactly what comes."""

import json
from collections import deque
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self
from uuid import uuid4

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

ANSWER_SECONDS = 6


@dataclass
class Wire:
    """One connection; `pushes` keeps what came beside the answers."""

    socket: ClientConnection
    hello: dict[str, Any] = field(default_factory=dict)
    pushes: deque[dict[str, Any]] = field(default_factory=deque)
    _waiting: deque[dict[str, Any]] = field(default_factory=deque)
    _last_id: int = 1

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.socket.close()

    async def send(self, *commands: dict[str, Any]) -> None:
        await self.socket.send("\n".join(map(json.dumps, commands)))

    async def read(self) -> dict[str, Any]:
        """The next message, pings answered and left out."""
        while not self._waiting:
            text = await self.socket.recv()
            for line in str(text).split("\n"):
                message = json.loads(line)
                if message:
                    self._waiting.append(message)
                else:
                    await self.socket.send("{}")
        return self._waiting.popleft()

    async def ask(self, command: dict[str, Any]) -> dict[str, Any]:
        """Send one command and return its reply."""
        self._last_id += 1
        await self.send({"id": self._last_id, **command})
        while True:
            message = await self.read()
            if message.get("id") == self._last_id:
                return message
            self.pushes.append(message)

    async def rpc(self, method: str, data: object) -> dict[str, Any]:
        """The answer's data, or its error as `{"error": {...}}`."""
        reply = await self.ask({"rpc": {"method": method, "data": data}})
        if "error" in reply:
            return {"error": reply["error"]}
        found: dict[str, Any] = reply["rpc"]["data"]
        return found

    async def hold(self, offer: str, qty: int = 1, key: str = "") -> dict[str, Any]:
        key = key or str(uuid4())
        return await self.rpc("offer.hold", {"offer": offer, "qty": qty, "key": key})

    async def checkout(self, hold: str, token: str = "tok_approve") -> dict[str, Any]:
        key = str(uuid4())
        request = {"hold": hold, "provider": "sandbox", "token": token, "key": key}
        return await self.rpc("hold.checkout", request)

    async def event(self, kind: str) -> dict[str, Any]:
        """The next publication of this type, whatever comes before it."""
        while True:
            message = self.pushes.popleft() if self.pushes else await self.read()
            publication = message.get("push", {}).get("pub", {}).get("data", {})
            if publication.get("type") == kind:
                found: dict[str, Any] = publication
                return found

    async def closed(self) -> tuple[int, str]:
        """Wait for the server to close; its code and reason."""
        try:
            while True:
                await self.socket.recv()
        except ConnectionClosed as end:
            assert end.rcvd is not None, "closed without a close frame"
            return end.rcvd.code, end.rcvd.reason


async def dial(url: str, **options: Any) -> Wire:
    """Open a connection and say nothing."""
    return Wire(await connect(url, compression=None, proxy=None, **options))


async def join(url: str, token: str, show: str) -> Wire:
    """Open a connection and join a show."""
    wire = await dial(url)
    await wire.send({"id": 1, "connect": {"token": token, "data": {"show": show}}})
    while True:
        message = await wire.read()
        if message.get("id") == 1:
            assert "connect" in message, message
            wire.hello = message["connect"]
            return wire
        wire.pushes.append(message)

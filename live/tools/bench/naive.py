"""The gateway that everybody writes first: Starlette, a set of sockets, one call for each message.

It does what a viewer and a buyer need and nothing more - a token check, a loop over all sockets for
each publication, one script call through redis-py for each click - and is slowed down by nothing.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator

import jwt
import redis.asyncio
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from live.api.auth import AUDIENCE
from live.tools.bench.stock_rivals import Naive


def naive_channel(show: str) -> str:
    """Where publications for the naive server are announced."""
    return f"bench:{show}"


class NaiveApp:
    def __init__(self, redis_url: str, secret: str, show: str, holders: int) -> None:
        self._secret = secret
        self._show = show
        self._redis = redis.asyncio.Redis.from_url(redis_url)
        self._stock = Naive(redis_url, holders)
        self._connections = asyncio.Semaphore(holders)  # redis-py raises beyond its pool
        self._clients: set[WebSocket] = set()

    @contextlib.asynccontextmanager
    async def lifespan(self, app: Starlette) -> AsyncIterator[None]:
        await self._stock.prepare()
        listening = asyncio.create_task(self._listen())
        yield
        listening.cancel()

    async def viewer(self, socket: WebSocket) -> None:
        await socket.accept()
        self._clients.add(socket)
        buyer = b""
        try:
            while True:
                message = json.loads(await socket.receive_text())
                if "connect" in message:
                    token = message["connect"]["token"]
                    claims = jwt.decode(token, self._secret, ["HS256"], audience=AUDIENCE)
                    buyer = claims["sub"].encode()
                    await socket.send_text(json.dumps({"id": message["id"], "connect": {}}))
                elif "rpc" in message:
                    await self._hold(socket, buyer, message)
        except WebSocketDisconnect:
            pass  # they left
        finally:
            self._clients.discard(socket)

    # Any: what json.loads gives, unchecked, as such a handler has it.
    async def _hold(self, socket: WebSocket, buyer: bytes, message: dict[str, object]) -> None:
        async with self._connections:
            outcome = await self._stock.click(buyer + str(message["id"]).encode())
        assert isinstance(outcome, bytes), "what the script returns"
        answer = {"outcome": outcome.decode()}
        reply = json.dumps({"id": message["id"], "rpc": {"data": answer}}, separators=(",", ":"))
        await socket.send_text(reply)

    async def _listen(self) -> None:
        pubsub = self._redis.pubsub()
        await pubsub.subscribe(naive_channel(self._show))
        async for message in pubsub.listen():
            if message["type"] == "message":
                text = message["data"].decode()
                for socket in list(self._clients):
                    # they left just now
                    with contextlib.suppress(WebSocketDisconnect, RuntimeError):
                        await socket.send_text(text)


def build_naive(redis_url: str, secret: str, show: str, holders: int) -> Starlette:
    app = NaiveApp(redis_url, secret, show, holders)
    route = WebSocketRoute("/connection/websocket", app.viewer)
    return Starlette(routes=[route], lifespan=app.lifespan)

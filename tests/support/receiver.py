"""A shop's server that takes webhooks: on loopback, with whatever manners a test wants."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import orjson
from aiohttp import web

from tests.support.answers import Json

Answer = Callable[[web.Request, bytes], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Got:
    """One call that came in."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def json(self) -> Json:
        found: Json = orjson.loads(self.body)
        return found

    @property
    def type(self) -> str:
        return str(self.json["type"])


@dataclass(slots=True)
class Receiver:
    """`answer` may be exchanged at any time; `got` has all that came in, in order."""

    url: str = ""
    got: list[Got] = field(default_factory=list)
    arrived: asyncio.Condition = field(default_factory=asyncio.Condition)
    answer: Answer | None = None

    async def take(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        headers = {name.lower(): value for name, value in request.headers.items()}
        async with self.arrived:
            self.got.append(Got(request.path, headers, body))
            self.arrived.notify_all()
        if self.answer is not None:
            return await self.answer(request, body)
        return web.Response(text="thanks")

    async def wait_for(self, count: int, seconds: float = 10.0) -> list[Got]:
        async with asyncio.timeout(seconds), self.arrived:
            await self.arrived.wait_for(lambda: len(self.got) >= count)
        return self.got

    def status(self, status: int, **headers: str) -> None:
        """From now on answer with this status."""

        async def answer(_request: web.Request, _body: bytes) -> web.StreamResponse:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            return web.Response(status=status, headers=named, text=f"this is {status}")

        self.answer = answer


@asynccontextmanager
async def receiving(*, tls: ssl.SSLContext | None = None) -> AsyncIterator[Receiver]:
    receiver = Receiver()
    app = web.Application(client_max_size=1_000_000)
    app.router.add_route("*", "/{path:.*}", receiver.take)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
    await site.start()
    host, port = runner.addresses[0][:2]
    receiver.url = f"{'https' if tls else 'http'}://{host}:{port}/hooks"
    try:
        yield receiver
    finally:
        await runner.cleanup()

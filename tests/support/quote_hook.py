"""A shop's quote hook on loopback: answers what a test tells it, keeps what it was asked."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import orjson
from aiohttp import web

from live.payments.webhooks import signing_key, verify
from tests.support.answers import Json

SECRET = "whsec_" + "cXVvdGVzIGluIHRlc3RzIGFyZSBubyBzZWNyZXQ="
HOUR_MS = 3_600_000


def in_an_hour() -> int:
    return time.time_ns() // 1_000_000 + HOUR_MS


def usable(**other: object) -> Json:
    """The answer of a shop that ships in two ways and takes tax and duty on top."""
    return {
        "currency": "EUR",
        "quote_id": "q-1",
        "expires_at": in_an_hour(),
        "shipping": [
            {"id": "standard", "label": "Standard", "amount_minor": 490, "days": 4},
            {"id": "express", "label": "Express", "amount_minor": 990, "days": 1},
        ],
        "tax": [
            {"label": "VAT", "amount_minor": 700, "inclusive": False},
            {"label": "Green dot", "amount_minor": 11, "inclusive": True},
        ],
        "duties_minor": 300,
        **other,
    }


@dataclass(slots=True)
class HookServer:
    """`body` None: what `usable` says; a text goes out as it stands. `hold`: no answer before it
    is set."""

    url: str = ""
    status: int = 200
    body: object = None
    hold: asyncio.Event | None = None
    asked: list[Json] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    came: asyncio.Event = field(default_factory=asyncio.Event)

    async def wait_for(self, calls: int) -> None:
        while len(self.asked) < calls:
            self.came.clear()
            await self.came.wait()

    async def answer(self, request: web.Request) -> web.Response:
        raw = await request.read()
        headers = {name.lower(): value for name, value in request.headers.items()}
        verify(headers, raw, keys=[signing_key(SECRET)], now=time.time())
        self.asked.append(orjson.loads(raw))
        self.headers.append(headers)
        self.came.set()
        if self.hold is not None:
            await self.hold.wait()
        body = usable() if self.body is None else self.body
        raw_body = body if isinstance(body, bytes) else orjson.dumps(body)
        return web.Response(status=self.status, body=raw_body, content_type="application/json")


@asynccontextmanager
async def open_hook_server() -> AsyncIterator[HookServer]:
    hook = HookServer()
    app = web.Application()
    app.router.add_post("/quote", hook.answer)
    runner = web.AppRunner(app, shutdown_timeout=0)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    hook.url = f"http://{host}:{port}/quote"
    yield hook
    await runner.cleanup()

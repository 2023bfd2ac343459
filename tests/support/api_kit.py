"""The HTTP API on real engines, called through ASGI; and what was published, read from the log."""

import json
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import orjson
from redis.asyncio import Redis
from starlette.applications import Starlette

from live.api.auth import Authenticator
from live.api.http.deps import (
    GUEST_READS_BURST,
    GUEST_READS_PER_SECOND,
    GUESTS_BURST,
    GUESTS_PER_SECOND,
    ApiDeps,
    Webhooks,
)
from live.api.http.routes import routes
from live.api.limits import AddressLimit
from live.api.revoked import Revoked
from live.base.settings import Guests, Settings
from live.buying.shop_checkout import ShopCheckout
from live.buying.waiters import OrderWaiters
from live.chat.moderation import Moderation
from live.chat.rules import Chat
from live.chat.store import ChatStore
from live.domain.caller import Role
from live.domain.ids import BuyerId, ShowId, Sub, buyer_of
from live.fanout.hub import Hub
from live.hosting.host import HostCommands
from live.hosting.projector import Projector
from live.hosting.ways import ShopWays, Till
from live.ledger.db.idempotency import IdempotencyRows
from live.ledger.db.pool import Pool
from live.ledger.events.delivery_log import DeliveryLog
from live.ledger.events.endpoints import EndpointRows
from live.ledger.events.feed import EventFeed
from live.ledger.hosting.bans import BanRows
from live.ledger.hosting.catalogue import Catalogue
from live.ledger.hosting.desk_rows import DeskRows
from live.ledger.hosting.offer_rows import OfferRows
from live.ledger.hosting.revocations import RevocationRows
from live.ledger.hosting.shows import ShowRows
from live.ledger.money.payments import PaymentRows
from live.ledger.money.shop_word import ShopWord
from live.ledger.orders.fulfilments import FulfilmentRows
from live.ledger.orders.orders import OrderRows
from live.outgoing.guard import name_fault
from live.payments.providers.invoice import Invoice
from live.payments.providers.sandbox import SandboxProvider
from live.showlog.disconnects import Disconnect
from live.showlog.follower import Follower
from live.showlog.log import ShowLog
from live.stock.engine import StockEngine
from tests.support.answers import Json, entries

SECRET = "a secret that is long enough for HS256"
TILLS: Mapping[str, Till] = {
    "sandbox": SandboxProvider("http://sandbox", key="of nobody"),
    "invoice": Invoice(),
}


@dataclass(slots=True)
class Stage:
    """Everything behind the API, and a client before it. Calls carry a key of their own."""

    pool: Pool
    stock: StockEngine
    log: ShowLog
    follower: Follower
    chat: Chat
    moderation: Moderation
    auth: Authenticator
    projector: Projector
    client: httpx.AsyncClient
    redis: Redis
    disconnects: list[Disconnect] = field(default_factory=list)
    banned: list[tuple[str, ShowId, int]] = field(default_factory=list)
    webhooks: list[tuple[str, Mapping[str, str], bytes]] = field(default_factory=list)

    def token(self, role: Role, shows: list[str], sub: str = "") -> str:
        return self.auth.mint(role=role, sub=sub or f"{role.value}-1", shows=shows, ttl=600)

    async def call(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        role: Role = Role.HOST,
        shows: list[str] | None = None,
        headers: dict[str, str] | None = None,
    ) -> httpx.Response:
        """Call as somebody with a token for all shows."""
        given = {"authorization": f"Bearer {self.token(role, shows or ['*'])}"}
        if method == "POST":
            given["idempotency-key"] = str(uuid4())
        content = None if body is None else json.dumps(body).encode()  # any size of number
        if body is not None:
            given["content-type"] = "application/json"
        given |= headers or {}
        return await self.client.request(method, path, content=content, headers=given)

    async def published(self, show: ShowId, log: str = "show") -> list[Json]:
        """The events of a log, in order."""
        found = await self.redis.xrange(f"live:{{{show}}}:log:{log}")
        return [orjson.loads(fields[b"d"]) for _, fields in entries(found)]

    async def types(self, show: ShowId, log: str = "show") -> list[str]:
        return [event["type"] for event in await self.published(show, log)]


def settings(**changes: Any) -> Settings:
    base: Json = {
        "redis_url": None,
        "database_url": None,
        "secret": SECRET,
        "data_dir": Path("/nonexistent"),
        "guests": Guests.BUY,
    }
    return Settings(**(base | changes))


@asynccontextmanager
async def open_stage(
    pool: Pool, redis_url: str, *, tills: Mapping[str, Till] = TILLS, **changes: Any
) -> AsyncIterator[Stage]:
    """Build the API as the application does, on a pool and a Valkey of the test.

    `tills`: the ways to pay that the shop takes.
    """
    chosen = settings(**changes)
    stock, log = StockEngine(redis_url), ShowLog(redis_url)
    follower = Follower(log, Hub())
    store = ChatStore(redis_url)
    redis = Redis.from_url(redis_url)
    await stock.open()
    await follower.open()
    shows, bans = ShowRows(pool), BanRows(pool)

    async def tell(disconnect: Disconnect) -> None:
        stage.disconnects.append(disconnect)

    async def close_show_sockets(sub: Sub, show: ShowId, rank: int) -> None:
        stage.banned.append((sub, show, rank))

    async def take_webhook(provider: str, headers: Mapping[str, str], body: bytes) -> None:
        stage.webhooks.append((provider, headers, body))

    async def judge_name(url: str) -> str | None:
        return await name_fault(url, development=chosen.webhook_development)

    def digest_of(sub: str) -> BuyerId:
        return buyer_of(sub, secret=SECRET)

    revoked = Revoked(RevocationRows(pool), digest_of=digest_of, tell=tell)
    chat = Chat(
        store,
        bans,
        log,
        digest_of=digest_of,
        state_of=follower.state_of,
    )
    moderation = Moderation(
        chat,
        store,
        bans,
        shows,
        log,
        close_sockets=close_show_sockets,
        now=lambda: int(time.time() * 1000),
    )
    auth = Authenticator(SECRET, guests=chosen.guests, revoked=revoked)
    projector = Projector(stock, log)
    ways = ShopWays(tuple(tills), tills)
    deps = ApiDeps(
        settings=chosen,
        auth=auth,
        catalogue=Catalogue(pool),
        host=HostCommands(shows, OfferRows(pool), projector, ways),
        moderation=moderation,
        idempotency=IdempotencyRows(pool),
        orders=OrderRows(pool),
        shop_checkout=ShopCheckout(
            stock,
            PaymentRows(pool),
            ShopWord(pool),
            OrderRows(pool),
            OrderWaiters(),
            digest_of=digest_of,
        ),
        fulfilments=FulfilmentRows(pool),
        shows=shows,
        take_webhook=take_webhook,
        revoked=revoked,
        at_desk=log.at_desk,
        count_viewers=log.viewers,
        desk=DeskRows(pool),
        guest_limit=AddressLimit(burst=GUESTS_BURST, per_second=GUESTS_PER_SECOND),
        guest_reads=AddressLimit(burst=GUEST_READS_BURST, per_second=GUEST_READS_PER_SECOND),
        version="0",
        ways=ways,
        webhooks=Webhooks(EndpointRows(pool), DeliveryLog(pool), EventFeed(pool), judge_name),
        rpc={},
    )
    transport = httpx.ASGITransport(Starlette(routes=routes(deps)), client=("127.0.0.1", 4711))
    client = httpx.AsyncClient(transport=transport, base_url="http://localhost")
    stage = Stage(pool, stock, log, follower, chat, moderation, auth, projector, client, redis)
    try:
        yield stage
    finally:
        await client.aclose()
        await redis.aclose()
        await store.close()
        await follower.close()
        await stock.close()

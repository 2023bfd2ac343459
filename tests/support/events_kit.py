"""Events out as the tests run it: rows, sequencer and sender on one pool, and a clock to move."""

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import orjson

from live.domain.caller import Role
from live.domain.outgoing.webhooks import DeliveryState, DeliveryView, EndpointView
from live.ledger.db.pool import Pool
from live.ledger.events.deliveries import DeliveryRows
from live.ledger.events.delivery_log import DeliveryLog
from live.ledger.events.endpoints import EndpointRows, NewEndpoint, WithSecret
from live.ledger.events.feed import EventFeed
from live.ledger.events.sequencer import Sequencer
from live.ledger.hosting.show_command import Actor
from live.outgoing.client import WebhookClient
from live.outgoing.sender import WebhookSender
from tests.support.answers import Json

SHOP = Actor(sub="shop", role=Role.SERVICE)


@dataclass(slots=True)
class Out:
    """`ahead`: seconds by which this test's clock is ahead of Postgres'."""

    pool: Pool
    endpoints: EndpointRows
    deliveries: DeliveryRows
    log: DeliveryLog
    feed: EventFeed
    sequencer: Sequencer
    sender: WebhookSender
    client: WebhookClient
    ahead: float = 0.0

    async def endpoint(
        self, url: str, *types: str, shows: Sequence[str] = (), contact: bool = False
    ) -> WithSecret:
        return await self.endpoints.create(
            NewEndpoint(url=url, types=types or ("*",), shows=tuple(shows), contact=contact), SHOP
        )

    async def place(self) -> None:
        while await self.sequencer.place():
            pass

    async def send(self) -> None:
        """All that is due at this moment of the test's clock."""
        await self.place()
        while await self.deliveries.due_endpoints():
            await self.sender.send_due()

    async def all(self, webhook: str, state: DeliveryState | None = None) -> list[DeliveryView]:
        """The oldest first."""
        found = await self.log.page(webhook, state=state, before=0, limit=1_000)
        return found[::-1]

    async def look(self, webhook: str) -> EndpointView:
        return await self.endpoints.get(webhook)

    async def told(self) -> list[tuple[str, str]]:
        """Every event so far: its type and its subject."""
        rows = await self.pool.fetch("SELECT type, subject FROM events ORDER BY id")
        return [(row["type"], row["subject"]) for row in rows]

    async def data(self, type: str) -> Json:
        """What the newest event of a type tells."""
        await self.place()
        found: Json = orjson.loads(
            await self.pool.fetchval(
                "SELECT data::text FROM events WHERE type = $1 ORDER BY id DESC LIMIT 1", type
            )
        )
        return found


@asynccontextmanager
async def going_out(
    pool: Pool, *, client: WebhookClient | None = None, chance: float = 0.0
) -> AsyncIterator[Out]:
    """`chance`: of the jitter, 0 for none of it."""
    found: list[Out] = []

    def ahead() -> float:
        return found[0].ahead

    deliveries = DeliveryRows(pool, ahead_seconds=ahead)
    client = client or WebhookClient(development=True)
    sender = WebhookSender(
        deliveries, client, chance=lambda: chance, clock=lambda: time.time() + ahead()
    )
    out = Out(
        pool=pool,
        endpoints=EndpointRows(pool),
        deliveries=deliveries,
        log=DeliveryLog(pool),
        feed=EventFeed(pool),
        sequencer=Sequencer(pool, on_placed=sender.wake, ahead_seconds=ahead),
        sender=sender,
        client=client,
    )
    found.append(out)
    try:
        yield out
    finally:
        await client.close()

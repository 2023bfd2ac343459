"""A reconnect storm: everybody lost the network and comes back in the same instant.

Method: the whole gateway in one process and the crowd of `live bench` in another; everybody joins,
is cut off, and joins again at once while Postgres is down, so a single query would show. Beside
them sit viewers who never left: they hear what is published meanwhile, and how late.
"""

import asyncio
import json
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from statistics import median
from uuid import uuid4

import pytest

from live.api.auth import Authenticator
from live.base.settings import Guests
from live.client import Client, Disconnected, Published
from live.client.events import News
from live.client.shell import Listener
from live.domain.caller import ALL_SHOWS, Role
from live.domain.channels import Channel, ChannelKind
from live.domain.events import AnnouncementEvent
from live.tools.bench.gateways import BenchStage, Side, open_side, set_stage
from tests.support.servers import Postgres

LAG_SECONDS_MAX = 1.0
COUNTED_SECONDS = 60
INSIDERS = 10
PUBLISH_SECONDS = 0.05


@dataclass
class Inside:
    """Viewers who are in while the storm goes on."""

    stage: BenchStage
    clients: list[Client] = field(default_factory=list)
    published: int = 0
    lags: list[float] = field(default_factory=list)
    ends: list[Disconnected] = field(default_factory=list)

    async def publish(self) -> None:
        text = str(time.monotonic_ns())
        event = AnnouncementEvent(at=time.time_ns() // 1_000_000, text=text, until=None)
        await self.stage.log.publish(Channel(ChannelKind.SHOW, self.stage.show), event)
        self.published += 1

    async def publish_on(self) -> None:
        while True:
            await self.publish()
            await asyncio.sleep(PUBLISH_SECONDS)

    def hear(self, news: News) -> None:
        if isinstance(news, Disconnected):
            self.ends.append(news)
        elif isinstance(news, Published):
            event = json.loads(news.data)
            if event["type"] == "announcement":
                self.lags.append((time.monotonic_ns() - int(event["text"])) / 1e9)

    async def heard_all(self) -> None:
        """Wait until each has heard each publication."""
        async with asyncio.timeout(COUNTED_SECONDS):
            while len(self.lags) < self.published * len(self.clients):  # noqa: ASYNC110  # they count
                await asyncio.sleep(0.01)


# Beside other tests: with more, the crowd itself is too slow to speak in time.
@pytest.mark.parametrize("viewers", [1_000, pytest.param(10_000, marks=pytest.mark.long)])
async def test_everybody_is_back_while_postgres_is_down(
    redis_url: str, own_postgres: Postgres, viewers: int
) -> None:
    """All get in, now or when told to, without Postgres; nobody inside waits for a second."""
    async with AsyncExitStack() as stack:
        stage = await stack.enter_async_context(set_stage(redis_url, own_postgres.url()))
        side = await stack.enter_async_context(open_side(stage, "ours"))
        crowd = side.crowd
        await crowd.ask("connect", number=viewers, port=side.port)
        await crowd.ask("join")
        await crowd.ask("leave")
        inside = Inside(stage)
        for _ in range(INSIDERS):
            client = _insider(stage, side, inside.hear)
            inside.clients.append(await stack.enter_async_context(client))
            await client.connected()
        own_postgres.stop()

        async with asyncio.TaskGroup() as group:
            publishing = group.create_task(inside.publish_on())
            await crowd.ask("connect", number=viewers, port=side.port, at_once=viewers)
            await crowd.ask("join", at_once=viewers)
            # Where the machine is slow, the last ones are told to come back; and they do.
            back = await crowd.ask("come_back", port=side.port, at_once=viewers)
            publishing.cancel()
            await inside.heard_all()

        assert back["sent_away"] == 0
        assert inside.ends == []
        await _count(stage, viewers + INSIDERS)
        assert inside.published > 1
        # The worst of a busy machine proves nothing; half of all being late does.
        assert median(inside.lags) < LAG_SECONDS_MAX


def _insider(stage: BenchStage, side: Side, listener: Listener) -> Client:
    auth = Authenticator(stage.secret, guests=Guests.OFF)
    token = auth.mint(role=Role.VIEWER, sub=uuid4().hex, shows=(ALL_SHOWS,), ttl=600)
    url = f"ws://127.0.0.1:{side.port}/connection/websocket"
    return Client(url, token=token, data={"show": stage.show}, listener=listener)


async def _count(stage: BenchStage, expected: int) -> None:
    """Wait until the heartbeats say that so many are in."""
    async with asyncio.timeout(COUNTED_SECONDS):
        while await stage.log.viewers(stage.show) != expected:  # noqa: ASYNC110  # others count
            await asyncio.sleep(0.1)

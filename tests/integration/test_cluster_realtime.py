"""The show log on a real cluster: every node's viewers hear everything, wherever a slot goes."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass

import pytest

from live.base.errors import Busy
from live.connection.application import Gateway
from live.domain.caller import ALL_SHOWS, Caller, Role
from live.domain.ids import ShowId, buyer_of
from live.protocol import codes
from live.showlog.store import Retention
from tests.support.cluster import Cluster
from tests.support.realtime_app import KEY
from tests.support.realtime_parts import Phone, dial, gateway

KEEP = Retention(1_000)


@dataclass
class Hall:
    """A gateway with one phone in a show of one node."""

    show: ShowId
    gateway: Gateway
    phone: Phone

    async def publish(self, first: int, last: int) -> None:
        """Publish these; each is tried until the log answers, as notices are."""
        for number in range(first, last + 1):
            await publish_surely(self.gateway, self.show, number)

    async def heard(self, last: int) -> None:
        await self.phone.until(lambda phone: phone.offsets("room")[-1:] == [last])
        assert self.phone.offsets("room") == list(range(1, last + 1))


async def publish_surely(made: Gateway, show: ShowId, number: int) -> None:
    async with asyncio.timeout(60):
        while True:
            try:
                await made.log.store.append(
                    show, "x:room", b'{"n":%d}' % number, retention=KEEP, key=str(number)
                )
                return
            except Busy:
                await asyncio.sleep(0.02)


def named(token: str) -> Caller:
    everywhere = frozenset({ALL_SHOWS})
    buyer = buyer_of(token, secret=KEY)
    return Caller(sub=token, buyer=buyer, role=Role.VIEWER, shows=everywhere, expires_at=None)


async def enter(stack: AsyncExitStack, url: str, show: ShowId) -> Hall:
    made = await stack.enter_async_context(gateway(url, show, authenticate=named))
    phone = dial(made)
    await phone.ask("connect", token="ann")
    await phone.ask("subscribe", channel="room")
    return Hall(show, made, phone)


@pytest.fixture
async def halls(cluster: Cluster) -> AsyncIterator[list[Hall]]:
    """One show on each node."""
    async with AsyncExitStack() as stack:
        shows = [cluster.show_on(node) for node in cluster.primaries]
        yield [await enter(stack, cluster.url, show) for show in shows]


async def test_publications_of_all_nodes_arrive_in_order(halls: list[Hall]) -> None:
    """Each log is on its own node, and so is its channel."""
    await asyncio.gather(*(hall.publish(1, 100) for hall in halls))

    for hall in halls:
        await hall.heard(100)


async def test_one_gateway_serves_shows_of_all_nodes(halls: list[Hall], cluster: Cluster) -> None:
    """Its channels are spread over a connection for each node."""
    follower = halls[0].gateway.follower
    for hall in halls[1:]:
        followed = await follower.follow(hall.show)
        topic = follower.topic(followed, "x:room", "room")
        await hall.publish(1, 20)
        async with asyncio.timeout(60):
            while topic.top < 20:  # noqa: ASYNC110  # another process's message moves it
                await asyncio.sleep(0.01)

    assert len(follower._subscribers._stations) == len(cluster.primaries)


async def test_disconnect_reaches_gateways_of_all_nodes(halls: list[Hall]) -> None:
    """The control channel is in a slot of its own, and all gateways hear it."""
    await halls[0].gateway.log.disconnect(buyer_of("ann", secret=KEY), codes.FORCED)

    for hall in halls:
        await hall.phone.until(lambda phone: phone.closed)
        assert hall.phone.closed == codes.FORCED


async def test_viewers_are_counted_on_every_node(halls: list[Hall]) -> None:
    """Each show's count is on its node."""
    for hall in halls:
        async with asyncio.timeout(60):
            while await hall.gateway.log.viewers(hall.show) != 1:  # noqa: ASYNC110  # asks Redis
                await asyncio.sleep(0.05)


async def test_moved_slot_takes_its_viewers_along(halls: list[Hall], cluster: Cluster) -> None:
    """The slot goes to another node in the middle of publications; every offset arrives."""
    hall = halls[0]
    source, target = cluster.owner(hall.show), cluster.primaries[2]
    await hall.publish(1, 20)
    publishing = asyncio.create_task(hall.publish(21, 120))
    await hall.phone.until(lambda phone: phone.offsets("room")[-1:] >= [30])

    await asyncio.to_thread(cluster.begin_move, hall.show, target)
    await asyncio.to_thread(cluster.finish_move, hall.show, target)
    await publishing

    await hall.heard(120)
    assert cluster.owner(hall.show) is target is not source
    await hall.publish(121, 140)
    await hall.heard(140)

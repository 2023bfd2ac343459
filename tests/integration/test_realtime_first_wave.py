"""Many shows at once: all are followed, whether a wave asks for them or all subscriptions end."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import uuid4

from redis.asyncio import Redis

from live.domain.ids import ShowId
from live.fanout.hub import Hub
from live.showlog.catch_up import AT_ONCE_MAX
from live.showlog.follower import Follower
from live.showlog.log import ShowLog
from live.showlog.store import Position, Store
from tests.support.show_states import make_state

SHOWS = 1_000
VIEWERS = 5  # of each, in the same instant


class Reading:
    """Counts how many shows are being read at once, and how often one was."""

    def __init__(self, store: Store) -> None:
        self.most = 0
        self.reads = 0
        self._now = 0
        self._position = store.position
        store.position = self._count  # type: ignore[method-assign]

    async def _count(self, show: ShowId) -> Position:
        self._now += 1
        self.reads += 1
        self.most = max(self.most, self._now)
        try:
            return await self._position(show)
        finally:
            self._now -= 1


@asynccontextmanager
async def following(redis_url: str) -> AsyncIterator[tuple[Follower, Reading, list[ShowId]]]:
    """A follower, and a thousand shows that stand in the log."""
    prefix = uuid4().hex[:8]
    shows = [ShowId(f"wave-{prefix}-{number}") for number in range(SHOWS)]
    # Thousands of tasks on a machine that is busy with other tests: that is not Redis' silence.
    there, here = (ShowLog(redis_url, seconds=60.0) for _ in range(2))
    made = Follower(here, Hub())
    await there.open()
    await made.open()
    reading = Reading(here.store)
    try:
        for show in shows:
            await there.publish_state(make_state(show, version=1), None)
        yield made, reading, shows
    finally:
        await made.close()
        await there.close()


async def test_first_wave_on_a_thousand_shows_is_refused_nothing(redis_url: str) -> None:
    """Nobody is told that the log does not answer: shows wait for their turn, and are shared."""
    async with following(redis_url) as (made, reading, shows):
        followed = await asyncio.gather(*(made.follow(show) for show in shows * VIEWERS))

    assert [one.show for one in followed] == shows * VIEWERS
    assert reading.most <= AT_ONCE_MAX
    assert len(set(map(id, followed))) == SHOWS


async def test_lost_subscription_of_a_thousand_shows_leaves_joins_their_turn(
    redis_url: str,
) -> None:
    """All are brought up to date in turns, and who asks for a show meanwhile is refused nothing."""
    async with following(redis_url) as (made, reading, shows):
        await asyncio.gather(*(made.follow(show) for show in shows))
        reading.reads = 0
        async with Redis.from_url(redis_url) as admin:
            await admin.client_kill_filter(_type="pubsub")
        async with asyncio.timeout(60):
            while reading.reads < SHOWS:
                await asyncio.sleep(0.01)
                assert all(await asyncio.gather(*map(made.follow, shows[:VIEWERS])))
        followed = await asyncio.gather(*(made.follow(show) for show in shows))

    assert [one.show for one in followed] == shows
    assert reading.most <= AT_ONCE_MAX

"""A first wave on many shows: all are followed, however many are asked for in one instant."""

import asyncio
from uuid import uuid4

from live.domain.ids import ShowId
from live.fanout.hub import Hub
from live.showlog.catch_up import CatchUp
from live.showlog.followed import FollowedShow
from live.showlog.follower import BEGINNING_AT_ONCE_MAX, Follower
from live.showlog.log import ShowLog
from tests.support.show_states import make_state

SHOWS = 1_000
VIEWERS = 5  # of each, in the same instant


async def test_first_wave_on_a_thousand_shows_is_refused_nothing(redis_url: str) -> None:
    """Nobody is told that the log does not answer: shows wait for their turn, and are shared."""
    prefix = uuid4().hex[:8]
    shows = [ShowId(f"wave-{prefix}-{number}") for number in range(SHOWS)]
    # Thousands of tasks on a machine that is busy with other tests: that is not Redis' silence.
    there, here = (ShowLog(redis_url, seconds=60.0) for _ in range(2))
    made = Follower(here, Hub())
    await there.open()
    await made.open()
    beginning = Beginning(made._catch_up)
    try:
        for show in shows:
            await there.publish_state(make_state(show, version=1), None)

        followed = await asyncio.gather(*(made.follow(show) for show in shows * VIEWERS))

        assert [one.show for one in followed] == shows * VIEWERS
        assert beginning.most <= BEGINNING_AT_ONCE_MAX
        assert len(set(map(id, followed))) == SHOWS
    finally:
        await made.close()
        await there.close()


class Beginning:
    """Counts how many shows are being read for the first time at once."""

    def __init__(self, catch_up: CatchUp) -> None:
        self.most = 0
        self._now = 0
        self._once = catch_up.once
        catch_up.once = self._count  # type: ignore[method-assign]

    async def _count(self, followed: FollowedShow) -> None:
        self._now += 1
        self.most = max(self.most, self._now)
        try:
            await self._once(followed)
        finally:
            self._now -= 1

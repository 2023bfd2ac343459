"""A first wave on many shows: every room opens, however many are asked for in one instant."""

import asyncio
from uuid import uuid4

from live.domain.ids import ShowId
from live.fanout.hub import Hub
from live.showlog import log as broker_module
from live.showlog.followed import ShowRoom
from live.showlog.log import Broker
from tests.support.show_states import make_state

SHOWS = 1_000
VIEWERS = 5  # of each, in the same instant


async def test_first_wave_on_a_thousand_shows_is_refused_nothing(redis_url: str) -> None:
    """Nobody is told that the log does not answer: rooms wait for their turn, and are shared."""
    prefix = uuid4().hex[:8]
    shows = [ShowId(f"wave-{prefix}-{number}") for number in range(SHOWS)]
    # Thousands of tasks on a machine that is busy with other tests: that is not Redis' silence.
    there, made = (Broker(redis_url, Hub(), seconds=60.0) for _ in range(2))
    await there.open()
    await made.open()
    opening = Opening(made)
    try:
        for show in shows:
            await there.publish_state(make_state(show, version=1), None)

        rooms = await asyncio.gather(*(made.open_room(show) for show in shows * VIEWERS))

        assert [room.show for room in rooms] == shows * VIEWERS
        assert opening.most <= broker_module.OPENING_AT_ONCE_MAX
        assert len(set(map(id, rooms))) == SHOWS
    finally:
        await made.close()
        await there.close()


class Opening:
    """Counts how many rooms are being opened at once."""

    def __init__(self, broker: Broker) -> None:
        self.most = 0
        self._now = 0
        self._fill = broker._fill_once
        broker._fill_once = self._count  # type: ignore[method-assign]

    async def _count(self, room: ShowRoom) -> None:
        self._now += 1
        self.most = max(self.most, self._now)
        try:
            await self._fill(room)
        finally:
            self._now -= 1

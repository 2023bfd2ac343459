"""A reconnect storm: everybody lost the network and comes back in the same instant.

Method: the whole gateway in one process and the crowd of `live bench` in another; everybody joins,
is cut off, and joins again at once while Postgres is down, so a single query would show.
"""

import asyncio

import pytest

from live.bench.gateways import open_side, set_stage
from live.domain.ids import ShowId
from live.realtime.broker import Broker
from tests.servers import Postgres

LAG_MS_MAX = 1_000
COUNTED_SECONDS = 10


@pytest.mark.parametrize("viewers", [2_000, pytest.param(10_000, marks=pytest.mark.long)])
async def test_everybody_is_back_while_postgres_is_down(
    redis_url: str, own_postgres: Postgres, viewers: int
) -> None:
    """Each is back in or told to come back, without Postgres; nobody inside waits for a second."""
    async with (
        set_stage(redis_url, own_postgres.url()) as stage,
        open_side(stage, "ours") as side,
    ):
        await side.crowd.ask("connect", number=viewers, port=side.port)
        await side.crowd.ask("join")
        await side.crowd.ask("leave")
        own_postgres.stop()

        await side.server.ask("look")
        await side.crowd.ask("connect", number=viewers, port=side.port, at_once=viewers)
        back = await side.crowd.ask("join", at_once=viewers)
        lag = await side.server.ask("look")

        # Most at least: where the machine is slow, the last ones are told to come back.
        assert back["sent_away"] < viewers / 2
        await _count(stage.broker, stage.show, viewers - int(back["sent_away"]))
        assert lag["lag_max_ms"] < LAG_MS_MAX


async def _count(broker: Broker, show: ShowId, expected: int) -> None:
    """Wait until the heartbeats say that so many are in."""
    async with asyncio.timeout(COUNTED_SECONDS):
        while await broker.viewers(show) != expected:  # noqa: ASYNC110  # other processes count
            await asyncio.sleep(0.1)

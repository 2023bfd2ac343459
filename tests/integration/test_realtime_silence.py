"""A Redis that says nothing for a while: what was asked for in that time can be asked for again."""

import asyncio
import signal
from collections.abc import Iterator

import pytest
from redis.asyncio import Redis

from live.domain.ids import ShowId
from live.fanout.hub import Hub
from live.redis import subscriber, subscribers
from live.showlog import keys
from live.showlog.follower import Follower
from live.showlog.log import ShowLog
from tests.support.servers import Valkey, scratch_directory


@pytest.fixture
def own_valkey() -> Iterator[Valkey]:
    """A server that a test may stop."""
    server = Valkey(scratch_directory())
    server.start()
    yield server
    server.signal(signal.SIGCONT)
    server.close()


async def test_channel_wanted_in_silence_is_subscribed_afterwards(
    own_valkey: Valkey, show: ShowId, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The subscription that was never confirmed is asked for anew, on the next connection."""
    for name, seconds in (("BEAT_SECONDS", 0.1), ("SILENT_SECONDS", 0.3)):
        monkeypatch.setattr(subscriber, name, seconds)
    monkeypatch.setattr(subscribers, "WANT_SECONDS", 0.1)
    follower = Follower(ShowLog(own_valkey.url), Hub())
    await follower.open()
    listening, channel = follower._subscribers, keys.live_channel(show)
    own_valkey.signal(signal.SIGSTOP)
    with pytest.raises(TimeoutError):
        await listening.want(channel)
    listening.drop(channel)
    async with asyncio.timeout(60):
        while keys.CONTROL_CHANNEL in listening._heard:  # noqa: ASYNC110  # its own beat ends it
            await asyncio.sleep(0.01)

    own_valkey.signal(signal.SIGCONT)

    monkeypatch.setattr(subscribers, "WANT_SECONDS", 5)
    await listening.want(channel)
    async with Redis.from_url(own_valkey.url) as redis:
        # redis-py leaves this method untyped.
        told = await redis.execute_command("PUBSUB", "SHARDNUMSUB", channel)  # type: ignore[no-untyped-call]
        assert told[1] == 1
    await follower.close()

"""The show log on a real Valkey, as those have it who only publish: nothing is subscribed to."""

import asyncio
from collections.abc import AsyncIterator
from uuid import uuid4

import pytest
from redis.asyncio import Redis

from live.domain.channels import Channel, ChannelKind
from live.domain.events import AnnouncementEvent
from live.domain.ids import BuyerId, ShowId
from live.showlog import keys
from live.showlog.log import RETENTION, ShowLog
from tests.support.patience import patiently
from tests.support.show_states import make_state


@pytest.fixture
async def log(redis_url: str) -> AsyncIterator[ShowLog]:
    made = ShowLog(redis_url)
    await made.open()
    yield made
    await made.close()


def announcement(text: str) -> AnnouncementEvent:
    return AnnouncementEvent(at=1, text=text, until=None)


def personal(show: ShowId) -> Channel:
    return Channel(ChannelKind.PERSONAL, show, BuyerId(b"b" * 16))


async def test_offsets_of_a_log_are_contiguous(log: ShowLog, show: ShowId) -> None:
    """Also when many publish at once."""
    channel = Channel(ChannelKind.CHAT, show)

    async def say(text: str) -> int:
        event, key = announcement(text), str(uuid4())
        return await patiently(lambda: log.publish(channel, event, key=key))

    calls = [say(str(n)) for n in range(50)]
    assert sorted(await asyncio.gather(*calls)) == list(range(1, 51))


async def test_repeated_key_is_published_once(log: ShowLog, show: ShowId) -> None:
    """The repeat gets the first offset; another key the next one."""
    offsets = [
        await log.publish(personal(show), announcement("x"), key=key)
        for key in ("n1", "n1", "n2", "n1")
    ]
    assert offsets == [1, 1, 2, 1]


async def test_log_keeps_its_bound(log: ShowLog, show: ShowId) -> None:
    """The oldest goes, the newest stay."""
    channel = personal(show)
    bound = RETENTION[ChannelKind.PERSONAL].entries
    for number in range(bound + 5):
        await log.publish(channel, announcement(str(number)))
    found = await log.store.read_log(
        show, keys.log_name(channel), count=300, since=None, reverse=False
    )
    assert [publication.offset for publication in found] == list(range(6, bound + 6))


async def test_newest_state_wins(log: ShowLog, show: ShowId) -> None:
    """An older state never replaces a newer one; its event is published nevertheless."""
    assert await log.publish_state(make_state(show, version=2), None) == 0
    old = make_state(show, version=1)
    assert await log.publish_state(old, announcement("late")) == 1
    assert await log.read_state(show) == make_state(show, version=2)
    assert await log.stored_version(show) == 2
    assert (await log.store.position(show)).state == make_state(show, version=2)


async def test_personal_log_survives_its_expiry_in_order(
    redis_url: str, log: ShowLog, show: ShowId
) -> None:
    """The log of a buyer is gone after a day, its position is not: offsets never start again."""
    async with Redis.from_url(redis_url) as admin:
        channel = personal(show)
        await log.publish(channel, announcement("one"))
        key = keys.log_key(show, keys.log_name(channel))
        assert 0 < await admin.ttl(key) <= 86_400
        await admin.delete(key)
        assert await log.publish(channel, announcement("two")) == 2


async def test_reactions_add_up(log: ShowLog, show: ShowId) -> None:
    """Each kind has its count."""
    for kind in ("heart", "fire", "heart"):
        await log.add_reaction(show, kind)
    assert await log.reactions(show) == {"heart": 2, "fire": 1}

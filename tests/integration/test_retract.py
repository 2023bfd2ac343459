"""What was deleted is gone: from the log, from the memory of gateways, from every recovery.

Method: real gateways on a real Redis, one of them cut off, or with a read under way, while a line
is taken back.
"""

import asyncio
from contextlib import AbstractAsyncContextManager

from redis.asyncio import Redis

from live.connection.application import Gateway
from live.connection.policy import DomainPolicy
from live.domain.channels import Channel, ChannelKind
from live.domain.events import ChatDeleted, ChatMessage, ChatPinned
from live.domain.ids import AuthorId, ShowId
from live.fanout.topic import Topic
from live.protocol.commands import Publication
from tests.integration.test_realtime_join import authenticate, write_chat
from tests.support.realtime_parts import Phone, dial, gateway

SECRET = b"555-1234"


def line(number: int, text: str = "hello") -> ChatMessage:
    return ChatMessage(at=1, id=f"{number}-0", author=AuthorId("a"), name="Ann", text=text)


def served(redis_url: str, show: ShowId) -> AbstractAsyncContextManager[Gateway]:
    return gateway(
        redis_url,
        show,
        make_policy=lambda follower: DomainPolicy(follower, write_chat),
        authenticate=authenticate,
    )


async def listen(made: Gateway, show: ShowId, **more: object) -> tuple[Phone, dict[str, object]]:
    phone = dial(made)
    await phone.ask("connect", token="viewer:ann")
    reply = await phone.ask("subscribe", channel=f"chat:{show}", **more)
    found = reply["subscribe"]
    assert isinstance(found, dict)
    return phone, found


def memory(made: Gateway, show: ShowId) -> list[bytes]:
    followed = made.follower.followed(show)
    assert followed is not None
    return [bytes(one.data) for one in followed.topics["chat"].recent]


async def test_line_is_gone_from_log_and_memory(redis_url: str, show: ShowId) -> None:
    """With its pin; what stands there now is the deletion, and offsets have no gap."""
    chat = Channel(ChannelKind.CHAT, show)
    async with (
        served(redis_url, show) as one,
        served(redis_url, show) as two,
    ):
        phones = [(await listen(made, show))[0] for made in (one, two)]
        await one.log.publish(chat, line(1, "my phone is 555-1234"))
        await one.log.publish(chat, ChatPinned(at=1, id="1-0", text="my phone is 555-1234"))
        await one.log.publish(chat, line(2, '"id":"1-0" "type":"chat.deleted"'))

        await two.log.retract(chat, ChatDeleted(at=2, id="1-0"))

        for phone in phones:
            await phone.until(lambda phone: phone.offsets(f"chat:{show}") == [1, 2, 3, 4])
        kept = await one.log.store.read_log(show, "chat", count=9, since=None, reverse=False)
        assert [one.offset for one in kept] == [1, 2, 3, 4]
        for found in (memory(one, show), memory(two, show), [bytes(one.data) for one in kept]):
            assert not any(SECRET in data for data in found)
            assert [b'chat.deleted"}' in data for data in found] == [True, True, False, True]

        since = (await listen(one, show))[1]["epoch"]
        _, caught = await listen(two, show, recover=True, epoch=since, offset=0)
        assert caught["recovered"] and len(caught["publications"]) == 4  # type: ignore[arg-type]


async def test_gateway_that_was_cut_off_catches_up(redis_url: str, show: ShowId) -> None:
    """The last line it knew was taken back meanwhile: that is no log that went back in time."""
    chat = Channel(ChannelKind.CHAT, show)
    async with (
        served(redis_url, show) as one,
        served(redis_url, show) as two,
    ):
        phone, before = await listen(two, show)
        await one.log.publish(chat, line(1, "my phone is 555-1234"))
        await phone.until(lambda phone: phone.offsets(f"chat:{show}") == [1])
        listening, lost = two.follower._subscribers, asyncio.Event()
        hear, listening.on_message = listening.on_message, lambda channel, data: lost.set()
        await one.log.retract(chat, ChatDeleted(at=2, id="1-0"))
        await asyncio.wait_for(lost.wait(), 60)
        listening.on_message = hear

        await one.log.publish(chat, line(2))

        await phone.until(lambda phone: phone.offsets(f"chat:{show}") == [1, 2, 3])
        assert phone.closed is None, "nobody has to start over"
        assert not any(SECRET in data for data in memory(two, show))
        assert (await listen(two, show))[1]["epoch"] == before["epoch"]


async def test_time_to_live_of_a_log_stays(redis_url: str, show: ShowId) -> None:
    """The stream is written again, and must not become one that is kept for ever."""
    chat, key = Channel(ChannelKind.CHAT, show), f"live:{{{show}}}:log:chat"
    async with served(redis_url, show) as made, Redis.from_url(redis_url) as redis:
        await made.log.publish(chat, line(1))
        await redis.expire(key, 500)
        await made.log.retract(chat, ChatDeleted(at=2, id="1-0"))
        assert 0 < await redis.ttl(key) <= 500


def test_older_lines_that_were_read_before_are_taken_back_as_well() -> None:
    """A read of the past was under way when the deletion came."""
    topic = Topic(ShowId("s"), "chat", "chat:s")
    topic.start("e", 2)
    old = [
        Publication(b'{"id":"1-0","text":"555-1234","type":"chat.message"}', 1),  # type: ignore[arg-type]
        Publication(b'{"id":"2-0","text":"hello","type":"chat.message"}', 2),  # type: ignore[arg-type]
    ]
    topic.append(Publication(b'{"at":1,"id":"1-0","type":"chat.deleted"}', 3))  # type: ignore[arg-type]

    topic.prepend(old)

    assert [one.offset for one in topic.recent] == [1, 2, 3]
    assert not any(SECRET in bytes(one.data) for one in topic.recent)
    assert b"hello" in bytes(topic.recent[1].data)

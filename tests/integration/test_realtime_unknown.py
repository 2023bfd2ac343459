"""Shows that nobody made: asking for them leaves nothing behind, in Redis or here."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from live.api.join import Join
from live.base.errors import NotFound
from live.buying.me import MeView
from live.connection.application import Gateway
from live.connection.policy import DomainPolicy
from live.domain.caller import Caller
from live.domain.ids import ShowId
from live.showlog import keys
from tests.integration.test_realtime_join import authenticate, write_chat
from tests.support.realtime_parts import dial, gateway
from tests.support.show_states import make_state

TRIES = 20


class Nobody:
    """Nothing belongs to anybody, and nobody is banned."""

    async def view(self, caller: Caller, show: ShowId) -> MeView:
        raise AssertionError("nobody gets as far as this")

    async def refuse_banned(self, caller: Caller, show: ShowId) -> None:
        raise AssertionError("nobody gets as far as this")


def join_of(made: Gateway) -> Join:
    return Join(made.follower, Nobody(), Nobody())


@pytest.fixture
async def made(redis_url: str, show: ShowId) -> AsyncIterator[Gateway]:
    async def on_join(caller: Caller, wanted: ShowId, asked: bytes, address: str | None) -> object:
        return await join_of(opened).snapshot(caller, wanted, asked, address)

    async with gateway(
        redis_url,
        show,
        make_policy=lambda follower: DomainPolicy(follower, write_chat),
        authenticate=authenticate,
        on_join=on_join,
        known=False,
    ) as opened:
        yield opened


async def traces(redis_url: str, show: ShowId) -> list[str]:
    """Keys and subscribed channels of shows whose name begins so."""
    async with Redis.from_url(redis_url, decode_responses=True) as redis:
        found = [key async for key in redis.scan_iter(match=f"live:{{{show}*")]
        return found + list(await redis.pubsub_channels(f"live:{{{show}*"))


async def test_page_of_an_unknown_show_leaves_nothing(
    made: Gateway, redis_url: str, show: ShowId
) -> None:
    """`GET /watch/<anything>` finds no show."""
    names = [ShowId(f"{show}-{number}") for number in range(TRIES)]
    found = await asyncio.gather(*map(join_of(made).public_view, names))
    await made.follower._heartbeat.beat(1)
    assert found == [None] * TRIES
    assert await traces(redis_url, show) == []


async def test_connections_to_unknown_shows_leave_nothing(
    made: Gateway, redis_url: str, show: ShowId
) -> None:
    """Named in connect or subscribed to afterwards: error 1404, and no room here."""
    for number in range(TRIES):
        phone = dial(made)
        reply = await phone.ask("connect", data={"show": f"{show}-{number}"})
        assert reply["error"]["code"] == 1404
    phone = dial(made)
    await phone.ask("connect")
    for number in range(5):
        reply = await phone.ask("subscribe", channel=f"show:{show}-{number}")
        assert reply["error"]["code"] == 1404
    assert phone.closed is None
    assert await traces(redis_url, show) == []


async def test_show_is_known_from_its_first_state_on(made: Gateway, show: ShowId) -> None:
    """An answer of before is not remembered."""
    with pytest.raises(NotFound):
        await made.follower.follow(show)
    await made.log.publish_state(make_state(show, version=1), None)
    assert (await made.follower.follow(show)).state is not None


async def test_heartbeat_ends_with_the_last_gateway(
    made: Gateway, redis_url: str, show: ShowId
) -> None:
    """The count of viewers expires when nobody renews it."""
    await made.log.publish_state(make_state(show, version=1), None)
    await made.follower.follow(show)
    await made.follower._heartbeat.beat(1)
    async with Redis.from_url(redis_url) as redis:
        assert 0 < await redis.pttl(keys.viewers_key(show)) <= 2_500

"""A log-out or a ban closes its connections, also where pub/sub was cut when it was told."""

import asyncio

from redis.asyncio import Redis

from live.connection.application import Gateway
from live.domain.caller import ALL_SHOWS, Caller, Role
from live.domain.ids import ShowId, buyer_of
from live.protocol import codes
from live.showlog import keys
from live.showlog.store import DISCONNECTS_KEPT_MS, DISCONNECTS_MAX
from tests.support.realtime_app import KEY
from tests.support.realtime_parts import Phone, dial, gateway

ANN, ZOE = (buyer_of(name, secret=KEY) for name in ("ann", "zoe"))
AFTER_RETURN_SECONDS = 2.0  # of the pub/sub connection


def named(token: str) -> Caller:
    everywhere = frozenset({ALL_SHOWS})
    return Caller(
        sub=token,
        buyer=buyer_of(token, secret=KEY),
        role=Role.VIEWER,
        shows=everywhere,
        expires_at=None,
    )


async def connected(made: Gateway, token: str) -> Phone:
    phone = dial(made)
    await phone.ask("connect", token=token)
    return phone


async def reconnect(redis_url: str, made: Gateway) -> None:
    """Cut the pub/sub connection and wait until the next one has looked for what it missed."""
    looked = asyncio.Event()
    listening = made.follower._subscribers
    on_gap = listening._on_gap

    def take_gap(channel: str) -> None:
        on_gap(channel)
        if channel == keys.CONTROL_CHANNEL:
            looked.set()

    listening._on_gap = take_gap
    async with Redis.from_url(redis_url) as admin:
        await admin.client_kill_filter(_type="pubsub")
    await asyncio.wait_for(looked.wait(), 60)
    listening._on_gap = on_gap


async def test_disconnect_lost_with_the_connection_is_made_up(redis_url: str, show: ShowId) -> None:
    """Told while one gateway was deaf: it closes them when it hears again, and nobody else."""
    async with gateway(redis_url, show, authenticate=named) as made:
        ann, bob = await connected(made, "ann"), await connected(made, "bob")
        listening, lost = made.follower._subscribers, asyncio.Event()
        hear, listening.on_message = listening.on_message, lambda channel, data: lost.set()
        await made.log.disconnect(ANN, codes.FORCED)
        await asyncio.wait_for(lost.wait(), 60)
        listening.on_message = hear

        await reconnect(redis_url, made)

        async with asyncio.timeout(AFTER_RETURN_SECONDS):
            await ann.until(lambda phone: phone.closed)
        assert ann.closed == codes.FORCED
        assert bob.closed is None


async def test_disconnect_counts_once(redis_url: str, show: ShowId) -> None:
    """Who comes back after a log-out stays, whatever is cut and read again."""
    async with gateway(redis_url, show, authenticate=named) as made:
        before = await connected(made, "ann")
        await made.log.disconnect(ANN, codes.FORCED)
        await before.until(lambda phone: phone.closed)
        again, other = await connected(made, "ann"), await connected(made, "zoe")

        await reconnect(redis_url, made)
        await made.log.disconnect(ZOE, codes.FORCED)
        await other.until(lambda phone: phone.closed)

        assert again.closed is None


async def test_gateway_does_not_repeat_disconnects_of_before_its_time(
    redis_url: str, show: ShowId
) -> None:
    """They were logged out, then a gateway was started, and they came back to it."""
    async with gateway(redis_url, show, authenticate=named) as first:
        await first.log.disconnect(ANN, codes.FORCED)
        async with gateway(redis_url, show, authenticate=named) as second:
            ann, zoe = await connected(second, "ann"), await connected(second, "zoe")
            await reconnect(redis_url, second)
            await first.log.disconnect(ZOE, codes.FORCED)
            await zoe.until(lambda phone: phone.closed)
            assert ann.closed is None


async def test_list_of_disconnects_is_bounded(redis_url: str, show: ShowId) -> None:
    """The oldest goes, and the whole list expires."""
    async with gateway(redis_url, show, authenticate=named) as made, Redis.from_url(redis_url) as r:
        for number in range(DISCONNECTS_MAX + 5):
            await made.log.disconnect(buyer_of(f"p{number}", secret=KEY), codes.FORCED)
        assert await r.xlen(keys.DISCONNECTS_KEY) == DISCONNECTS_MAX
        assert 0 < await r.pttl(keys.DISCONNECTS_KEY) <= DISCONNECTS_KEPT_MS

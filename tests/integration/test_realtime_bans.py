"""A ban keeps a person out of a show, whether or not their connection named the show at once."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from live.base.errors import Denied
from live.connection.application import Gateway
from live.connection.policy import DomainPolicy
from live.domain.caller import Caller
from live.domain.ids import ShowId, buyer_of
from live.protocol import codes
from live.protocol.codec_sse import SSE
from tests.integration.test_realtime_join import authenticate, write_chat
from tests.support.realtime_parts import Phone, dial, gateway

MAX = buyer_of("max", secret="s" * 16)  # as `authenticate` knows them


class Bans:
    """Who is banned; `asking` is set while somebody waits for the answer, which `answer` gives."""

    def __init__(self) -> None:
        self.banned: set[tuple[str, ShowId]] = set()
        self.asked: list[str] = []
        self.asking = asyncio.Event()
        self.answer = asyncio.Event()
        self.answer.set()

    async def refuse(self, caller: Caller, show: ShowId) -> None:
        refused = (caller.sub, show) in self.banned
        self.asked.append(caller.sub)
        self.asking.set()
        await self.answer.wait()
        if refused:
            raise Denied("you were banned from this show")


@asynccontextmanager
async def serving(redis_url: str, show: ShowId, bans: Bans) -> AsyncIterator[Gateway]:
    async with gateway(
        redis_url,
        show,
        make_policy=lambda follower: DomainPolicy(follower, write_chat),
        authenticate=authenticate,
        on_enter=bans.refuse,
    ) as made:
        yield made


async def connected(made: Gateway, token: str) -> Phone:
    """Connect without naming a show."""
    phone = dial(made)
    await phone.ask("connect", token=token)
    return phone


@pytest.mark.parametrize("room_is_open", [False, True])
async def test_banned_person_cannot_subscribe_after_connect(
    redis_url: str, show: ShowId, room_is_open: bool
) -> None:
    """Error 103 on every channel of the show, with or without its room in memory."""
    bans = Bans()
    bans.banned.add(("max", show))
    async with serving(redis_url, show, bans) as made:
        if room_is_open:
            ann = await connected(made, "viewer:ann")
            assert "subscribe" in await ann.ask("subscribe", channel=f"pulse:{show}")
        phone = await connected(made, "viewer:max")
        for kind in ("show", "chat", "pulse"):
            reply = await phone.ask("subscribe", channel=f"{kind}:{show}")
            assert reply["error"]["code"] == 103


async def test_bans_are_asked_once_a_connection(redis_url: str, show: ShowId) -> None:
    """Who is inside is closed by a ban, so nobody has to ask again."""
    bans = Bans()
    async with serving(redis_url, show, bans) as made:
        phone = await connected(made, "viewer:ann")
        for kind in ("show", "chat", "pulse"):
            assert "subscribe" in await phone.ask("subscribe", channel=f"{kind}:{show}")
        assert bans.asked == ["ann"]


async def test_banned_person_cannot_subscribe_one_way(redis_url: str, show: ShowId) -> None:
    """An event stream names its channels in connect, and the show nowhere else."""
    bans = Bans()
    bans.banned.add(("max", show))
    async with serving(redis_url, show, bans) as made:
        phone = Phone()
        phone.write = lambda data: None  # type: ignore[method-assign]  # events are no JSON lines
        session = made.session(phone, SSE, one_way=True)
        session.receive(
            b'{"id":1,"connect":{"token":"viewer:max","subs":{"show:%s":{}}}}' % show.encode()
        )
        await phone.until(lambda phone: phone.closed)
        assert made.hub.count(show) == 0


async def test_ban_closes_who_did_not_name_the_show(redis_url: str, show: ShowId) -> None:
    """They listen to the show, so they are in it; who listens to nothing stays."""
    async with serving(redis_url, show, Bans()) as made:
        inside, outside = [await connected(made, "viewer:max") for _ in range(2)]
        await inside.ask("subscribe", channel=f"chat:{show}")

        await made.log.disconnect(MAX, codes.FORCED, show=show)

        await inside.until(lambda phone: phone.closed)
        assert inside.closed == codes.FORCED
        assert outside.closed is None


async def test_ban_closes_who_is_on_the_way_in(redis_url: str, show: ShowId) -> None:
    """The ban came between the answer that there was none and the joining."""
    bans = Bans()
    async with serving(redis_url, show, bans) as made:
        phone = await connected(made, "viewer:max")
        bans.answer.clear()
        asking = asyncio.ensure_future(phone.ask("subscribe", channel=f"chat:{show}"))
        await asyncio.wait_for(bans.asking.wait(), 60)

        await made.log.disconnect(MAX, codes.FORCED, show=show)

        await phone.until(lambda phone: phone.closed)
        assert phone.closed == codes.FORCED
        bans.answer.set()
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)

"""Rights that a new token takes away end at once, not with the connection."""

import time
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from live.connection.application import Gateway
from live.connection.policy import DomainPolicy
from live.domain.caller import ALL_SHOWS, Caller
from live.domain.channels import Channel, ChannelKind
from live.domain.events import AnnouncementEvent
from live.domain.ids import ShowId
from live.domain.show import ShowStatus
from live.fanout import hub
from live.protocol import codes
from live.protocol.codes import Close
from tests.integration import test_realtime_join as join
from tests.support.realtime_parts import Phone, dial, gateway
from tests.support.show_states import make_state


def authenticate(token: str) -> Caller:
    """Tokens are `role:sub` or `role:sub@show`, and end some day."""
    who, _, show = token.partition("@")
    caller = join.authenticate(who)
    return replace(caller, shows=frozenset({show or ALL_SHOWS}), expires_at=int(time.time()) + 600)


@pytest.fixture
async def made(redis_url: str, show: ShowId) -> AsyncIterator[Gateway]:
    async with gateway(
        redis_url,
        show,
        make_policy=lambda follower: DomainPolicy(follower, join.write_chat),
        authenticate=authenticate,
    ) as opened:
        await opened.log.publish_state(make_state(show, version=1), None)
        yield opened


async def joined(made: Gateway, show: ShowId, token: str) -> Phone:
    phone = dial(made)
    reply = await phone.ask("connect", token=token, data={"show": show})
    assert "connect" in reply, reply
    return phone


async def say(made: Gateway, show: ShowId, kind: ChannelKind) -> None:
    event = AnnouncementEvent(at=1, text=kind.value, until=None)
    await made.log.publish(Channel(kind, show), event)


async def refreshed(phone: Phone, token: str) -> Close | None:
    """Refresh; how the connection ended by it."""
    assert phone.session is not None
    phone.session.receive(b'{"id":99,"refresh":{"token":"%s"}}' % token.encode())
    await phone.until(lambda phone: phone.closed or phone.reply(99))
    return phone.closed


def unsubscribed(phone: Phone) -> list[tuple[object, object]]:
    """Channels that the server ended, with the codes."""
    pushes = [message["push"] for message in phone.messages if "push" in message]
    return [
        (push["channel"], push["unsubscribe"]["code"]) for push in pushes if "unsubscribe" in push
    ]


@pytest.mark.parametrize("token", ["viewer:ho", "moderator:ho"])
async def test_desk_of_hosts_ends_with_the_role(made: Gateway, show: ShowId, token: str) -> None:
    """A viewer has none, a moderator one without money; the rest of the show goes on."""
    phone = await joined(made, show, "host:ho")

    assert "refresh" in await phone.ask("refresh", token=token)

    assert unsubscribed(phone) == [(f"desk:{show}", 2000)]
    await say(made, show, ChannelKind.DESK)
    await say(made, show, ChannelKind.STAFF)
    await say(made, show, ChannelKind.SHOW)
    await phone.until(lambda phone: phone.offsets(f"show:{show}"))
    assert phone.offsets(f"desk:{show}") == []
    reply = await phone.ask("subscribe", channel=f"desk:{show}")
    assert ("subscribe" in reply) is token.startswith("moderator")


async def test_connection_ends_with_the_show(made: Gateway, show: ShowId) -> None:
    """Nothing that it is in is covered any more: 3507, and the SDK stays away."""
    phone = await joined(made, show, "viewer:ann")
    assert await refreshed(phone, "viewer:ann@elsewhere") == codes.CLOSED_FOR_ROLE
    assert made.hub.count(show) == 0


async def test_connection_without_a_named_show_ends_with_it_too(
    made: Gateway, show: ShowId
) -> None:
    """They are in the show whose channel they listen to."""
    phone = dial(made)
    await phone.ask("connect", token="viewer:ann")
    await phone.ask("subscribe", channel=f"chat:{show}")
    assert await refreshed(phone, "viewer:ann@elsewhere") == codes.CLOSED_FOR_ROLE


async def test_equal_rights_lose_nothing(made: Gateway, show: ShowId) -> None:
    """The usual refresh."""
    phone = await joined(made, show, "host:ho")
    reply = await phone.ask("refresh", token=f"host:ho@{show}")
    assert reply["refresh"]["expires"] is True
    assert unsubscribed(phone) == []
    await say(made, show, ChannelKind.DESK)
    await phone.until(lambda phone: phone.offsets(f"desk:{show}") == [1])


async def test_rehearsal_asks_who_is_no_longer_staff(made: Gateway, show: ShowId) -> None:
    """They came in without its passcode: closed to come back, and then they need it."""
    rehearsed = replace(make_state(show, version=2), status=ShowStatus.REHEARSAL)
    phone = await joined(made, show, "host:ho")
    await made.log.publish_state(rehearsed, None)
    await made.follower.catch_up(show)
    assert phone.closed is None
    assert await refreshed(phone, "viewer:ho") == codes.INSUFFICIENT_STATE


async def test_crowd_leaves_a_rehearsal_without_hearing_of_it(
    made: Gateway, show: ShowId, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are closed one slice after the other, and are deaf from the first moment on."""
    monkeypatch.setattr(hub, "SLICE", 2)
    host = await joined(made, show, "host:ho")
    crowd = [await joined(made, show, "viewer:ann") for _ in range(7)]
    rehearsed = replace(make_state(show, version=2), status=ShowStatus.REHEARSAL)

    event = AnnouncementEvent(at=1, text="rehearsal", until=None)
    await made.log.publish_state(rehearsed, event)

    await host.until(lambda phone: phone.offsets(f"show:{show}"))
    for phone in crowd:
        await phone.until(lambda phone: phone.closed)
        assert phone.closed == codes.INSUFFICIENT_STATE
        assert phone.offsets(f"show:{show}") == []
    assert host.closed is None
    assert made.hub.count(show) == 1

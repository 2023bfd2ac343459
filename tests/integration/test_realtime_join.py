"""Joining a show under the domain's policy: who gets which channels, and a snapshot that agrees."""

import asyncio
import json

import orjson
import pytest
from msgspec import Raw

from live.base.errors import CallError, NotFound
from live.connection.application import Gateway
from live.connection.policy import DomainPolicy
from live.domain.caller import ALL_SHOWS, Caller, Role
from live.domain.channels import Channel, ChannelKind
from live.domain.events import AnnouncementEvent, ChatMessage, Event, Pulse
from live.domain.ids import AuthorId, BuyerId, ShowId, buyer_of
from live.fanout.topic import Topic
from live.protocol import codes
from live.protocol.commands import Publication
from tests.support.answers import Json
from tests.support.realtime_parts import Phone, dial, gateway
from tests.support.show_states import make_state


class Refused(CallError):
    code = 101


def authenticate(token: str) -> Caller:
    """Tokens of these tests are `role` or `role:sub`; `old` has expired."""
    role, _, sub = (token or "viewer").partition(":")
    if role == "old":
        raise Expired("the token has expired")
    if role not in list(Role):
        raise Refused("no such role")
    buyer = buyer_of(sub, secret="s" * 16) if sub else None
    return Caller(
        sub=sub, buyer=buyer, role=Role(role), shows=frozenset({ALL_SHOWS}), expires_at=None
    )


class Expired(CallError):
    code = 109


async def write_chat(caller: Caller, show: ShowId, kind: ChannelKind, data: bytes) -> Event:
    if b"rude" in data:
        raise Refused("not here")
    return ChatMessage(
        at=1, id="m1", author=AuthorId("a"), name=caller.sub, text=json.loads(data)["text"]
    )


class Shop:
    """A domain gateway whose join tells the state's version, after a pause if told so."""

    def __init__(self, redis_url: str, show: ShowId) -> None:
        self.show = show
        self.pause = asyncio.Event()
        self.pause.set()
        self.joining = asyncio.Event()  # somebody's snapshot is being made
        self.serving = gateway(
            redis_url,
            show,
            make_policy=lambda follower: DomainPolicy(follower, write_chat),
            authenticate=authenticate,
            on_join=self.join,
            known=False,
        )

    async def __aenter__(self) -> "Shop":
        self.gateway: Gateway = await self.serving.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.serving.__aexit__(None, None, None)

    async def join(self, caller: Caller, show: ShowId, asked: bytes, address: str | None) -> object:
        followed = self.gateway.follower.current(show)
        if followed is None or followed.state is None:
            raise NotFound("unknown show")
        version = followed.state.version
        self.joining.set()
        await self.pause.wait()
        return {"show": {"version": version}, "me": {}, "time": 1}

    async def open_show(self, version: int = 1) -> None:
        await self.gateway.log.publish_state(make_state(self.show, version=version), None)

    async def change(self, version: int) -> int:
        event = AnnouncementEvent(at=1, text=str(version), until=None)
        state = make_state(self.show, version=version)
        return await self.gateway.log.publish_state(state, event)

    def connecting(self, token: str = "", **fields: object) -> tuple[Phone, asyncio.Task[Json]]:
        phone = dial(self.gateway)
        asking = phone.ask("connect", token=token, data={"show": self.show}, **fields)
        return phone, asyncio.ensure_future(asking)

    async def connect(self, token: str = "", **fields: object) -> tuple[Phone, Json]:
        phone, asking = self.connecting(token, **fields)
        reply = await asking
        return phone, reply.get("connect", reply)


@pytest.mark.parametrize(
    ("token", "kinds"),
    [
        ("", ["show", "chat", "pulse"]),
        ("viewer:ann", ["show", "chat", "pulse", "#ann"]),
        ("moderator:mo", ["show", "chat", "pulse", "desk", "#mo"]),
        ("host:ho", ["show", "chat", "pulse", "desk", "#ho"]),
    ],
)
async def test_role_decides_the_channels(
    redis_url: str, show: ShowId, token: str, kinds: list[str]
) -> None:
    """One connect subscribes a person to all that is theirs; pulse alone has no log."""
    async with Shop(redis_url, show) as shop:
        await shop.open_show()
        _, result = await shop.connect(token)
        names = [kind if kind.startswith("#") else f"{kind}:{show}" for kind in kinds]
        subs = result["subs"]
        assert isinstance(subs, dict) and sorted(subs) == sorted(names)
        logless = [name for name, sub in subs.items() if not sub.get("recoverable")]
        assert logless == [f"pulse:{show}"]
        assert result["data"] == {"show": {"version": 1}, "me": {}, "time": 1}


async def test_foreign_channels_are_error_103(redis_url: str, show: ShowId) -> None:
    """The desk and another person's channel; an unknown name is 102. The connection stays."""
    async with Shop(redis_url, show) as shop:
        await shop.open_show()
        phone, _ = await shop.connect("viewer:ann")
        for channel, code in ((f"desk:{show}", 103), ("#bob", 103), ("nonsense", 102)):
            error = (await phone.ask("subscribe", channel=channel))["error"]
            assert isinstance(error, dict) and error["code"] == code
        own = (await phone.ask("subscribe", channel=f"chat:{show}"))["error"]
        assert own == {"code": 105, "message": "already subscribed"}
        assert phone.closed is None


async def test_anonymous_viewer_may_not_write(redis_url: str, show: ShowId) -> None:
    """Chat wants a name; the show's channel is written by nobody."""
    async with Shop(redis_url, show) as shop:
        await shop.open_show()
        phone, _ = await shop.connect("")
        reply = await phone.ask("publish", channel=f"chat:{show}", data={"text": "hi"})
        assert reply["error"]["code"] == 103
        ann, _ = await shop.connect("viewer:ann")
        reply = await ann.ask("publish", channel=f"show:{show}", data={"text": "hi"})
        assert reply["error"]["code"] == 103


async def test_chat_reaches_everybody_as_the_rules_made_it(redis_url: str, show: ShowId) -> None:
    """The event is the rules' work, not the client's bytes; what they refuse is an error."""
    async with Shop(redis_url, show) as shop:
        await shop.open_show()
        ann, _ = await shop.connect("viewer:ann")
        bob, _ = await shop.connect("")
        await ann.ask("publish", channel=f"chat:{show}", data={"text": "hi", "sub": "bob"})
        for phone in (ann, bob):
            await phone.until(lambda phone: phone.offsets(f"chat:{show}") == [1])
        said = bob.messages[-1]["push"]["pub"]["data"]
        assert (said["author"], said["name"], said["text"]) == ("a", "ann", "hi")
        refused = await ann.ask("publish", channel=f"chat:{show}", data={"text": "rude"})
        assert refused["error"] == {"code": 101, "message": "not here"}


async def test_snapshot_and_offset_agree(redis_url: str, show: ShowId) -> None:
    """What is published while the snapshot is made arrives behind it, once, as pushes."""
    async with Shop(redis_url, show) as shop:
        await shop.open_show()
        await shop.change(2)
        shop.pause.clear()
        phone, asking = shop.connecting("viewer:ann")
        followed = await shop.gateway.follower.follow(show)
        async with asyncio.timeout(60):
            while "show" not in followed.topics:  # noqa: ASYNC110  # the join is under way
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)  # the snapshot has been taken, its answer is held up
        for version in (3, 4):
            await shop.change(version)
        shop.pause.set()

        reply = await asking

        assert isinstance(reply, dict)
        result = reply["connect"]
        assert result["data"]["show"]["version"] == 2
        assert result["subs"][f"show:{show}"]["offset"] == 1
        await shop.change(5)
        await phone.until(lambda phone: len(phone.offsets(f"show:{show}")) == 3)
        assert phone.offsets(f"show:{show}") == [2, 3, 4]


async def test_reconnect_recovers_server_side_channels(redis_url: str, show: ShowId) -> None:
    """The SDK sends its positions with connect and gets exactly what it missed, on each channel."""
    async with Shop(redis_url, show) as shop:
        await shop.open_show()
        _, first = await shop.connect("viewer:ann")
        subs = first["subs"]
        for version in (2, 3):
            await shop.change(version)
        buyer = buyer_of("ann", secret="s" * 16)
        personal = Channel(ChannelKind.PERSONAL, show, BuyerId(buyer))
        await shop.gateway.log.publish(personal, AnnouncementEvent(at=1, text="yours", until=None))
        asked = {
            name: {"recover": True, "epoch": sub["epoch"], "offset": sub.get("offset", 0)}
            for name, sub in subs.items()
            if sub.get("recoverable")
        }

        phone, again = await shop.connect("viewer:ann", subs=asked)

        await phone.until(lambda phone: len(phone.offsets("#ann")) == 1)
        assert phone.offsets(f"show:{show}") == [1, 2]
        assert all(sub["recovered"] for sub in again["subs"].values() if "recovered" in sub)


async def test_personal_event_reaches_its_owner_only(redis_url: str, show: ShowId) -> None:
    """All their connections, nobody else's."""
    async with Shop(redis_url, show) as shop:
        await shop.open_show()
        tokens = ("viewer:ann", "viewer:ann", "viewer:bob")
        phones = [(await shop.connect(token))[0] for token in tokens]
        buyer = buyer_of("ann", secret="s" * 16)
        personal = Channel(ChannelKind.PERSONAL, show, BuyerId(buyer))
        await shop.gateway.log.publish(personal, AnnouncementEvent(at=1, text="yours", until=None))
        await shop.change(2)
        for phone in phones:
            await phone.until(lambda phone: phone.offsets(f"show:{show}") == [1])
        assert [phone.offsets("#ann") for phone in phones] == [[1], [1], []]


async def test_unknown_show_is_error_1404(redis_url: str, show: ShowId) -> None:
    """And the connection ends for good: the SDK must not come back for it."""
    async with Shop(redis_url, show) as shop:
        phone, reply = await shop.connect("viewer:ann")
        assert reply["error"] == {"code": 1404, "message": f"unknown show {show}"}
        assert phone.closed == codes.CLOSED_NOT_AVAILABLE


async def test_burst_costs_a_viewer_one_write(redis_url: str, show: ShowId) -> None:
    """Fifty events that arrive together are one message, pulse rides along as its latest value."""
    async with Shop(redis_url, show) as shop:
        await shop.open_show()
        phone, _ = await shop.connect("viewer:ann")
        followed = await shop.gateway.follower.follow(show)
        topic, pulse = followed.topics["show"], followed.topics["pulse"]
        before = phone.writes
        for number in range(1, 51):
            _post(shop.gateway, topic, number)
            _post(shop.gateway, pulse, 0, orjson.dumps(Pulse(at=number, viewers=1, offers=())))
        await phone.until(lambda phone: phone.offsets(f"show:{show}")[-1:] == [50])
        assert phone.offsets(f"show:{show}") == list(range(1, 51))
        assert phone.writes == before + 1
        assert len(phone.offsets(f"pulse:{show}")) == 1
        assert phone.messages[-1]["push"]["pub"]["data"]["at"] == 50


def _post(made: Gateway, topic: Topic, offset: int, data: bytes = b"{}") -> None:
    made.hub.post(topic, topic.append(Publication(Raw(data), offset)))


async def test_slow_viewer_loses_figures_first_and_then_the_connection(
    redis_url: str, show: ShowId
) -> None:
    """Beyond the soft bound no pulse; beyond the hard one 3008. The others get everything."""
    async with Shop(redis_url, show) as shop:
        await shop.open_show()
        slow, _ = await shop.connect("")
        quick, _ = await shop.connect("")
        followed = await shop.gateway.follower.follow(show)
        slow.owed = 70_000
        _post(shop.gateway, followed.topics["pulse"], 0, b'{"n":1}')
        _post(shop.gateway, followed.topics["show"], 1)
        await quick.until(lambda phone: phone.offsets(f"pulse:{show}"))
        assert slow.offsets(f"show:{show}") == [1] and slow.offsets(f"pulse:{show}") == []
        slow.owed = 300_000
        _post(shop.gateway, followed.topics["show"], 2)
        await slow.until(lambda phone: phone.closed)
        assert slow.closed == codes.SLOW
        await quick.until(lambda phone: phone.offsets(f"show:{show}") == [1, 2])


async def test_presence_is_for_the_desk_only(redis_url: str, show: ShowId) -> None:
    """Hosts see who is at the desk; a room of thousands is counted, not listed (108)."""
    async with Shop(redis_url, show) as shop:
        await shop.open_show()
        host, _ = await shop.connect("host:ho")
        await shop.connect("moderator:mo")
        ann, _ = await shop.connect("viewer:ann")
        answer = await host.ask("presence", channel=f"desk:{show}")
        assert "presence" in answer, answer
        present = answer["presence"]
        assert isinstance(present, dict)
        assert {info["user"] for info in present["presence"].values()} == {"ho", "mo"}
        refused = (await ann.ask("presence", channel=f"chat:{show}"))["error"]
        assert refused == {"code": 108, "message": "not available"}
        refused = (await ann.ask("presence", channel=f"desk:{show}"))["error"]
        assert refused == {"code": 103, "message": "permission denied"}
        async with asyncio.timeout(60):
            while await shop.gateway.log.viewers(show) != 3:  # noqa: ASYNC110  # asks Redis
                await asyncio.sleep(0.05)
        stats = (await ann.ask("presence_stats", channel=f"show:{show}"))["presence_stats"]
        assert stats == {"num_clients": 3, "num_users": 3}


async def test_drain_spreads_shutdown(redis_url: str, show: ShowId) -> None:
    """Everybody is told 3001, one after another; who comes meanwhile is sent on at once."""
    async with Shop(redis_url, show) as shop:
        await shop.open_show()
        phones = [(await shop.connect(""))[0] for _ in range(6)]
        draining = asyncio.create_task(shop.gateway.hub.drain(2.0))
        ends = [asyncio.create_task(phone.until(lambda one: one.closed)) for phone in phones]
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        assert sum(phone.closed is not None for phone in phones) < len(phones)
        late = dial(shop.gateway)
        assert late.session is not None
        late.session.receive(b'{"id":1,"connect":{}}')
        assert late.closed == codes.SHUTDOWN
        await draining
        await asyncio.gather(*ends)
        assert all(phone.closed == codes.SHUTDOWN for phone in phones)


async def test_reload_outlives_the_old_connection(redis_url: str, show: ShowId) -> None:
    """A person's old socket goes while their new one is let in; the new one stays and hears all."""
    async with Shop(redis_url, show) as shop:
        await shop.open_show()
        old, _ = await shop.connect("viewer:ann")
        log = shop.gateway.log
        channel = Channel(ChannelKind.PERSONAL, show, buyer_of("ann", secret="s" * 16))
        await log.publish(channel, AnnouncementEvent(at=1, text="before", until=None))
        await old.until(lambda phone: phone.offsets("#ann") == [1])
        shop.pause.clear()
        shop.joining.clear()
        new, asking = shop.connecting("viewer:ann")
        await shop.joining.wait()

        assert old.session is not None
        old.session.lost()
        await log.publish(channel, AnnouncementEvent(at=1, text="between", until=None))
        shop.pause.set()
        await asking
        await log.publish(channel, AnnouncementEvent(at=1, text="after", until=None))

        await new.until(lambda phone: phone.closed or 3 in phone.offsets("#ann"))
        assert new.closed is None
        assert new.offsets("#ann") in ([2, 3], [3])  # by when the snapshot stands
        followed = shop.gateway.follower.current(show)
        assert followed is not None and new.session is not None
        new.session.lost()
        assert not [topic for topic in followed.topics.values() if topic.direct]


async def test_connects_that_fail_leave_no_topic(redis_url: str, show: ShowId) -> None:
    """A personal channel that nobody came to listen to is not kept."""
    async with Shop(redis_url, show) as shop:
        await shop.open_show()
        await shop.connect("viewer:bob")
        shop.pause.clear()
        shop.joining.clear()
        phone, asking = shop.connecting("viewer:ann")
        await shop.joining.wait()
        assert phone.session is not None
        phone.session.lost()
        shop.pause.set()
        asking.cancel()

        await shop.gateway._tasks.finish()

        followed = shop.gateway.follower.current(show)
        assert followed is not None
        assert not [topic for topic in followed.topics.values() if topic.name == "#ann"]

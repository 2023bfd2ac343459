"""Followed shows on a real Valkey: each publication once, in order, or a word that it is lost."""

import asyncio
import json
from typing import Any
from uuid import uuid4

import pytest
from redis.asyncio import Redis

from live.connection.application import Gateway
from live.domain.caller import ALL_SHOWS, Caller, Role
from live.domain.channels import Channel, ChannelKind
from live.domain.events import AnnouncementEvent, Pulse, PulseOffer
from live.domain.ids import BuyerId, OfferId, ShowId, buyer_of
from live.domain.offer import Stock
from live.fanout import metrics
from live.fanout.topic import RECOVERY_MAX
from live.protocol import codes
from live.protocol.commands import Publication
from live.showlog import follower, heartbeat, keys
from live.showlog.log import ShowLog
from live.showlog.store import Retention, Store
from tests.support.patience import TRIES, patiently
from tests.support.realtime_app import KEY
from tests.support.realtime_parts import Phone, dial, gateway
from tests.support.show_states import make_state

KEEP = Retention(1_000)


def announcement(text: str) -> AnnouncementEvent:
    return AnnouncementEvent(at=1, text=text, until=None)


async def publish(made: Gateway, show: ShowId, count: int, *, log: str = "x:room") -> None:
    """As publishers do: with a key, so that what was not answered in time can be repeated."""
    for number in range(count):
        data, key = b'{"n":%d}' % number, str(uuid4())
        await patiently(
            lambda: made.log.store.append(show, log, data, retention=KEEP, key=key)  # noqa: B023
        )


async def joined(made: Gateway) -> Phone:
    phone = dial(made)
    await phone.ask("connect")
    return phone


# Memory


async def test_buyers_own_log_is_read_newest_first(redis_url: str, show: ShowId) -> None:
    """All that was published to the buyer, on another gateway too, and nobody else's."""
    async with gateway(redis_url, show) as here, gateway(redis_url, show) as there:
        ann, bob = BuyerId(b"a" * 16), BuyerId(b"b" * 16)
        await here.follower.follow(show)
        for buyer, text in ((ann, "first"), (bob, "not yours"), (ann, "second")):
            channel = Channel(ChannelKind.PERSONAL, show, buyer)
            await there.log.publish(channel, announcement(text))
        await here.follower.catch_up(show)
        found = await here.follower.read_personal(show, ann)
        assert [json.loads(data)["text"] for data in found] == ["second", "first"]


async def test_buyer_without_a_log_costs_no_read(
    redis_url: str, show: ShowId, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is known where every log stands: only a buyer who has one is looked up."""
    async with gateway(redis_url, show) as made:
        ann, bob = BuyerId(b"a" * 16), BuyerId(b"b" * 16)
        store, reads = made.log.store, []

        async def read_back(*asked: Any) -> list[Publication]:
            reads.append(asked)
            return await Store.read_back(store, *asked)

        monkeypatch.setattr(store, "read_back", read_back)
        await made.log.publish(Channel(ChannelKind.PERSONAL, show, ann), announcement("x"))
        await made.follower.follow(show)
        assert await made.follower.read_personal(show, bob) == []
        assert reads == []
        assert len(await made.follower.read_personal(show, ann)) == 1
        assert len(reads) == 1


async def test_state_and_offset_change_together(redis_url: str, show: ShowId) -> None:
    """Whoever looks at a show sees the state of exactly the publications up to its top."""
    async with gateway(redis_url, show) as made:
        followed = await made.follower.follow(show)
        topic = made.follower.topic(followed, "show", f"show:{show}")
        seen: list[tuple[int, int]] = []

        async def watch() -> None:
            while topic.top < 30:
                seen.append((topic.top, followed.state.version if followed.state else 0))
                await asyncio.sleep(0)

        watching = asyncio.create_task(watch())
        for version in range(1, 31):
            state = make_state(show, version=version)
            await made.log.publish_state(state, announcement(str(version)))
        await asyncio.wait_for(watching, 60)
        assert all(top == version for top, version in seen)


async def test_state_of_a_lost_log_is_forgotten(redis_url: str, show: ShowId) -> None:
    """Redis was wiped: memory must not pretend otherwise, so that the keeper publishes it again."""
    async with gateway(redis_url, show) as made, Redis.from_url(redis_url) as admin:
        await made.log.publish_state(make_state(show, version=7), None)
        followed = await made.follower.follow(show)
        assert followed.state is not None
        await admin.delete(keys.logs_key(show), keys.state_key(show))
        await made.follower.catch_up(show)
        assert await made.log.read_state(show) is None
        await made.log.publish_state(make_state(show, version=7), None)
        await made.follower.catch_up(show)
        assert followed.state == make_state(show, version=7)


async def test_pulse_updates_the_stock_of_a_show(redis_url: str, show: ShowId) -> None:
    """The latest figures are there for snapshots, by slot."""
    async with gateway(redis_url, show) as made:
        await made.log.publish_state(make_state(show, version=1, offers=2), None)
        followed = await made.follower.follow(show)
        offers = (PulseOffer(OfferId("o1"), 3, 4, 5), PulseOffer(OfferId("gone"), 1, 1, 1))
        await made.log.publish_pulse(show, Pulse(at=1, viewers=9, offers=offers))
        async with asyncio.timeout(60):
            while followed.pulse is None:  # noqa: ASYNC110  # nothing tells; only state changes
                await asyncio.sleep(0.01)
        assert followed.stock == {1: Stock(3, 4, 5)}


async def test_personal_events_reach_the_tap(redis_url: str, show: ShowId) -> None:
    """A checkout waits for its order on a show that the gateway follows."""
    async with gateway(redis_url, show) as made:
        heard: asyncio.Queue[tuple[ShowId, BuyerId, str, bytes]] = asyncio.Queue()
        made.follower.on_personal(lambda *event: heard.put_nowait(event))
        await made.follower.follow(show)
        buyer = BuyerId(b"\x01" * 16)
        await made.log.publish(Channel(ChannelKind.PERSONAL, show, buyer), announcement("for you"))
        found_show, found_buyer, kind, data = await asyncio.wait_for(heard.get(), 60)
        assert (found_show, found_buyer, kind) == (show, buyer, "announcement")
        assert json.loads(data)["text"] == "for you"


# Recovery, as the protocol has it


@pytest.mark.parametrize(
    ("published", "asked", "answer"),
    [
        (0, {"offset": 0, "epoch": "E"}, {"recovered": [], "offset": 0}),
        (3, {"offset": 3, "epoch": "E"}, {"recovered": [], "offset": 3}),
        (3, {"offset": 1, "epoch": "E"}, {"recovered": [2, 3], "offset": 1}),
        (3, {"epoch": "E"}, {"recovered": [1, 2, 3], "offset": 0}),
        (3, {"offset": 1}, {"recovered": [2, 3], "offset": 1}),
        (3, {"offset": 4, "epoch": "E"}, {"recovered": None, "offset": 3}),
        (3, {"offset": 1, "epoch": "other"}, {"recovered": None, "offset": 3}),
        (3, {"offset": 1, "epoch": "_"}, {"recovered": None, "offset": 3}),
        (105, {"offset": 4, "epoch": "E"}, {"recovered": None, "offset": 105}),
        (105, {"offset": 5, "epoch": "E"}, {"recovered": list(range(6, 106)), "offset": 5}),
    ],
    ids=[
        "empty",
        "exact",
        "missed",
        "from the start",
        "any epoch",
        "ahead of the top",
        "other epoch",
        "invalidated",
        "trimmed",
        "all that is kept",
    ],
)
async def test_recovery_answers_as_the_table_says(
    redis_url: str,
    show: ShowId,
    published: int,
    asked: dict[str, object],
    answer: dict[str, object],
) -> None:
    """Everything that was missed, or "not recovered" with the top and nothing partial."""
    async with gateway(redis_url, show) as made:
        await publish(made, show, published)
        epoch = (await made.log.store.position(show)).epoch
        fields = {name: epoch if value == "E" else value for name, value in asked.items()}
        phone = await joined(made)

        reply = await phone.ask("subscribe", channel="room", recover=True, **fields)

        result = reply["subscribe"]
        assert isinstance(result, dict)
        assert result["was_recovering"] is True and result["epoch"] == epoch
        assert result.get("recovered", False) is (answer["recovered"] is not None)
        assert result.get("offset", 0) == answer["offset"]
        assert phone.offsets("room") == (answer["recovered"] or [])


async def test_impossible_offset_costs_the_show_nothing(redis_url: str, show: ShowId) -> None:
    """No log stands there, so nobody can have seen it: not recovered, and no read for it."""
    async with gateway(redis_url, show) as made:
        await publish(made, show, 3)
        phone = await joined(made)
        await phone.ask("subscribe", channel="room")
        fills = metrics.FILLS._value.get()
        for _ in range(10):
            await phone.ask("unsubscribe", channel="room")
            reply = await phone.ask("subscribe", channel="room", recover=True, offset=10**9)
            result = reply["subscribe"]
            assert isinstance(result, dict)
            assert "recovered" not in result and result["offset"] == 3
        assert metrics.FILLS._value.get() == fills


async def test_clients_cause_one_fill_a_second_at_most(
    redis_url: str, show: ShowId, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who is ahead again so soon is told to come back."""
    monkeypatch.setattr(heartbeat, "CHECK_BEATS", 10**9)  # nobody else notices the gap
    monkeypatch.setattr(follower, "CLAIM_GAP_SECONDS", 3_600)
    async with gateway(redis_url, show) as made:
        followed = await made.follower.follow(show)
        made.follower.topic(followed, "x:room", "room")
        made.follower._by_channel.clear()  # announcements are late here
        await publish(made, show, 1)
        first, second = await joined(made), await joined(made)
        reply = await first.ask("subscribe", channel="room", recover=True, offset=1)
        assert reply["subscribe"]["recovered"] is True
        await publish(made, show, 1)

        reply = await second.ask("subscribe", channel="room", recover=True, offset=2)

        assert reply["error"]["code"] == 111
        monkeypatch.setattr(follower, "CLAIM_GAP_SECONDS", 0)
        reply = await second.ask("subscribe", channel="room", recover=True, offset=2)
        assert reply["subscribe"]["recovered"] is True


async def test_recovery_is_refused_with_112_where_the_client_asks_so(
    redis_url: str, show: ShowId
) -> None:
    """Flag 2 wants an error instead of recovered: false."""
    async with gateway(redis_url, show) as made:
        phone = await joined(made)
        reply = await phone.ask("subscribe", channel="room", recover=True, offset=9, flag=3)
        assert reply["error"] == {"code": 112, "message": "unrecoverable position"}


async def test_recovery_is_bounded(redis_url: str, show: ShowId) -> None:
    """300 missed publications come back, 301 do not."""
    async with gateway(redis_url, show) as made:
        followed = await made.follower.follow(show)
        made.follower.topic(followed, "x:room", "room")
        await publish(made, show, RECOVERY_MAX + 1)
        await made.follower.catch_up(show)
        phone = await joined(made)
        reply = await phone.ask("subscribe", channel="room", recover=True, offset=0)
        assert "recovered" not in reply["subscribe"]
        await phone.ask("unsubscribe", channel="room")
        await phone.ask("subscribe", channel="room", recover=True, offset=1)
        assert phone.offsets("room") == list(range(2, RECOVERY_MAX + 2))


async def test_client_ahead_of_its_new_gateway_recovers(redis_url: str, show: ShowId) -> None:
    """They come from a gateway that was quicker: the log decides, not what has arrived here."""
    async with gateway(redis_url, show) as made:
        followed = await made.follower.follow(show)
        made.follower.topic(followed, "x:room", "room")
        made.follower._by_channel.clear()  # announcements are late here
        await publish(made, show, 3)
        phone = await joined(made)
        reply = await phone.ask("subscribe", channel="room", recover=True, offset=2)
        assert reply["subscribe"]["recovered"] is True
        assert phone.offsets("room") == [3]


async def test_subscribing_among_publications_misses_nothing(redis_url: str, show: ShowId) -> None:
    """1,000 publications while 100 viewers subscribe with recovery: each offset once, in order."""
    async with gateway(redis_url, show) as made:
        publishing = asyncio.create_task(publish(made, show, 1_000))
        phones = []
        for _ in range(100):
            phone = await joined(made)
            top = (await patiently(lambda: made.log.store.position(show))).tops.get("x:room", 0)
            start = max(0, top - 50)
            for _ in range(TRIES):
                reply = await phone.ask("subscribe", channel="room", recover=True, offset=start)
                if reply.get("error", {}).get("code") != 111:
                    break
            assert reply["subscribe"]["recovered"] is True
            phones.append((phone, start))
        await publishing
        for phone, start in phones:
            await phone.until(lambda phone: phone.offsets("room")[-1:] == [1_000], seconds=60)
            assert phone.offsets("room") == list(range(start + 1, 1_001))


# Faults


async def test_lost_announcements_are_filled_from_the_log(redis_url: str, show: ShowId) -> None:
    """A gap is seen by the next announcement; nobody is disconnected and nothing is missing."""
    async with gateway(redis_url, show) as made:
        phone = await joined(made)
        await phone.ask("subscribe", channel="room")
        channel = keys.live_channel(show)
        followed = made.follower._by_channel.pop(channel)  # deaf for a moment
        await publish(made, show, 3)
        await asyncio.sleep(0.1)
        made.follower._by_channel[channel] = followed

        await publish(made, show, 1)

        await phone.until(lambda phone: len(phone.offsets("room")) == 4)
        assert phone.offsets("room") == [1, 2, 3, 4]
        assert phone.closed is None


async def test_silent_pubsub_is_noticed_by_the_position_check(redis_url: str, show: ShowId) -> None:
    """Not even a later announcement comes: the log itself is looked at."""
    async with gateway(redis_url, show) as made:
        phone = await joined(made)
        await phone.ask("subscribe", channel="room")
        made.follower._by_channel.clear()  # deaf for good

        await publish(made, show, 2)

        await phone.until(lambda phone: phone.offsets("room") == [1, 2])


async def test_cut_pubsub_connection_comes_back_without_a_gap(redis_url: str, show: ShowId) -> None:
    """Redis drops the connection while publications go on."""
    async with gateway(redis_url, show) as made, Redis.from_url(redis_url) as admin:
        phone = await joined(made)
        await phone.ask("subscribe", channel="room")
        publishing = asyncio.create_task(publish(made, show, 200))
        await phone.until(lambda phone: len(phone.offsets("room")) > 10)

        await admin.client_kill_filter(_type="pubsub")

        await publishing
        await phone.until(lambda phone: phone.offsets("room")[-1:] == [200])
        assert phone.offsets("room") == list(range(1, 201))


async def test_lost_log_ends_with_3010_and_a_new_epoch(redis_url: str, show: ShowId) -> None:
    """The log vanished: viewers are closed to come back, and their old position is refused."""
    async with gateway(redis_url, show) as made, Redis.from_url(redis_url) as admin:
        phone = await joined(made)
        reply = await phone.ask("subscribe", channel="room")
        epoch = reply["subscribe"]["epoch"]
        await publish(made, show, 2)
        await admin.delete(keys.logs_key(show), keys.log_key(show, "x:room"))

        await phone.until(lambda phone: phone.closed)

        assert phone.closed == codes.INSUFFICIENT_STATE
        again = await joined(made)
        reply = await again.ask("subscribe", channel="room", recover=True, offset=2, epoch=epoch)
        result = reply["subscribe"]
        assert isinstance(result, dict)
        assert "recovered" not in result and result["epoch"] not in (epoch, "_")


async def test_log_rewritten_under_its_epoch_ends_with_3010(redis_url: str, show: ShowId) -> None:
    """An older copy took over and was written on before we looked: same offsets, other words."""
    async with gateway(redis_url, show) as made, Redis.from_url(redis_url) as admin:
        phone = await joined(made)
        await phone.ask("subscribe", channel="room")
        await publish(made, show, 3)
        await phone.until(lambda phone: phone.offsets("room") == [1, 2, 3])
        epoch = (await made.log.store.peek(show))[0]
        made.follower._by_channel.clear()
        log = keys.log_key(show, "x:room")
        await admin.delete(log)
        for offset, word in enumerate((b"0", b"1", b"other", b"more"), 1):
            words = b'{"n":"%b"}' % word
            await admin.xadd(log, {"d": words, "i": b"", "k": b""}, f"{offset}-0")
        await admin.hset(keys.logs_key(show), mapping={"total": 4, "t:x:room": 4})

        await phone.until(lambda phone: phone.closed)

        assert phone.closed == codes.INSUFFICIENT_STATE
        assert (await made.log.store.peek(show))[0] != epoch


# Who is there


async def test_viewers_are_counted_over_all_gateways(redis_url: str, show: ShowId) -> None:
    """Two gateways see the sum; one that stops is forgotten."""
    async with gateway(redis_url, show) as one:
        phones = [await joined(one) for _ in range(3)]
        for phone in phones:
            await phone.ask("subscribe", channel="room")
        async with gateway(redis_url, show) as two:
            other = await joined(two)
            await other.ask("subscribe", channel="room")
            await _until_viewers(one.log, show, 4)
            assert await two.log.viewers(show) == 4
        await _until_viewers(one.log, show, 3)


async def _until_viewers(log: ShowLog, show: ShowId, count: int) -> None:
    async with asyncio.timeout(60):
        while await log.viewers(show) != count:  # noqa: ASYNC110  # asks Redis each time
            await asyncio.sleep(0.05)


async def test_disconnected_person_is_closed_on_all_gateways(redis_url: str, show: ShowId) -> None:
    """A log-out or a ban ends their connections everywhere, and nobody else's."""

    def named(token: str) -> Caller:
        everywhere = frozenset({ALL_SHOWS})
        buyer = buyer_of(token, secret=KEY)
        return Caller(sub=token, buyer=buyer, role=Role.VIEWER, shows=everywhere, expires_at=None)

    async with (
        gateway(redis_url, show, authenticate=named) as one,
        gateway(redis_url, show, authenticate=named) as two,
    ):
        ann_here, ann_there, bob = dial(one), dial(two), dial(two)
        for phone, token in ((ann_here, "ann"), (ann_there, "ann"), (bob, "bob")):
            await phone.ask("connect", token=token)
        await one.log.disconnect(buyer_of("ann", secret=KEY), codes.FORCED)
        for phone in (ann_here, ann_there):
            await phone.until(lambda phone: phone.closed)
            assert phone.closed == codes.FORCED
        assert bob.closed is None

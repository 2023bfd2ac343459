"""The show log: append and announce on one side, rooms kept up to date on the other.

Owns: the rooms of this process and their position on Redis. Always: subscribers of a topic get its
publications in offset order without a gap, or are told that their position is lost.
Runs on: the event loop; one task keeps time (positions, viewer counts), others read pub/sub.
Not here: Redis commands (store.py), who may publish what (policy.py), bytes on sockets (hub.py).
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import NoReturn
from uuid import uuid4

import msgspec
import orjson
import structlog
from redis.exceptions import RedisError

from live.aio.tasks import cancel_all
from live.base.errors import Busy, NotFound
from live.domain.caller import ABOVE_ALL, Role
from live.domain.channels import Channel, ChannelKind
from live.domain.events import ChatDeleted, Event, Pulse
from live.domain.ids import BuyerId, ShowId
from live.domain.show import ShowState
from live.fanout import metrics
from live.fanout.hub import Hub
from live.fanout.retract import MARK, takes_back
from live.fanout.topic import RECOVERY_MAX, Entry, Topic
from live.protocol.codes import Close
from live.redis.clients import Clients
from live.redis.subscribers import Subscribers
from live.showlog import keys
from live.showlog.disconnects import Kick, Kicks
from live.showlog.followed import LogMessage, ShowRoom, decode_state
from live.showlog.followed import parse_message as parse
from live.showlog.store import COMMAND_SECONDS, Retention, Store

BEAT_SECONDS = 1.0  # between two heartbeats of the viewer count
CHECK_BEATS = 2  # beats between two looks at the position of each room
CHECK_GRACE_SECONDS = 0.25  # an announcement may be on its way while we look
BEATS_AT_ONCE_MAX = 32  # rooms that wait for Redis at once; one that is silent takes 0.5 s
# Rooms that open at once; the others wait. A thousand at once make so many connections to Redis,
# and so much work of one turn, that none is answered in time. Each takes three round trips.
OPENING_AT_ONCE_MAX = 32
PRESENCE_BEATS = 20  # beats between two refreshes of presence
IDLE_BEATS_MAX = 30  # a room without viewers is kept so long: a reload finds it open
CLAIM_GAP_SECONDS = 1.0  # between two fills of a room that clients cause
FILL_TRIES_MAX = 100  # at most BACKOFF_SECONDS_MAX apart: three minutes, then the room is dropped
BACKOFF_SECONDS_MAX = 2.0
PERSONAL_SECONDS = 86_400  # a buyer who comes back the next day reads his orders from the ledger

RETENTION = {
    ChannelKind.SHOW: Retention(1_000),
    ChannelKind.CHAT: Retention(500),
    ChannelKind.DESK: Retention(500),
    ChannelKind.STAFF: Retention(500),
    ChannelKind.PERSONAL: Retention(64, PERSONAL_SECONDS),
}

KnownElsewhere = Callable[[ShowId], Awaitable[bool]]
"""Whether there is a show although Redis does not know it. Raises Busy."""

OnState = Callable[[ShowState | None, ShowState], None]
"""(the state before, the newer one), on every change of a room's state"""
OnAlone = Callable[[str, Topic, Entry], None]
"""(a person's digest in hex, the channel, what he alone gets on it)"""
PersonalTap = Callable[[ShowId, BuyerId, str, bytes], None]


class _WentBack(Exception):
    """The log lacks, or has otherwise, what it announced before under the same epoch."""


class _Typed(msgspec.Struct):
    type: str = ""


log = structlog.get_logger()
_event_type = msgspec.json.Decoder(_Typed).decode


class Broker:
    """`url`, `seconds`: as for Store."""

    def __init__(self, url: str, hub: Hub, *, seconds: float = COMMAND_SECONDS) -> None:
        self.gateway = uuid4().hex
        self.store = Store(url, seconds=seconds)
        self.kicks = Kicks(self.store)
        self.on_state: OnState | None = None
        self.on_alone: OnAlone | None = None
        self.known_elsewhere: KnownElsewhere | None = None
        self._hub = hub
        # No time limit on reading: silence is normal here, and the subscribers beat by themselves.
        self._listening = Clients(
            url, seconds=None, connect_seconds=COMMAND_SECONDS, nodes=self.store.nodes
        )
        self._subscribers = Subscribers(
            self._listening, on_message=self._take_message, on_gap=self._take_gap
        )
        self._rooms: dict[ShowId, ShowRoom] = {}
        self._by_channel: dict[str, ShowRoom] = {}
        self._opening: dict[ShowId, asyncio.Task[None]] = {}
        self._doors = asyncio.Semaphore(OPENING_AT_ONCE_MAX)
        self._filling: dict[ShowId, asyncio.Task[None]] = {}
        self._followed: set[ShowId] = set()
        self._idle_beats: dict[ShowId, int] = {}
        self._taps: list[PersonalTap] = []
        self._tasks: list[asyncio.Task[None]] = []

    async def open(self) -> None:
        """Connect and start to listen. Raises redis' ConnectionError where nobody answers."""
        await self.store.open()
        self._tasks = [
            asyncio.create_task(self._subscribers.run()),
            asyncio.create_task(self._keep_time()),
        ]
        try:
            await self.kicks.open()
            await self._subscribers.want(keys.CONTROL_CHANNEL)
        except (TimeoutError, Busy):
            if not self.store.nodes.clustered:
                raise
            # One node's silence must not keep the shows of the others waiting; it is tried on.
            log.warning("control channel not subscribed yet")

    async def close(self) -> None:
        await cancel_all([*self._tasks, *self._opening.values(), *self._filling.values()])
        await self._subscribers.close()
        await self._listening.close()
        await self.kicks.close()
        await self.store.close()

    # Publishing

    async def publish(self, channel: Channel, event: Event, *, key: str = "") -> int:
        """Append an event to the channel's log and announce it; returns its offset.

        Repeats with the same key give the first offset while the log remembers it. Raises Busy.
        """
        if channel.kind is ChannelKind.PULSE:
            raise ValueError("pulse has no log: use publish_pulse")
        return await self.store.append(
            channel.show,
            keys.log_name(channel),
            orjson.dumps(event),
            retention=RETENTION[channel.kind],
            key=key,
        )

    async def publish_state(self, state: ShowState, event: Event | None, *, key: str = "") -> int:
        """Store the state if it is newer and append the event to the show's log, in one call.

        Returns the event's offset, or the log's top where there is no event. Raises Busy.
        """
        return await self.store.append_with_state(
            state.id,
            ChannelKind.SHOW.value,
            b"" if event is None else orjson.dumps(event),
            version=state.version,
            state=orjson.dumps(state),
            retention=RETENTION[ChannelKind.SHOW],
            key=key,
        )

    async def retract(self, channel: Channel, event: ChatDeleted) -> int:
        """Publish that something is gone, and take it out of the log. Raises Busy."""
        data = orjson.dumps(event)
        needle = takes_back(data)
        assert needle is not None, "the event names what it takes back"
        return await self.store.retract(
            channel.show,
            keys.log_name(channel),
            data,
            needle=needle,
            retention=RETENTION[channel.kind],
        )

    async def publish_alone(self, channel: Channel, buyer: BuyerId, event: Event) -> None:
        """Publish to one person's connections to a channel, on all gateways; nothing is kept.

        Raises Busy.
        """
        head = f"o {keys.log_name(channel)} {buyer.hex()}\n"
        await self.store.announce(channel.show, head.encode() + orjson.dumps(event))

    async def at_desk(self, show: ShowId) -> dict[str, Role]:
        """Who sits at a show's desk now, on all gateways: `sub` -> role. Raises Busy."""
        found: dict[str, Role] = {}
        for kind, role in ((ChannelKind.STAFF, Role.MODERATOR), (ChannelKind.DESK, Role.HOST)):
            present = await self.store.read_presence(show, kind.value)
            found |= {info.user: role for info in present.values()}
        return found

    async def publish_pulse(self, show: ShowId, pulse: Pulse) -> None:
        """Announce the latest figures; nothing is kept. Raises Busy."""
        await self.publish_figures(show, ChannelKind.PULSE.value, orjson.dumps(pulse))

    async def publish_figures(self, show: ShowId, name: str, data: bytes) -> None:
        await self.store.announce(show, b"f %s\n%s" % (name.encode(), data))

    async def kick(
        self, buyer: BuyerId, close: Close, *, show: ShowId | None = None, rank: int = ABOVE_ALL
    ) -> None:
        """Close a person's connections on all gateways (of one show or of all). Raises Busy.

        `rank`: connections of those who stand as high or higher in the show stay.
        """
        await self.kicks.tell(
            Kick(
                person=buyer.hex(),
                code=close.code,
                reason=close.reason,
                show=show or "",
                rank=rank,
            )
        )

    async def read_state(self, show: ShowId) -> ShowState | None:
        """Read the stored state of a show, from memory where its room is open. Raises Busy."""
        room = self.room(show)
        if room is not None:
            return room.state
        found = await self.store.read_state(show)
        return decode_state(found) if found else None

    async def state_of(self, show: ShowId) -> ShowState:
        """The same of a show that has to be there. Raises NotFound, and Busy where it is lost."""
        state = await self.read_state(show)
        if state is None:
            await self.refuse_unknown(show)
        return state

    async def read_personal(self, show: ShowId, buyer: BuyerId) -> list[bytes]:
        """What was published to a buyer and is still kept, the newest first. Raises Busy.

        A buyer who has no log costs no read: the room knows where every log stands.
        """
        room = await self.open_room(show)
        log_name = keys.log_name(Channel(ChannelKind.PERSONAL, show, buyer))
        top = room.tops.get(log_name, 0)
        if not top:
            return []
        keep = RETENTION[ChannelKind.PERSONAL].entries
        found = await self.store.read_back(show, log_name, top, keep)
        return [bytes(publication.data) for publication in reversed(found)]

    async def viewers(self, show: ShowId) -> int:
        """Viewers of a show on all gateways, as of the last second. Raises Busy."""
        return await self.store.count_viewers(show)

    async def add_reaction(self, show: ShowId, kind: str, count: int = 1) -> None:
        await self.store.add_reaction(show, kind, count)

    async def forget_reactions(self, show: ShowId) -> None:
        """A rehearsal is over: the show's own audience begins at nothing."""
        await self.store.forget_reactions(show)

    async def reactions(self, show: ShowId) -> dict[str, int]:
        return await self.store.reactions(show)

    async def stored_version(self, show: ShowId) -> int | None:
        """The version of the state that Redis keeps of a show, None where it does not. Raises
        Busy."""
        return await self.store.stored_version(show)

    async def retire(self, show: ShowId, *, seconds: int, also: Sequence[str]) -> None:
        """Let the logs and the state of a show that is over end by themselves, and keys that
        others keep of it. Raises Busy."""
        await self.store.expire(show, [*keys.lasting_keys(show), *also], seconds)

    def on_personal(self, tap: PersonalTap) -> None:
        """Call `tap(show, buyer, event type, data)` for each personal event of followed shows."""
        self._taps.append(tap)

    # Rooms

    def room(self, show: ShowId) -> ShowRoom | None:
        """The room of a show, None while it is not open here."""
        room = self._rooms.get(show)
        return room if room is not None and room.ready else None

    def room_of(self, show: ShowId) -> ShowRoom | None:
        """The room of a show even while it looks for what it missed."""
        return self._rooms.get(show)

    async def follow(self, show: ShowId) -> ShowRoom:
        """Keep a show's room open although it has no viewers here. Raises NotFound, Busy."""
        room = await self.open_room(show)
        self._followed.add(show)
        return room

    def unfollow(self, show: ShowId) -> None:
        self._followed.discard(show)

    async def open_room(self, show: ShowId) -> ShowRoom:
        """Return the room of a show once it knows where it stands. Raises NotFound, Busy."""
        room = self.room(show)
        if room is not None:
            return room
        opening = self._opening.get(show) or self._filling.get(show)
        if opening is None:
            opening = self._opening[show] = asyncio.create_task(self._open_room(show))
            opening.add_done_callback(lambda _: self._opening.pop(show, None))
        try:
            await asyncio.shield(opening)
        except (RedisError, OSError, TimeoutError) as fault:
            raise Busy("the show's log does not answer") from fault
        room = self.room(show)
        if room is None:
            raise Busy("the show's log does not answer")
        return room

    def topic(
        self,
        room: ShowRoom,
        name: str,
        wire: str,
        *,
        direct: bool = False,
        has_log: bool = True,
        keep: int = RECOVERY_MAX,
    ) -> Topic:
        """Make a topic of a room, or return the one that is there."""
        topic = room.topics.get(name)
        if topic is None:
            # It starts where the room stands, so live publications fit; older ones are read behind.
            topic = Topic(room.show, name, wire, direct=direct, has_log=has_log, keep=keep)
            topic.start(room.epoch, room.tops.get(name, 0))
            room.topics[name] = topic
        return topic

    def drop_unheard(self, topic: Topic) -> None:
        """Forget a direct topic that nobody listens to, nor is about to."""
        if not topic.direct or topic.claims or self._hub.hears(topic):
            return
        room = self._rooms.get(topic.show)
        if room is not None and room.topics.get(topic.log) is topic:
            del room.topics[topic.log]

    async def deepen(self, topic: Topic) -> None:
        """Read older publications of a topic, as far as a recovery may ask. Raises Busy."""
        if topic.floor > 0:
            found = await self.store.read_back(topic.show, topic.log, topic.floor, topic.keep)
            topic.prepend(found)

    async def catch_up(self, show: ShowId) -> None:
        """Bring a room to where Redis stands now; who asks at the same time shares the read."""
        room = self._rooms.get(show)
        if room is not None:
            self._fill(room)
            await asyncio.shield(self._filling[show])

    async def catch_up_to(self, topic: Topic, offset: int) -> None:
        """Bring a topic to an offset that a client says he has seen, if there is one. Raises Busy.

        A fill holds up the whole room, and anybody may say so: the log itself is asked first.
        """
        top = await self.store.top(topic.show, topic.log)
        room = self._rooms.get(topic.show)
        if room is None or not topic.top < offset <= top:
            return
        now = asyncio.get_running_loop().time()
        if room.ready:  # else somebody is filling it already, and we wait with him
            if now - room.claimed_at < CLAIM_GAP_SECONDS:
                raise Busy("the log was read a moment ago")
            room.claimed_at = now
        await self.catch_up(topic.show)

    async def _open_room(self, show: ShowId) -> None:
        """Open it in turn; who asks meanwhile waits for the same opening, by his own deadline."""
        async with self._doors:
            await self._open_now(show)

    async def _open_now(self, show: ShowId) -> None:
        # Anybody may ask for any name: what nobody published gets no epoch, no channel, no count.
        if not await self.store.knows(show):
            await self.refuse_unknown(show)
        room = ShowRoom(show, deliver=self._hub.post, tap=self._tap)
        room.on_state, room.on_alone = self.on_state, self.on_alone
        self._rooms[show] = room
        self._by_channel[keys.live_channel(show)] = room
        try:
            await self._subscribers.want(keys.live_channel(show))
            await self._fill_once(room)
        except BaseException:  # also a cancellation: a half-open room would be taken for a room
            await self._forget(room)
            raise

    async def refuse_unknown(self, show: ShowId) -> NoReturn:
        """Tell what is in no world from what Redis has lost. Raises NotFound, Busy."""
        if self.known_elsewhere is not None and await self.known_elsewhere(show):
            raise Busy("the show is being made again")
        raise NotFound(f"unknown show {show}")

    async def _forget(self, room: ShowRoom) -> None:
        if self._rooms.get(room.show) is room:
            del self._rooms[room.show]
            del self._by_channel[keys.live_channel(room.show)]
            self._idle_beats.pop(room.show, None)
            self._subscribers.drop(keys.live_channel(room.show))

    # Keeping up

    def _take_message(self, channel: str, raw: bytes) -> None:
        try:
            if channel == keys.CONTROL_CHANNEL:
                self.kicks.take(raw)
                return
            room = self._by_channel.get(channel)
            if room is None:
                return
            message = parse(raw)
            if not isinstance(message, LogMessage):
                room.pass_on(message)
            elif not room.apply(message):
                self._fill(room)
        except (ValueError, msgspec.MsgspecError) as fault:
            log.error("announcement not understood", channel=channel, fault=str(fault))

    def _take_gap(self, channel: str) -> None:
        """Messages may be lost: the room looks at the log, and kicks are read again."""
        if channel == keys.CONTROL_CHANNEL:
            self.kicks.missed()
        room = self._by_channel.get(channel)
        if room is not None and room.show not in self._opening:
            self._fill(room)

    def _fill(self, room: ShowRoom) -> None:
        room.hold()
        if room.show not in self._filling:
            metrics.FILLS.inc()
            task = asyncio.create_task(self._fill_until_done(room))
            self._filling[room.show] = task
            task.add_done_callback(lambda _: self._filling.pop(room.show, None))

    async def _fill_until_done(self, room: ShowRoom) -> None:
        for attempt in range(FILL_TRIES_MAX):
            try:
                await self._fill_once(room)
                return
            except Busy as fault:
                log.warning("log not readable", show=room.show, fault=str(fault))
                await asyncio.sleep(min(BACKOFF_SECONDS_MAX, 0.05 * 2.0 ** min(attempt, 10)))
        self._lose(room)
        await self._forget(room)

    async def _fill_once(self, room: ShowRoom) -> None:
        """Bring a room and its topics to where Redis stands, then apply what arrived meanwhile."""
        while True:
            found = await self.store.position(room.show)
            if room.epoch not in ("", found.epoch):
                self._lose(room)
            elif found.total < room.total:
                await self._renew(room)
                continue
            try:
                for topic in list(room.topics.values()):
                    await self._fill_topic(room, topic, found.epoch, found.tops.get(topic.log, 0))
            except _WentBack:
                await self._renew(room)
                continue
            room.start(found.epoch, found.total, found.tops, found.state)
            if room.release():
                return
            room.hold()

    async def _fill_topic(self, room: ShowRoom, topic: Topic, epoch: str, top: int) -> None:
        if not topic.has_log:
            return
        if topic.epoch != epoch:
            topic.start(epoch, top)
        if topic.top > top:
            raise _WentBack
        last = topic.recent[-1] if topic.recent else None
        if topic.top == top and (last is None or topic.direct):
            return  # the logs of single buyers are many, and who went back did so in others as well
        found = await self.store.read_back(room.show, topic.log, top, RECOVERY_MAX)
        if last is not None and any(
            # What was taken back since then differs for a good reason; the event that says so is
            # among those that we miss.
            one.offset == last.offset and one.data != last.data and MARK not in bytes(one.data)
            for one in found
        ):
            raise _WentBack
        if topic.top == top:
            return
        missing = [publication for publication in found if publication.offset > topic.top]
        if not missing or missing[0].offset != topic.top + 1:
            self._lose_topic(topic)
            topic.start(epoch, top)
            return
        for publication in missing:
            room.publish(topic, publication)

    async def _renew(self, room: ShowRoom) -> None:
        """The log is an older copy of what we have sent out: a lagging replica, a restored file.

        Its offsets will be given out again, so positions of viewers must not count any more.
        """
        log.warning("log went back", show=room.show, at=room.total)
        await self.store.renew_epoch(room.show, room.epoch)

    def _lose(self, room: ShowRoom) -> None:
        log.warning("log lost", show=room.show, epoch=room.epoch)
        for topic in list(room.topics.values()):
            self._lose_topic(topic)

    def _lose_topic(self, topic: Topic) -> None:
        if topic.has_log:
            metrics.LOST_LOGS.inc()
            self._hub.lose(topic)

    def _tap(self, show: ShowId, announcement: LogMessage) -> None:
        if self._taps:
            buyer = BuyerId(bytes.fromhex(announcement.log.removeprefix("me:")))
            kind = _event_type(announcement.data).type
            for tap in self._taps:
                tap(show, buyer, kind, announcement.data)

    # Time

    async def _keep_time(self) -> None:
        beats = 0
        while True:
            await asyncio.sleep(BEAT_SECONDS)
            beats += 1
            await self._beat(beats)

    async def _beat(self, beats: int) -> None:
        gate = asyncio.Semaphore(BEATS_AT_ONCE_MAX)
        rooms = list(self._rooms.values())
        await asyncio.gather(*(self._beat_room(room, beats, gate) for room in rooms))
        if beats % CHECK_BEATS == 0:
            await asyncio.gather(*(self._check_position(room, gate) for room in rooms))

    async def _beat_room(self, room: ShowRoom, beats: int, gate: asyncio.Semaphore) -> None:
        """A show whose node is away costs no other show its heartbeat."""
        here = self._hub.count(room.show)
        try:
            async with gate:
                await self.store.count_viewers(room.show, gateway=self.gateway, count=here)
                await self._keep_or_forget(room, idle=here == 0 and room.show not in self._followed)
                if beats % PRESENCE_BEATS == 0:
                    await self._refresh_presence(room)
        except Busy as fault:
            log.warning("heartbeat failed", show=room.show, fault=str(fault))

    async def _keep_or_forget(self, room: ShowRoom, *, idle: bool) -> None:
        beats = self._idle_beats.get(room.show, 0) + 1 if idle else 0
        self._idle_beats[room.show] = beats
        if beats > IDLE_BEATS_MAX and room.ready:
            await self._forget(room)

    async def _refresh_presence(self, room: ShowRoom) -> None:
        for topic in list(room.topics.values()):
            if topic.present:
                await self.store.put_presence(topic.show, topic.log, dict(topic.present))

    async def _check_position(self, room: ShowRoom, gate: asyncio.Semaphore) -> None:
        """Notice announcements that never came, and logs that are another life's."""
        before = room.total
        try:
            async with gate:
                epoch, total = await self.store.peek(room.show)
        except Busy as fault:
            log.warning("position not readable", show=room.show, fault=str(fault))
            return
        await asyncio.sleep(CHECK_GRACE_SECONDS)
        missed = room.epoch != epoch or room.total < total or total < before
        if missed and room.ready and self._rooms.get(room.show) is room:
            log.warning("announcements missed", show=room.show, at=room.total, log=total)
            self._fill(room)

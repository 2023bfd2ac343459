"""The shows that this process follows: kept up to date with their logs, for whoever listens here.

Owns: the followed shows and their position on Redis. Always: subscribers of a topic get its
publications in offset order without a gap, or are told that their position is lost.
Runs on: the event loop; one task keeps time (heartbeat.py), others read pub/sub, one a show closes
a gap (catch_up.py).
Not here: publishing (log.py), who may publish what (policy.py), bytes on sockets (hub.py).
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import NoReturn
from uuid import uuid4

import msgspec
import structlog
from redis.exceptions import RedisError

from live.aio.tasks import Tasks, cancel_all
from live.base.errors import Busy, NotFound
from live.domain.channels import Channel, ChannelKind
from live.domain.ids import BuyerId, ShowId
from live.domain.show import ShowState
from live.fanout.hub import Hub
from live.fanout.topic import RECOVERY_MAX, Entry, Topic
from live.redis.clients import Clients
from live.redis.subscribers import Subscribers
from live.showlog import keys
from live.showlog.catch_up import CatchUp
from live.showlog.disconnects import Disconnects
from live.showlog.followed import FollowedShow, LogMessage
from live.showlog.followed import parse_message as parse
from live.showlog.heartbeat import Heartbeat
from live.showlog.log import RETENTION, ShowLog
from live.showlog.store import COMMAND_SECONDS

# Shows that begin to be followed at once; the others wait. A thousand at once make so many
# connections to Redis, and so much work of one turn, that none is answered in time. Each takes
# three round trips.
BEGINNING_AT_ONCE_MAX = 32
START_SECONDS = 10.0  # nobody waits for an answer yet, and a busy machine takes its time
CLAIM_GAP_SECONDS = 1.0  # between two looks at a show's log that clients cause

KnownElsewhere = Callable[[ShowId], Awaitable[bool]]
"""Whether there is a show although Redis does not know it. Raises Busy."""

OnState = Callable[[ShowState | None, ShowState], None]
"""(the state before, the newer one), on every change of a show's state"""
OnAlone = Callable[[str, Topic, Entry], None]
"""(a person's digest in hex, the channel, what this person alone gets on it)"""
PersonalTap = Callable[[ShowId, BuyerId, str, bytes], None]


class _Typed(msgspec.Struct):
    type: str = ""


log = structlog.get_logger()
_event_type = msgspec.json.Decoder(_Typed).decode


class Follower:
    """`show_log` is opened and closed with it; `hub` delivers."""

    def __init__(self, show_log: ShowLog, hub: Hub) -> None:
        self.log = show_log
        self.disconnects = Disconnects(show_log.store)
        self.on_state: OnState | None = None
        self.on_alone: OnAlone | None = None
        self.known_elsewhere: KnownElsewhere | None = None
        self._hub = hub
        # No time limit on reading: silence is normal here, and the subscribers beat by themselves.
        self._listening = Clients(
            show_log.url, seconds=None, connect_seconds=COMMAND_SECONDS, nodes=show_log.store.nodes
        )
        self._subscribers = Subscribers(
            self._listening, on_message=self._take_message, on_gap=self._take_gap
        )
        self._catch_up = CatchUp(show_log.store, hub, give_up=self._forget)
        self._heartbeat = Heartbeat(
            show_log.store,
            hub,
            uuid4().hex,
            followed=self._shows,
            catch_up=self._catch_up.begin,
            forget=self._forget,
        )
        self._followed: dict[ShowId, FollowedShow] = {}
        self._by_channel: dict[str, FollowedShow] = {}
        self._beginning: dict[ShowId, asyncio.Task[None]] = {}
        self._doors = asyncio.Semaphore(BEGINNING_AT_ONCE_MAX)
        self._taps: list[PersonalTap] = []
        self._tasks = Tasks()

    async def open(self) -> None:
        """Connect and start to listen. Raises redis' ConnectionError where nobody answers."""
        await self.log.open()
        self._tasks.start("slots", self._subscribers.run())
        self._tasks.start("heartbeat", self._heartbeat.run())
        try:
            await self.disconnects.open()
            await self._subscribers.want(keys.CONTROL_CHANNEL, seconds=START_SECONDS)
        except (TimeoutError, Busy):
            if not self.log.store.nodes.clustered:
                raise
            # One node's silence must not keep the shows of the others waiting; it is tried on.
            log.warning("control channel not subscribed yet")

    async def close(self) -> None:
        await self._tasks.close()
        await cancel_all(self._beginning.values())
        await self._catch_up.close()
        await self._subscribers.close()
        await self._listening.close()
        await self.disconnects.close()
        await self.log.close()

    def on_personal(self, tap: PersonalTap) -> None:
        """Call `tap(show, buyer, event type, data)` for each personal event of followed shows."""
        self._taps.append(tap)

    # Shows

    def current(self, show: ShowId) -> FollowedShow | None:
        """A show that is up to date here; None while it is not."""
        followed = self._followed.get(show)
        return followed if followed is not None and followed.ready else None

    def followed(self, show: ShowId) -> FollowedShow | None:
        """A followed show even while it looks for what it missed."""
        return self._followed.get(show)

    async def follow(self, show: ShowId) -> FollowedShow:
        """A show once it is known where it stands; followed from now on, until nobody has watched
        it here for a while. Raises NotFound, Busy."""
        followed = self.current(show)
        if followed is not None:
            return followed
        beginning = self._beginning.get(show) or self._catch_up.running(show)
        if beginning is None:
            beginning = self._beginning[show] = asyncio.create_task(self._begin(show))
            beginning.add_done_callback(lambda _: self._beginning.pop(show, None))
        try:
            await asyncio.shield(beginning)
        except (RedisError, OSError, TimeoutError) as fault:
            raise Busy("the show's log does not answer") from fault
        followed = self.current(show)
        if followed is None:
            raise Busy("the show's log does not answer")
        return followed

    async def state_of(self, show: ShowId) -> ShowState:
        """A show's state, from memory where it is followed. Raises NotFound, and Busy where it is
        lost."""
        followed = self.current(show)
        state = await self.log.read_state(show) if followed is None else followed.state
        if state is None:
            await self.refuse_unknown(show)
        return state

    async def read_personal(self, show: ShowId, buyer: BuyerId) -> list[bytes]:
        """What was published to a buyer and is still kept, the newest first. Raises Busy.

        A buyer who has no log costs no read: it is known where every log of the show stands.
        """
        followed = await self.follow(show)
        log_name = keys.log_name(Channel(ChannelKind.PERSONAL, show, buyer))
        top = followed.tops.get(log_name, 0)
        if not top:
            return []
        keep = RETENTION[ChannelKind.PERSONAL].entries
        found = await self.log.store.read_back(show, log_name, top, keep)
        return [bytes(publication.data) for publication in reversed(found)]

    async def refuse_unknown(self, show: ShowId) -> NoReturn:
        """Tell what is in no world from what Redis has lost. Raises NotFound, Busy."""
        if self.known_elsewhere is not None and await self.known_elsewhere(show):
            raise Busy("the show is being made again")
        raise NotFound(f"unknown show {show}")

    async def _begin(self, show: ShowId) -> None:
        """Begin in turn; who asks meanwhile waits for the same beginning, by their own deadline."""
        async with self._doors:
            await self._begin_now(show)

    async def _begin_now(self, show: ShowId) -> None:
        # Anybody may ask for any name: what nobody published gets no epoch, no channel, no count.
        if not await self.log.store.knows(show):
            await self.refuse_unknown(show)
        followed = FollowedShow(show, deliver=self._hub.post, tap=self._tap)
        followed.on_state, followed.on_alone = self.on_state, self.on_alone
        self._followed[show] = followed
        self._by_channel[keys.live_channel(show)] = followed
        try:
            await self._subscribers.want(keys.live_channel(show))
            await self._catch_up.once(followed)
        except BaseException:  # also a cancellation: half of a beginning would be taken for a show
            self._forget(followed)
            raise

    def _forget(self, followed: FollowedShow) -> None:
        if self._followed.get(followed.show) is followed:
            del self._followed[followed.show]
            del self._by_channel[keys.live_channel(followed.show)]
            self._subscribers.drop(keys.live_channel(followed.show))

    def _shows(self) -> list[FollowedShow]:
        return list(self._followed.values())

    # Topics

    def topic(
        self,
        followed: FollowedShow,
        name: str,
        wire: str,
        *,
        direct: bool = False,
        has_log: bool = True,
        keep: int = RECOVERY_MAX,
    ) -> Topic:
        """Make a topic of a show, or return the one that is there."""
        topic = followed.topics.get(name)
        if topic is None:
            # It starts where the show stands, so live publications fit; older ones are read behind.
            topic = Topic(followed.show, name, wire, direct=direct, has_log=has_log, keep=keep)
            topic.start(followed.epoch, followed.tops.get(name, 0))
            followed.topics[name] = topic
        return topic

    def drop_unheard(self, topic: Topic) -> None:
        """Forget a direct topic that nobody listens to, nor is about to."""
        if not topic.direct or topic.claims or self._hub.hears(topic):
            return
        followed = self._followed.get(topic.show)
        if followed is not None and followed.topics.get(topic.log) is topic:
            del followed.topics[topic.log]

    async def deepen(self, topic: Topic) -> None:
        """Read older publications of a topic, as far as a recovery may ask. Raises Busy."""
        if topic.floor > 0:
            found = await self.log.store.read_back(topic.show, topic.log, topic.floor, topic.keep)
            topic.prepend(found)

    async def catch_up(self, show: ShowId) -> None:
        """Bring a show to where Redis stands now; who asks at the same time shares the read."""
        followed = self._followed.get(show)
        if followed is not None:
            await asyncio.shield(self._catch_up.begin(followed))

    async def catch_up_to(self, topic: Topic, offset: int) -> None:
        """Bring a topic to an offset that a client says was seen, if there is one. Raises Busy.

        It holds up the whole show, and anybody may say so: the log itself is asked first.
        """
        top = await self.log.store.top(topic.show, topic.log)
        followed = self._followed.get(topic.show)
        if followed is None or not topic.top < offset <= top:
            return
        now = asyncio.get_running_loop().time()
        if followed.ready:  # else somebody is at it already, and we wait with them
            if now - followed.claimed_at < CLAIM_GAP_SECONDS:
                raise Busy("the log was read a moment ago")
            followed.claimed_at = now
        await self.catch_up(topic.show)

    # Pub/sub

    def _take_message(self, channel: str, raw: bytes) -> None:
        try:
            if channel == keys.CONTROL_CHANNEL:
                self.disconnects.take(raw)
                return
            followed = self._by_channel.get(channel)
            if followed is None:
                return
            message = parse(raw)
            if not isinstance(message, LogMessage):
                followed.pass_on(message)
            elif not followed.apply(message):
                self._catch_up.begin(followed)
        except (ValueError, msgspec.MsgspecError) as fault:
            log.error("announcement not understood", channel=channel, fault=str(fault))

    def _take_gap(self, channel: str) -> None:
        """Messages may be lost: the show looks at its log, and disconnects are read again."""
        if channel == keys.CONTROL_CHANNEL:
            self.disconnects.missed()
        followed = self._by_channel.get(channel)
        if followed is not None and followed.show not in self._beginning:
            self._catch_up.begin(followed)

    def _tap(self, show: ShowId, announcement: LogMessage) -> None:
        if self._taps:
            buyer = BuyerId(bytes.fromhex(announcement.log.removeprefix("me:")))
            kind = _event_type(announcement.data).type
            for tap in self._taps:
                tap(show, buyer, kind, announcement.data)

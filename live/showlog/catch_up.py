"""How a followed show closes a gap: what it missed is read from the log, or its viewers are told.

Owns: one task for each show that is being brought up to date. Always: a log that is of another
life, or an older copy of what was sent out, ends the positions of those who listen.
Many shows that need it at once, as after a lost subscription, take turns: each read takes a
connection to Redis, and who joins meanwhile needs some, too.
Raises: Busy where the log does not answer; `begin` repeats that by itself.
"""

import asyncio
from collections.abc import Callable

import structlog

from live.aio.loops import Backoff, Trouble
from live.aio.tasks import Tasks
from live.domain.ids import ShowId
from live.fanout import metrics
from live.fanout.hub import Hub
from live.fanout.retract import MARK
from live.fanout.topic import RECOVERY_MAX, Topic
from live.showlog.followed import FollowedShow
from live.showlog.store import Store

TRIES_MAX = 100  # two and a half minutes, then the show is given up
AT_ONCE_MAX = 32  # shows that read their logs
BACKOFF = Backoff(0.05, seconds_max=2.0)

log = structlog.get_logger()


class _WentBack(Exception):
    """The log lacks, or has otherwise, what it announced before under the same epoch."""


class CatchUp:
    """`give_up` is called with a show whose log has not answered for TRIES_MAX."""

    def __init__(self, store: Store, hub: Hub, give_up: Callable[[FollowedShow], None]) -> None:
        self._store = store
        self._hub = hub
        self._give_up = give_up
        self._tasks = Tasks()
        self._running: dict[ShowId, asyncio.Task[None]] = {}
        self._turns = asyncio.Semaphore(AT_ONCE_MAX)

    async def close(self) -> None:
        await self._tasks.close()

    def running(self, show: ShowId) -> asyncio.Task[None] | None:
        return self._running.get(show)

    def begin(self, followed: FollowedShow) -> asyncio.Task[None]:
        """Bring a show to where Redis stands; the task that is under way, where one is."""
        followed.hold()
        show = followed.show
        task = self._running.get(show)
        if task is None:
            metrics.FILLS.inc()
            task = self._tasks.start("catch_up", self._until_done(followed), show=show)
            self._running[show] = task
            task.add_done_callback(lambda _: self._running.pop(show, None))
        return task

    async def _until_done(self, followed: FollowedShow) -> None:
        trouble = Trouble("catch_up", BACKOFF, show=followed.show)
        for _ in range(TRIES_MAX):
            try:
                await self.once(followed)
                trouble.over()
                return
            except Exception as error:  # whatever it is, the show must not stay on hold
                await asyncio.sleep(trouble.failed(error))
        self._lose(followed)
        self._give_up(followed)

    async def once(self, followed: FollowedShow) -> None:
        """Bring a show and its topics to where Redis stands, then apply what arrived meanwhile."""
        async with self._turns:
            await self._read(followed)

    async def _read(self, followed: FollowedShow) -> None:
        while True:
            found = await self._store.position(followed.show)
            if followed.epoch not in ("", found.epoch):
                self._lose(followed)
            elif found.total < followed.total:
                await self._renew(followed)
                continue
            try:
                for topic in list(followed.topics.values()):
                    top = found.tops.get(topic.log, 0)
                    await self._fill_topic(followed, topic, found.epoch, top)
            except _WentBack:
                await self._renew(followed)
                continue
            followed.start(found.epoch, found.total, found.tops, found.state)
            if followed.release():
                return
            followed.hold()

    async def _fill_topic(self, followed: FollowedShow, topic: Topic, epoch: str, top: int) -> None:
        if not topic.has_log:
            return
        if topic.epoch != epoch:
            topic.start(epoch, top)
        if topic.top > top:
            raise _WentBack
        last = topic.recent[-1] if topic.recent else None
        if topic.top == top and (last is None or topic.direct):
            return  # the logs of single buyers are many, and who went back did so in others as well
        found = await self._store.read_back(followed.show, topic.log, top, RECOVERY_MAX)
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
            followed.publish(topic, publication)

    async def _renew(self, followed: FollowedShow) -> None:
        """The log is an older copy of what we have sent out: a lagging replica, a restored file.

        Its offsets will be given out again, so positions of viewers must not count any more.
        """
        log.warning("log went back", show=followed.show, at=followed.total)
        await self._store.renew_epoch(followed.show, followed.epoch)

    def _lose(self, followed: FollowedShow) -> None:
        log.warning("log lost", show=followed.show, epoch=followed.epoch)
        for topic in list(followed.topics.values()):
            self._lose_topic(topic)

    def _lose_topic(self, topic: Topic) -> None:
        if topic.has_log:
            metrics.LOST_LOGS.inc()
            self._hub.lose(topic)

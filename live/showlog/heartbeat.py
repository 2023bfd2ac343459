"""What is due each second for every followed show: its viewers counted, its position checked.

Always: a show whose node is away costs no other show its heartbeat.
Runs on: one task.
"""

import asyncio
from collections.abc import Callable
from itertools import count

import structlog

from live.aio.loops import repeat
from live.base.errors import Busy
from live.base.faults import tell_fault
from live.fanout.hub import Hub
from live.showlog.followed import FollowedShow
from live.showlog.store import Store

BEAT_SECONDS = 1.0  # between two heartbeats of the viewer count
CHECK_BEATS = 2  # beats between two looks at the position of each show
CHECK_GRACE_SECONDS = 0.25  # an announcement may be on its way while we look
BEATS_AT_ONCE_MAX = 32  # shows that wait for Redis at once; one that is silent takes 0.5 s
PRESENCE_BEATS = 20  # beats between two refreshes of presence
IDLE_BEATS_MAX = 30  # a show without viewers is followed so long: a reload finds it up to date

log = structlog.get_logger()


class Heartbeat:
    """`gateway` is the name under which this process counts; `catch_up` and `forget` are called
    with a show that missed something, or that nobody watches any more."""

    def __init__(
        self,
        store: Store,
        hub: Hub,
        gateway: str,
        *,
        followed: Callable[[], list[FollowedShow]],
        catch_up: Callable[[FollowedShow], object],
        forget: Callable[[FollowedShow], None],
    ) -> None:
        self._store = store
        self._hub = hub
        self._gateway = gateway
        self._followed = followed
        self._catch_up = catch_up
        self._forget = forget

    async def run(self) -> None:
        numbers = count(1)

        async def beat() -> None:
            await self.beat(next(numbers))

        await repeat("heartbeat", beat, every_seconds=BEAT_SECONDS)

    async def beat(self, beats: int) -> None:
        gate = asyncio.Semaphore(BEATS_AT_ONCE_MAX)
        shows = self._followed()
        await asyncio.gather(*(self._beat_show(followed, beats, gate) for followed in shows))
        if beats % CHECK_BEATS == 0:
            await asyncio.gather(*(self._check_position(followed, gate) for followed in shows))

    async def _beat_show(self, followed: FollowedShow, beats: int, gate: asyncio.Semaphore) -> None:
        show, here = followed.show, self._hub.count(followed.show)
        try:
            async with gate:
                await self._store.count_viewers(show, gateway=self._gateway, count=here)
                self._keep_or_forget(followed, idle=here == 0)
                if beats % PRESENCE_BEATS == 0:
                    await self._refresh_presence(followed)
        except Exception as error:
            tell_fault("heartbeat.failed", error, show=show)

    def _keep_or_forget(self, followed: FollowedShow, *, idle: bool) -> None:
        followed.idle_beats = followed.idle_beats + 1 if idle else 0
        if followed.idle_beats > IDLE_BEATS_MAX and followed.ready:
            self._forget(followed)

    async def _refresh_presence(self, followed: FollowedShow) -> None:
        for topic in list(followed.topics.values()):
            if topic.present:
                await self._store.put_presence(topic.show, topic.log, dict(topic.present))

    async def _check_position(self, followed: FollowedShow, gate: asyncio.Semaphore) -> None:
        """Notice announcements that never came, and logs that are another life's."""
        before = followed.total
        try:
            async with gate:
                epoch, total = await self._store.peek(followed.show)
        except Busy as fault:
            log.warning("position not readable", show=followed.show, fault=str(fault))
            return
        await asyncio.sleep(CHECK_GRACE_SECONDS)
        missed = followed.epoch != epoch or followed.total < total or total < before
        if missed and followed.ready and followed in self._followed():
            log.warning("announcements missed", show=followed.show, at=followed.total, log=total)
            self._catch_up(followed)

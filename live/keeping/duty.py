"""A duty: the same short work for every show, again and again, whatever breaks meanwhile.

Always: one show's failure delays that show only, also where it is a long silence of its Redis node
or a bug; a failure is logged when it begins and when it ends, not ten times a second; waits between
tries are bounded.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field

from live.aio.loops import Backoff, Trouble, pause, repeat
from live.aio.tasks import Tasks
from live.domain.ids import ShowId

# Redis restarts in about a second, and then holds want to expire.
BACKOFF = Backoff(0.2, seconds_max=2.0)
SHOWS_AT_ONCE_MAX = 32  # bounds the calls that one duty has in flight


@dataclass(slots=True)
class Duty:
    """`shows` tells whom the work is for; asked again before each round, and may fail like work."""

    name: str
    every_seconds: float
    shows: Callable[[], Awaitable[Iterable[ShowId]]]
    work: Callable[[ShowId], Awaitable[None]]
    _troubles: dict[ShowId, Trouble] = field(default_factory=dict)
    _next_tries: dict[ShowId, float] = field(default_factory=dict)  # of those, monotonic
    _running: dict[ShowId, asyncio.Task[None]] = field(default_factory=dict)
    _tasks: Tasks = field(default_factory=Tasks)

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop` is set."""
        gate = asyncio.Semaphore(SHOWS_AT_ONCE_MAX)

        async def turn() -> None:
            # A late round is not made up for: the next one comes anyway.
            ends = time.monotonic() + self.every_seconds
            await self._round(gate)
            await pause(ends - time.monotonic(), stop)

        try:
            await repeat(self.name, turn, stop, backoff=BACKOFF)
        finally:
            await self._tasks.close()

    async def _round(self, gate: asyncio.Semaphore) -> None:
        shows, now = await self.shows(), time.monotonic()
        for show in shows:
            if show not in self._running and self._next_tries.get(show, 0.0) <= now:
                work = self._do(show, gate)
                self._running[show] = self._tasks.start(self.name, work, show=show)
        if self._running:
            # Who takes longer is waited for in the next round, and left alone until they are done.
            await asyncio.wait(self._running.values(), timeout=self.every_seconds)
        for show in [show for show, task in self._running.items() if task.done()]:
            del self._running[show]

    async def _do(self, show: ShowId, gate: asyncio.Semaphore) -> None:
        async with gate:
            try:
                await self.work(show)
            except Exception as error:  # whatever it is, it costs this show alone
                trouble = self._troubles.setdefault(show, Trouble(self.name, BACKOFF, show=show))
                self._next_tries[show] = time.monotonic() + trouble.failed(error)
            else:
                if show in self._troubles:
                    self._troubles.pop(show).over()
                    del self._next_tries[show]

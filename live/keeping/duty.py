"""A duty: the same short work for every show, again and again, whatever breaks meanwhile.

Always: one show's failure delays that show only, also where it is a long silence of its Redis node;
a failure is logged when it begins and when it ends, not ten times a second; waits between tries are
bounded.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field

import structlog

from live.domain.ids import ShowId
from live.hosting.carry import UNREACHABLE
from live.ledger.db.pool import DATABASE_ERRORS

log = structlog.get_logger()

SURVIVABLE = (*DATABASE_ERRORS, *UNREACHABLE)
"""What Postgres and Redis may answer with while they are away; a bug is none of these."""

BACKOFF_FIRST_S = 0.2
BACKOFF_MAX_S = 2.0  # Redis restarts in about a second, and then holds want to expire
SHOWS_AT_ONCE_MAX = 32  # bounds the calls that one duty has in flight

_ALL = ShowId("")  # the trouble of finding out whom the work is for


@dataclass(slots=True)
class _Trouble:
    wait_s: float
    next_try: float  # monotonic


@dataclass(slots=True)
class Duty:
    """`shows` tells whom the work is for; asked again before each round, and may fail like work."""

    name: str
    every_s: float
    shows: Callable[[], Awaitable[Iterable[ShowId]]]
    work: Callable[[ShowId], Awaitable[None]]
    _troubles: dict[ShowId, _Trouble] = field(default_factory=dict)
    _running: dict[ShowId, asyncio.Task[None]] = field(default_factory=dict)

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop` is set. A late round is not made up for: the next one comes anyway."""
        gate = asyncio.Semaphore(SHOWS_AT_ONCE_MAX)
        try:
            while not stop.is_set():
                began = time.monotonic()
                await self._round(began, gate)
                await _sleep(stop, max(0.0, self.every_s - (time.monotonic() - began)))
        finally:
            for task in self._running.values():
                task.cancel()
            await asyncio.gather(*self._running.values(), return_exceptions=True)

    async def _round(self, now: float, gate: asyncio.Semaphore) -> None:
        if not self._is_due(_ALL, now):
            return
        try:
            shows = await self.shows()
        except SURVIVABLE as error:
            self._fail(_ALL, error)
            return
        self._recover(_ALL)
        for show in shows:
            if show not in self._running and self._is_due(show, now):
                self._running[show] = asyncio.create_task(self._do(show, gate))
        if self._running:
            # Who takes longer is waited for in the next round, and left alone until he is done.
            await asyncio.wait(self._running.values(), timeout=self.every_s)
        for show in [show for show, task in self._running.items() if task.done()]:
            self._running.pop(show).result()  # raises what only a bug can be

    async def _do(self, show: ShowId, gate: asyncio.Semaphore) -> None:
        async with gate:
            try:
                await self.work(show)
            except SURVIVABLE as error:
                self._fail(show, error)
                return
        self._recover(show)

    def _recover(self, show: ShowId) -> None:
        if self._troubles.pop(show, None) is not None:
            log.info("keeper_recovered", duty=self.name, show=show)

    def _is_due(self, show: ShowId, now: float) -> bool:
        trouble = self._troubles.get(show)
        return trouble is None or trouble.next_try <= now

    def _fail(self, show: ShowId, error: Exception) -> None:
        before = self._troubles.get(show)
        if before is None:
            log.warning("keeper_failing", duty=self.name, show=show, error=repr(error))
        wait_s = BACKOFF_FIRST_S if before is None else min(BACKOFF_MAX_S, 2 * before.wait_s)
        self._troubles[show] = _Trouble(wait_s, time.monotonic() + wait_s)


async def _sleep(stop: asyncio.Event, seconds: float) -> None:
    try:
        await asyncio.wait_for(stop.wait(), seconds)
    except TimeoutError:
        pass  # the usual end of a wait

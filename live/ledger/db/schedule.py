"""Work that is done again and again by one settler at a time.

Always: a lease keeps settlers from doing it at once, which saves work and guards nothing; one that
falls silent loses it to another; a failure is counted, logged and tried again; a long run is
followed by a longer pause.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable

from live.aio.loops import pause, repeat
from live.ledger.db import metrics
from live.ledger.db.leases import take, under
from live.ledger.db.pool import Pool

REST = 10  # pause at least so many times as long as the last run took: a tenth of the load at most


class Schedule:
    """`work` every `every_seconds`, first one such pause after the start."""

    def __init__(
        self, pool: Pool, name: str, work: Callable[[], Awaitable[None]], *, every_seconds: float
    ) -> None:
        self._pool = pool
        self._name = name
        self._work = work
        self._every_seconds = every_seconds

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop` is set."""
        rest_seconds = self._every_seconds

        async def turn() -> None:
            nonlocal rest_seconds
            if await pause(rest_seconds, stop):
                return
            started = time.monotonic()
            try:
                await self.run_once()
            finally:
                rest_seconds = max(self._every_seconds, REST * (time.monotonic() - started))

        count = metrics.FAILURES.labels(self._name).inc
        await repeat(self._name, turn, stop, on_failure=count)

    async def run_once(self) -> bool:
        """Do the work unless another settler is at it; whether it was done.

        Raises Fenced where this one was silent for so long that another one may be at it.
        """
        lease = await take(self._pool, f"schedule:{self._name}")
        if lease is None:
            return False
        await under(self._pool, lease, self._work)
        return True

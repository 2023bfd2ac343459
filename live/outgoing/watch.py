"""How much waits for the shop's servers, as figures that an alarm can look at.

Runs on: a task of its own in the settler role, so the figures go on while the sender is stuck.
"""

import asyncio
from typing import Protocol

from live.aio.loops import repeat
from live.domain.outgoing.deliveries import Backlog
from live.outgoing import metrics

LOOK_EVERY_SECONDS = 5.0


class BacklogPort(Protocol):
    async def backlog(self) -> Backlog: ...


class BacklogWatch:
    def __init__(self, rows: BacklogPort) -> None:
        self._rows = rows

    async def run(self, stop: asyncio.Event) -> None:
        """Look until `stop`."""
        await repeat("webhook backlog", self.look, stop, every_seconds=LOOK_EVERY_SECONDS)

    async def look(self) -> None:
        found = await self._rows.backlog()
        metrics.EVENTS.set(found.events)
        metrics.DUE.set(found.deliveries)
        metrics.OLDEST.set(found.oldest_seconds)
        metrics.DISABLED.set(found.disabled)

"""Reactions of this process's viewers, added up before they go to Redis.

Always: one call to Redis a show and kind in `FLUSH_SECONDS`, however many hearts are tapped; a
process that dies loses what it gathered since its last flush and nothing else, as the totals are
Redis'. A total that cannot be brought there is given up: a heart is not worth a queue.
"""

import asyncio
from typing import Protocol

import structlog

from live.aio.tasks import Tasks
from live.domain.ids import ShowId
from live.hosting.projector import UNREACHABLE

FLUSH_SECONDS = 0.2  # as often as the pulse tells the totals

log = structlog.get_logger()


class ReactionStore(Protocol):
    async def add_reaction(self, show: ShowId, kind: str, count: int = 1) -> None: ...


class ReactionTally:
    """`kind` is one of a closed set, so what is gathered is bounded by the shows that run here."""

    def __init__(self, store: ReactionStore) -> None:
        self._store = store
        self._counts: dict[tuple[ShowId, str], int] = {}
        self._waiting = False  # for the next flush
        self._tasks = Tasks()

    def add(self, show: ShowId, kind: str) -> None:
        self._counts[show, kind] = self._counts.get((show, kind), 0) + 1
        if not self._waiting:
            self._waiting = True
            self._tasks.start("reactions", self._flush_soon())

    async def close(self) -> None:
        await self._tasks.finish()

    async def _flush_soon(self) -> None:
        await asyncio.sleep(FLUSH_SECONDS)
        self._waiting = False
        await self._flush()

    async def _flush(self) -> None:
        counts, self._counts = self._counts, {}
        for (show, kind), count in counts.items():
            try:
                await self._store.add_reaction(show, kind, count)
            except UNREACHABLE as error:
                log.warning("reactions_lost", show=show, kind=kind, count=count, error=str(error))

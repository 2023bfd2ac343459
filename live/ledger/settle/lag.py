"""How far settlement is behind, for Prometheus.

Always: asked of Redis alone, on a task of its own, so the figures go on while Postgres is away or
the settler is stuck in a statement; that is when somebody needs them.
Not here: what was settled and how fast (settler.py).
"""

import asyncio
from collections.abc import Callable, Sequence

import structlog

from live.base.errors import Busy, is_bug
from live.domain.ids import ShowId
from live.domain.stock import OutboxBacklog
from live.ledger.db import metrics
from live.ledger.ports import OutboxPort

LOOK_EVERY_S = 5.0  # several looks a scrape; three small calls a show each

log = structlog.get_logger()


class LagWatch:
    """`shows` names those whose outbox may be unsettled, as was last known."""

    def __init__(
        self,
        outbox: OutboxPort,
        shows: Callable[[], Sequence[ShowId]],
        *,
        every_s: float = LOOK_EVERY_S,
    ) -> None:
        self._outbox = outbox
        self._shows = shows
        self._every_s = every_s
        self._told: set[ShowId] = set()

    async def run(self, stop: asyncio.Event) -> None:
        """Look until `stop`."""
        while not stop.is_set():
            try:
                await self.look()
            except Exception as error:  # a figure must never end the process that settles
                metrics.FAILURES.labels("lag").inc()
                log.warning("lag.failed", error=repr(error), exc_info=is_bug(error))
            try:
                await asyncio.wait_for(stop.wait(), self._every_s)
            except TimeoutError:
                pass  # the ordinary end of the pause

    async def look(self) -> None:
        """Ask every outbox. One that is not there, or Redis silent, keeps its last figures."""
        shows = self._shows()
        lag_ms = 0
        for show in shows:
            try:
                backlog = await self._outbox.backlog(show)
            except Busy:
                continue
            lag_ms = max(lag_ms, backlog.oldest_ms)
            _tell(show, backlog)
        metrics.LAG.set(lag_ms / 1000)
        for over in self._told.difference(shows):
            _tell(over, None)
        self._told = set(shows)


def _tell(show: ShowId, backlog: OutboxBacklog | None) -> None:
    """None: the show is over and its outbox settled to the end."""
    metrics.OUTBOX_LENGTH.labels(show).set(backlog.length if backlog else 0)
    metrics.OUTBOX_PENDING.labels(show).set(backlog.pending if backlog else 0)
    metrics.OUTBOX_OLDEST.labels(show).set(backlog.oldest_ms / 1000 if backlog else 0)

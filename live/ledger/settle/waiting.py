"""How long what was decided has waited for the ledger, as anybody can see it, settlers or none.

Always: asked of the outboxes themselves, so it is as true of settlers that are frozen, cut off or
dead as of one that is slow; a bounded number of shows is asked in one look, the others in the next.
Called by: settlers, gateways beside their health, and `live doctor`.
Not here: what was settled and how fast (settler.py).
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

from live.aio.loops import repeat
from live.base.errors import Busy
from live.domain.ids import ShowId
from live.domain.stock import OutboxBacklog
from live.ledger.db import metrics
from live.ledger.db.pool import DATABASE_ERRORS, Pool
from live.ledger.hosting.show_lists import LATE, MOVING, SHOWS_MAX
from live.ledger.ports import OutboxPort

LOOK_EVERY_SECONDS = 5.0  # several looks a scrape
SHOWS_A_LOOK_MAX = 200  # three small calls each, pipelined: some milliseconds of Redis

_UNSETTLED = f"SELECT id FROM (({MOVING}) UNION ({LATE})) AS moving ORDER BY id LIMIT $1"

Shows = Callable[[], Awaitable[Sequence[ShowId]]]


class OutboxAge:
    """`shows`: whose outboxes may be unsettled; may raise DATABASE_ERRORS.

    `each_show`: tell the figures of each show as well, not only the oldest of all; a settler's
    part. `oldest_seconds`: seconds that the oldest entry waits, as of the last look.
    """

    def __init__(
        self,
        outbox: OutboxPort,
        shows: Shows,
        *,
        shows_a_look: int = SHOWS_A_LOOK_MAX,
        each_show: bool = False,
    ) -> None:
        self.oldest_seconds = 0.0
        self._outbox = outbox
        self._ask_shows = shows
        self._shows_a_look = shows_a_look
        self._each_show = each_show
        self._shows: Sequence[ShowId] = ()  # while Postgres is away, the last ones known
        self._turn = 0
        self._ages_ms: dict[ShowId, int] = {}  # as each show was asked last

    async def run(self, stop: asyncio.Event, *, every_seconds: float = LOOK_EVERY_SECONDS) -> None:
        """Look until `stop`: on a task of its own, so the figures go on while a settler is stuck
        in a statement; that is when somebody needs them."""
        count = metrics.FAILURES.labels("lag").inc
        await repeat("lag", self.look, stop, every_seconds=every_seconds, on_failure=count)

    async def look(self) -> float:
        """Ask the outboxes; `oldest_seconds`. One that does not answer keeps its last figures."""
        try:
            self._shows = await self._ask_shows()
        except DATABASE_ERRORS:
            pass  # that is told as a fault; nobody settles meanwhile, and this goes on telling it
        begin = self._turn % max(1, len(self._shows))
        self._turn = begin + self._shows_a_look
        asked = [*self._shows[begin:], *self._shows[:begin]][: self._shows_a_look]
        await asyncio.gather(*map(self._ask, asked))
        for over in self._ages_ms.keys() - set(self._shows):
            del self._ages_ms[over]
            self._tell(over, None)
        self.oldest_seconds = max(self._ages_ms.values(), default=0) / 1000
        metrics.LAG.set(self.oldest_seconds)
        return self.oldest_seconds

    async def _ask(self, show: ShowId) -> None:
        try:
            backlog = await self._outbox.backlog(show)
        except Busy:
            return
        self._ages_ms[show] = backlog.oldest_ms
        self._tell(show, backlog)

    def _tell(self, show: ShowId, backlog: OutboxBacklog | None) -> None:
        """None: the show is over and its outbox settled to the end."""
        if self._each_show:
            metrics.OUTBOX_LENGTH.labels(show).set(backlog.length if backlog else 0)
            metrics.OUTBOX_PENDING.labels(show).set(backlog.pending if backlog else 0)
            metrics.OUTBOX_OLDEST.labels(show).set(backlog.oldest_ms / 1000 if backlog else 0)


def unsettled_shows(pool: Pool) -> Shows:
    """Those that the ledger knows, for whoever settles none itself."""
    return partial(_unsettled, pool)


async def _unsettled(pool: Pool) -> list[ShowId]:
    return [ShowId(row["id"]) for row in await pool.fetch(_UNSETTLED, SHOWS_MAX)]

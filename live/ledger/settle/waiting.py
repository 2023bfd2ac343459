"""How long what was decided has waited for the ledger, as anybody can see it, settlers or none.

Always: asked of the outboxes themselves, so it is as true of settlers that are frozen, cut off or
dead as of one that is slow; a bounded number of shows is asked in one look, the others in the next.
Called by: gateways and settlers beside their health, and `live doctor`.
"""

import asyncio

from live.base.errors import Busy
from live.domain.ids import ShowId
from live.ledger.db.pool import DATABASE_ERRORS, Pool
from live.ledger.hosting.show_lists import LATE, MOVING, SHOWS_MAX
from live.ledger.ports import OutboxPort

SHOWS_A_LOOK_MAX = 200  # three small calls each, pipelined: some milliseconds of Redis

_UNSETTLED = f"SELECT id FROM (({MOVING}) UNION ({LATE})) AS moving ORDER BY id LIMIT $1"


class OutboxAge:
    def __init__(
        self, pool: Pool, outbox: OutboxPort, *, shows_a_look: int = SHOWS_A_LOOK_MAX
    ) -> None:
        self._pool = pool
        self._outbox = outbox
        self._shows_a_look = shows_a_look
        self._shows: list[ShowId] = []  # while Postgres is away, the last ones known
        self._turn = 0
        self._ages_ms: dict[ShowId, int] = {}  # as each show was asked last

    async def oldest_s(self) -> float:
        """Seconds that the oldest entry waits; an outbox that does not answer keeps its last."""
        try:
            rows = await self._pool.fetch(_UNSETTLED, SHOWS_MAX)
            self._shows = [ShowId(row["id"]) for row in rows]
        except DATABASE_ERRORS:
            pass  # that is told as a fault; nobody settles meanwhile, and this goes on telling it
        begin = self._turn % max(1, len(self._shows))
        self._turn = begin + self._shows_a_look
        asked = [*self._shows[begin:], *self._shows[:begin]][: self._shows_a_look]
        ages = await asyncio.gather(*(self._age_ms(show) for show in asked))
        known = self._ages_ms | dict(zip(asked, ages, strict=True))
        self._ages_ms = {show: known[show] for show in self._shows if show in known}
        return max(self._ages_ms.values(), default=0) / 1000

    async def _age_ms(self, show: ShowId) -> int:
        try:
            return (await self._outbox.backlog(show)).oldest_ms
        except Busy:
            return self._ages_ms.get(show, 0)

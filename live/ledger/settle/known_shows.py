"""Whether the ledger knows shows of which Redis knows nothing: lost there, or in no world at all.

A viewer of the first is told to come back in a moment, and the show's stock is put in doubt, so
that the keeper makes it again; a viewer of the second is told that there is none. Anybody may ask
any name, so questions are asked together, and answers are kept for a while.
Called by: the follower, for a show whose state is not in Redis; never for others, so that a connect
costs no query.
"""

import time
from collections.abc import Sequence

from live.domain.ids import ShowId
from live.ledger.db.asked_together import asked_together
from live.ledger.db.pool import Pool

KEPT_SECONDS = 2.0  # a show that is made meanwhile is in Redis, and not asked for here
KEPT_MAX = 10_000  # names; the oldest go


class KnownShows:
    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._kept: dict[ShowId, tuple[float, bool]] = {}  # until when, in the order of asking
        self._questions = asked_together(self._ask)

    async def knows(self, show: ShowId) -> bool:
        """Raises Busy where too many ask, or Postgres does not answer."""
        until, known = self._kept.get(show, (0.0, False))
        if time.monotonic() < until:
            return known
        return await self._questions.ask(show)

    async def close(self) -> None:
        await self._questions.close()

    async def _ask(self, shows: Sequence[ShowId]) -> dict[ShowId, bool]:
        rows = await self._pool.fetch(_DOUBT_KNOWN, list(shows))
        known = {row["id"] for row in rows}
        until = time.monotonic() + KEPT_SECONDS
        for show in shows:
            self._kept.pop(show, None)
            self._kept[show] = (until, show in known)
        while len(self._kept) > KEPT_MAX:
            del self._kept[next(iter(self._kept))]
        return {show: show in known for show in shows}


_DOUBT_KNOWN = """
WITH known AS (
    SELECT id FROM shows WHERE id = ANY($1)
), doubted AS (
    INSERT INTO stock_doubts (show, reason)
    SELECT id, 'Redis does not know the show' FROM known
    WHERE NOT EXISTS (SELECT FROM leases WHERE name = 'rebuild:' || id AND until > now())
    ON CONFLICT DO NOTHING
)
SELECT id FROM known"""

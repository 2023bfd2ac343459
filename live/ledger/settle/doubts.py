"""Shows of which a script found that Redis lost a part: put in doubt, so that they are made again.

Always: each buyer who is refused tells of the loss, and a few rows a second are written; one that
is late says nothing about a life that began meanwhile. What cannot be written is left to the
keeper, who looks at each show by himself.
Called by: the stock engine, on the event loop; a task while there is something to write.
"""

import asyncio

import structlog

from live.domain.ids import ShowId
from live.ledger.db.pool import DATABASE_ERRORS, Pool

NOTED_MAX = 1_000  # shows that wait to be written; more are told again by the next who asks
WRITE_EVERY_S = 0.2

log = structlog.get_logger()


class Doubts:
    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._noted: dict[ShowId, int] = {}
        self._writing: asyncio.Task[None] | None = None

    def note(self, show: ShowId, stock_epoch: int) -> None:
        """Redis lost a part of this life of the show's stock."""
        if show in self._noted or len(self._noted) < NOTED_MAX:
            self._noted[show] = stock_epoch
        if self._writing is None:
            self._writing = asyncio.create_task(self._write_all())

    async def close(self) -> None:
        if self._writing is not None:
            self._writing.cancel()
            await asyncio.gather(self._writing, return_exceptions=True)

    async def _write_all(self) -> None:
        try:
            while self._noted:
                noted, self._noted = self._noted, {}
                await self._write(noted)
                await asyncio.sleep(WRITE_EVERY_S)
        finally:
            self._writing = None

    async def _write(self, noted: dict[ShowId, int]) -> None:
        try:
            await self._pool.execute(_DOUBT, list(noted), list(noted.values()))
        except DATABASE_ERRORS as error:
            log.warning("doubts.unwritten", shows=len(noted), error=repr(error))


# A rebuild deletes the doubts when it raises the epoch: this one was about what it replaced.
_DOUBT = """
INSERT INTO stock_doubts (show, reason)
SELECT s.id, 'Redis lost a part of it'
FROM unnest($1::text[], $2::bigint[]) AS n(show, stock_epoch) JOIN shows s ON s.id = n.show
WHERE s.stock_epoch <= n.stock_epoch
  AND NOT EXISTS (SELECT FROM leases WHERE name = 'rebuild:' || s.id AND until > now())
ON CONFLICT DO NOTHING"""

"""Shows of which a script found that Redis lost a part: put in doubt, so that they are made again.

Always: each buyer who is refused tells of the loss, and a few rows a second are written; one that
is late says nothing about a life that began meanwhile. What cannot be written is left to the
keeper, which looks at each show by itself.
Called by: the stock engine, on the event loop; a task while there is something to write.
"""

from collections.abc import Sequence

import structlog

from live.aio.coalesce import Coalescer
from live.base.errors import Busy
from live.domain.ids import ShowId
from live.ledger.db.pool import DATABASE_ERRORS, Pool

NOTED_MAX = 1_000  # lost lives that wait to be written; more are told again by the next who asks
WRITE_EVERY_SECONDS = 0.2

log = structlog.get_logger()

_Lost = tuple[ShowId, int]  # a life of the show's stock


class Doubts:
    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._writes: Coalescer[_Lost, None] = Coalescer(
            self._write,
            batch_max=NOTED_MAX,
            waiting_max=NOTED_MAX,
            rest_seconds=WRITE_EVERY_SECONDS,
            shared=True,
        )

    def note(self, show: ShowId, stock_epoch: int) -> None:
        """Redis lost a part of this life of the show's stock."""
        try:
            self._writes.put((show, stock_epoch))
        except Busy:
            pass  # NOTED_MAX, as said there

    async def close(self) -> None:
        await self._writes.close()

    async def _write(self, noted: Sequence[_Lost]) -> list[Exception | None]:
        try:
            await self._pool.execute(_DOUBT, [show for show, _ in noted], [at for _, at in noted])
        except DATABASE_ERRORS as error:
            log.warning("doubts.unwritten", shows=len(noted), error=repr(error))
        return [None] * len(noted)


# A rebuild deletes the doubts when it raises the epoch: this one was about what it replaced.
_DOUBT = """
INSERT INTO stock_doubts (show, reason)
SELECT s.id, 'Redis lost a part of it'
FROM unnest($1::text[], $2::bigint[]) AS n(show, stock_epoch) JOIN shows s ON s.id = n.show
WHERE s.stock_epoch <= n.stock_epoch
  AND NOT EXISTS (SELECT FROM leases WHERE name = 'rebuild:' || s.id AND until > now())
ON CONFLICT DO NOTHING"""

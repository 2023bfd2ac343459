"""When an offer closes: once everything that was sold of it before is settled.

Owns: entries of the outbox that tell of an end and are not acknowledged yet. They wait until they
are the oldest of their show; an end that was settled is acknowledged after its commit, so a settler
that dies in between leaves it to the next one, and closing twice does nothing.
Called by: the settler's passes and its drain, which may run beside each other.
"""

from collections.abc import Sequence

import structlog

from live.base.failpoint import failpoint
from live.domain.hold import MovementKind
from live.domain.ids import ShowId
from live.domain.stock import OutboxBatch
from live.ledger.db.pool import Connection, Pool, in_transaction
from live.ledger.ports import OutboxPort
from live.ledger.settle.settlement import close_offers

log = structlog.get_logger()


class Closings:
    """`waiting`: by (show, entry) the slots of all offers that the entry closes."""

    def __init__(self, pool: Pool, outbox: OutboxPort) -> None:
        self._pool = pool
        self._outbox = outbox
        self.waiting: dict[tuple[ShowId, str], list[int]] = {}

    async def acknowledge(self, show: ShowId, settled: Sequence[OutboxBatch]) -> None:
        """Acknowledge settled entries, but for those that close an offer: they wait."""
        entries = []
        for batch in settled:
            closed = [one for one in batch.movements if one.kind is MovementKind.CLOSED]
            if closed:
                slots = [line.slot for one in closed for line in one.lines]
                self.waiting[(show, batch.entry)] = slots
            else:
                entries.append(batch.entry)
        if entries:
            await self._outbox.ack(show, entries)
            failpoint("settle.acknowledged")

    async def attempt(self, shows: Sequence[ShowId]) -> None:
        """Close offers whose `closed` entry is now the oldest that is not settled."""
        mine = [one for one in self.waiting if one[0] in shows]
        in_order = sorted(mine, key=lambda one: (one[0], entry_key(one[1])))
        for show, entry in in_order:
            first = await self._outbox.first_unsettled(show)
            if first is not None and entry_key(first) < entry_key(entry):
                continue
            slots = self.waiting.get((show, entry))
            if slots is None:
                continue  # a drain, which runs beside this loop, has closed it
            await self._close(show, slots)
            failpoint("close.committed")
            await self._outbox.ack(show, [entry])
            failpoint("close.acknowledged")
            self.waiting.pop((show, entry), None)

    async def _close(self, show: ShowId, slots: Sequence[int]) -> None:
        async def work(connection: Connection) -> None:
            await close_offers(connection, show, slots)
            failpoint("close.before_commit")

        await in_transaction(self._pool, work)
        log.info("settler.closed", show=show, slots=slots)


def entry_key(entry: str) -> tuple[int, int]:
    """Stream ids compare as two numbers, not as text."""
    ms, _, number = entry.partition("-")
    return int(ms), int(number or 0)

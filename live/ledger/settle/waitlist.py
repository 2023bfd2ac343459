"""Places in waitlists, as their buyers asked for them; the outbox tells what became of each.

Always: the row with the buyer's own name is there before Redis gives them a place. Its state is
changed by movements alone (journal.py).
"""

from uuid import UUID

from live.domain.ids import BuyerId, HoldKey, OfferId, ShowId
from live.ledger.db.pool import Pool

_ASK = """
INSERT INTO waitlist (show, offer, buyer, sub, key, qty)
VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING"""


class WaitlistRows:
    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def ask(
        self, show: ShowId, offer: OfferId, buyer: BuyerId, sub: str, key: HoldKey, qty: int
    ) -> None:
        """Note the wish; a repeat of (show, buyer, key) changes nothing."""
        await self._pool.execute(_ASK, show, offer, buyer, sub, UUID(bytes=key), qty)

"""What a settled movement must know of its offer, by slot.

Owns: a cache per show. Only what never changes once an offer can sell is kept (slot, SKU, price,
currency), so nothing has to be thrown away; an unknown slot is looked up. Drafts are told but not
kept: what was opened in a rehearsal is a draft again while its last entries are settled.
"""

from dataclasses import dataclass

import asyncpg

from live.domain.ids import OfferId, ShowId, Sku
from live.ledger.db.pool import Pool

SHOWS_MAX = 2_000  # the oldest show is forgotten first; it is only a cache

_OFFERS = """
SELECT id, slot, sku, price_minor, currency, phase = 'draft' AS draft
FROM offers WHERE show = $1"""


@dataclass(frozen=True, slots=True)
class OfferFacts:
    id: OfferId
    slot: int
    sku: Sku
    price_minor: int
    currency: str


class OffersBySlot:
    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._shows: dict[ShowId, dict[int, OfferFacts]] = {}

    async def of(self, show: ShowId, slots: set[int]) -> dict[int, OfferFacts]:
        """All known offers of the show; slots that Postgres does not know are missing."""
        known = self._shows.get(show)
        if known is not None and slots <= known.keys():
            return known
        rows = await self._pool.fetch(_OFFERS, show)
        if len(self._shows) >= SHOWS_MAX:
            self._shows.pop(next(iter(self._shows)))
        self._shows[show] = {row["slot"]: _facts(row) for row in rows if not row["draft"]}
        return {row["slot"]: _facts(row) for row in rows}


def _facts(row: asyncpg.Record) -> OfferFacts:
    return OfferFacts(
        OfferId(row["id"]), row["slot"], Sku(row["sku"]), row["price_minor"], row["currency"]
    )

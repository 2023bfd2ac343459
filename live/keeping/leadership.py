"""Which shows this keeper looks after: each living keeper has its share of them, by their names.

It saves work and guards nothing: every duty is safe when two keepers do it at once, as they do for
a moment when one comes or goes. A keeper lives while it renews its lease (ledger/db/leases.py), so
one that is frozen or cut off loses its shows within LEASE_SECONDS; that costs one row a keeper,
however many shows there are. A show moves only where the keeper that has it comes or goes
(rendezvous hashing).
"""

from collections.abc import Iterable
from hashlib import blake2b
from secrets import token_hex

from live.domain.ids import ShowId
from live.ledger.db.leases import Lease, give_up, renew, take
from live.ledger.db.pool import Pool

_PREFIX = "keeper:"


class Leadership:
    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._lease: Lease | None = None
        self._keepers: tuple[str, ...] = ()  # as of `_mine`
        self._mine: dict[ShowId, bool] = {}

    async def settle(self, wanted: Iterable[ShowId]) -> frozenset[ShowId]:
        """Say that this keeper lives; which of these shows are its own. Raises DATABASE_ERRORS."""
        await self._live()
        rows = await self._pool.fetch(_KEEPERS, _PREFIX)
        keepers = tuple(row["name"] for row in rows)
        known = self._mine if keepers == self._keepers else {}
        self._keepers = keepers
        self._mine = {
            show: known[show] if show in known else self._is_mine(show) for show in wanted
        }
        return frozenset(show for show, mine in self._mine.items() if mine)

    async def give_up(self) -> None:
        """The others need not wait for the end of the lease."""
        lease, self._lease = self._lease, None
        self._mine = {}
        if lease is not None:
            await give_up(self._pool, lease)

    async def _live(self) -> None:
        if self._lease is None:
            self._lease = await take(self._pool, f"{_PREFIX}{token_hex(8)}")
        elif not await renew(self._pool, self._lease):
            self._lease = None  # swept away in a long silence: come back as another one
            await self._live()

    def _is_mine(self, show: ShowId) -> bool:
        assert self._lease is not None, "it was taken before the list of keepers was read"
        return max(self._keepers, key=lambda keeper: _weight(keeper, show)) == self._lease.name


def _weight(keeper: str, show: ShowId) -> bytes:
    return blake2b(f"{keeper}\n{show}".encode(), digest_size=8).digest()


_KEEPERS = """
SELECT name FROM leases WHERE starts_with(name, $1) AND until > now() ORDER BY name"""

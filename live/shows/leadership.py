"""Which shows this keeper looks after: those whose advisory lock its session holds.

It saves work and guards nothing: every duty is safe when two keepers do it at once, as they do for
a moment when a session dies. All locks live on one connection, so one lost connection gives all
shows to others at once.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from live.domain.ids import ShowId
from live.ledger.pool import DATABASE_ERRORS, Pool

if TYPE_CHECKING:
    import asyncpg
    from asyncpg.pool import PoolConnectionProxy

LOCK_SPACE = 0x6B70  # first half of the advisory lock, "kp"; other rooms have spaces of their own


class Leadership:
    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._connection: PoolConnectionProxy[asyncpg.Record] | None = None
        self._led: set[ShowId] = set()

    async def settle(self, wanted: Iterable[ShowId]) -> frozenset[ShowId]:
        """Try for these shows and give up all others; the shows led now. Raises DATABASE_ERRORS."""
        try:
            connection = await self._session()
            wanted = set(wanted)
            for show in sorted(self._led - wanted):
                await connection.execute(
                    "SELECT pg_advisory_unlock($1, hashtext($2))", LOCK_SPACE, show
                )
                self._led.discard(show)
            missing = sorted(wanted - self._led)
            rows = await connection.fetch(
                """SELECT show FROM unnest($2::text[]) AS show
                   WHERE pg_try_advisory_lock($1, hashtext(show))""",
                LOCK_SPACE,
                missing,
            )
            self._led.update(ShowId(row["show"]) for row in rows)
        except DATABASE_ERRORS:
            await self.give_up()
            raise
        return frozenset(self._led)

    async def give_up(self) -> None:
        """Let go of everything, with the connection."""
        connection, self._connection = self._connection, None
        self._led.clear()
        if connection is not None:
            try:
                # The pool resets a connection that comes back, advisory locks included.
                await self._pool.release(connection)
            except DATABASE_ERRORS:
                pass  # it is gone, and its locks with it

    async def _session(self) -> "PoolConnectionProxy[asyncpg.Record]":
        if self._connection is None:
            self._connection = await self._pool.acquire()
        return self._connection

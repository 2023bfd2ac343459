"""Answers of HTTP calls by (caller, Idempotency-Key).

Always: of any number of calls with one key, one runs at a time; once it was answered, every
repeat with the same request gets that answer and another request is a conflict.
Called by: the HTTP layer, around every POST. A call that died unanswered may be repeated after
`ABANDONED_S`; what it calls is idempotent by itself.
"""

from dataclasses import dataclass

from live.errors import Conflict
from live.ledger.pool import Pool

ABANDONED_S = 30.0  # far above any HTTP call's deadline
KEPT_HOURS = 24


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    status: int
    body: bytes


class InFlight(Conflict):
    """The first call with this key still runs."""


class IdempotencyRows:
    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def begin(self, caller: str, key: str, request: bytes) -> StoredAnswer | None:
        """Take the key: None means go on and call `finish` or `forget`.

        `request` is the SHA-256 of method, path and body. Raises Conflict for the same key with
        another request, InFlight while the first call runs.
        """
        # The no-op update makes the row of a repeat come back, in one statement.
        row = await self._pool.fetchrow(
            """INSERT INTO idempotency AS i (caller, key, request) VALUES ($1, $2, $3)
               ON CONFLICT (caller, key) DO UPDATE SET created_at =
                   CASE WHEN i.status IS NULL AND i.request = $3
                             AND i.created_at < now() - make_interval(secs => $4)
                        THEN now() ELSE i.created_at END
               RETURNING request, status, body, created_at = now() AS taken""",
            caller,
            key,
            request,
            ABANDONED_S,
        )
        assert row is not None, "an upsert returns its row"
        if row["request"] != request:
            raise Conflict("this Idempotency-Key was used with another request")
        if row["status"] is not None:
            return StoredAnswer(row["status"], row["body"])
        if not row["taken"]:
            raise InFlight("a call with this Idempotency-Key still runs")
        return None

    async def finish(self, caller: str, key: str, status: int, body: bytes) -> None:
        await self._pool.execute(
            """UPDATE idempotency SET status = $3, body = $4
               WHERE caller = $1 AND key = $2 AND status IS NULL""",
            caller,
            key,
            status,
            body,
        )

    async def forget(self, caller: str, key: str) -> None:
        """Give the key back: the call had no effect, so a repeat should be tried anew."""
        await self._pool.execute(
            "DELETE FROM idempotency WHERE caller = $1 AND key = $2 AND status IS NULL", caller, key
        )

    async def sweep(self) -> None:
        """Delete answers older than a day."""
        await self._pool.execute(
            "DELETE FROM idempotency WHERE created_at < now() - make_interval(hours => $1)",
            KEPT_HOURS,
        )

"""Answers of HTTP calls by (caller, Idempotency-Key).

Always: of any number of calls with one key, one runs at a time; once it was answered, every
repeat with the same request gets that answer and another request is a conflict. A command marks
its key as done in its own transaction, so it is done once, whenever and whoever dies.
Called by: the HTTP layer, around every POST; commands of the ledger (`mark_done`). A call that
died unanswered may be repeated after `ABANDONED_SECONDS`.
"""

from dataclasses import dataclass

from live.base.errors import Conflict
from live.ledger.db.pool import Connection, Pool

ABANDONED_SECONDS = 30.0  # far above any HTTP call's deadline
KEPT_HOURS = 24

_BEGIN = """
INSERT INTO idempotency AS i (caller, key, request) VALUES ($1, $2, $3)
ON CONFLICT (caller, key) DO UPDATE SET created_at =
    CASE WHEN i.status IS NULL AND i.request = $3
              AND i.created_at < now() - make_interval(secs => $4)
         THEN now() ELSE i.created_at END
RETURNING request, status, body, created_at = now() AS taken"""

_FINISH = """
UPDATE idempotency SET status = $3, body = $4
WHERE caller = $1 AND key = $2 AND status IS NULL"""

_FORGET = """
WITH unmarked AS (
    DELETE FROM idempotency
    WHERE caller = $1 AND key = $2 AND status IS NULL AND NOT done
)
UPDATE idempotency SET created_at = now() - make_interval(secs => $3)
WHERE caller = $1 AND key = $2 AND status IS NULL AND done"""

_SWEEP = "DELETE FROM idempotency WHERE created_at < now() - make_interval(hours => $1)"

_WAS_DONE = """
SELECT done FROM idempotency WHERE caller = $1 AND key = $2 AND request = $3 FOR UPDATE"""

_MARK_DONE = "UPDATE idempotency SET done = true WHERE caller = $1 AND key = $2"


@dataclass(frozen=True, slots=True)
class CallKey:
    """One call: who made it, with which key; `request` is the SHA-256 of method, path and body."""

    caller: str
    key: str
    request: bytes


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    status: int
    body: bytes


class InFlight(Conflict):
    """The first call with this key still runs, or has failed at this moment: a repeat is right."""

    temporary = True
    retry_ms = 500


class IdempotencyRows:
    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def begin(self, call: CallKey) -> StoredAnswer | None:
        """Take the key: None means go on and call `finish` or `forget`.

        Raises Conflict for the same key with another request, InFlight while the first call runs.
        """
        # The no-op update makes the row of a repeat come back, in one statement.
        row = await self._pool.fetchrow(
            _BEGIN, call.caller, call.key, call.request, ABANDONED_SECONDS
        )
        assert row is not None, "an upsert returns its row"
        if row["request"] != call.request:
            raise Conflict("this Idempotency-Key was used with another request")
        if row["status"] is not None:
            return StoredAnswer(row["status"], row["body"])
        if not row["taken"]:
            raise InFlight("a call with this Idempotency-Key still runs")
        return None

    async def finish(self, call: CallKey, status: int, body: bytes) -> None:
        await self._pool.execute(_FINISH, call.caller, call.key, status, body)

    async def forget(self, call: CallKey) -> None:
        """Give the key back, so that a repeat is tried anew; what was done stays marked."""
        await self._pool.execute(_FORGET, call.caller, call.key, 2 * ABANDONED_SECONDS)

    async def sweep(self) -> None:
        """Delete answers older than a day."""
        await self._pool.execute(_SWEEP, KEPT_HOURS)


async def mark_done(connection: Connection, call: CallKey | None) -> bool:
    """Say in the command's own transaction that its call is done; False if it was before.

    The row stays locked until the command commits or fails. Without a key there is nothing to
    mark. Raises InFlight where the key was given back meanwhile.
    """
    if call is None:
        return True
    before = await connection.fetchval(_WAS_DONE, call.caller, call.key, call.request)
    if before is None:
        raise InFlight("another call with this Idempotency-Key has failed: repeat it")
    if not before:
        await connection.execute(_MARK_DONE, call.caller, call.key)
    return not before

"""Deliveries as their sender takes them, and what it writes of how they went.

Always: a delivery is taken under a lease that ends by Postgres' clock; a repeat of a record changes
nothing that a later holder of the lease did. Of one subject to one endpoint only the oldest that is
due is ever taken, so they arrive in their order, whichever process sends them. An endpoint is
disabled here, for the reason that it then shows.
Called by: the sender (live/outgoing/sender.py), through `DeliveryPort`.
"""

from collections.abc import Callable, Sequence
from uuid import UUID

import asyncpg
import orjson
import structlog

from live.base.failpoint import failpoint
from live.domain.deliveries import Attempted, Backlog, DueDelivery
from live.domain.ids import OrderId
from live.domain.order import OrderContact
from live.domain.retries import FAILING_SECONDS_MAX
from live.domain.webhooks import ATTEMPTS_MAX, WebhookFormat
from live.ledger.db.pool import Connection, Pool, in_transaction
from live.ledger.hosting.order_reading import read_contacts

LOOK_MAX = 100  # endpoints with something due, of one look: as many as a shop may have
LEASE_SECONDS = 30.0  # longer than one call may take, so nobody else sends it meanwhile
NO_ORDER = OrderId("")
BACKLOG_MAX = 1_000_000  # counted; more is as bad

log = structlog.get_logger()


def _no_time() -> float:
    return 0.0


class DeliveryRows:
    """`ahead_seconds`: how far a test's clock is ahead of Postgres'."""

    def __init__(self, pool: Pool, *, ahead_seconds: Callable[[], float] = _no_time) -> None:
        self._pool = pool
        self._ahead = ahead_seconds

    async def due_endpoints(self) -> list[str]:
        """Those for which something can be sent now."""
        rows = await self._pool.fetch(_DUE_ENDPOINTS, self._ahead(), LOOK_MAX)
        return [str(row["id"]) for row in rows]

    async def take(self, webhook: str, *, limit: int) -> list[DueDelivery]:
        """Up to so many that are due and in whose line nothing stands before them."""
        rows = await self._pool.fetch(_TAKE, UUID(webhook), limit, self._ahead(), LEASE_SECONDS)
        failpoint("webhooks.taken")
        wanted = {row["id"]: OrderId(row["order_id"]) for row in rows if row["order_id"]}
        contacts = await read_contacts(self._pool, list(wanted.values())) if wanted else {}
        return [_due_of(row, contacts.get(wanted.get(row["id"], NO_ORDER))) for row in rows]

    async def record(self, ends: Sequence[Attempted]) -> list[Exception | None]:
        """Write how tries went; an endpoint that this disables is told to the log."""

        async def work(connection: Connection) -> list[asyncpg.Record]:
            await _record_tries(connection, ends, self._ahead())
            return await _judge_endpoints(connection, ends, self._ahead())

        disabled = await in_transaction(self._pool, work)
        failpoint("webhooks.recorded")
        for row in disabled:
            log.error("webhooks.disabled", webhook=str(row["id"]), reason=row["reason"])
        return [None] * len(ends)

    async def backlog(self) -> Backlog:
        row = await self._pool.fetchrow(_BACKLOG, self._ahead(), BACKLOG_MAX)
        assert row is not None, "figures have one row"
        oldest = max(0.0, row["oldest_seconds"] or 0.0)
        return Backlog(row["events"], row["deliveries"], oldest, row["disabled"])


async def _record_tries(connection: Connection, ends: Sequence[Attempted], ahead: float) -> None:
    await connection.execute(
        _RECORD,
        [one.delivery for one in ends],
        [one.state.value for one in ends],
        [one.pause_seconds or 0.0 for one in ends],
        [one.lease for one in ends],
        [_attempt(one) for one in ends],
        ahead,
        ATTEMPTS_MAX,
    )
    waits = [one for one in ends if one.pause_seconds is not None]
    if waits:
        await connection.execute(
            _MAKE_WAIT,
            [one.delivery for one in waits],
            [UUID(one.webhook) for one in waits],
            [one.subject for one in waits],
            [one.pause_seconds for one in waits],
            ahead,
        )


async def _judge_endpoints(
    connection: Connection, ends: Sequence[Attempted], ahead: float
) -> list[asyncpg.Record]:
    """What the tries say of their endpoints; those that are disabled by it."""
    # In the order of ids, so that two processes lock them in the same order.
    webhooks = sorted({one.webhook for one in ends})
    mine = [[one for one in ends if one.webhook == webhook] for webhook in webhooks]
    rests = [max((one.rest_seconds or 0.0 for one in group), default=0.0) for group in mine]
    return await connection.fetch(
        _JUDGE,
        [UUID(webhook) for webhook in webhooks],
        [any(one.good for one in group) for group in mine],
        [any(one.gone for one in group) for group in mine],
        rests,
        ahead,
        FAILING_SECONDS_MAX,
    )


def _attempt(one: Attempted) -> str:
    told = {"at": one.at, "status": one.status, "ms": one.ms, "answer": one.answer}
    return orjson.dumps([told]).decode()


def _due_of(row: asyncpg.Record, contact: OrderContact | None) -> DueDelivery:
    return DueDelivery(
        delivery=row["id"],
        webhook=str(row["webhook"]),
        subject=row["subject"],
        type=row["type"],
        event=row["event"],
        at_us=row["at_us"],
        data=row["data"],
        contact=None if contact is None else orjson.dumps(contact).decode(),
        tries=row["tries"],
        throttles=row["throttles"],
        lease=row["leased_until"],
        url=row["url"],
        format=WebhookFormat(row["format"]),
        secrets=tuple(row["secrets"]),
    )


_DUE_ENDPOINTS = """
SELECT w.id FROM webhooks w
WHERE w.state = 'active' AND w.rests_until <= now() + make_interval(secs => $1)
  AND EXISTS (SELECT FROM deliveries d WHERE d.webhook = w.id AND d.state = 'due'
              AND d.due_at <= now() + make_interval(secs => $1)
              AND d.leased_until <= now() + make_interval(secs => $1))
ORDER BY w.id LIMIT $2"""

# The endpoint is read with its deliveries, so what was changed in it counts from the next one on.
_TAKE = """
WITH w AS MATERIALIZED (
    SELECT id, url, format, contact, throttles FROM webhooks
    WHERE id = $1 AND state = 'active' AND rests_until <= now() + make_interval(secs => $3)
), due AS (
    SELECT d.id FROM w JOIN deliveries d ON d.webhook = w.id
    WHERE d.webhook = $1 AND d.state = 'due' AND d.due_at <= now() + make_interval(secs => $3)
      AND d.leased_until <= now() + make_interval(secs => $3)
      AND NOT EXISTS (SELECT FROM deliveries e
                      WHERE e.webhook = $1 AND e.subject = d.subject AND e.state = 'due'
                        AND e.id < d.id)
    ORDER BY d.due_at, d.id LIMIT $2 FOR UPDATE OF d SKIP LOCKED
), taken AS (
    UPDATE deliveries d SET leased_until = now() + make_interval(secs => $3 + $4)
    FROM due WHERE d.id = due.id
    RETURNING d.id, d.webhook, d.subject, d.type, d.event, d.tries, d.leased_until, d.created_at
)
SELECT t.id, t.webhook, t.subject, t.type, t.event, t.tries, t.leased_until,
       w.url, w.format, w.throttles, e.data::text AS data,
       floor(extract(epoch FROM coalesce(e.at, t.created_at)) * 1000000)::bigint AS at_us,
       CASE WHEN w.contact AND starts_with(t.type, 'order.') THEN substr(t.subject, 7)
            END AS order_id,
       ARRAY(SELECT s.secret FROM webhook_secrets s
             WHERE s.webhook = t.webhook AND s.until > now() + make_interval(secs => $3)
             ORDER BY s.made_at DESC) AS secrets
FROM taken t CROSS JOIN w LEFT JOIN events e ON e.id = t.event
ORDER BY t.id"""

# A failure is written only by who still has the lease; that it arrived is true whoever says it.
#   arrays: $1 delivery  $2 state  $3 pause  $4 lease  $5 attempt
_RECORD = """
UPDATE deliveries d
SET state = n.state, tries = d.tries + 1, leased_until = '-infinity',
    due_at = now() + make_interval(secs => $6 + n.pause),
    attempts = (CASE WHEN jsonb_array_length(d.attempts) >= $7 THEN d.attempts - 0
                     ELSE d.attempts END) || n.attempt::jsonb
FROM unnest($1::bigint[], $2::text[], $3::float8[], $4::timestamptz[], $5::text[])
     AS n(id, state, pause, lease, attempt)
WHERE d.id = n.id AND d.state = 'due' AND (n.state = 'delivered' OR d.leased_until = n.lease)"""

_MAKE_WAIT = """
UPDATE deliveries d SET due_at = greatest(d.due_at, now() + make_interval(secs => $5 + n.pause))
FROM unnest($1::bigint[], $2::uuid[], $3::text[], $4::float8[]) AS n(id, webhook, subject, pause)
WHERE d.webhook = n.webhook AND d.subject = n.subject AND d.state = 'due' AND d.id > n.id"""

#   arrays: $1 webhook  $2 whether an answer was good  $3 whether one said that it is gone  $4 rest
_JUDGE = """
WITH n AS (
    SELECT * FROM unnest($1::uuid[], $2::boolean[], $3::boolean[], $4::float8[])
        AS n(id, good, gone, rest)
), old AS (
    SELECT w.id, w.state, w.failing_since FROM webhooks w JOIN n ON n.id = w.id
    WHERE NOT n.good OR n.rest > 0 OR n.gone OR w.failing_since IS NOT NULL OR w.throttles > 0
    ORDER BY w.id FOR NO KEY UPDATE OF w
), judged AS (
    UPDATE webhooks w
    SET failing_since = CASE WHEN n.good THEN NULL ELSE coalesce(
            old.failing_since, now() + make_interval(secs => $5)) END,
        -- Once a rest: of many calls at once each answer asks for the same one.
        throttles = CASE WHEN n.rest > 0 AND w.rests_until <= now() + make_interval(secs => $5)
                         THEN w.throttles + 1
                         WHEN n.good THEN 0 ELSE w.throttles END,
        rests_until = CASE WHEN n.rest > 0
            THEN greatest(w.rests_until, now() + make_interval(secs => $5 + n.rest))
            ELSE w.rests_until END,
        state = CASE WHEN n.gone OR NOT n.good AND old.failing_since
                          <= now() + make_interval(secs => $5 - $6) THEN 'disabled'
                     ELSE w.state END,
        reason = CASE WHEN n.gone THEN 'it answered 410: it wants no more'
                      WHEN NOT n.good AND old.failing_since
                           <= now() + make_interval(secs => $5 - $6)
                      THEN 'nothing was taken for more than three days' ELSE w.reason END
    FROM n JOIN old ON old.id = n.id WHERE w.id = n.id
    RETURNING w.id, w.state, w.reason, old.state AS before
)
SELECT id, reason FROM judged WHERE state = 'disabled' AND before <> 'disabled'"""

_BACKLOG = """
SELECT (SELECT count(*) FROM (SELECT FROM events WHERE position IS NULL LIMIT $2) e) AS events,
       (SELECT count(*) FROM (SELECT FROM deliveries d JOIN webhooks w ON w.id = d.webhook
                              WHERE d.state = 'due' LIMIT $2) d) AS deliveries,
       (SELECT extract(epoch FROM now() + make_interval(secs => $1) - min(f.due_at))::float8
        FROM webhooks w CROSS JOIN LATERAL (
            SELECT d.due_at FROM deliveries d WHERE d.webhook = w.id AND d.state = 'due'
            ORDER BY d.due_at, d.id LIMIT 1
        ) f WHERE w.state = 'active' AND w.rests_until <= now() + make_interval(secs => $1)
       ) AS oldest_seconds,
       (SELECT count(*) FROM webhooks WHERE state = 'disabled') AS disabled"""

"""Housekeeping: rows that nobody asks for any more are deleted, a bounded number at a time.

Only memory of calls and deliveries; orders, payments, movements and actions are kept for good.
"""

from live.ledger.idempotency import IdempotencyRows
from live.ledger.pool import Pool
from live.ledger.revocations import RevocationRows

HOUSEKEEPING_EVERY_S = 600.0
WEBHOOKS_KEPT_DAYS = 30  # providers repeat an event for days, not for weeks
DELETED_MAX = 10_000  # of one statement: short locks, short transactions
ROUNDS_MAX = 100  # of one run; the next one goes on

_OLD_WEBHOOKS = """
WITH old AS (
    SELECT provider, id FROM webhook_events
    WHERE received_at < now() - make_interval(days => $1) LIMIT $2 FOR UPDATE SKIP LOCKED
), gone AS (
    DELETE FROM webhook_events w USING old
    WHERE w.provider = old.provider AND w.id = old.id RETURNING 1
)
SELECT count(*) FROM gone"""


async def keep_house(pool: Pool) -> None:
    """Forget answers of calls, ids of webhooks and log-outs that are too old to matter again."""
    await IdempotencyRows(pool).sweep()
    for _ in range(ROUNDS_MAX):
        gone = await pool.fetchval(_OLD_WEBHOOKS, WEBHOOKS_KEPT_DAYS, DELETED_MAX)
        if gone < DELETED_MAX:
            break
    for _ in range(ROUNDS_MAX):
        if await RevocationRows(pool).sweep(DELETED_MAX) < DELETED_MAX:
            break

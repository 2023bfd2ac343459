"""Money that a provider sets aside for a payment that was given up: it is sent back.

A payment is declined when its window has passed and the provider knows of no charge. The call to
the provider may still be under way then, in a process that was frozen or on a slow line. Whoever
hears of it later - that process, a webhook, the provider's books - asks for the void, once more
where an earlier void found nothing to void. A void of nothing is harmless, so hearsay is enough.
Called by: PaymentRows (what was recorded, webhooks), repair (the books).
"""

from collections.abc import Sequence
from uuid import UUID

from live.domain.payment_states import GIVEN_UP
from live.ledger.db.pool import Pool
from live.ledger.db.states import texts

# The job is made or, where it was done already, due again. One that is due or that was refused
# comes back to the worker by itself.
DUE_AGAIN = """
ON CONFLICT (payment) WHERE kind = 'void' DO UPDATE
SET state = 'due', due_at = now(), created_at = now(), tries = 0, reason = EXCLUDED.reason
WHERE money_jobs.state = 'done'"""

# Charges in a provider's books, by our id and its own: arrays $1 and $2; $3 states given up.
_VOID = f"""
WITH found AS (
    SELECT p.id, p.state, p.amount_minor, n.ref
    FROM unnest($1::uuid[], $2::text[]) AS n(id, ref) JOIN payments p ON p.id = n.id
    WHERE p.state = ANY($3::text[])
), learnt AS (
    UPDATE payments p SET provider_ref = f.ref FROM found f
    WHERE p.id = f.id AND p.provider_ref IS NULL
)
INSERT INTO money_jobs (payment, kind, amount_minor, reason)
SELECT id, 'void', amount_minor, 'authorised when it was ' || state FROM found
{DUE_AGAIN}
RETURNING payment"""


async def void_given_up(pool: Pool, charges: Sequence[tuple[UUID, str]]) -> list[UUID]:
    """Ask for the voids of those of these charges that we gave up; (our id, the provider's)."""
    ours, refs = [one for one, _ in charges], [ref for _, ref in charges]
    rows = await pool.fetch(_VOID, ours, refs, texts(GIVEN_UP))
    return [row["payment"] for row in rows]

"""Webhooks as the ledger remembers them: each id once, and what it makes due.

Always: an event changes no state by itself; the payment worker asks the provider what is true.
Called by: PaymentRows.
"""

from uuid import UUID

from live.domain.payment_states import AWAITING_PROVIDER, GIVEN_UP
from live.ledger.db.pool import Pool
from live.ledger.db.states import texts
from live.ledger.money.late_money import DUE_AGAIN

# Remember a webhook. Its payment is due now if it waits for the provider: created and authorised
# are in the hands of a checkout, which is faster than the event and keeps its lease.
# News of a refund makes somebody look up all refunds of its payment.
#   $1 provider  $2 event  $3 kind  $4 our id  $5 ref  $6 it tells of money set aside
#   $7 it tells of a refund  $8 states that wait for the provider  $9 states given up
_NOTE = f"""
WITH found AS (
    SELECT id, state, amount_minor FROM payments
    WHERE id = $4 OR (provider = $1 AND provider_ref = $5) LIMIT 1
), noted AS (
    INSERT INTO webhook_events (provider, id, payment, kind)
    SELECT $1, $2, (SELECT id FROM found), $3
    ON CONFLICT DO NOTHING RETURNING id
), due AS (
    UPDATE payments
    SET lease_until = CASE WHEN state = ANY($8::text[]) THEN now() ELSE lease_until END,
        refunds_news_at = CASE WHEN $7 THEN clock_timestamp() ELSE refunds_news_at END
    WHERE id = (SELECT id FROM found) AND EXISTS (SELECT FROM noted)
      AND (state = ANY($8::text[]) OR $7 AND state <> ALL($9::text[]))
), learnt AS (
    UPDATE payments SET provider_ref = $5
    WHERE id = (SELECT id FROM found) AND EXISTS (SELECT FROM noted)
      AND $6 AND state = ANY($9::text[]) AND provider_ref IS NULL AND $5 IS NOT NULL
), late AS (
    INSERT INTO money_jobs (payment, kind, amount_minor, reason)
    SELECT id, 'void', amount_minor, 'authorised when it was ' || state FROM found
    WHERE $6 AND state = ANY($9::text[]) AND EXISTS (SELECT FROM noted)
    {DUE_AGAIN}
)
SELECT count(*) FROM noted"""


async def note(
    pool: Pool,
    provider: str,
    event: str,
    *,
    kind: str,
    payment: str | None,
    ref: str | None,
    authorised: bool,
    refund: bool,
) -> bool:
    """False for an event whose id was known."""
    ours = _uuid_or_none(payment)
    noted = await pool.fetchval(
        _NOTE,
        provider,
        event,
        kind,
        ours,
        ref,
        authorised,
        refund,
        texts(AWAITING_PROVIDER),
        texts(GIVEN_UP),
    )
    return bool(noted)


def _uuid_or_none(text: str | None) -> UUID | None:
    """A provider may send anything as our id."""
    try:
        return None if text is None else UUID(text)
    except ValueError:
        return None

"""Money jobs: captures and voids that committed rows ask for, each of which a payment has once.

Always: a job is written in the transaction that makes it necessary and done at least once; the
payment's figures move once however often its end is reported, because they are set to totals.
What was refused is not forgotten: a capture comes back until its order is cancelled, a void until
the provider holds nothing any more. A refusal counts only where nobody has taken the job since.
Called by: PaymentRows, which the payment worker holds.
Not here: refunds, of which a payment may have many (refund_turns.py).
"""

from uuid import UUID

from live.aio.loops import Backoff
from live.domain.payment import JobKind, MoneyJob, PaymentState
from live.ledger.db.pool import Connection, Pool
from live.ledger.money import payment_sql as sql

# How long the worker has to cancel the order before it is asked again.
REFUSED_CAPTURE_RETRY_SECONDS = 60.0
# A provider does not change its mind in seconds; each refusal doubles the pause up to an hour.
REFUSED_VOID = Backoff(60.0, seconds_max=3_600.0)

_TAKE = f"""
WITH asked AS (
    SELECT id FROM money_jobs
    WHERE state = 'due' AND kind <> 'refund' AND due_at <= now()
    ORDER BY due_at LIMIT $2 FOR UPDATE SKIP LOCKED
), refused AS (
    -- The worker died between the refusal and the cancellation of the order.
    SELECT j.id FROM money_jobs j
        JOIN payments r ON r.id = j.payment JOIN orders c ON c.id = r.order_id
    WHERE j.state = 'failed' AND j.kind = 'capture' AND j.due_at <= now()
      AND c.state = 'confirmed'
    ORDER BY j.due_at LIMIT $2 FOR UPDATE OF j SKIP LOCKED
), kept AS (
    -- The provider would not let the money go; perhaps it does now.
    SELECT id FROM money_jobs
    WHERE state = 'failed' AND kind = 'void' AND due_at <= now()
    ORDER BY due_at LIMIT $2 FOR UPDATE SKIP LOCKED
), due AS (
    SELECT id FROM asked UNION ALL SELECT id FROM refused UNION ALL SELECT id FROM kept
    LIMIT $2
), leased AS (
    UPDATE money_jobs j
    SET due_at = now() + make_interval(secs => $1), tries = j.tries + 1
    FROM due WHERE j.id = due.id
    RETURNING j.id AS job, j.kind, j.amount_minor AS job_amount, j.reason AS job_reason,
              j.request, j.tries AS job_tries, j.payment,
              j.state = 'failed' AND j.kind = 'capture' AS refused
)
SELECT leased.*, {sql.COLUMNS}
FROM leased JOIN payments p ON p.id = leased.payment
LEFT JOIN orders o ON o.id = p.order_id
ORDER BY leased.job"""

_FINISH = """
UPDATE money_jobs SET state = 'done', pending_at = NULL
WHERE id = $1 AND state <> 'done' RETURNING id"""

_POSTPONE = """
UPDATE money_jobs SET due_at = now() + make_interval(secs => $2),
    reason = CASE WHEN state = 'due' THEN $3 ELSE reason END,
    pending_at = CASE WHEN $4 THEN coalesce(pending_at, now()) ELSE pending_at END
WHERE id = $1 AND state <> 'done'"""


async def take(pool: Pool, *, lease_ms: int, limit: int) -> list[MoneyJob]:
    rows = await pool.fetch(_TAKE, lease_ms / 1000, limit)
    return [
        MoneyJob(
            id=row["job"],
            kind=JobKind(row["kind"]),
            amount_minor=row["job_amount"],
            reason=row["job_reason"],
            request=row["request"],
            tries=row["job_tries"],
            payment=sql.payment_of(row),
            refused=row["refused"],
        )
        for row in rows
    ]


async def finish(connection: Connection, job: MoneyJob) -> None:
    """Called inside a transaction."""
    # The payment first, as everybody else who locks both does.
    await connection.execute(sql.LOCK, UUID(job.payment.id))
    done = await connection.fetchval(_FINISH, job.id)
    if done is None:
        return  # somebody else reported the same
    await connection.fetchval(
        sql.MOVE,
        *sql.move_arguments(
            job.payment.id,
            _STATE_AFTER[job.kind],
            reason=job.reason,
            amount_minor=job.amount_minor,
        ),
    )


async def fail(connection: Connection, job: MoneyJob, reason: str) -> bool:
    """Called inside a transaction. Repeated refusals of a void leave one entry.

    False where the job is done, or was taken again meanwhile: then who has it now decides.
    """
    await connection.execute(sql.LOCK, UUID(job.payment.id))
    failed = await connection.fetchval(_FAIL, job.id, job.tries, reason, _pause_seconds(job))
    return failed is not None


async def overtake_void(connection: Connection, job: MoneyJob, captured_minor: int) -> None:
    """Called inside a transaction. MOVE asks for the refund, as for all money that comes late."""
    await connection.execute(sql.LOCK, UUID(job.payment.id))
    await connection.execute(_OVERTAKE, UUID(job.payment.id))
    await connection.fetchval(
        sql.MOVE,
        *sql.move_arguments(
            job.payment.id, PaymentState.CAPTURED, reason=job.reason, amount_minor=captured_minor
        ),
    )


def _pause_seconds(job: MoneyJob) -> float:
    """How long a job rests that was refused."""
    if job.kind is not JobKind.VOID:
        return REFUSED_CAPTURE_RETRY_SECONDS
    return REFUSED_VOID.seconds(job.tries + 1)


async def retry(pool: Pool, job: MoneyJob, *, ms: int, reason: str, pending: bool) -> None:
    """Due again in so many ms; one that was refused keeps the reason of that.

    `pending`: the provider has it and is at work, so nobody need worry for now.
    """
    await pool.execute(_POSTPONE, job.id, ms / 1000, reason, pending)


_STATE_AFTER = {JobKind.CAPTURE: PaymentState.CAPTURED, JobKind.VOID: PaymentState.VOIDED}

_FAIL = """
WITH old AS (
    SELECT id, state FROM money_jobs WHERE id = $1 AND tries = $2 FOR UPDATE
), failed AS (
    UPDATE money_jobs j
    SET state = 'failed', reason = $3, due_at = now() + make_interval(secs => $4),
        pending_at = NULL
    FROM old
    WHERE j.id = old.id
      AND (old.state = 'due' OR old.state = 'failed' AND j.kind = 'void')
    RETURNING j.id, j.payment, j.kind, old.state AS before
), entries AS (
    INSERT INTO payment_entries (payment, kind, detail)
    SELECT payment, 'declined', kind || ' refused: ' || $3
    FROM failed WHERE before = 'due'
)
SELECT id FROM failed"""

_OVERTAKE = """
UPDATE money_jobs
SET state = CASE kind WHEN 'void' THEN 'called_off' ELSE 'done' END, pending_at = NULL
WHERE payment = $1 AND (kind = 'void' AND state IN ('due', 'failed')
                        OR kind = 'capture' AND state = 'failed')"""

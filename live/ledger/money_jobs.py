"""Money jobs: captures, voids and refunds that committed rows ask for.

Always: a job is written in the transaction that makes it necessary and done at least once; the
payment's figures move once however often its end is reported, because they are set to totals.
What was refused is not forgotten: a capture comes back until its order is cancelled, a void until
the provider holds nothing any more; a refund comes back to the host (refunds.py).
Called by: PaymentRows, which the payment worker holds.
"""

from uuid import UUID

from live.domain.payment import JobKind, MoneyJob, PaymentState
from live.ledger import payment_sql as sql
from live.ledger.pool import Connection, Pool

# How long the worker has to cancel the order before it is asked again.
REFUSED_CAPTURE_RETRY_S = 60.0
# A provider does not change its mind in seconds; each refusal doubles the pause up to an hour.
REFUSED_VOID_RETRY_S, REFUSED_VOID_RETRY_S_MAX = 60.0, 3_600.0


async def take(pool: Pool, *, lease_ms: int, limit: int) -> list[MoneyJob]:
    rows = await pool.fetch(
        f"""WITH asked AS (
                SELECT id FROM money_jobs WHERE state = 'due' AND due_at <= now()
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
            ), doubted AS (
                -- Done, and the provider has had news of it since.
                SELECT id FROM money_jobs WHERE doubted AND state = 'done' AND due_at <= now()
                ORDER BY due_at LIMIT $2 FOR UPDATE SKIP LOCKED
            ), due AS (
                SELECT id FROM asked UNION ALL SELECT id FROM refused UNION ALL SELECT id FROM kept
                UNION ALL SELECT id FROM doubted
                LIMIT $2
            ), leased AS (
                UPDATE money_jobs j
                SET due_at = now() + make_interval(secs => $1), tries = j.tries + 1
                FROM due WHERE j.id = due.id
                RETURNING j.id AS job, j.kind, j.amount_minor AS job_amount, j.reason AS job_reason,
                          j.request, j.tries AS job_tries, j.payment,
                          j.state = 'failed' AND j.kind = 'capture' AS refused,
                          j.state = 'done' AS doubted
            )
            SELECT leased.*, {sql.COLUMNS}
            FROM leased JOIN payments p ON p.id = leased.payment
            LEFT JOIN orders o ON o.id = p.order_id
            ORDER BY leased.job""",
        lease_ms / 1000,
        limit,
    )
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
            doubted=row["doubted"],
        )
        for row in rows
    ]


async def finish(connection: Connection, job: MoneyJob) -> None:
    """Called inside a transaction."""
    # The payment first, as everybody else who locks both does.
    await connection.execute(sql.LOCK, UUID(job.payment.id))
    if job.doubted:
        # It stands, unless there was news again since this job was leased.
        await connection.execute(_STANDS, job.id, job.tries)
        return
    done = await connection.fetchval(
        """UPDATE money_jobs SET state = 'done', pending_at = NULL
           WHERE id = $1 AND state <> 'done' RETURNING id""",
        job.id,
    )
    if done is None:
        return  # somebody else reported the same
    await connection.fetchval(
        sql.MOVE,
        *sql.move_arguments(
            job.payment.id,
            _STATE_AFTER[job.kind],
            reason=job.reason,
            amount_minor=await _total(connection, job),
        ),
    )


async def fail(
    connection: Connection, job: MoneyJob, reason: str, refunded_minor: int | None
) -> None:
    """Called inside a transaction. Repeated refusals of a void leave one entry.

    `refunded_minor`: what has gone back in all, as the provider says; None where it was not asked.
    """
    payment = UUID(job.payment.id)
    await connection.execute(sql.LOCK, payment)
    if job.doubted:
        undone = await connection.fetchval(_UNDONE, job.id, reason)
        too_much = job.amount_minor if undone is not None else 0
    else:
        await connection.execute(_FAIL, job.id, reason, _pause_s(job))
        # An event may have told of this refund as done before it failed.
        known = await connection.fetchval(
            "SELECT refunded_minor FROM payments WHERE id = $1", payment
        )
        too_much = 0 if refunded_minor is None else max(0, known - refunded_minor)
    if too_much:
        await connection.execute(_CAME_BACK, payment, too_much, reason)


def _pause_s(job: MoneyJob) -> float:
    """How long a job rests that was refused."""
    if job.kind is not JobKind.VOID:
        return REFUSED_CAPTURE_RETRY_S
    return float(min(REFUSED_VOID_RETRY_S * 2 ** min(job.tries, 20), REFUSED_VOID_RETRY_S_MAX))


async def retry(pool: Pool, job: MoneyJob, *, ms: int, reason: str, pending: bool) -> None:
    """Due again in so many ms; one that was refused or done keeps the reason of that.

    `pending`: the provider has it and is at work, so nobody need worry for now.
    """
    await pool.execute(
        """UPDATE money_jobs SET due_at = now() + make_interval(secs => $2),
               reason = CASE WHEN state = 'due' AND kind <> 'refund' THEN $3 ELSE reason END,
               pending_at = CASE WHEN $4 THEN coalesce(pending_at, now()) ELSE pending_at END
           WHERE id = $1 AND (state <> 'done' OR doubted)""",
        job.id,
        ms / 1000,
        reason,
        pending,
    )


async def _total(connection: Connection, job: MoneyJob) -> int:
    """The payment's new figure: a total, so a webhook that told it first changes nothing."""
    if job.kind is not JobKind.REFUND:
        return job.amount_minor
    total = await connection.fetchval(
        """SELECT sum(amount_minor)::bigint FROM money_jobs
           WHERE payment = $1 AND kind = 'refund' AND state = 'done'""",
        UUID(job.payment.id),
    )
    return int(total)


_STATE_AFTER = {
    JobKind.CAPTURE: PaymentState.CAPTURED,
    JobKind.VOID: PaymentState.VOIDED,
    JobKind.REFUND: PaymentState.PARTIALLY_REFUNDED,
}

# News raises `tries` to nothing, so a job that was leased before them is not the one that is asked.
_STANDS = "UPDATE money_jobs SET doubted = false WHERE id = $1 AND tries = $2"

_FAIL = """
WITH old AS (
    SELECT id, state FROM money_jobs WHERE id = $1 FOR UPDATE
), failed AS (
    UPDATE money_jobs j
    SET state = 'failed', reason = $2, due_at = now() + make_interval(secs => $3),
        pending_at = NULL
    FROM old
    WHERE j.id = old.id
      AND (old.state = 'due' OR old.state = 'failed' AND j.kind = 'void')
    RETURNING j.payment, j.kind, old.state AS before
), told AS (
    INSERT INTO notices (show, buyer, kind, order_id)
    SELECT o.show, o.buyer, 'refund.failed', o.id
    FROM failed f JOIN payments p ON p.id = f.payment JOIN orders o ON o.id = p.order_id
    WHERE f.kind = 'refund'
)
INSERT INTO payment_entries (payment, kind, detail)
SELECT payment, 'declined', kind || ' refused: ' || $2
FROM failed WHERE before = 'due'"""

_UNDONE = """
WITH failed AS (
    UPDATE money_jobs SET state = 'failed', reason = $2, doubted = false
    WHERE id = $1 AND state = 'done' AND kind = 'refund' RETURNING id, payment
), told AS (
    INSERT INTO notices (show, buyer, kind, order_id)
    SELECT o.show, o.buyer, 'refund.failed', o.id
    FROM failed f JOIN payments p ON p.id = f.payment JOIN orders o ON o.id = p.order_id
)
SELECT id FROM failed"""

# Money that was paid back came back to us: the buyer does not have it. The only step that is ever
# taken back, and it leaves entries of both ways.
_CAME_BACK = """
WITH moved AS (
    UPDATE payments
    SET refunded_minor = refunded_minor - $2,
        state = CASE WHEN refunded_minor = $2 THEN 'captured' ELSE 'partially_refunded' END,
        reason = $3, updated_at = now()
    WHERE id = $1 AND refunded_minor >= $2 RETURNING id, order_id, refunded_minor
), ordered AS (
    UPDATE orders o
    SET refunded_minor = least(m.refunded_minor, o.total_minor),
        state = CASE WHEN m.refunded_minor = 0 THEN 'paid' ELSE 'partially_refunded' END
    FROM moved m
    WHERE o.id = m.order_id AND o.state IN ('partially_refunded', 'refunded')
    RETURNING o.id, o.show, o.buyer
), told AS (
    -- The buyer was told that he was paid back.
    INSERT INTO notices (show, buyer, kind, order_id, body)
    SELECT show, buyer, 'refund.failed', id, '{"told": true}' FROM ordered
)
INSERT INTO payment_entries (payment, kind, amount_minor, detail)
SELECT id, 'refunded', -$2::bigint, 'came back: ' || $3 FROM moved"""

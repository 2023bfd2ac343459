"""Turns at the refunds of a payment: who works on them, and what became of each.

Always: one worker at a time has the turn of a payment, and what is written in a turn that is over
changes nothing: what was read at the provider and what it is held against are of one turn. Each
refund is decided by what the provider says of this one; nothing is concluded from a sum. The
figures of payment, order and entries are those of the refunds that are done, and of those that
persons made at the provider, which are told one by one as well.
Called by: PaymentRows, which the payment worker holds.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple
from uuid import UUID

import asyncpg

from live.domain.order import RefundState
from live.domain.payment import JobKind, MoneyJob, ProviderRefund, RefundNews, refund_key
from live.ledger.db.pool import Connection, Pool, in_transaction
from live.ledger.db.states import MONEY_MOVED, sold
from live.ledger.money import payment_sql as sql

AT_PROVIDER = "refunded at the provider"
NOT_THERE = "the provider has no such refund"


async def take_jobs(pool: Pool, *, lease_ms: int, limit: int) -> list[MoneyJob]:
    """Take turns of payments with due refunds: the first of each, in nobody else's hands."""
    turns = await pool.fetch(_TURNS_OF_JOBS, lease_ms / 1000, limit)
    if not turns:
        return []
    # A statement of its own: its snapshot is younger than the locks of the turns, so what was
    # decided in the turn before is seen.
    rows = await pool.fetch(
        _FIRST_DUE, [row["id"] for row in turns], [row["turn"] for row in turns], lease_ms / 1000
    )
    return [
        MoneyJob(
            id=row["job"],
            kind=JobKind.REFUND,
            amount_minor=row["job_amount"],
            reason=row["job_reason"],
            request=row["request"],
            tries=row["job_tries"],
            payment=sql.payment_of(row),
            turn=row["turn"],
        )
        for row in rows
    ]


async def take_news(pool: Pool, *, lease_ms: int, limit: int) -> list[RefundNews]:
    """Take turns of payments of whose refunds the provider has had news."""
    rows = await pool.fetch(_TURNS_OF_NEWS, lease_ms / 1000, limit)
    return [
        RefundNews(payment=sql.payment_of(row), turn=row["turn"], at=row["news_at"]) for row in rows
    ]


async def finish(connection: Connection, job: MoneyJob) -> bool:
    """This refund is done; False where the turn is over. Called inside a transaction."""
    payment = await _lock(connection, job.payment.id, job.turn)
    if payment is None:
        return False
    if await _change(connection, [_Change(job.id, RefundState.DUE, RefundState.DONE)]):
        refunded = payment["refunded_minor"] + job.amount_minor
        await connection.execute(_SET_REFUNDED, payment["id"], refunded, job.reason)
    await connection.execute(_END_TURN, payment["id"])
    return True


async def fail(connection: Connection, job: MoneyJob, reason: str) -> bool:
    """This refund was refused; False where the turn is over. Called inside a transaction."""
    payment = await _lock(connection, job.payment.id, job.turn)
    if payment is None:
        return False
    await _change(connection, [_Change(job.id, RefundState.DUE, RefundState.FAILED, reason)])
    await connection.execute(_END_TURN, payment["id"])
    return True


async def retry(pool: Pool, job: MoneyJob, *, ms: int, pending: bool) -> None:
    """This refund is due again in so many ms; the payment's others have their turn before."""

    async def work(connection: Connection) -> None:
        payment = await _lock(connection, job.payment.id, job.turn)
        if payment is not None:
            await connection.execute(_AGAIN, job.id, ms / 1000, pending)
            await connection.execute(_END_TURN, payment["id"])

    await in_transaction(pool, work)


async def doubt(pool: Pool, payment: str) -> None:
    """As if the provider had sent news."""
    await pool.execute(_DOUBT, UUID(payment))


async def postpone_news(pool: Pool, news: RefundNews, *, ms: int) -> None:
    """The provider did not say: somebody looks again in so many ms."""
    await pool.execute(_PAUSE, UUID(news.payment.id), news.turn, ms / 1000)


async def record(connection: Connection, news: RefundNews, found: Sequence[ProviderRefund]) -> bool:
    """Take over what the provider says of each refund; False where the turn is over.

    `found` is all that it has, read in this turn: a refund of ours that was done and is not among
    them was not paid. Called inside a transaction.
    """
    payment = await _lock(connection, news.payment.id, news.turn)
    if payment is None:
        return False
    rows = await connection.fetch(_JOBS, payment["id"])
    ours = {refund_key(news.payment.id, row["id"]): row for row in rows}
    changes = _changes(ours, {one.key: one for one in found})
    await _change(connection, changes)
    # What came back first, so that the entries tell it even where as much went the other way.
    back = [one for one in changes if one.before is RefundState.DONE]
    if back:
        amounts = {row["id"]: row["amount_minor"] for row in rows}
        rest = max(0, payment["refunded_minor"] - sum(amounts[one.job] for one in back))
        await connection.execute(_SET_REFUNDED, payment["id"], rest, back[0].reason)
    by_persons = sum(
        one.amount_minor for one in found if one.state is RefundState.DONE and one.key not in ours
    )
    done = await connection.fetchval(_DONE, payment["id"])
    total = min(done + by_persons, payment["captured_minor"])
    await connection.execute(_SET_REFUNDED, payment["id"], total, AT_PROVIDER)
    await connection.execute(_NEWS_READ, payment["id"], news.at)
    return True


class _Change(NamedTuple):
    job: int
    before: RefundState
    after: RefundState
    reason: str = ""


def _changes(
    ours: Mapping[str, asyncpg.Record], found: Mapping[str | None, ProviderRefund]
) -> list[_Change]:
    """What the provider's books change of our refunds, by their keys."""
    changes = []
    for key, row in ours.items():
        before, there = RefundState(row["state"]), found.get(key)
        after, reason = before, NOT_THERE
        if there is None:
            if before is RefundState.DONE:
                after = RefundState.FAILED
        elif there.state is not RefundState.FAILED or before is not RefundState.CALLED_OFF:
            after, reason = there.state, there.reason
        if after is not before:
            changes.append(_Change(row["id"], before, after, reason))
    return changes


async def _lock(connection: Connection, payment: str, turn: int) -> asyncpg.Record | None:
    """The payment, as everybody locks it who changes its money; None where the turn is over."""
    return await connection.fetchrow(_LOCK, UUID(payment), turn)


async def _change(connection: Connection, changes: Sequence[_Change]) -> bool:
    """Write down what became of refunds; whether any was as it is taken to have been."""
    if not changes:
        return False
    return bool(await connection.fetch(_CHANGE, *zip(*changes, strict=True)))


_TURN = """refunds_turn = p.refunds_turn + 1,
           refunds_until = now() + make_interval(secs => $1)"""

_TURNS_OF_JOBS = f"""
WITH due AS (
    SELECT DISTINCT j.payment AS id FROM money_jobs j JOIN payments p ON p.id = j.payment
    WHERE j.kind = 'refund' AND j.state = 'due' AND j.due_at <= now() AND p.refunds_until <= now()
    LIMIT $2
), free AS (
    -- The condition once more: it is read again from a row that somebody had just locked.
    SELECT p.id FROM payments p WHERE p.id IN (SELECT id FROM due) AND p.refunds_until <= now()
    FOR NO KEY UPDATE SKIP LOCKED
)
UPDATE payments p SET {_TURN} FROM free WHERE p.id = free.id
RETURNING p.id, p.refunds_turn AS turn"""

_FIRST_DUE = f"""
WITH first AS (
    SELECT DISTINCT ON (j.payment) j.id, n.turn
    FROM unnest($1::uuid[], $2::bigint[]) AS n(id, turn)
    JOIN payments p ON p.id = n.id AND p.refunds_turn = n.turn
    JOIN money_jobs j ON j.payment = p.id
    WHERE j.kind = 'refund' AND j.state = 'due' AND j.due_at <= now()
    ORDER BY j.payment, j.id
), leased AS (
    UPDATE money_jobs j SET due_at = now() + make_interval(secs => $3), tries = j.tries + 1
    FROM first WHERE j.id = first.id AND j.state = 'due'
    RETURNING j.id AS job, j.amount_minor AS job_amount, j.reason AS job_reason, j.request,
              j.tries AS job_tries, j.payment, first.turn
)
SELECT leased.*, {sql.COLUMNS}
FROM leased JOIN payments p ON p.id = leased.payment LEFT JOIN orders o ON o.id = p.order_id
ORDER BY leased.job"""

_TURNS_OF_NEWS = f"""
WITH free AS (
    SELECT id FROM payments
    WHERE refunds_news_at IS NOT NULL AND refunds_until <= now() AND state IN {MONEY_MOVED}
    ORDER BY refunds_news_at LIMIT $2 FOR NO KEY UPDATE SKIP LOCKED
), leased AS (
    UPDATE payments p SET {_TURN} FROM free WHERE p.id = free.id RETURNING p.*
)
SELECT {sql.COLUMNS}, p.refunds_turn AS turn, p.refunds_news_at AS news_at
FROM leased p LEFT JOIN orders o ON o.id = p.order_id"""

_LOCK = """
SELECT id, captured_minor, refunded_minor FROM payments
WHERE id = $1 AND refunds_turn = $2 FOR NO KEY UPDATE"""

_END_TURN = "UPDATE payments SET refunds_until = '-infinity' WHERE id = $1"

_PAUSE = """
UPDATE payments SET refunds_until = now() + make_interval(secs => $3)
WHERE id = $1 AND refunds_turn = $2"""

_DOUBT = "UPDATE payments SET refunds_news_at = clock_timestamp() WHERE id = $1"

# News that came while the provider was asked stay: they may be younger than its answer.
_NEWS_READ = """
UPDATE payments SET refunds_until = '-infinity',
       refunds_news_at = CASE WHEN refunds_news_at = $2 THEN NULL ELSE refunds_news_at END
WHERE id = $1"""

_AGAIN = """
UPDATE money_jobs SET due_at = now() + make_interval(secs => $2),
       pending_at = CASE WHEN $3 THEN coalesce(pending_at, now()) ELSE pending_at END
WHERE id = $1 AND state = 'due'"""

_JOBS = """
SELECT id, state, amount_minor FROM money_jobs WHERE payment = $1 AND kind = 'refund' ORDER BY id"""

_DONE = """
SELECT coalesce(sum(amount_minor), 0)::bigint FROM money_jobs
WHERE payment = $1 AND kind = 'refund' AND state = 'done'"""

# What became of refunds: arrays $1 id  $2 state before  $3 state after  $4 why. Of one that is
# refused the desk is told here; of one that came back both are, with the money (below).
_CHANGE = """
WITH changed AS (
    UPDATE money_jobs j
    SET state = n.after, due_at = now(),
        reason = CASE WHEN n.after = 'failed' THEN n.why ELSE j.reason END,
        pending_at = CASE WHEN n.after = 'due' THEN coalesce(j.pending_at, now()) END
    FROM unnest($1::bigint[], $2::text[], $3::text[], $4::text[]) AS n(id, before, after, why)
    WHERE j.id = n.id AND j.state = n.before
    RETURNING j.id, j.payment, n.before, n.after, n.why
), refused AS (
    SELECT payment, why FROM changed WHERE before = 'due' AND after = 'failed'
), told AS (
    INSERT INTO notices (show, buyer, kind, order_id)
    SELECT o.show, o.buyer, 'refund.failed', o.id
    FROM refused r JOIN payments p ON p.id = r.payment JOIN orders o ON o.id = p.order_id
), entries AS (
    INSERT INTO payment_entries (payment, kind, detail)
    SELECT payment, 'declined', 'refund refused: ' || why FROM refused
), touched AS (
    -- Its refunds are a part of an order: who copies orders hears of them.
    UPDATE orders o SET updated_at = clock_timestamp()
    FROM payments p WHERE p.id IN (SELECT payment FROM changed) AND o.id = p.order_id
)
SELECT id FROM changed"""

# So much has gone back: $1 payment  $2 in all  $3 why. Entries, payment and order say so
# afterwards, whatever they said before. Money that came back to us is the only step that is ever
# taken back; it leaves entries of both ways, and the buyer had been told that they were paid.
_SET_REFUNDED = f"""
WITH entered AS (
    SELECT $2 - coalesce(sum(amount_minor), 0)::bigint AS more FROM payment_entries
    WHERE payment = $1 AND kind = 'refunded'
), moved AS (
    UPDATE payments p
    SET refunded_minor = $2,
        state = CASE WHEN $2 = 0 THEN 'captured' WHEN $2 < captured_minor THEN 'partially_refunded'
                     ELSE 'refunded' END,
        reason = $3, updated_at = now()
    WHERE id = $1 AND (refunded_minor <> $2 OR (SELECT more FROM entered) <> 0)
), ordered AS (
    UPDATE orders o
    SET refunded_minor = least($2, total_minor),
        state = CASE WHEN o.shop_cancelled THEN o.state
                     WHEN $2 = 0 THEN 'paid' WHEN $2 < total_minor THEN 'partially_refunded'
                     ELSE 'refunded' END
    FROM payments p
    WHERE p.id = $1 AND o.id = p.order_id
      AND {sold("o")}
    RETURNING o.id, o.show, o.buyer
), told AS (
    INSERT INTO notices (show, buyer, kind, order_id, body)
    SELECT o.show, o.buyer, n.kind, o.id, n.body::jsonb
    FROM ordered o, entered e
    JOIN (VALUES (1, 'order.refunded', NULL), (-1, 'refund.failed', NULL),
                 (-1, 'refund.failed', '{{"told": true}}')) AS n(way, kind, body)
      ON n.way = sign(e.more)
)
INSERT INTO payment_entries (payment, kind, amount_minor, detail)
SELECT $1, 'refunded', more, CASE WHEN more < 0 THEN 'came back: ' ELSE '' END || $3
FROM entered WHERE more <> 0"""

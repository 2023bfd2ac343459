"""Payment rows: the durable memory of every call to a provider.

Always: a row is committed before the first call to a provider; a hold has at most one payment
that is not over; a state is never taken back; each step that touches money leaves a row in
`payment_entries`, and these add up to the payment's figures.
Called by: checkouts (open, record), the payment worker and webhooks (the rest). All methods are
safe when repeated, and safe when several processes run them at once.
"""

from collections.abc import Sequence
from uuid import UUID

import asyncpg

from live.aio.coalesce import Coalescer
from live.base.errors import Busy, Conflict, NotFound, TooManyTries
from live.domain.ids import BuyerId, HoldKey, ShowId
from live.domain.payment import (
    Action,
    JobKind,
    MoneyJob,
    NewPayment,
    OpenedPayment,
    Payment,
    PaymentId,
    PaymentState,
    ProviderRefund,
    RefundNews,
)
from live.domain.payment_states import AWAITING_MONEY, MONEY_STEPS
from live.ledger.db import metrics
from live.ledger.db.pool import DATA_FAULTS, DATABASE_ERRORS, Connection, Pool, in_transaction
from live.ledger.db.states import UNDECIDED, texts
from live.ledger.money import money_jobs, refund_turns, webhook_events
from live.ledger.money import payment_sql as sql

OPEN_BATCH_MAX = 256  # rows of one statement: 10 ms of a checkout's 3 s
OPEN_QUEUE_MAX = 10_000
OPEN_AT_ONCE = 2  # statements: one is planned while the other waits for its fsync
OPEN_LEASE_SECONDS = 10.0  # a checkout has given up long before; then the payment worker decides
TAKE_MAX = 1_000

_GET = f"SELECT {sql.COLUMNS} FROM {sql.FROM} WHERE p.id = $1"

_BY_REF = f"""
SELECT {sql.COLUMNS} FROM {sql.FROM}
WHERE p.provider = $1 AND p.provider_ref = $2"""

_OF_HOLD = f"""
SELECT {sql.COLUMNS} FROM {sql.FROM}
WHERE p.show = $1 AND p.buyer = $2 AND p.hold = $3
ORDER BY p.created_at DESC, p.id"""

_TAKE_DUE = f"""
WITH due AS (
    SELECT id FROM payments d
    WHERE state IN {UNDECIDED} AND lease_until <= now()
      AND NOT EXISTS (SELECT FROM orders WHERE id = d.order_id)
      AND NOT EXISTS (SELECT FROM money_jobs WHERE payment = d.id AND kind = 'void')
    ORDER BY lease_until LIMIT $2 FOR UPDATE SKIP LOCKED
), leased AS (
    UPDATE payments p
    SET lease_until = now() + make_interval(secs => $1), tries = p.tries + 1
    FROM due WHERE p.id = due.id RETURNING p.*
)
SELECT {sql.COLUMNS} FROM leased p LEFT JOIN orders o ON o.id = p.order_id"""

_ASK_VOID = """
WITH free AS (
    UPDATE payments SET voiding = true
    WHERE id = $1 AND (state = ANY($4::text[]) OR state = 'authorised' AND NOT $3)
    RETURNING id, amount_minor
), asked AS (
    INSERT INTO money_jobs (payment, kind, amount_minor, reason)
    SELECT id, 'void', amount_minor, $2 FROM free
    ON CONFLICT DO NOTHING
)
SELECT id FROM free"""

_POSTPONE = "UPDATE payments SET lease_until = now() + make_interval(secs => $2) WHERE id = $1"


class PaymentRows:
    def __init__(self, pool: Pool, *, open_lease_seconds: float = OPEN_LEASE_SECONDS) -> None:
        self._pool = pool
        self._open_lease_seconds = open_lease_seconds
        self._opening: Coalescer[NewPayment, OpenedPayment] = Coalescer(
            self._open_many,
            batch_max=OPEN_BATCH_MAX,
            waiting_max=OPEN_QUEUE_MAX,
            at_once=OPEN_AT_ONCE,
        )
        self._moving: Coalescer[sql.Step, str | None] = Coalescer(
            self._move_many,
            batch_max=OPEN_BATCH_MAX,
            waiting_max=OPEN_QUEUE_MAX,
            at_once=OPEN_AT_ONCE,
        )

    async def open_payment(self, new: NewPayment) -> OpenedPayment:
        """Write the row before the provider is called; concurrent callers share one commit.

        The same attempt gets its row again, another attempt at the same hold gets the payment that
        is active, or that its order was for: a hold that became an order is never paid again,
        whatever became of the order. Raises Busy when the ledger cannot be reached: the row may be
        there or not, so the caller repeats with the same `attempt`. There is none after Conflict,
        where the attempt was for another hold, and TooManyTries, where too many were declined.
        """
        try:
            return await self._opening.ask(new)
        except DATA_FAULTS as error:
            raise Conflict("this payment does not fit the ledger") from error
        except DATABASE_ERRORS as error:
            raise Busy("the ledger cannot be reached") from error

    async def _open_many(self, batch: Sequence[NewPayment]) -> Sequence[OpenedPayment | Exception]:
        metrics.OPENED.observe(len(batch))
        try:
            return await self._open_statement(batch)
        except DATA_FAULTS as error:
            if len(batch) == 1:
                return [error]
        # One of them is refused by a constraint; alone, it harms nobody else.
        return [(await self._open_many([new]))[0] for new in batch]

    async def _open_statement(
        self, batch: Sequence[NewPayment]
    ) -> Sequence[OpenedPayment | Exception]:
        arguments = sql.open_arguments(list(batch))
        rows = await self._pool.fetch(sql.OPEN, *arguments, self._open_lease_seconds)
        made = {str(row["id"]) for row in rows}
        others = [new for new in batch if new.id not in made]
        found = await self._find(others) if others else {}
        refused = [new for new in others if new.id not in found]
        answers = found | (await self._why_not(refused) if refused else {})
        return [
            OpenedPayment(sql.fresh_payment(new), fresh=True) if new.id in made else answers[new.id]
            for new in batch
        ]

    async def _why_not(self, refused: Sequence[NewPayment]) -> dict[str, Exception]:
        rows = await self._pool.fetch(sql.WHY_NOT, *sql.find_arguments(refused))
        return {str(row["wanted"]): _refusal(row) for row in rows}

    async def _find(self, wanted: Sequence[NewPayment]) -> dict[str, OpenedPayment]:
        rows = await self._pool.fetch(sql.FIND, *sql.find_arguments(wanted))
        return {
            str(row["wanted"]): OpenedPayment(
                sql.payment_of(row), fresh=False, active=row["active"]
            )
            for row in rows
        }

    async def record(
        self,
        payment: PaymentId,
        state: PaymentState,
        *,
        ref: str | None = None,
        reason: str = "",
        action: Action | None = None,
        notify: bool = False,
        amount_minor: int | None = None,
    ) -> PaymentState:
        """Move the payment to `state` if that is a step forward; the state it is in afterwards.

        Where that is `declined` or `voided` although the provider says that it holds money, or may
        come to, the money's void is asked for with it. It is `voided`, too, where money comes for a
        payment whose void was asked for before: nothing may be sold for it.
        `amount_minor` is what was captured; None means all of it. `refunded` means all of it went
        back; what went back in part is recorded refund by refund (`record_refunds`).
        With `notify` the buyer is told `payment.failed`. Raises NotFound. Steps of a burst of
        checkouts share one commit; those that touch money are transactions of their own.
        """

        async def work(connection: Connection) -> str | None:
            await connection.execute(sql.LOCK, UUID(payment))
            found: str | None = await connection.fetchval(sql.MOVE, *arguments)
            return found

        if state in MONEY_STEPS:
            arguments = sql.move_arguments(
                payment, state, ref, reason, action, amount_minor, notify
            )
            found = await in_transaction(self._pool, work)
        else:
            found = await self._moving.ask(
                sql.Step(
                    payment=payment,
                    state=state,
                    ref=ref,
                    reason=reason,
                    action=action,
                    notify=notify,
                )
            )
        if found is None:
            raise NotFound(f"unknown payment {payment}")
        return PaymentState(found)

    async def _move_many(self, batch: Sequence[sql.Step]) -> Sequence[str | Exception | None]:
        """The state of each payment afterwards; None for one that is not there."""
        if len(batch) > 1 and len({step.payment for step in batch}) < len(batch):
            # One statement moves a row once: steps of one payment follow each other.
            return [(await self._move_many([step]))[0] for step in batch]
        try:
            rows = await self._pool.fetch(sql.MOVE_MANY, *sql.move_many_arguments(batch))
        except DATA_FAULTS as error:
            if len(batch) == 1:
                return [error]
            return [(await self._move_many([step]))[0] for step in batch]
        states = {str(row["id"]): row["state"] for row in rows}
        return [states.get(step.payment) for step in batch]

    async def get(self, payment: PaymentId) -> Payment:
        """Raises NotFound."""
        row = await self._pool.fetchrow(_GET, UUID(payment))
        if row is None:
            raise NotFound(f"unknown payment {payment}")
        return sql.payment_of(row)

    async def by_ref(self, provider: str, ref: str) -> Payment | None:
        row = await self._pool.fetchrow(_BY_REF, provider, ref)
        return None if row is None else sql.payment_of(row)

    async def of_hold(self, show: ShowId, buyer: BuyerId, hold: HoldKey) -> list[Payment]:
        """Every attempt to pay for this hold, the newest first."""
        rows = await self._pool.fetch(_OF_HOLD, show, buyer, UUID(bytes=hold))
        return [sql.payment_of(row) for row in rows]

    async def take_due(self, *, lease_ms: int, limit: int) -> list[Payment]:
        """Lease undecided payments whose lease ran out; `tries` counts how often.

        Undecided: in a state of that set, with neither an order nor a void job, which decide what
        becomes of it.
        """
        rows = await self._pool.fetch(
            _TAKE_DUE,
            lease_ms / 1000,
            min(limit, TAKE_MAX),
        )
        return [sql.payment_of(row) for row in rows]

    async def postpone(self, payment: PaymentId, *, ms: int) -> None:
        """Give the lease back; the payment is due again in so many ms."""
        await self._pool.execute(_POSTPONE, UUID(payment), ms / 1000)

    async def ask_void(
        self, payment: PaymentId, *, reason: str, unless_authorised: bool = False
    ) -> bool:
        """Add the payment's one void job, unless it has one or an order owns the money.

        False where nothing is to be voided: an order owns it, it is over, or, with
        `unless_authorised`, the money came meanwhile.
        """
        found = await self._pool.fetchval(
            _ASK_VOID,
            UUID(payment),
            reason,
            unless_authorised,
            texts(AWAITING_MONEY),
        )
        return found is not None

    async def note_event(
        self,
        provider: str,
        event: str,
        *,
        kind: str,
        payment: PaymentId | None,
        ref: str | None,
        authorised: bool = False,
        refund: bool = False,
    ) -> bool:
        """Remember a webhook's id and make its payment due now; False if the id was known.

        `authorised`: it tells of money set aside, which goes back if we gave the payment up.
        `refund`: it tells of a refund, so somebody has to ask what became of ours.
        """
        return await webhook_events.note(
            self._pool,
            provider,
            event,
            kind=kind,
            payment=payment,
            ref=ref,
            authorised=authorised,
            refund=refund,
        )

    async def take_jobs(self, *, lease_ms: int, limit: int) -> list[MoneyJob]:
        """Lease due money jobs, also captures refused for good whose order still stands and voids
        that were refused a good while ago; of the refunds of one payment the first."""
        limit = min(limit, TAKE_MAX)
        jobs = await money_jobs.take(self._pool, lease_ms=lease_ms, limit=limit)
        return jobs + await refund_turns.take_jobs(self._pool, lease_ms=lease_ms, limit=limit)

    async def finish_job(self, job: MoneyJob) -> bool:
        """The provider did it: the job, the payment, its entries, its order and the notice.

        False for a refund whose turn is over: who has the turn now asks again.
        """

        async def work(connection: Connection) -> bool:
            if job.kind is JobKind.REFUND:
                return await refund_turns.finish(connection, job)
            await money_jobs.finish(connection, job)
            return True

        return await in_transaction(self._pool, work)

    async def fail_job(self, job: MoneyJob, *, reason: str) -> bool:
        """The provider refused for good; False where somebody else has the job by now."""

        async def work(connection: Connection) -> bool:
            if job.kind is JobKind.REFUND:
                return await refund_turns.fail(connection, job, reason)
            return await money_jobs.fail(connection, job, reason)

        return await in_transaction(self._pool, work)

    async def overtake_void(self, job: MoneyJob, *, captured_minor: int) -> None:
        """The money that a void was to let go was captured before: it goes back as a refund."""

        async def work(connection: Connection) -> None:
            await money_jobs.overtake_void(connection, job, captured_minor)

        await in_transaction(self._pool, work)

    async def retry_job(
        self, job: MoneyJob, *, ms: int, reason: str, pending: bool = False
    ) -> None:
        """The job is due again in so many ms; `pending`: the provider is at work on it."""
        if job.kind is JobKind.REFUND:
            await refund_turns.retry(self._pool, job, ms=ms, pending=pending)
        else:
            await money_jobs.retry(self._pool, job, ms=ms, reason=reason, pending=pending)

    async def take_refund_news(self, *, lease_ms: int, limit: int) -> list[RefundNews]:
        """Take turns of payments of whose refunds the provider has had news."""
        return await refund_turns.take_news(
            self._pool, lease_ms=lease_ms, limit=min(limit, TAKE_MAX)
        )

    async def record_refunds(self, news: RefundNews, found: Sequence[ProviderRefund]) -> bool:
        """Take over what the provider says of each refund; False where the turn is over."""
        return await in_transaction(
            self._pool, lambda connection: refund_turns.record(connection, news, found)
        )

    async def postpone_refund_news(self, news: RefundNews, *, ms: int) -> None:
        """The provider did not say: somebody looks again in so many ms."""
        await refund_turns.postpone_news(self._pool, news, ms=ms)

    async def doubt_refunds(self, payment: PaymentId) -> None:
        """Somebody looks up what became of the refunds of this payment."""
        await refund_turns.doubt(self._pool, payment)


def _refusal(row: asyncpg.Record) -> Exception:
    if row["elsewhere"]:
        return Conflict("this key belongs to another checkout")
    if row["hold_spent"]:
        return TooManyTries("too many payments for this hold were declined")
    if row["buyer_spent"]:
        return TooManyTries("too many payments were declined: try again in an hour")
    # The active payment that stood in the way ended between the two statements.
    return asyncpg.SerializationError("a payment ended while another one was opened")

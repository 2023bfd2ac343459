"""The payment worker: decides every payment that nobody else finished, and moves money for orders.

Owns: nothing in memory but calls under way; what is to be done stands in Postgres under leases.
Always: an authorised payment ends as an order or is voided, never both: confirming is the stock
engine's one atomic step, and a void is asked for in Postgres before it is sent, after which
nobody confirms. What is sent twice carries the same idempotency key. Run several of these at once,
kill any of them at any point: the next one goes on where the rows stand.
Runs on: one task of the settler role; calls to providers and stock run beside one another.
"""

import asyncio
import random
from collections.abc import Coroutine, Mapping
from typing import assert_never

import structlog
from structlog.contextvars import bind_contextvars

from live.base.errors import Busy, Conflict, NotFound, is_bug
from live.base.failpoint import failpoint
from live.domain.hold import HoldState, Line
from live.domain.offer import Mode
from live.domain.outcomes import Outcome
from live.domain.payment import (
    JobKind,
    MoneyJob,
    Payment,
    PaymentState,
    RefundNews,
    log_ids,
    refund_key,
)
from live.domain.payment_states import FINAL, NOTHING_HELD
from live.payments.metrics import DECISIONS, JOBS, REFUSED_VOIDS
from live.payments.port import (
    Authorisation,
    CaptureResult,
    MoneyRequest,
    Provider,
    Verdict,
    authorise_request,
)
from live.payments.ports import PaidStock, Rows

LEASE_MS = 20_000  # longer than any one provider call, so nobody else takes over a live one
TAKE_MAX = 32  # payments and jobs taken at a time, of each
CALLS_MAX = 64  # rows under way before no more are taken: providers limit their clients too
POLL_S = 0.25  # how long new work may wait when nobody calls `wake`
BACKOFF_MS, BACKOFF_MS_MAX = 500, 300_000
LOOK_AGAIN_MS = 5_000  # after a look at refunds of which the provider did not say
PENDING_MS_MAX = 3_600_000  # a bank takes days over a refund, and its end comes as an event, too
AGE_ALARM_MS = 86_400_000  # a payment undecided for a day needs a person
OTHER_PURCHASE = "this key belongs to another purchase"

log = structlog.get_logger()


def stock_lines(payment: Payment) -> tuple[Line, ...]:
    return tuple(Line(line.slot, line.qty) for line in payment.lines)


def backoff_ms(tries: int, *, ms_max: int = BACKOFF_MS_MAX) -> int:
    """Doubles with each try up to a bound; the jitter keeps many rows from coming back at once."""
    return int(min(BACKOFF_MS << min(tries, 20), ms_max) * random.uniform(0.7, 1.3))


class PaymentWorker:
    """`providers` by name; `rows` and `stock` are the ledger's and the stock engine's facades."""

    def __init__(
        self,
        rows: Rows,
        stock: PaidStock,
        providers: Mapping[str, Provider],
        *,
        lease_ms: int = LEASE_MS,
    ) -> None:
        self._rows = rows
        self._stock = stock
        self._providers = providers
        self._lease_ms = lease_ms
        self._news = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    def wake(self) -> None:
        """Look for work now."""
        self._news.set()

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set; what has begun is finished."""
        while not stop.is_set():
            self._news.clear()
            found = 0
            if len(self._tasks) < CALLS_MAX:
                try:
                    found = await self._start_due()
                except Exception as error:
                    # The loop outlives whatever Postgres does: the rows keep the work.
                    log.error(
                        "payment_worker.take_failed", error=repr(error), exc_info=is_bug(error)
                    )
            if not found:
                await self._sleep(stop)
        await asyncio.gather(*self._tasks)

    async def run_once(self) -> bool:
        """One pass over what is due, to its end; whether there was any."""
        found = await self._start_due()
        await asyncio.gather(*self._tasks)
        return found > 0

    async def _start_due(self) -> int:
        """Start on what is due. A slow call holds up its own row only."""
        rows, lease_ms = self._rows, self._lease_ms
        payments, jobs, news = await asyncio.gather(
            rows.take_due(lease_ms=lease_ms, limit=TAKE_MAX),
            rows.take_jobs(lease_ms=lease_ms, limit=TAKE_MAX),
            rows.take_refund_news(lease_ms=lease_ms, limit=TAKE_MAX),
        )
        for payment in payments:
            self._spawn(self._guarded_payment(payment))
        for job in jobs:
            self._spawn(self._guarded_job(job))
        for one in news:
            self._spawn(self._guarded_news(one))
        return len(payments) + len(jobs) + len(news)

    def _spawn(self, work: Coroutine[object, object, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _sleep(self, stop: asyncio.Event) -> None:
        """Until there may be work: news, room for more calls, or the poll."""
        waits = [asyncio.ensure_future(self._news.wait()), asyncio.ensure_future(stop.wait())]
        room = self._tasks if len(self._tasks) >= CALLS_MAX else set()
        await asyncio.wait({*waits, *room}, timeout=POLL_S, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()
        await asyncio.gather(*waits, return_exceptions=True)

    # Payments that nobody finished.

    async def _guarded_payment(self, payment: Payment) -> None:
        bind_contextvars(**log_ids(payment))  # this task's lines, whoever writes them
        try:
            decision = await self._decide_or_postpone(payment)
        except Exception as error:
            # One payment's fault must not stop the others; its lease brings it back.
            log.error("payment.undecided", error=repr(error), exc_info=is_bug(error))
            return
        DECISIONS.labels(decision.partition(":")[0]).inc()
        level = log.error if payment.age_ms > AGE_ALARM_MS else log.info
        level("payment.decided", decision=decision, tries=payment.tries)

    async def _decide_or_postpone(self, payment: Payment) -> str:
        try:
            return await self.decide(payment)
        except Busy as busy:
            await self._rows.postpone(payment.id, ms=backoff_ms(payment.tries))
            return f"stock busy: {busy}"

    async def decide(self, payment: Payment) -> str:
        """Ask the provider what happened to a payment and act on it; says what was decided."""
        if payment.state is PaymentState.AUTHORISED:
            return await self._secure(payment)
        provider = self._providers[payment.provider]
        truth = await provider.look_up(payment.id, payment.ref)
        window_ms = provider.payment_window_ms(payment.token)
        if truth.state is PaymentState.CREATED:
            if payment.age_ms > window_ms:
                await self._give_up(payment, truth, PaymentState.DECLINED, "never charged")
                return "declined: never charged"
            truth = await provider.authorise(authorise_request(payment))
            failpoint("worker.after_authorise")
        return await self._apply(payment, truth, window_ms)

    async def _apply(self, payment: Payment, truth: Authorisation, window_ms: int) -> str:
        match truth.state:
            case PaymentState.AUTHORISED | PaymentState.CAPTURED | PaymentState.PARTIALLY_REFUNDED:
                # A person there may have gone on; what of it went back is looked up one by one.
                if truth.state is PaymentState.PARTIALLY_REFUNDED:
                    await self._rows.doubt_refunds(payment.id)
                state = await self._record(payment, truth, PaymentState.AUTHORISED)
                if state in FINAL:
                    # Somebody gave it up meanwhile; recording has asked for the void.
                    self.wake()
                    return f"void: authorised when it was {state}"
                return await self._secure(payment)
            case PaymentState.DECLINED | PaymentState.VOIDED:
                await self._give_up(payment, truth, truth.state, truth.reason or truth.state)
                return truth.state
            case PaymentState.ACTION_REQUIRED | PaymentState.AUTHORISING:
                if payment.age_ms > window_ms:
                    # Not where the money came at this very moment: then its units are there.
                    await self._rows.ask_void(
                        payment.id, reason=Outcome.EXPIRED, unless_authorised=True
                    )
                    return "void: not finished in time"
                await self._record(payment, truth, truth.state)
            case PaymentState.REFUNDED:
                await self._record(payment, truth, truth.state)
                return truth.state
            case _:
                await self._record(payment, truth, PaymentState.UNKNOWN)
        await self._rows.postpone(payment.id, ms=backoff_ms(payment.tries))
        return f"waiting: {truth.state}"

    async def _give_up(
        self, payment: Payment, truth: Authorisation, state: PaymentState, failure: str
    ) -> None:
        """The payment failed: its hold is as before, and the buyer is told."""
        # Stock first: while the row is active no other payment can have begun on this hold, and
        # whoever dies between the two leaves a row that is still due.
        await self._end_paying(payment)
        failpoint("worker.after_revert")
        await self._record(payment, truth, state, failure)

    async def _record(
        self, payment: Payment, truth: Authorisation, state: PaymentState, failure: str = ""
    ) -> PaymentState:
        return await self._rows.record(
            payment.id,
            state,
            ref=truth.ref,
            reason=failure or truth.reason,
            action=truth.action,
            notify=bool(failure),
        )

    async def _secure(self, payment: Payment) -> str:
        """Turn an authorised payment into sold units, or ask for its void."""
        failpoint("worker.before_confirm")
        refusal = await self._take_units(payment)
        failpoint("worker.after_confirm")
        if refusal is None or not await self._refuse(payment):
            # The order row comes through the outbox; until it is there this is repeated.
            await self._rows.postpone(payment.id, ms=max(backoff_ms(payment.tries), 2_000))
            return "confirmed"
        await self._rows.ask_void(payment.id, reason=refusal)
        failpoint("worker.after_ask_void")
        self.wake()
        return f"void: {refusal}"

    async def _refuse(self, payment: Payment) -> bool:
        """Before the void, so that no other process sells for this money; False: one did."""
        return await self._stock.refuse(
            payment.show,
            payment.buyer,
            payment.hold,
            stock_lines(payment),
            payment=payment.id,
        )

    async def _take_units(self, payment: Payment) -> str | None:
        """None when the units are sold to this buyer; else why they are not."""
        try:
            return await self._sell_or_confirm(payment)
        except Conflict:
            return OTHER_PURCHASE

    async def _sell_or_confirm(self, payment: Payment) -> str | None:
        show, buyer, hold, lines = payment.show, payment.buyer, payment.hold, stock_lines(payment)
        if payment.mode is Mode.FIRST_PAID:
            answer = await self._stock.sell(show, buyer, hold, lines, payment=payment.id)
            return None if answer.outcome in _SOLD else answer.outcome
        try:
            moved = await self._stock.confirm(show, buyer, hold, lines, payment=payment.id)
            if moved.state is HoldState.CONFIRMED and moved.done:
                return None
            if moved.state is HoldState.RELEASED:
                return Outcome.ALREADY_RELEASED  # the buyer himself gave it back meanwhile
        except NotFound:
            pass  # a rebuild did not find the hold; the payment's own lines say what it was
        try:
            moved = await self._stock.retake(show, buyer, hold, lines, payment=payment.id)
        except NotFound:
            return Outcome.HOLD_LOST
        sold = moved.state is HoldState.CONFIRMED and moved.done
        return None if sold else Outcome.EXPIRED

    # Captures, voids and refunds.

    async def _guarded_job(self, job: MoneyJob) -> None:
        bind_contextvars(job=job.id, kind=job.kind.value, **log_ids(job.payment))
        try:
            result = await self._do_or_retry(job)
        except Exception as error:
            # One job's fault must not stop the others; its lease brings it back.
            log.error("money_job.broken", error=repr(error), exc_info=is_bug(error))
            result = "broken"
        JOBS.labels(job.kind, result).inc()
        if result != "done":
            log.warning("money_job.not_done", result=result, tries=job.tries)

    async def _do_or_retry(self, job: MoneyJob) -> str:
        try:
            return await self.do(job)
        except Busy as busy:
            await self._rows.retry_job(job, ms=backoff_ms(job.tries), reason=str(busy))
            return "busy"

    async def do(self, job: MoneyJob) -> str:
        """Try one job; `done`, `refused` or `later`."""
        if job.refused:
            return await self._cancel(job)
        provider = self._providers[job.payment.provider]
        result = await _CALLS[job.kind](provider, _money_request(job))
        failpoint(f"worker.after_{job.kind}")
        match result.verdict:
            case Verdict.DONE:
                return await self._finish(job)
            case Verdict.REFUSED if job.kind is JobKind.REFUND:
                return await self._refund_refused(job, provider, result)
            case Verdict.REFUSED:
                return await self._refused(job, provider, result)
            case Verdict.PENDING | Verdict.UNKNOWN:
                return await self._later(job, result)
            case never:
                assert_never(never)

    async def _refused(self, job: MoneyJob, provider: Provider, result: CaptureResult) -> str:
        """Refused may mean: done before, by a call whose answer was lost, or by a person at the
        provider. Only what the provider has on its books counts."""
        payment = job.payment
        truth = await provider.look_up(payment.id, payment.ref)
        if truth.state is PaymentState.UNKNOWN:
            return await self._later(job, CaptureResult(Verdict.UNKNOWN, result.reason))
        if _is_done(job, truth):
            return await self._finish(job)
        if not await self._rows.fail_job(job, reason=result.reason):
            return "late"
        failpoint("worker.after_fail")
        if job.kind is JobKind.CAPTURE:
            await self._cancel(job)
        elif job.kind is JobKind.VOID:
            REFUSED_VOIDS.inc()
        return "refused"

    async def _later(self, job: MoneyJob, result: CaptureResult) -> str:
        pending = result.verdict is Verdict.PENDING
        ms = backoff_ms(job.tries, ms_max=PENDING_MS_MAX if pending else BACKOFF_MS_MAX)
        await self._rows.retry_job(job, ms=ms, reason=result.reason, pending=pending)
        return "later"

    async def _refund_refused(
        self, job: MoneyJob, provider: Provider, refused: CaptureResult
    ) -> str:
        """Only this refund's own fate counts: what went back in all is others' as well."""
        found = await provider.look_up_refund(_money_request(job))
        if found is not None and found.verdict is Verdict.DONE:
            return await self._finish(job)
        if found is not None and found.verdict is not Verdict.REFUSED:
            return await self._later(job, found)
        done = await self._rows.fail_job(job, reason=refused.reason)
        failpoint("worker.after_fail")
        self.wake()
        return "refused" if done else "late"

    async def _finish(self, job: MoneyJob) -> str:
        if job.kind is JobKind.VOID and job.payment.order_state is None:
            await self._end_paying(job.payment)
            await self._rows.record(
                job.payment.id, PaymentState.VOIDED, reason=job.reason, notify=True
            )
        if not await self._rows.finish_job(job):
            return "late"
        self.wake()  # another refund of the payment may have waited for its turn
        return "done"

    # What providers tell of refunds.

    async def _guarded_news(self, news: RefundNews) -> None:
        bind_contextvars(**log_ids(news.payment))
        try:
            result = await self.look(news)
        except Exception as error:
            # One payment's fault must not stop the others; its turn ends, and the news stay.
            log.error("refund_news.broken", error=repr(error), exc_info=is_bug(error))
            result = "broken"
        JOBS.labels("refund_news", result).inc()

    async def look(self, news: RefundNews) -> str:
        """Look up all refunds of a payment; `done`, `later` or `late`."""
        payment = news.payment
        found = await self._providers[payment.provider].list_refunds(payment.id, payment.ref)
        if found is None:
            await self._rows.postpone_refund_news(news, ms=LOOK_AGAIN_MS)
            return "later"
        done = await self._rows.record_refunds(news, found)
        self.wake()
        return "done" if done else "late"

    async def _end_paying(self, payment: Payment) -> None:
        """Nobody pays for this hold any more: it is as before, or its record may be forgotten."""
        if payment.mode is not Mode.HOLD or payment.state in FINAL:
            return  # a payment that was over may have been followed by another one
        try:
            await self._stock.revert(
                payment.show, payment.buyer, payment.hold, held_until=payment.held_until
            )
        except NotFound:
            pass  # forgotten after its end, or lost with Redis' data: nothing is held

    async def _cancel(self, job: MoneyJob) -> str:
        """A capture was refused for good: the units go back; the outbox cancels the order."""
        payment = job.payment
        try:
            await self._stock.cancel(payment.show, payment.buyer, payment.hold, payment=payment.id)
        except NotFound:
            # Redis no longer remembers the sale. The ledger does, and its rebuild reads the order.
            log.error("money_job.cancel_unknown")
        failpoint("worker.after_cancel")
        return "refused"


def _money_request(job: MoneyJob) -> MoneyRequest:
    refund = job.kind is JobKind.REFUND
    return MoneyRequest(
        payment=job.payment.id,
        ref=job.payment.ref,
        amount_minor=job.amount_minor,
        currency=job.payment.currency,
        key=refund_key(job.payment.id, job.id) if refund else f"{job.payment.id}:{job.kind}",
    )


def _is_done(job: MoneyJob, truth: Authorisation) -> bool:
    match job.kind:
        case JobKind.CAPTURE:
            return truth.captured_minor >= job.amount_minor
        case JobKind.VOID:
            return truth.state in NOTHING_HELD
        case JobKind.REFUND:
            raise AssertionError("a payment has many refunds, and this is about all of them")


async def _capture(provider: Provider, request: MoneyRequest) -> CaptureResult:
    return await provider.capture(request)


async def _void(provider: Provider, request: MoneyRequest) -> CaptureResult:
    return await provider.void(request)


async def _refund(provider: Provider, request: MoneyRequest) -> CaptureResult:
    return await provider.refund(request)


_CALLS = {JobKind.CAPTURE: _capture, JobKind.VOID: _void, JobKind.REFUND: _refund}
_SOLD = frozenset({Outcome.HELD, Outcome.CONFIRMED})

"""Money moves: captures, voids and refunds, and what providers tell of refunds.

Always: what is sent twice carries the same idempotency key; a refusal counts only where the
provider's books say so, too; goods go back where the capture of their order was refused for good.
Called by: the payment worker, which holds the job's lease or the turn of a payment's refunds.
Not here: what becomes of payments that are not decided (decisions.py).
"""

from collections.abc import Callable, Mapping
from typing import assert_never

import structlog

from live.base.errors import NotFound
from live.base.failpoint import failpoint
from live.domain.order import NOT_KEPT
from live.domain.payment import JobKind, MoneyJob, PaymentState, RefundNews, refund_key
from live.domain.payment_flow import is_done
from live.payments.decisions import BACKOFF_SECONDS_MAX, Decisions, backoff_ms
from live.payments.metrics import REFUSED_VOIDS
from live.payments.port import CaptureResult, MoneyRequest, Provider, Verdict
from live.payments.ports import WorkerRows, WorkerStock

LOOK_AGAIN_MS = 5_000  # after a look at refunds of which the provider did not say
PENDING_SECONDS_MAX = 3_600.0  # a bank takes days over a refund, and its end comes as an event, too

log = structlog.get_logger()


class MoneyMoves:
    """`providers` by name; `wake` is called when more work may be due by what was done."""

    def __init__(
        self,
        rows: WorkerRows,
        stock: WorkerStock,
        providers: Mapping[str, Provider],
        decisions: Decisions,
        *,
        wake: Callable[[], None],
    ) -> None:
        self._rows = rows
        self._stock = stock
        self._providers = providers
        self._decisions = decisions
        self._wake = wake

    async def do(self, job: MoneyJob) -> str:
        """Try one job; `done`, `refused`, `overtaken` or `later`."""
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
        """Only what the provider has on its books counts."""
        payment = job.payment
        truth = await provider.look_up(payment.id, payment.ref)
        if truth.state is PaymentState.UNKNOWN:
            return await self._later(job, CaptureResult(Verdict.UNKNOWN, result.reason))
        kind, amount_minor = job.kind, job.amount_minor
        if is_done(kind, amount_minor, said=truth.state, captured_minor=truth.captured_minor):
            return await self._finish(job)
        if kind is JobKind.VOID and truth.captured_minor and payment.order_state in NOT_KEPT:
            # The capture was under way when its order was taken back, and its answer was lost.
            await self._rows.overtake_void(job, captured_minor=truth.captured_minor)
            self._wake()
            return "overtaken"
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
        ms = backoff_ms(
            job.tries, seconds_max=PENDING_SECONDS_MAX if pending else BACKOFF_SECONDS_MAX
        )
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
        self._wake()
        return "refused" if done else "late"

    async def _finish(self, job: MoneyJob) -> str:
        if job.kind is JobKind.VOID and job.payment.order_state is None:
            await self._decisions.give_up(job.payment, PaymentState.VOIDED, job.reason)
        if not await self._rows.finish_job(job):
            return "late"
        self._wake()  # another refund of the payment may have waited for its turn
        return "done"

    async def look(self, news: RefundNews) -> str:
        """Look up all refunds of a payment; `done`, `later` or `late`."""
        payment = news.payment
        found = await self._providers[payment.provider].list_refunds(payment.id, payment.ref)
        if found is None:
            await self._rows.postpone_refund_news(news, ms=LOOK_AGAIN_MS)
            return "later"
        done = await self._rows.record_refunds(news, found)
        self._wake()
        return "done" if done else "late"

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


async def _capture(provider: Provider, request: MoneyRequest) -> CaptureResult:
    return await provider.capture(request)


async def _void(provider: Provider, request: MoneyRequest) -> CaptureResult:
    return await provider.void(request)


async def _refund(provider: Provider, request: MoneyRequest) -> CaptureResult:
    return await provider.refund(request)


_CALLS = {JobKind.CAPTURE: _capture, JobKind.VOID: _void, JobKind.REFUND: _refund}

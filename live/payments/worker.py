"""The payment worker: decides every payment that nobody else finished, and moves money for orders.

Owns: nothing in memory but calls under way; what is to be done stands in Postgres under leases.
Always: a fault of one row stops no other. Run several of these at once, kill any of them at any
point: the next one goes on where the rows stand.
Runs on: one task of the settler role; calls to providers and stock run beside one another.
Not here: what is decided (decisions.py, by domain/payment_flow.py), and how money is moved
(money_moves.py).
"""

import asyncio
from collections.abc import Coroutine, Mapping

import structlog
from structlog.contextvars import bind_contextvars

from live.aio.loops import Backoff, pause, repeat
from live.aio.tasks import Tasks
from live.base.errors import Busy
from live.base.faults import tell_fault
from live.domain.payment import MoneyJob, Payment, RefundNews, log_ids
from live.payments.decisions import Decisions, backoff_ms
from live.payments.metrics import DECISIONS, JOBS
from live.payments.money_moves import MoneyMoves
from live.payments.port import Provider
from live.payments.ports import WorkerRows, WorkerStock

LEASE_MS = 20_000  # longer than any one provider call, so nobody else takes over a live one
TAKE_MAX = 32  # payments and jobs taken at a time, of each
CALLS_MAX = 64  # rows under way before no more are taken: providers limit their clients too
POLL_SECONDS = 0.25  # how long new work may wait when nobody calls `wake`
TAKE_AGAIN = Backoff(POLL_SECONDS, seconds_max=2.0)  # after Postgres did not say what is due
AGE_ALARM_MS = 86_400_000  # a payment undecided for a day needs a person

log = structlog.get_logger()


class PaymentWorker:
    """`providers` by name; `rows` and `stock` are the ledger's and the stock engine's facades."""

    def __init__(
        self,
        rows: WorkerRows,
        stock: WorkerStock,
        providers: Mapping[str, Provider],
        *,
        lease_ms: int = LEASE_MS,
    ) -> None:
        self._rows = rows
        self.decisions = Decisions(rows, stock, providers, wake=self.wake)
        self.moves = MoneyMoves(rows, stock, providers, self.decisions, wake=self.wake)
        self._lease_ms = lease_ms
        self._news = asyncio.Event()
        self._tasks = Tasks()

    def wake(self) -> None:
        """Look for work now."""
        self._news.set()

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set; what has begun is finished."""

        async def turn() -> None:
            self._news.clear()
            if len(self._tasks) >= CALLS_MAX or not await self._start_due():
                await pause(POLL_SECONDS, self._news, stop)

        await repeat("payment_worker", turn, stop, backoff=TAKE_AGAIN)
        await self._tasks.finish()

    async def run_once(self) -> bool:
        """One pass over what is due, to its end; whether there was any."""
        found = await self._start_due()
        await self._tasks.finish()
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
            self._start(self._guarded_payment(payment))
        for job in jobs:
            self._start(self._guarded_job(job))
        for one in news:
            self._start(self._guarded_news(one))
        return len(payments) + len(jobs) + len(news)

    def _start(self, work: Coroutine[object, object, None]) -> None:
        self._tasks.start("payment_worker", work).add_done_callback(self._ended)

    def _ended(self, _task: asyncio.Task[None]) -> None:
        if len(self._tasks) == CALLS_MAX - 1:
            self.wake()  # there is room again

    # Payments that nobody finished.

    async def _guarded_payment(self, payment: Payment) -> None:
        bind_contextvars(**log_ids(payment))  # this task's lines, whoever writes them
        try:
            decision = await self._decide_or_postpone(payment)
        except Exception as error:
            # One payment's fault must not stop the others; its lease brings it back.
            tell_fault("payment.undecided", error)
            return
        DECISIONS.labels(decision.partition(":")[0]).inc()
        level = log.error if payment.age_ms > AGE_ALARM_MS else log.info
        level("payment.decided", decision=decision, tries=payment.tries)

    async def _decide_or_postpone(self, payment: Payment) -> str:
        try:
            return await self.decisions.decide(payment)
        except Busy as busy:
            await self._rows.postpone(payment.id, ms=backoff_ms(payment.tries))
            return f"stock busy: {busy}"

    # Captures, voids and refunds.

    async def _guarded_job(self, job: MoneyJob) -> None:
        bind_contextvars(job=job.id, kind=job.kind.value, **log_ids(job.payment))
        try:
            result = await self._do_or_retry(job)
        except Exception as error:
            # One job's fault must not stop the others; its lease brings it back.
            tell_fault("money_job.broken", error)
            result = "broken"
        JOBS.labels(job.kind, result).inc()
        if result != "done":
            log.warning("money_job.not_done", result=result, tries=job.tries)

    async def _do_or_retry(self, job: MoneyJob) -> str:
        try:
            return await self.moves.do(job)
        except Busy as busy:
            await self._rows.retry_job(job, ms=backoff_ms(job.tries), reason=str(busy))
            return "busy"

    # What providers tell of refunds.

    async def _guarded_news(self, news: RefundNews) -> None:
        bind_contextvars(**log_ids(news.payment))
        try:
            result = await self.moves.look(news)
        except Exception as error:
            # One payment's fault must not stop the others; its turn ends, and the news stay.
            tell_fault("refund_news.broken", error)
            result = "broken"
        JOBS.labels("refund_news", result).inc()

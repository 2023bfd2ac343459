"""What those who take payments further want from the ledger and from stock; wired by `wiring`.

The ledger's `PaymentRows` and stock's `StockEngine` fit these as they are. `PaymentSteps` and
`PaidStock` are what checkout and payment worker both run; the rest is the worker's alone.
"""

from collections.abc import Sequence
from typing import Protocol

from live.domain.hold import HoldDecision, Line
from live.domain.ids import BuyerId, HoldKey, ShowId
from live.domain.payment import (
    Action,
    MoneyJob,
    Payment,
    PaymentId,
    PaymentState,
    ProviderRefund,
    RefundNews,
)
from live.domain.stock import Transition


class PaymentSteps(Protocol):
    """The steps of a payment's way in Postgres (payment_flow.py), for whoever runs them. Every
    method is one transaction, safe when repeated."""

    async def record(
        self,
        payment: PaymentId,
        state: PaymentState,
        *,
        ref: str | None = None,
        reason: str = "",
        action: Action | None = None,
        notify: bool = False,
    ) -> PaymentState:
        """Move the payment to `state` if that is a step forward, with its payment entry; with
        `notify`, the buyer's `payment.failed` notice in the same transaction. Returns the state
        that the row is in afterwards; where it was given up before, what the provider holds is
        voided."""
        ...

    async def postpone(self, payment: PaymentId, *, ms: int) -> None:
        """Give the lease back; the payment is due again in so many ms."""
        ...

    async def ask_void(
        self, payment: PaymentId, *, reason: str, unless_authorised: bool = False
    ) -> bool:
        """Add the payment's one void job, unless it has one; whether it may no longer be sold for.
        With `unless_authorised` it stays as it is where the money came meanwhile."""
        ...


class WorkerRows(PaymentSteps, Protocol):
    """Payments and money jobs in Postgres, as the worker uses them."""

    async def take_due(self, *, lease_ms: int, limit: int) -> list[Payment]:
        """Lease payments whose lease ran out and that are undecided, with neither an order nor a
        void job. SKIP LOCKED; tries + 1."""
        ...

    async def take_jobs(self, *, lease_ms: int, limit: int) -> list[MoneyJob]:
        """Lease due money jobs: `due_at` moves on by the lease, tries + 1. SKIP LOCKED. Of the
        refunds of a payment one at a time: the job has the payment's turn until the lease ends or
        its end is written down."""
        ...

    async def finish_job(self, job: MoneyJob) -> bool:
        """The provider did it: job done, payment entry, payment's and order's figures and state,
        the notice that belongs to it; once, whoever else reports the same. False for a refund whose
        turn is over, and then nothing changes."""
        ...

    async def fail_job(self, job: MoneyJob, *, reason: str) -> bool:
        """The provider refused for good: job `failed`, payment entry. A refused capture comes back
        from `take_jobs` with `refused` set until its order is cancelled; a refused void comes back
        to be tried again, after a long pause; of a refused refund the host is told. False where
        somebody else has the job by now or did it, and then nothing changes."""
        ...

    async def overtake_void(self, job: MoneyJob, *, captured_minor: int) -> None:
        """The money that a void was to let go was captured before, for an order that is no more:
        the capture is written down, its refund is asked for, and the void is called off."""
        ...

    async def take_refund_news(self, *, lease_ms: int, limit: int) -> list[RefundNews]:
        """Take turns of captured payments of whose refunds the provider has had news."""
        ...

    async def record_refunds(self, news: RefundNews, found: Sequence[ProviderRefund]) -> bool:
        """Take over what the provider says of each refund of a payment, ours and a person's: jobs,
        entries, figures, notices. False where the turn is over, and then nothing changes."""
        ...

    async def postpone_refund_news(self, news: RefundNews, *, ms: int) -> None:
        """Give the turn back; somebody looks again in so many ms."""
        ...

    async def doubt_refunds(self, payment: PaymentId) -> None:
        """The provider has refunds that we may not know of: as if it had sent news."""
        ...

    async def retry_job(
        self, job: MoneyJob, *, ms: int, reason: str, pending: bool = False
    ) -> None:
        """The job is due again in so many ms; `pending`: the provider is at work on it."""
        ...

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
        """Remember a webhook's id and make its payment due now (found by id or `ref`); False if
        the id was known, and then nothing changes. With `authorised` the money goes back if the
        payment was given up; with `refund` its refunds are looked up."""
        ...


class PaidStock(Protocol):
    """The transitions of a payment's way, for whoever runs it. Raise Busy (nothing changed),
    NotFound, and Conflict: the key is another purchase's, so the money must go back."""

    async def revert(
        self, show: ShowId, buyer: BuyerId, key: HoldKey, *, held_until: int
    ) -> Transition: ...

    async def confirm(
        self, show: ShowId, buyer: BuyerId, key: HoldKey, lines: Sequence[Line], *, payment: str
    ) -> Transition: ...

    async def sell(
        self, show: ShowId, buyer: BuyerId, key: HoldKey, lines: Sequence[Line], *, payment: str
    ) -> HoldDecision: ...

    async def refuse(
        self, show: ShowId, buyer: BuyerId, key: HoldKey, lines: Sequence[Line], *, payment: str
    ) -> bool:
        """Before a void is asked for, so that nobody sells for this money; False: it is sold."""
        ...


class WorkerStock(PaidStock, Protocol):
    """What else the worker does with units."""

    async def cancel(
        self, show: ShowId, buyer: BuyerId, key: HoldKey, *, payment: str
    ) -> Transition: ...

    async def retake(
        self, show: ShowId, buyer: BuyerId, key: HoldKey, lines: Sequence[Line], *, payment: str
    ) -> Transition: ...

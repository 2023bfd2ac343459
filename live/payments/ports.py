"""What the payment worker wants from the ledger and from stock; wired by app.py.

The ledger's `PaymentRows` and stock's `StockEngine` fit these as they are.
"""

from collections.abc import Sequence
from typing import Protocol

from live.domain.hold import HoldAnswer, HoldState, Line
from live.domain.ids import BuyerId, HoldKey, ShowId
from live.domain.payment import Action, MoneyJob, Payment, PaymentId, PaymentState


class Rows(Protocol):
    """Payments and money jobs in Postgres. Every method is one transaction, safe when repeated."""

    async def take_due(self, *, lease_ms: int, limit: int) -> list[Payment]:
        """Lease payments whose lease ran out and that are not decided: created, authorising,
        unknown, action_required, or authorised without an order row. SKIP LOCKED; tries + 1."""
        ...

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

    async def take_jobs(self, *, lease_ms: int, limit: int) -> list[MoneyJob]:
        """Lease due money jobs: `due_at` moves on by the lease, tries + 1. SKIP LOCKED."""
        ...

    async def finish_job(self, job: MoneyJob) -> None:
        """The provider did it: job done, payment entry, payment's and order's figures and state,
        the notice that belongs to it; once, whoever else reports the same."""
        ...

    async def fail_job(
        self, job: MoneyJob, *, reason: str, refunded_minor: int | None = None
    ) -> None:
        """The provider refused for good: job `failed`, payment entry. A refused capture comes back
        from `take_jobs` with `refused` set until its order is cancelled; a refused void comes back
        to be tried again, after a long pause; of a refused refund the host is told. A refund that
        was done, `doubted`, and is refused now is taken out of the figures again, and so is what
        they have beyond `refunded_minor`, all that went back by the provider's books."""
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
        payment was given up; with `refund` its refunds are asked about."""
        ...


class Moved(Protocol):
    """The end of a transition in stock; `state` is the hold's afterwards."""

    @property
    def done(self) -> bool: ...

    @property
    def state(self) -> HoldState: ...


class Stock(Protocol):
    """The transitions that follow money. Raise Busy (nothing changed), NotFound, and Conflict: the
    key is another purchase's, so the money must go back."""

    async def confirm(
        self,
        show: ShowId,
        buyer: BuyerId,
        key: HoldKey,
        lines: Sequence[Line],
        *,
        payment: str,
    ) -> Moved: ...

    async def revert(
        self, show: ShowId, buyer: BuyerId, key: HoldKey, *, held_until: int
    ) -> object: ...

    async def cancel(
        self, show: ShowId, buyer: BuyerId, key: HoldKey, *, payment: str
    ) -> Moved: ...

    async def retake(
        self,
        show: ShowId,
        buyer: BuyerId,
        key: HoldKey,
        lines: Sequence[Line],
        *,
        payment: str,
    ) -> Moved: ...

    async def sell(
        self,
        show: ShowId,
        buyer: BuyerId,
        key: HoldKey,
        lines: Sequence[Line],
        *,
        payment: str,
    ) -> HoldAnswer: ...

    async def refuse(
        self,
        show: ShowId,
        buyer: BuyerId,
        key: HoldKey,
        lines: Sequence[Line],
        *,
        payment: str,
    ) -> bool: ...

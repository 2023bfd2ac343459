"""The way of a payment: what follows from what its provider said.

Owns: every rule about what is done next with a payment and its hold. Two run what this says, step
by step and in this order: a checkout whose buyer waits (buying/payment_run.py), and the payment
worker (payments/decisions.py), which finishes what nobody else does.
Always: money that is set aside, or may come to be, ends in units or in a void, or is looked at
again; a hold is taken back before its failure is recorded; what is final stays so.
Not here: which step a row takes when several are reported (payment_states.NEXT, kept by the ledger
with locks), and what stock says to the units.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import assert_never

from live.domain.hold import HoldDecision, HoldState
from live.domain.offer import Mode
from live.domain.outcomes import Outcome
from live.domain.payment import JobKind, Payment
from live.domain.payment import PaymentState as S
from live.domain.payment_states import (
    FINAL,
    GIVEN_UP,
    MAY_HOLD_MONEY,
    NOTHING_HELD,
    REFUNDABLE,
    SECURED,
)
from live.domain.stock import Transition

TOO_SLOW = "this way of paying takes too long"  # in `first_paid` mode, which waits for the money
NEVER_CHARGED = "never charged"


class Asked(Enum):
    """Who asked the provider, and what."""

    CHECKOUT = "checkout"  # its buyer waits: charge, or look up what a repeat is about
    LOOK_UP = "look_up"  # the worker: what has become of it?
    CHARGE = "charge"  # the worker, after the provider said that it never heard of it


@dataclass(frozen=True, slots=True)
class Said:
    """What the provider said of a payment; `state` CREATED: it never heard of it."""

    state: S
    asked: Asked
    reason: str = ""


@dataclass(frozen=True, slots=True)
class LookUp:
    """Ask the provider what has become of the payment."""


@dataclass(frozen=True, slots=True)
class Authorise:
    """Ask the provider to set the money aside, and go on from what it says."""


@dataclass(frozen=True, slots=True)
class Revert:
    """Give the hold back to the deadline from before it was paid.

    Before the failure is recorded: while the row is active no other payment can have begun on the
    hold, and whoever dies between the two leaves a row that is still due.
    """


@dataclass(frozen=True, slots=True)
class DoubtRefunds:
    """Have all refunds of the payment looked up: the provider has some."""


@dataclass(frozen=True, slots=True)
class RecordState:
    """Write down where the payment is now; `failed`: for good, and the buyer is to know.

    What the row says afterwards decides how it goes on (`after_record`).
    """

    state: S
    reason: str = ""
    failed: bool = False


@dataclass(frozen=True, slots=True)
class TakeUnits:
    """The money is there: turn the hold, or the click, into a sale, else have it voided."""


@dataclass(frozen=True, slots=True)
class AskVoid:
    """Have the money sent back, unless it came at this very moment: then its units are there."""

    reason: str


@dataclass(frozen=True, slots=True)
class Wait:
    """Somebody looks again later; `soon`: nothing is known, so as soon as it can be."""

    soon: bool = False


Step = Authorise | Revert | DoubtRefunds | RecordState | TakeUnits | AskVoid | Wait


def first_step(payment: Payment) -> TakeUnits | LookUp:
    """What to begin with where a payment was left to whoever finds it."""
    return TakeUnits() if payment.state is S.AUTHORISED else LookUp()


def what_follows(payment: Payment, said: Said, *, window_ms: int) -> tuple[Step, ...]:
    """The steps from here, in their order; () where nothing is to be done.

    `window_ms`: how long this way of paying may take; `payment.age_ms` is held against it.
    """
    if payment.state in FINAL:
        return _too_late(said)
    if said.asked is Asked.CHECKOUT:
        return _in_checkout(payment, said)
    return _in_worker(payment, said, late=payment.age_ms > window_ms)


def _too_late(said: Said) -> tuple[Step, ...]:
    """Nothing moves what is final; recording has the ledger send back what is held for it."""
    if said.state in MAY_HOLD_MONEY:
        return (RecordState(said.state, said.reason),)
    return (RecordState(S.AUTHORISED, said.reason),) if said.state in REFUNDABLE else ()


def _in_checkout(payment: Payment, said: Said) -> tuple[Step, ...]:
    """What needs a second question is left to the worker: the buyer waits for an answer."""
    match said.state:
        case S.AUTHORISING if payment.mode is Mode.FIRST_PAID:
            # The void needs the provider's own id, so what it said comes first.
            return RecordState(said.state, said.reason), AskVoid(TOO_SLOW)
        case S.AUTHORISED | S.DECLINED | S.VOIDED | S.ACTION_REQUIRED | S.AUTHORISING:
            return _plain(payment, said)
    return _unknown(said)


def _in_worker(payment: Payment, said: Said, *, late: bool) -> tuple[Step, ...]:
    match said.state:
        case S.ACTION_REQUIRED | S.AUTHORISING if late:
            return (AskVoid(Outcome.EXPIRED),)
        case S.CREATED if said.asked is Asked.LOOK_UP:
            return give_up(payment, S.DECLINED, NEVER_CHARGED) if late else (Authorise(),)
    return _plain(payment, said)


def _plain(payment: Payment, said: Said) -> tuple[Step, ...]:
    match said.state:
        case S.AUTHORISED | S.CAPTURED:
            # Captured: a person there may have gone on; our capture will find it done.
            return RecordState(S.AUTHORISED, said.reason), TakeUnits()
        case S.PARTIALLY_REFUNDED:
            # What of it went back is looked up one by one.
            return DoubtRefunds(), RecordState(S.AUTHORISED, said.reason), TakeUnits()
        case S.DECLINED | S.VOIDED:
            return give_up(payment, said.state, said.reason or said.state.value)
        case S.ACTION_REQUIRED | S.AUTHORISING:
            return RecordState(said.state, said.reason), Wait()
        case S.REFUNDED:
            return (RecordState(said.state, said.reason),)
        case S.UNKNOWN | S.CREATED | S.CAPTURING:
            return _unknown(said)
        case never:
            assert_never(never)


def _unknown(said: Said) -> tuple[Step, ...]:
    return RecordState(S.UNKNOWN, said.reason), Wait(soon=True)


def give_up(payment: Payment, state: S, reason: str) -> tuple[Step, ...]:
    """The payment failed: its hold is as before, and the buyer is told."""
    record = RecordState(state, reason, failed=True)
    if payment.mode is not Mode.HOLD or payment.state in FINAL:
        return (record,)  # there is no hold, or another payment may have begun on it
    return Revert(), record


def after_record(now: S, rest: Sequence[Step]) -> tuple[Step, ...]:
    """What is left of the steps behind a `RecordState`, now that the row is in state `now`.

    Whoever wrote it: money that is there takes its units, and nothing follows for what is final. If
    the provider may hold money for that, recording has asked for its void.
    """
    if now in SECURED:
        return (TakeUnits(),)
    return () if now in FINAL else tuple(rest)


def is_sold(answer: HoldDecision | Transition) -> bool:
    """Whether the units are this payment's, by what stock said to `sell`, `confirm` or `retake`."""
    if isinstance(answer, HoldDecision):
        return answer.outcome in (Outcome.HELD, Outcome.CONFIRMED)
    return answer.done and answer.state is HoldState.CONFIRMED


def answer_of(state: S) -> Outcome:
    """What the buyer of a payment in this state is told as long as there is no order."""
    if state is S.ACTION_REQUIRED:
        return Outcome.ACTION_REQUIRED
    return Outcome.DECLINED if state in GIVEN_UP else Outcome.PROCESSING


def is_done(kind: JobKind, amount_minor: int, *, said: S, captured_minor: int) -> bool:
    """Whether a capture or void that was refused is done by the provider's books.

    Refused may mean: done before, by a call whose answer was lost, or by a person there.
    """
    match kind:
        case JobKind.CAPTURE:
            return captured_minor >= amount_minor
        case JobKind.VOID:
            return said in NOTHING_HELD
        case JobKind.REFUND:
            raise AssertionError("a payment has many refunds, and this is about all of them")
        case never:
            assert_never(never)

"""Stripe's objects read as what the rest of the house knows."""

from stripe import PaymentIntent, Refund

from live.domain.payment import Action, ChargeRecord, PaymentId, PaymentState, ProviderRefund
from live.domain.payment_states import GIVEN_UP
from live.payments.port import (
    REASON_CHARS_MAX,
    REFUND_STATES,
    Authorisation,
    CaptureResult,
    Verdict,
)
from live.payments.providers.stripe_money import from_stripe


def key_of(refund: Refund) -> str | None:
    """The key that a refund of ours was asked for with."""
    metadata = refund.metadata
    return metadata["key"] if metadata and "key" in metadata else None


def refund_result(refund: Refund) -> CaptureResult:
    """What has become of a refund: made is not yet arrived."""
    match refund.status:
        case "succeeded":
            return CaptureResult(Verdict.DONE)
        case "failed" | "canceled":
            reason = refund.failure_reason or f"the refund was {refund.status} at the provider"
            return CaptureResult(Verdict.REFUSED, reason[:REASON_CHARS_MAX])
        case _:  # pending, requires_action, and what Stripe may add
            return CaptureResult(Verdict.PENDING, f"the refund is {refund.status} at the provider")


def refund_record(refund: Refund) -> ProviderRefund:
    result = refund_result(refund)
    return ProviderRefund(
        key=key_of(refund),
        amount_minor=from_stripe(refund.amount, refund.currency.upper()),
        state=REFUND_STATES[result.verdict],
        reason=result.reason,
    )


def authorisation(intent: PaymentIntent, refunded: int) -> Authorisation:
    """`refunded` in Stripe's own digits."""
    state = _state(intent, refunded)
    currency = intent.currency.upper()
    action = None
    if state is PaymentState.ACTION_REQUIRED and intent.client_secret:
        action = Action(kind="client_secret", value=intent.client_secret)
    return Authorisation(
        state=state,
        ref=intent.id,
        reason=_failure(intent) if state in GIVEN_UP else "",
        action=action,
        captured_minor=_captured(intent),
        refunded_minor=from_stripe(refunded, currency),
    )


def _state(intent: PaymentIntent, refunded: int) -> PaymentState:
    if intent.status != "succeeded":
        return _STATES.get(intent.status, PaymentState.UNKNOWN)
    if refunded == 0:
        return PaymentState.CAPTURED
    whole = refunded >= intent.amount_received
    return PaymentState.REFUNDED if whole else PaymentState.PARTIALLY_REFUNDED


def _captured(intent: PaymentIntent) -> int:
    """What was captured, in our own digits."""
    received = intent.amount_received if intent.status == "succeeded" else 0
    return from_stripe(received, intent.currency.upper())


def _failure(intent: PaymentIntent) -> str:
    error = intent.last_payment_error
    text = error.message if error is not None else intent.cancellation_reason
    return (text or "cancelled at the provider")[:REASON_CHARS_MAX]


def charge_record(intent: PaymentIntent, refunded: int) -> ChargeRecord:
    """`refunded` in Stripe's own digits."""
    currency = intent.currency.upper()
    return ChargeRecord(
        payment=PaymentId(intent.metadata["payment"]),
        ref=intent.id,
        state=_state(intent, refunded),
        amount_minor=from_stripe(intent.amount, currency),
        captured_minor=_captured(intent),
        refunded_minor=from_stripe(refunded, currency),
        currency=currency,
    )


_STATES = {
    "requires_capture": PaymentState.AUTHORISED,
    "requires_action": PaymentState.ACTION_REQUIRED,
    "requires_confirmation": PaymentState.ACTION_REQUIRED,
    "requires_payment_method": PaymentState.DECLINED,
    "processing": PaymentState.AUTHORISING,
    "canceled": PaymentState.VOIDED,
}

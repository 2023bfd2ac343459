"""The seam to payment providers: what every provider must do, and the values that cross it.

Always: the payment's id is the idempotency key of its authorisation, so a repeat after a lost reply
charges once. A call that ended without a clear answer is `unknown`, never an exception: only
`look_up` (asked by the payment worker) turns it into a fact.
Not here: retries, leases and stock (worker.py); which provider is configured
(live/wiring/shared.py).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from live.base.errors import LiveError
from live.domain.ids import key_text
from live.domain.order import RefundState
from live.domain.payment import Action, ChargePage, Payment, PaymentId, PaymentState, ProviderRefund

REASON_CHARS_MAX = 200  # what we keep of a provider's explanation
WEBHOOK_BYTES_MAX = 256 * 1024  # events carry whole objects, also those that are none of ours


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthoriseRequest:
    """`metadata` names the hold (show, hold, order), so money can be traced from either side.

    `sub`: the buyer, for providers that are the shop's own; `age_ms`: how long ago they chose to
    pay, by which the window of their payment runs.
    """

    payment: PaymentId
    amount_minor: int
    currency: str
    token: str | None
    metadata: Mapping[str, str]
    sub: str = ""
    age_ms: int = 0


def authorise_request(payment: Payment) -> AuthoriseRequest:
    """The one request of a payment: whoever sends it again sends the same."""
    return AuthoriseRequest(
        payment=payment.id,
        amount_minor=payment.amount_minor,
        currency=payment.currency,
        token=payment.token,
        metadata={
            "show": payment.show,
            "order": payment.order,
            "buyer": payment.buyer.hex(),
            "hold": key_text(payment.hold),
        },
        sub=payment.sub,
        age_ms=payment.age_ms,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Authorisation:
    """What the provider says about a payment now.

    `state` is one of authorised, declined, action_required, unknown, and from `look_up` also
    authorising (the provider is still at it), captured, refunded, partially_refunded, voided.
    `ref` is the provider's own id; None as long as we have not learnt it. `price`: the charge's
    amount and currency, where the provider tells them.
    """

    state: PaymentState
    ref: str | None = None
    reason: str = ""
    action: Action | None = None
    captured_minor: int = 0
    refunded_minor: int = 0
    price: tuple[int, str] | None = None


def held_against(payment: Payment, heard: Authorisation) -> Authorisation:
    """What is believed of an answer: nothing of a charge over another amount than was asked for."""
    if heard.price in (None, (payment.amount_minor, payment.currency)):
        return heard
    return Authorisation(state=PaymentState.UNKNOWN, reason=f"is a charge of {heard.price}")


class Verdict(StrEnum):
    """How a capture, void or refund ended; `unknown` means: repeat it with the same key.

    `pending`: the provider has taken it on and will know later, perhaps in days: ask it again.
    """

    DONE = "done"
    REFUSED = "refused"
    PENDING = "pending"
    UNKNOWN = "unknown"


REFUND_STATES: Mapping[Verdict, RefundState] = {
    Verdict.DONE: RefundState.DONE,
    Verdict.REFUSED: RefundState.FAILED,
    Verdict.PENDING: RefundState.DUE,
}
"""What an answer that is one says of a refund."""


@dataclass(frozen=True, slots=True)
class CaptureResult:
    """The end of a capture, a void or a refund."""

    verdict: Verdict
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class MoneyRequest:
    """A capture, void or refund of a payment. `key` makes a repeat harmless at the provider."""

    payment: PaymentId
    ref: str | None
    amount_minor: int
    currency: str
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderEvent:
    """Something happened to a payment. A hint to look, never the truth itself: events come late,
    twice and out of order, so the provider is asked for the state that counts.

    `refund` marks money that went back, perhaps by a person at the provider: we may not know of it;
    or news of a refund of ours, which may have failed.
    `authorised` marks money that was set aside, perhaps after we gave the payment up.
    """

    provider: str
    id: str
    kind: str
    payment: PaymentId | None
    ref: str | None
    refund: bool = False
    authorised: bool = False


class WebhookRefused(LiveError):
    """A webhook that we do not believe; `status` and `code` go into the HTTP answer."""

    def __init__(self, text: str, *, status: int, code: str) -> None:
        super().__init__(text)
        self.status = status
        self.code = code


class Provider(Protocol):
    """A payment provider. No method raises for what the network does."""

    @property
    def name(self) -> str: ...

    def payment_window_ms(self, token: str | None) -> int:
        """How long a hold waits for its buyer once they pay: longer for asynchronous methods."""
        ...

    def is_asynchronous(self, token: str | None) -> bool:
        """Whether this way of paying answers later than a buyer waits; no such in `first_paid`."""
        ...

    async def authorise(self, request: AuthoriseRequest) -> Authorisation: ...

    async def look_up(self, payment: PaymentId, ref: str | None) -> Authorisation:
        """The provider's truth; state `created` when it never heard of the payment."""
        ...

    async def capture(self, request: MoneyRequest) -> CaptureResult: ...

    async def void(self, request: MoneyRequest) -> CaptureResult: ...

    async def refund(self, request: MoneyRequest) -> CaptureResult:
        """Pay back. A repeat with the same key, however late, pays nothing and tells what has
        become of the first: a refund that failed is `refused`, and is tried anew by a new key."""
        ...

    async def look_up_refund(self, request: MoneyRequest) -> CaptureResult | None:
        """What has become of the refund with this key; None when the provider has none such."""
        ...

    async def list_refunds(
        self, payment: PaymentId, ref: str | None
    ) -> tuple[ProviderRefund, ...] | None:
        """All refunds of a payment, ours and those of persons; None when nobody could say."""
        ...

    def refuses_price(self, price_minor: int, currency: str) -> str:
        """Why this provider could never charge such a price; "" where it can."""
        ...

    def parse_webhook(self, headers: Mapping[str, str], body: bytes) -> Sequence[ProviderEvent]:
        """Verify and read. Raises WebhookRefused."""
        ...

    async def list_charges(
        self, *, cursor: str | None, limit: int, since_ms: int = 0
    ) -> ChargePage:
        """`since_ms`: Unix ms; charges that were made before it may be left out."""
        ...

    async def close(self) -> None:
        """Close connections; called once, at the end of the process."""
        ...

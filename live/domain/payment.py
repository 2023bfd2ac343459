"""A payment: one attempt to pay for one hold, followed from the first call to the last refund."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Literal, NewType

from live.domain.hold import Line
from live.domain.ids import BuyerId, HoldKey, OrderId, ShowId, key_text
from live.domain.offer import Mode
from live.domain.order import OrderState, OrderTotal, RefundState

PaymentId = NewType("PaymentId", str)
"""A UUID in its 36-character form; the provider's idempotency key of everything done for it."""

INVOICE = "invoice"
"""The provider that nobody is asked through: the shop itself says when such a payment came in."""
EXTERNAL = "external"
"""The shop's own checkout: its buyers pay there, and the shop says so before anything is sold."""
OWN_BOOKS = frozenset({INVOICE, EXTERNAL})
"""Providers whose only books are our own rows."""


class PaymentState(StrEnum):
    """created -> authorising -> authorised -> capturing -> captured -> ... -> refunded.

    Aside: `declined` and `voided` are final; `unknown` (a call was lost) and `action_required` (the
    buyer must finish at the provider) are settled by the payment worker. Sets of states and the
    steps between them are in payment_states.py, what follows from them in payment_flow.py.
    """

    CREATED = "created"
    AUTHORISING = "authorising"
    AUTHORISED = "authorised"
    CAPTURING = "capturing"
    CAPTURED = "captured"
    PARTIALLY_REFUNDED = "partially_refunded"
    REFUNDED = "refunded"
    DECLINED = "declined"
    VOIDED = "voided"
    UNKNOWN = "unknown"
    ACTION_REQUIRED = "action_required"


@dataclass(frozen=True, slots=True)
class PricedLine:
    """So many units of the offer in this slot, at the price that was asked for one."""

    slot: int
    qty: int
    price_minor: int


@dataclass(frozen=True, slots=True)
class Action:
    """What the buyer must do at the provider: go there, finish in its own page's script, scan a
    code, or pay a voucher. `expires_at`: until when it serves, Unix ms; None where that is open."""

    kind: Literal["redirect", "client_secret", "qr", "voucher"]
    value: str
    expires_at: int | None = None

    def body(self) -> dict[str, object]:
        """The JSON object of the contract: what is not there is left out."""
        told: dict[str, object] = {"kind": self.kind, "value": self.value}
        return told if self.expires_at is None else told | {"expires_at": self.expires_at}


@dataclass(frozen=True, slots=True, kw_only=True)
class NewPayment:
    """The durable row that precedes every call to a provider.

    `hold` is the hold's key and `attempt` the key of the checkout call; in `first_paid` mode they
    are the same. `contact` is JSON as the client gave it, for Postgres only. `held_until` is the
    hold's deadline if this payment fails (Unix ms); 0 where nothing is held. `quote` names the
    quote and the shipping choice that it was made by, and `totals` are what these came to; without
    one there are none, and the amount is that of the lines.
    """

    id: PaymentId
    order: OrderId
    show: ShowId
    buyer: BuyerId
    sub: str
    hold: HoldKey
    attempt: HoldKey
    mode: Mode
    lines: tuple[PricedLine, ...]
    amount_minor: int
    currency: str
    provider: str
    token: str | None
    contact: bytes | None
    held_until: int = 0
    quote: str | None = None
    totals: tuple[OrderTotal, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Payment:
    """A payment as the ledger knows it; `order_state` is None while no order row exists."""

    id: PaymentId
    order: OrderId
    show: ShowId
    buyer: BuyerId
    sub: str
    hold: HoldKey
    attempt: HoldKey
    mode: Mode
    lines: tuple[PricedLine, ...]
    amount_minor: int
    currency: str
    provider: str
    token: str | None
    ref: str | None
    state: PaymentState
    reason: str
    action: Action | None
    captured_minor: int
    refunded_minor: int
    tries: int
    age_ms: int  # since it was created, by Postgres' clock
    order_state: OrderState | None
    held_until: int = 0  # see NewPayment
    quote: str | None = None  # see NewPayment

    @property
    def units(self) -> tuple[Line, ...]:
        """What is paid for, as stock counts it."""
        return tuple(Line(line.slot, line.qty) for line in self.lines)


@dataclass(frozen=True, slots=True)
class OpenedPayment:
    """`fresh` is False where this attempt, or this hold, had a payment or an order already.

    `active`: some payment of this hold is not over.
    """

    payment: Payment
    fresh: bool
    active: bool = True


def log_ids(payment: Payment) -> dict[str, str]:
    """What every log line about a payment carries; the ids that clients and hosts know."""
    return {
        "payment": payment.id,
        "show": payment.show,
        "hold": key_text(payment.hold),
        "order": payment.order,
    }


class JobKind(StrEnum):
    CAPTURE = "capture"
    VOID = "void"
    REFUND = "refund"


@dataclass(frozen=True, slots=True, kw_only=True)
class MoneyJob:
    """Work at the provider that follows a committed fact; done at least once.

    `refused` marks a capture that the provider refused for good while its order still stands: it
    is not tried again, only the order's units go back. `turn` is that of a refund: all refunds of
    a payment take turns, and what is written in a turn that is over changes nothing.
    """

    id: int
    kind: JobKind
    amount_minor: int
    reason: str
    request: str | None
    tries: int
    payment: Payment
    refused: bool = False
    turn: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class RefundNews:
    """The provider has had news of a payment's refunds: somebody looks all of them up."""

    payment: Payment
    turn: int
    at: datetime  # by Postgres' clock; news that come while one looks are later ones


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderRefund:
    """One refund in a provider's books; `state` is due (on its way), done or failed.

    `key` is what it was asked for by; one that a person made there has none of ours.
    """

    key: str | None
    amount_minor: int
    state: RefundState
    reason: str = ""


def refund_key(payment: PaymentId, job: int) -> str:
    """What the provider knows one refund by."""
    return f"{payment}:{JobKind.REFUND}:{job}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ChargeRecord:
    """One charge in a provider's own books, for the audit; `refunded_minor` is what has gone
    back, without what is on its way."""

    payment: PaymentId
    ref: str
    state: PaymentState
    amount_minor: int
    captured_minor: int
    refunded_minor: int
    currency: str


@dataclass(frozen=True, slots=True)
class ChargePage:
    """A page of a provider's books; `cursor` is None on the last one."""

    charges: tuple[ChargeRecord, ...]
    cursor: str | None

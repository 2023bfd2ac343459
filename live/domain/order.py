"""An order: a confirmed hold, the buyer's promise and ours."""

from dataclasses import dataclass
from enum import StrEnum

from live.domain.hold import HoldItem
from live.domain.ids import OrderId, ShowId


class OrderState(StrEnum):
    """confirmed -> paid -> partially_refunded -> refunded; confirmed -> cancelled; rejected.

    `rejected`: Redis had sold it but the ledger could not accept it; kept so that the redelivery of
    its outbox entry does nothing, and its payment is voided.
    """

    CONFIRMED = "confirmed"
    PAID = "paid"
    PARTIALLY_REFUNDED = "partially_refunded"
    REFUNDED = "refunded"
    CANCELLED = "cancelled"
    REJECTED = "rejected"


NOT_KEPT = frozenset({OrderState.CANCELLED, OrderState.REJECTED})
"""The promise was taken back; an order in any other state stands."""

ENDED = NOT_KEPT | {OrderState.REFUNDED}
"""Nothing that happens to its payment moves such an order."""

CANCELLABLE = frozenset({OrderState.CONFIRMED, OrderState.PAID})
"""Redis may tell of such an order that its units came back."""


class RefundState(StrEnum):
    """due -> done, or failed: then the host asks anew or calls it off (called_off, final).

    A refund that was done may still fail: the buyer's bank may send the money back.
    """

    DUE = "due"
    DONE = "done"
    FAILED = "failed"
    CALLED_OFF = "called_off"


@dataclass(frozen=True, slots=True, kw_only=True)
class RefundView:
    """Money on its way back; `failure` is the provider's word on why it did not arrive."""

    amount_minor: int
    state: RefundState
    failure: str
    asked_at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderView:
    """The `order` object of the public contract; `hold` is the client's key.

    `refunded_minor` counts what has gone back; `refunds` are all that were asked for, the oldest
    first.
    """

    order: OrderId
    hold: str
    show: ShowId
    state: OrderState
    items: tuple[HoldItem, ...]
    total_minor: int
    refunded_minor: int
    currency: str
    created_at: int
    refunds: tuple[RefundView, ...] = ()

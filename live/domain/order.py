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


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderView:
    """The `order` object of the public contract; `hold` is the client's key."""

    order: OrderId
    hold: str
    show: ShowId
    state: OrderState
    items: tuple[HoldItem, ...]
    total_minor: int
    refunded_minor: int
    currency: str
    created_at: int

"""An order: a confirmed hold, the buyer's promise and ours."""

from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Literal

from live.domain.ids import OfferId, OrderId, ShowId, Sku
from live.domain.orders.fulfilment import Fulfilment, ReturnView, ShipmentView


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

PAID_FOR = frozenset({OrderState.PAID, OrderState.PARTIALLY_REFUNDED})
"""Its money is here, and not all of it went back: what has not left yet may leave."""

UNDER_WAY = PAID_FOR | {OrderState.CONFIRMED}
"""Something of it may leave, now or once its money is here."""

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
    """Money on its way back. `reason`: why it was asked for, "" where nobody asked; `failure`: the
    provider's word on why it did not arrive."""

    refund: str
    reason: str
    amount_minor: int
    state: RefundState
    failure: str
    asked_at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderItem:
    """A line of an order; `line` counts from 1, and what was bought never changes.

    Units of it: `shipped` left and did not come back by themselves; `returned` were taken back, on
    the shelf or thrown away, sent or not; `to_ship` may leave now, 0 while the money is not here.
    `sku` and `title` are the offer's. `discount_minor` is off the whole line; the contract names
    it, and it is 0 as long as nothing gives a discount.
    """

    line: int
    offer: OfferId
    sku: Sku
    title: str
    qty: int
    price_minor: int
    discount_minor: int = 0
    shipped: int = 0
    returned: int = 0
    to_ship: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderTotal:
    """A part of what the buyer owes. `inclusive`: it is contained in the others, adding nothing."""

    type: Literal["subtotal", "discount", "shipping", "tax", "duty", "total"]
    label: str
    amount_minor: int
    inclusive: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderFields:
    """The `order` object of the public contract, but for `contact`; `hold` is the client's key.

    `sub`: the buyer. `refunded_minor` counts what has gone back; `refunds` are all that were asked
    for, the oldest first, and so are `shipments` and `returns`. `reference`: the shop's own number
    of the order. `withdrawn_at`: when the buyer withdrew from the contract, and what they were
    answered then, word for word. Times are Unix ms.
    """

    order: OrderId
    hold: str
    show: ShowId
    sub: str
    state: OrderState
    fulfilment: Fulfilment = Fulfilment.UNFULFILLED
    items: tuple[OrderItem, ...]
    totals: tuple[OrderTotal, ...]
    total_minor: int
    refunded_minor: int
    currency: str
    refunds: tuple[RefundView, ...] = ()
    shipments: tuple[ShipmentView, ...] = ()
    returns: tuple[ReturnView, ...] = ()
    reference: str | None = None
    withdrawn_at: int | None = None
    withdrawal_statement: str | None = None
    created_at: int
    updated_at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderView(OrderFields):
    """The order as events, RPC answers and answers to commands carry it: without `contact`.

    `OrderWithContact` is no such order, so a contact cannot get onto a channel.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class Withdrawal:
    """What a withdrawal from the contract means; done where the order says `withdrawn_at`.

    `statement`: in plain words, kept for good once it was done. Minor units: what goes back at
    once, and what goes back when the goods are received; 0 in the answer to a repeat.
    """

    order: OrderView
    statement: str
    refund_now_minor: int
    refund_later_minor: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PostalAddress:
    """Where a parcel goes. Of an address that came as text, the lines behind the first are
    `line2`."""

    line1: str = ""
    line2: str = ""
    city: str = ""
    region: str = ""
    postcode: str = ""
    country: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderContact:
    """How to reach the buyer, and where to send it."""

    name: str = ""
    email: str = ""
    phone: str = ""
    address: PostalAddress = PostalAddress()


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderWithContact(OrderFields):
    """The order as those read it who may see where it goes; None: the buyer gave no contact."""

    contact: OrderContact | None


_FIELDS = tuple(field.name for field in fields(OrderFields))


def with_contact(order: OrderView, contact: OrderContact | None) -> OrderWithContact:
    """For the shop's side of the show and for the buyer, in an answer to a reading call."""
    return OrderWithContact(**{name: getattr(order, name) for name in _FIELDS}, contact=contact)


def totals_of(items: tuple[OrderItem, ...], total_minor: int) -> tuple[OrderTotal, ...]:
    """What the items cost, and what the buyer owes."""
    subtotal = sum(item.qty * item.price_minor for item in items)
    return (
        OrderTotal(type="subtotal", label="Subtotal", amount_minor=subtotal),
        OrderTotal(type="total", label="Total", amount_minor=total_minor),
    )


def worth_of(
    totals: tuple[OrderTotal, ...], goods_minor: int, *, last: bool, before_minor: int = 0
) -> int:
    """What goes back with goods of this price: their share of the tax, duty and discount that the
    bill adds, and with the last units of an order what their shipping cost.

    Directive 2011/83/EU, article 13 (1): all payments, delivery included. `before_minor`: the price
    of the goods that came back before. A share is rounded down, together with theirs: so the shares
    of an order add up, in however many parts it comes back.
    """
    added = [one for one in totals if one.type not in {"subtotal", "total"} and not one.inclusive]
    shipping = sum(one.amount_minor for one in added if one.type == "shipping")
    others = sum(one.amount_minor for one in added) - shipping
    subtotal = sum(one.amount_minor for one in totals if one.type == "subtotal")
    share = 0
    if subtotal:
        then = others * (before_minor + goods_minor) // subtotal
        share = then - others * before_minor // subtotal
    return goods_minor + share + (shipping if last else 0)

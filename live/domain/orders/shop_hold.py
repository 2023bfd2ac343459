"""A hold at the shop's own checkout: what the shop's server is told of it."""

from dataclasses import dataclass

from live.domain.hold import HoldState
from live.domain.ids import OfferId, OrderId, ShowId, Sku
from live.domain.order import OrderState
from live.domain.payment import Payment


@dataclass(frozen=True, slots=True, kw_only=True)
class ShopItem:
    """So many units of a product at the price that was asked for one; `title` is the offer's."""

    offer: OfferId
    sku: Sku
    title: str
    qty: int
    price_minor: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ShopHold:
    """The answer to the shop's server; `hold` is the client's key.

    `state` paying: it may be confirmed until `expires_at` (Unix ms; 0 once it has ended); held: the
    payment is over and the buyer may try another; `order`: what it became, null before.
    """

    hold: str
    show: ShowId
    sub: str
    state: HoldState
    items: tuple[ShopItem, ...]
    amount_minor: int
    currency: str
    expires_at: int
    order: OrderId | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ShopPayment:
    """The latest payment of a hold at the shop's own checkout, as the ledger knows it.

    `void`: why its money goes back, or would; None where nobody asked for that. `hold_state`: the
    hold's, as far as it is settled.
    """

    payment: Payment
    items: tuple[ShopItem, ...]
    void: str | None
    hold_state: HoldState | None

    @property
    def order_state(self) -> OrderState | None:
        return self.payment.order_state

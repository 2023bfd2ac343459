"""Checkout in a rehearsal: everything is said as it would be, and nothing is sold.

Always: no provider is called and nothing is written; the hold is released, so its units are back on
the shelf for the next rehearsing buyer. A repeat gets the same answer: the order's id is made of
the hold's key.
"""

from collections.abc import Sequence
from uuid import UUID, uuid5

from live.buying.offers import Offers
from live.domain.hold import Line
from live.domain.ids import HoldKey, OfferId, OrderId, Sku, key_text
from live.domain.money import total_minor
from live.domain.order import OrderItem, OrderState, OrderView, totals_of

REASON = "rehearsal: nothing was sold"
_ORDERS = UUID("6f0cf4d2-8f3b-4c1e-9d0a-2b7f8f1d5a10")  # name space of rehearsed orders' ids


def rehearsed_order(
    offers: Offers, hold: HoldKey, lines: Sequence[Line], *, sub: str, at: int
) -> OrderView:
    """The order that there would be; no call finds it again. Raises NotFound, ValueError."""
    bought = sorted(((offers.at(line.slot), line.qty) for line in lines), key=lambda one: one[0].id)
    items = tuple(
        OrderItem(
            line=number,
            offer=OfferId(terms.id),
            sku=Sku(terms.sku),
            title=terms.title,
            qty=qty,
            price_minor=terms.price_minor,
        )
        for number, (terms, qty) in enumerate(bought, start=1)
    )
    total = total_minor([(item.price_minor, item.qty) for item in items])
    return OrderView(
        order=OrderId(str(uuid5(_ORDERS, f"{offers.state.id}:{hold.hex()}"))),
        hold=key_text(hold),
        show=offers.state.id,
        sub=sub,
        state=OrderState.CONFIRMED,
        items=items,
        totals=totals_of(items, total),
        total_minor=total,
        refunded_minor=0,
        currency=offers.at(lines[0].slot).currency,
        created_at=at,
        updated_at=at,
    )

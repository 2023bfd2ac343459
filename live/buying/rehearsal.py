"""Checkout in a rehearsal: everything is said as it would be, and nothing is sold.

Always: no provider is called and nothing is written; the hold is released, so its units are back on
the shelf for the next rehearsing buyer. A repeat gets the same answer: the order's id is made of
the hold's key.
"""

import time
from collections.abc import Sequence
from uuid import UUID, uuid5

from live.base.errors import Busy
from live.buying.hold import HoldDesk
from live.buying.offers import OfferBook, Offers
from live.buying.ports import SaleStock
from live.buying.purchase import Call, CheckoutAnswer
from live.buying.quoting.quotes import Quotes
from live.buying.ways import WaysToPay, refused_way
from live.domain.caller import Caller
from live.domain.hold import Line
from live.domain.ids import HoldKey, OfferId, OrderId, ShowId, Sku, key_text
from live.domain.money import total_minor
from live.domain.order import OrderItem, OrderState, OrderView, totals_of
from live.domain.orders.quote import Bill
from live.domain.outcomes import Outcome
from live.domain.show import ShowStatus

REASON = "rehearsal: nothing was sold"
_ORDERS = UUID("6f0cf4d2-8f3b-4c1e-9d0a-2b7f8f1d5a10")  # name space of rehearsed orders' ids


class Rehearsal:
    """The arguments: as of the checkout itself."""

    def __init__(
        self, stock: SaleStock, book: OfferBook, desk: HoldDesk, ways: WaysToPay, quotes: Quotes
    ) -> None:
        self._stock = stock
        self._book = book
        self._desk = desk
        self._ways = ways
        self._quotes = quotes

    def runs(self, show: ShowId) -> bool:
        """As far as this process knows; where it knows too little, the ledger refuses the row."""
        try:
            return self._book.of(show).state.status is ShowStatus.REHEARSAL
        except Busy:
            return False

    async def pay(self, caller: Caller, call: Call) -> CheckoutAnswer:
        """Answer as if it had been paid. Raises what the stock engine raises, and BadField and
        NotFound as the checkout."""
        direct = call.purchase.direct
        offers = self._book.of(call.show)
        ways = self._ways.of(offers, (), guest=call.guest)
        if call.provider.name not in ways:
            raise refused_way(call, ways)
        if direct is None:
            bill = self._quotes.bill(call, ())
            moved = await self._stock.release(call.show, call.buyer, call.hold)
            lines, done = tuple(moved.lines), moved.done
            refusal = Outcome.EXPIRED
        else:
            lines, _ = self._desk.lines(caller, call.show, (direct,))
            bill = self._quotes.bill(call, lines)
            seen = await self._stock.peek(call.show, call.buyer, call.hold, lines)
            done, refusal = seen.outcome is Outcome.HELD, seen.outcome
        if not done:
            return call.says(refusal)
        at = time.time_ns() // 1_000_000
        return CheckoutAnswer(
            outcome=Outcome.CONFIRMED,
            hold=key_text(call.hold),
            order=rehearsed_order(offers, call.hold, lines, bill, sub=caller.sub, at=at),
            reason=REASON,
        )


def rehearsed_order(
    offers: Offers,
    hold: HoldKey,
    lines: Sequence[Line],
    bill: Bill | None,
    *,
    sub: str,
    at: int,
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
        totals=totals_of(items, total) if bill is None else bill.lines,
        total_minor=total if bill is None else bill.total_minor,
        refunded_minor=0,
        currency=offers.at(lines[0].slot).currency,
        created_at=at,
        updated_at=at,
    )

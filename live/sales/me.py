"""What a buyer has in a show, for the snapshot at connect: one Redis read, nothing from Postgres.

Orders are not in it on purpose: a connect costs no query, so ten thousand reconnects cannot reach
the ledger. Order events stay in the personal log, and `order.get` answers from the ledger.
"""

from dataclasses import dataclass

from live.domain.caller import Caller
from live.domain.hold import HoldState, HoldView
from live.domain.ids import OfferId, ShowId, key_text
from live.domain.order import OrderView
from live.errors import NotFound
from live.sales.offers import OfferBook, Offers
from live.sales.ports import BuyerHas, SaleStock


@dataclass(frozen=True, slots=True)
class WaitingView:
    offer: OfferId
    key: str
    qty: int
    position: int


@dataclass(frozen=True, slots=True)
class MeView:
    holds: tuple[HoldView, ...] = ()
    waitlist: tuple[WaitingView, ...] = ()
    orders: tuple[OrderView, ...] = ()


class Me:
    def __init__(self, stock: SaleStock, book: OfferBook) -> None:
        self._stock = stock
        self._book = book

    async def view(self, caller: Caller, show: ShowId) -> MeView:
        """Raises Busy when stock does not answer: an empty snapshot would tell a buyer a lie."""
        if caller.buyer is None:
            return MeView()
        has = await self._stock.buyer_state(show, caller.buyer)
        return me_view(self._book.of(show), has)


def me_view(offers: Offers, has: BuyerHas) -> MeView:
    """Live holds and places in line, as far as their offers are known here."""
    holds = []
    for hold in has.holds:
        if hold.state not in (HoldState.HELD, HoldState.PAYING):
            continue
        try:
            holds.append(offers.hold_view(hold.key, hold.lines, hold.state, hold.expires_at))
        except NotFound:
            continue  # the show's state that names this offer arrives as its own event
    waiting = [
        WaitingView(terms.id, key_text(place.key), place.qty, place.position)
        for place in has.waiting
        if (terms := offers.by_slot.get(place.slot)) is not None
    ]
    return MeView(tuple(holds), tuple(waiting))

"""What a buyer has in a show, for the snapshot at connect: from Redis, nothing from Postgres.

Always: a connect costs no query, so ten thousand reconnects cannot reach the ledger. Orders are
therefore as the buyer's own log told them last; one that the log has lost (it is short and ends a
day after its last event) is still answered by `order.get`, from the ledger.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import msgspec

from live.domain.caller import Caller
from live.domain.hold import HoldState, HoldView
from live.domain.ids import AuthorId, OfferId, OrderId, ShowId, author_of, key_text
from live.domain.order import OrderView
from live.errors import NotFound
from live.sales.offers import OfferBook, Offers
from live.sales.ports import BuyerHas, PersonalLog, SaleStock

ORDERS_MAX = 20  # more than a limit per buyer allows in a show; a connect answer stays small


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
    author: AuthorId | None = None
    """As whom the others read his chat lines; None for somebody without a name."""


class _Told(msgspec.Struct, frozen=True):
    """Of a personal event what concerns orders: order events carry one, others do not."""

    order: OrderView | None = None


_told = msgspec.json.Decoder(_Told)


class Me:
    def __init__(self, stock: SaleStock, book: OfferBook, log: PersonalLog) -> None:
        self._stock = stock
        self._book = book
        self._log = log

    async def view(self, caller: Caller, show: ShowId) -> MeView:
        """Raises Busy when Redis does not answer: an empty snapshot would tell a buyer a lie."""
        if caller.buyer is None:
            return MeView()
        has = await self._stock.buyer_state(show, caller.buyer)
        orders = orders_told(await self._log.read_personal(show, caller.buyer))
        found = me_view(self._book.of(show), has, orders)
        return replace(found, author=author_of(caller.buyer, show))


def me_view(offers: Offers, has: BuyerHas, orders: tuple[OrderView, ...] = ()) -> MeView:
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
    return MeView(tuple(holds), tuple(waiting), orders)


def orders_told(newest_first: Iterable[bytes]) -> tuple[OrderView, ...]:
    """Each order as its newest event has it, the newest order first, at most ORDERS_MAX."""
    orders: dict[OrderId, OrderView] = {}
    for data in newest_first:
        try:
            order = _told.decode(data).order
        except msgspec.MsgspecError:
            continue  # another version's event must not keep the buyer from his show
        if order is not None:
            orders.setdefault(order.order, order)
    newest = sorted(orders.values(), key=lambda order: order.created_at, reverse=True)
    return tuple(newest[:ORDERS_MAX])

"""What a buyer has in a show, for the snapshot at connect: from Redis.

Always: a connect costs no query, so ten thousand reconnects cannot reach the ledger: orders are as
the buyer's own log told them last. Only where Redis has a sale of which the log does not tell (it
ends a day after its last event, and is lost with Redis) the ledger is asked, for many buyers at
once; without its answer the snapshot says what the log does.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import msgspec

from live.base.errors import Busy, NotFound
from live.buying.offers import OfferBook, Offers
from live.buying.ports import PastOrders, PersonalLog, SaleStock
from live.domain.caller import Caller
from live.domain.hold import HoldState, HoldView
from live.domain.ids import AuthorId, BuyerId, OfferId, OrderId, ShowId, author_of, key_text
from live.domain.order import OrderView
from live.domain.stock import BuyerState

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
    """As whom the others read their chat lines; None for somebody without a name."""


class _Told(msgspec.Struct, frozen=True):
    """Of a personal event what concerns orders: order events carry one, others do not."""

    order: OrderView | None = None


_told = msgspec.json.Decoder(_Told)


class Me:
    def __init__(
        self, stock: SaleStock, book: OfferBook, log: PersonalLog, past: PastOrders
    ) -> None:
        self._stock = stock
        self._book = book
        self._log = log
        self._past = past

    async def view(self, caller: Caller, show: ShowId) -> MeView:
        """Raises Busy when Redis does not answer: an empty snapshot would tell a buyer a lie."""
        if caller.buyer is None:
            return MeView()
        has = await self._stock.buyer_state(show, caller.buyer)
        orders = orders_told(await self._log.read_personal(show, caller.buyer))
        told = {order.hold for order in orders}
        if not told.issuperset(key_text(key) for key in has.sold[-ORDERS_MAX:]):
            orders = await self._with_past(orders, show, caller.buyer)
        found = me_view(self._book.of(show), has, orders)
        return replace(found, author=author_of(caller.buyer, show))

    async def _with_past(
        self, told: tuple[OrderView, ...], show: ShowId, buyer: BuyerId
    ) -> tuple[OrderView, ...]:
        try:
            past = await self._past(show, buyer)
        except Busy:
            return told  # what they may do needs no ledger, so it does not keep them out
        return _newest({order.order: order for order in (*told, *past)})


def me_view(offers: Offers, has: BuyerState, orders: tuple[OrderView, ...] = ()) -> MeView:
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
            continue  # another version's event must not keep the buyer from their show
        if order is not None:
            orders.setdefault(order.order, order)
    return _newest(orders)


def _newest(orders: Mapping[OrderId, OrderView]) -> tuple[OrderView, ...]:
    newest = sorted(orders.values(), key=lambda order: order.created_at, reverse=True)
    return tuple(newest[:ORDERS_MAX])

"""The RPC methods of the public contract: read the request, call the use case, answer.

Always: a handler raises what is the client's fault and lets any other one pass; who called it
answers (connection/calls.py).
Not here: deadlines and the number of calls at once (connection), rules (buying, hosting).
"""

import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol, TypeVar

import msgspec
from msgspec import UNSET

from live.api.join import Snapshot
from live.api.limits import AddressLimit
from live.api.schema import rpc_requests as requests
from live.api.schema.fields import Empty
from live.base.decode import read
from live.base.errors import BadField, Busy, NotFound, TooManyTries
from live.buying.checkout import Checkout
from live.buying.hold import HoldDesk, Wanted, require_buyer
from live.buying.purchase import Purchase
from live.buying.quoting.quotes import Quotes
from live.buying.waitlist import Waitlist
from live.connection.addresses import range_of
from live.connection.ports import RpcCall, RpcHandler
from live.domain.caller import Caller
from live.domain.ids import BuyerId, HoldKey, OrderId, ShowId
from live.domain.order import OrderView, Withdrawal
from live.domain.orders.quote import Given

REACTIONS_BURST, REACTIONS_PER_SECOND = 20, 5.0  # of one connection: a fast thumb, not a script
# Of one range of addresses and worker, whoever pays from there. A crowd behind one carrier's NAT
# has some cards declined in the rush of a sale; who tries stolen numbers has nothing else.
DECLINES_BURST, DECLINES_PER_SECOND = 50, 1 / 20
# Of one connection: a form that is filled in and mended, and each may be a call to the shop.
QUOTES_BURST, QUOTES_PER_SECOND = 10, 0.5
Request = TypeVar("Request", bound=msgspec.Struct)


class Orders(Protocol):
    """Orders of one buyer. None: not there, or somebody else's."""

    async def of_hold(self, show: ShowId, buyer: BuyerId, hold: HoldKey) -> OrderView | None: ...

    async def of_buyer(self, order: OrderId, sub: str) -> OrderView | None: ...


class Withdrawals(Protocol):
    """A buyer's withdrawal from one of their orders. Raises NotFound, Conflict, Busy."""

    async def withdraw(self, order: OrderId, sub: str, *, confirm: bool) -> Withdrawal: ...


class Shows(Protocol):
    """The snapshot of a show. Raises NotFound, Denied, Busy."""

    async def state(self, caller: Caller, show: ShowId, *, joined: bool) -> Snapshot: ...


class Reactions(Protocol):
    def add(self, show: ShowId, kind: str) -> None: ...


class SaleRpc:
    """The methods by name: `handlers()` goes to live/connection."""

    def __init__(
        self,
        *,
        desk: HoldDesk,
        checkout: Checkout,
        quotes: Quotes,
        waitlist: Waitlist,
        orders: Orders,
        withdrawals: Withdrawals,
        shows: Shows,
        reactions: Reactions,
    ) -> None:
        self._desk = desk
        self._checkout = checkout
        self._quotes = quotes
        self._waitlist = waitlist
        self._orders = orders
        self._withdrawals = withdrawals
        self._shows = shows
        self._reactions = reactions
        self._taps = AddressLimit(burst=REACTIONS_BURST, per_second=REACTIONS_PER_SECOND)
        self._asked = AddressLimit(burst=QUOTES_BURST, per_second=QUOTES_PER_SECOND)
        self._declines = AddressLimit(burst=DECLINES_BURST, per_second=DECLINES_PER_SECOND)

    def handlers(self) -> Mapping[str, RpcHandler]:
        return {
            "time.now": _time_now,
            "offer.hold": self.hold,
            "show.state": _task(requests.ShowName, self.show_state),
            "hold.release": _task(requests.HoldName, self.release),
            "hold.checkout": _task(requests.CheckoutRequest, self.pay),
            "order.quote": _task(requests.QuoteRequest, self.quote),
            "order.get": _task(requests.OrderName, self.order),
            "order.withdraw": _task(requests.WithdrawOrder, self.withdraw),
            "waitlist.join": _task(requests.JoinWaitlist, self.join),
            "waitlist.leave": _task(requests.OfferName, self.leave),
            "react": _task(requests.React, self.react),
        }

    def hold(self, call: RpcCall) -> None:
        """The hot path: no task, and the engine's callback answers."""
        request = read_data(_HOLD, call.data)
        caller, show, key = call.caller, _joined(call), _key(request.key)
        wanted = [Wanted(item.offer, item.qty) for item in request.wanted()]
        if request.items is UNSET:
            self._desk.submit(caller, show, key, wanted[0], answer=call.reply, fail=call.fail)
        else:
            self._desk.submit_cart(caller, show, key, wanted, answer=call.reply, fail=call.fail)

    async def show_state(self, call: RpcCall, request: requests.ShowName) -> object:
        show = _visible(call, request.show)
        return await self._shows.state(call.caller, show, joined=call.show == show)

    async def release(self, call: RpcCall, request: requests.HoldName) -> object:
        outcome = await self._desk.release(call.caller, _joined(call), _key(request.hold))
        return {"outcome": outcome}

    async def pay(self, call: RpcCall, request: requests.CheckoutRequest) -> object:
        direct = request.direct()
        purchase = Purchase(
            key=_key(request.key),
            provider=request.provider,
            token=None if request.token is UNSET else request.token,
            contact=None if request.contact is UNSET else msgspec.json.encode(request.contact),
            hold=None if request.hold is UNSET else _key(request.hold),
            direct=None if direct is None else Wanted(direct.offer, direct.qty),
            given=Given(
                quote=None if request.quote is UNSET else request.quote,
                shipping=None if request.shipping is UNSET else request.shipping,
                to=None if request.contact is UNSET else request.contact.destination(),
            ),
        )
        near = range_of(call.address)
        if near is not None and not self._declines.has(near, now=time.monotonic()):
            raise TooManyTries("too many payments from your network were declined: try again later")

        def declined() -> None:
            if near is not None:
                self._declines.take(near, now=time.monotonic())

        answer = await self._checkout.pay(
            call.caller, _joined(call), purchase, on_declined=declined
        )
        return answer.body()

    async def quote(self, call: RpcCall, request: requests.QuoteRequest) -> object:
        """Raises Busy for whoever asks more often than a form is filled in."""
        direct, show = request.direct(), _joined(call)
        to = request.contact.destination()
        if to is None:
            raise BadField("contact.address", "must have parts: country, region, postcode")
        if not self._asked.take(call.connection, now=time.monotonic()):
            raise Busy("too many quotes", retry_ms=int(1_000 / QUOTES_PER_SECOND))
        if direct is not None:
            wanted: HoldKey | Wanted = Wanted(direct.offer, direct.qty)
        else:
            assert request.hold is not UNSET, "checked by direct()"
            wanted = _key(request.hold)
        return await self._quotes.quote(call.caller, show, wanted, to)

    async def order(self, call: RpcCall, request: requests.OrderName) -> object:
        request.check()
        buyer = require_buyer(call.caller)
        if request.order is not UNSET:
            order = await self._orders.of_buyer(OrderId(request.order.lower()), call.caller.sub)
        else:
            assert request.hold is not UNSET, "checked above"
            order = await self._orders.of_hold(_joined(call), buyer, _key(request.hold))
        if order is None:
            raise NotFound("unknown order")
        return order

    async def withdraw(self, call: RpcCall, request: requests.WithdrawOrder) -> object:
        require_buyer(call.caller)
        order = OrderId(request.order.lower())
        return await self._withdrawals.withdraw(order, call.caller.sub, confirm=request.confirm)

    async def join(self, call: RpcCall, request: requests.JoinWaitlist) -> object:
        wanted = Wanted(request.offer, request.qty)
        show, key = _joined(call), _key(request.key)
        return (await self._waitlist.join(call.caller, show, wanted, key)).body()

    async def leave(self, call: RpcCall, request: requests.OfferName) -> object:
        await self._waitlist.leave(call.caller, _joined(call), request.offer)
        return {}

    async def react(self, call: RpcCall, request: requests.React) -> object:
        """Raises Busy beyond what a person taps."""
        show = _visible(call, request.show)
        if show != call.show:
            # Asked first, or anybody could leave counters of shows that are not.
            await self._shows.state(call.caller, show, joined=False)
        if not self._taps.take(call.connection, now=time.monotonic()):
            raise Busy("too many reactions", retry_ms=int(1_000 / REACTIONS_PER_SECOND))
        self._reactions.add(show, request.kind)
        return {}


def _time_now(call: RpcCall) -> None:
    read_data(_NOTHING, call.data)
    call.reply(b'{"time":%d}' % (time.time_ns() // 1_000_000))


def read_data(decoder: msgspec.json.Decoder[Request], data: bytes) -> Request:
    """Raises BadField. Clients also send null where a call takes no fields."""
    return read(decoder, b"" if data == b"null" else data)


def _joined(call: RpcCall) -> ShowId:
    """Raises NotFound for a connection that joined no show: nothing of a show exists for it."""
    if call.show is None:
        raise NotFound("this connection joined no show")
    return call.show


def _visible(call: RpcCall, show: str) -> ShowId:
    """Raises NotFound for a show that the token does not cover: the same as for one that is not."""
    if not call.caller.may_see(ShowId(show)):
        raise NotFound(f"unknown show {show}")
    return ShowId(show)


def _key(text: str) -> HoldKey:
    return HoldKey(bytes.fromhex(text.replace("-", "")))


def _task(
    kind: type[Request], handle: Callable[[RpcCall, Request], Awaitable[object]]
) -> RpcHandler:
    """A handler that waits for something: the request is read before a task is made."""
    decoder = msgspec.json.Decoder(kind)

    def handler(call: RpcCall) -> Awaitable[object]:
        return handle(call, read_data(decoder, call.data))

    return handler


_HOLD = msgspec.json.Decoder(requests.HoldRequest)
_NOTHING = msgspec.json.Decoder(Empty)

"""The shop's own checkout: what its server may ask and say of a hold that is paid there.

Always: the money is the shop's, and nothing is sold but by its word, once. A confirmation is
written down before units are sold, so whoever dies between the two leaves a payment that the
payment worker ends in an order or in nothing; a repeat with the same reference is told which. What
was refused once (`hold_lost`) is never sold for that payment afterwards.
Called by: the HTTP API, for the role service alone.
Not here: who is sent there, and how (payments/providers/external.py).
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from live.base.errors import Busy, Conflict, NotFound
from live.base.failpoint import failpoint
from live.buying.ports import SaleOrders, SaleStock, ShopPayments, ShopWords
from live.buying.waiters import OrderWaiters, Waiter
from live.domain.hold import HoldState
from live.domain.ids import BuyerId, HoldKey, ShowId, key_text
from live.domain.order import OrderState, OrderView
from live.domain.orders.shop_hold import ShopHold, ShopPayment
from live.domain.outcomes import Outcome
from live.domain.payment import Payment
from live.domain.payment_flow import is_sold
from live.domain.payment_states import AWAITING_MONEY, FINAL

ANSWER_SECONDS = 2.5  # of a confirmation that waits for its order to be written
LOOK_SECONDS, LOOK_SECONDS_MAX = 0.1, 0.8  # between looks for it, where no event tells of it here
DECLINED = "declined by the shop: "  # before its reason, so that no reason reads like an outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldThere:
    """Whose hold: a key is the client's, so it names a hold together with show and person."""

    show: ShowId
    sub: str
    hold: HoldKey


@dataclass(frozen=True, slots=True, kw_only=True)
class ShopPaid:
    """`reference`: the shop's own number for the payment; the rest is what was paid there."""

    reference: str
    amount_minor: int
    currency: str


class ShopCheckout:
    """`digest_of`: how stock and ledger know a person; the others are facades of the packages
    below, and who waits for an order."""

    def __init__(
        self,
        stock: SaleStock,
        payments: ShopPayments,
        words: ShopWords,
        orders: SaleOrders,
        waiters: OrderWaiters,
        *,
        digest_of: Callable[[str], BuyerId],
        answer_seconds: float = ANSWER_SECONDS,
    ) -> None:
        self._stock = stock
        self._payments = payments
        self._words = words
        self._orders = orders
        self._waiters = waiters
        self._digest_of = digest_of
        self._answer_seconds = answer_seconds

    async def read(self, there: HoldThere) -> ShopHold:
        """Raises NotFound for a hold that is not at the shop's checkout, and Busy."""
        found = await self._find(there)
        has = await self._stock.buyer_state(there.show, self._digest_of(there.sub))
        live = next((hold for hold in has.holds if hold.key == there.hold), None)
        kept = found.order_state not in (None, OrderState.REJECTED)
        if kept or there.hold in has.sold:
            state = HoldState.CONFIRMED
        elif live is not None:
            state = live.state
        else:
            released = found.hold_state is HoldState.RELEASED
            state = HoldState.RELEASED if released else HoldState.EXPIRED
        return ShopHold(
            hold=key_text(there.hold),
            show=there.show,
            sub=there.sub,
            state=state,
            items=found.items,
            amount_minor=found.payment.amount_minor,
            currency=found.payment.currency,
            expires_at=0 if live is None else live.expires_at,
            order=found.payment.order if kept else None,
        )

    async def confirm(self, there: HoldThere, paid: ShopPaid) -> OrderView:
        """The shop has the money: sell the units, and wait until the order is written.

        Raises NotFound; Conflict, and nothing is sold by this word, `reason` says why; Busy, also
        where the order is not written in time: the same confirmation again is told what it came to.
        """
        found = await self._find(there)
        await self._words.claim(found.payment, paid.reference)
        _check(found, paid)
        if found.payment.state in AWAITING_MONEY:
            await self._words.accept(found.payment.id, paid.reference)
            failpoint("shop.after_accept")
            found = await self._find(there)
            _check(found, paid)
        buyer = self._digest_of(there.sub)
        with self._waiters.expect(there.show, buyer, there.hold) as waiter:
            if found.order_state is None:
                await self._take_units(found.payment)
                failpoint("shop.after_confirm")
            return await self._await_order(found.payment, waiter)

    async def decline(self, there: HoldThere, reason: str) -> ShopHold:
        """The buyer does not pay there: their hold is as before, in a moment, and they are told.

        Raises NotFound, and Conflict where it was confirmed.
        """
        found = await self._find(there)
        if not _is_over(found):
            await self._payments.ask_void(
                found.payment.id, reason=DECLINED + reason, unless_authorised=True
            )
            found = await self._find(there)
        if not _is_over(found):
            raise Conflict("this hold was confirmed before", reason="confirmed")
        return await self.read(there)

    async def _find(self, there: HoldThere) -> ShopPayment:
        return await self._words.read(there.show, self._digest_of(there.sub), there.hold)

    async def _take_units(self, payment: Payment) -> None:
        """Raises Conflict where the hold is over: from then on nobody sells for this payment."""
        show, buyer, hold, units = payment.show, payment.buyer, payment.hold, payment.units
        try:
            moved = await self._stock.confirm(show, buyer, hold, units, payment=payment.id)
            if is_sold(moved):
                return
        except (NotFound, Conflict):
            pass  # stock lost the hold, or has refused this payment before
        if not await self._stock.refuse(show, buyer, hold, units, payment=payment.id):
            return  # the payment worker was faster
        failpoint("shop.after_refuse")
        await self._payments.ask_void(payment.id, reason=Outcome.HOLD_LOST)
        raise _lost()

    async def _await_order(self, payment: Payment, waiter: Waiter) -> OrderView:
        """The order, which the settler writes. Raises Conflict where it was rejected, and Busy."""
        now = asyncio.get_running_loop().time
        answer_by, pause = now() + self._answer_seconds, LOOK_SECONDS
        order = await self._order(payment)
        while order is None and now() < answer_by:
            order = await waiter.order(seconds=min(pause, answer_by - now()))
            order = order or await self._order(payment)
            pause = min(2 * pause, LOOK_SECONDS_MAX)
        if order is None:
            raise Busy(
                f"sold as order {payment.order}, which is being written: confirm it once more with"
                " the same reference",
                retry_ms=1_000,
            )
        if order.state is OrderState.REJECTED:
            raise _lost()
        return order

    async def _order(self, payment: Payment) -> OrderView | None:
        return await self._orders.of_hold(payment.show, payment.buyer, payment.hold)


def _is_over(found: ShopPayment) -> bool:
    """Whether this payment ended, or ends, without a sale."""
    if found.order_state is not None:
        return found.order_state is OrderState.REJECTED
    return found.void is not None or found.payment.state in FINAL


def _check(found: ShopPayment, paid: ShopPaid) -> None:
    """Raises Conflict where this confirmation cannot be the one that sells the hold."""
    payment = found.payment
    if (paid.amount_minor, paid.currency) != (payment.amount_minor, payment.currency):
        raise Conflict(
            f"this hold costs {payment.amount_minor} {payment.currency}", reason="another_amount"
        )
    if _is_over(found):
        if (found.void or payment.reason).startswith(DECLINED):
            raise Conflict("this hold was declined before", reason=Outcome.DECLINED)
        raise _lost()
    if payment.ref not in (None, paid.reference):
        raise Conflict("this hold was paid by another reference", reason="another_reference")


def _lost() -> Conflict:
    return Conflict("the hold is over: nothing was sold, pay it back", reason=Outcome.HOLD_LOST)

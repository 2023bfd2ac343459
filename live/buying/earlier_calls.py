"""Earlier calls for the same hold: whoever repeats a checkout is told what the first came to.

Always: a repeat with the same key tells the truth of the first call and never pays twice; a key
that was used for something else is refused.
Called by: checkout.py.
"""

from live.base.errors import Conflict
from live.buying.payment_run import PaymentRun
from live.buying.ports import SaleOrders, SalePayments
from live.buying.purchase import Call, CheckoutAnswer, order_answer
from live.buying.waiters import OrderWaiters
from live.domain.offer import Mode
from live.domain.order import OrderView
from live.domain.outcomes import Outcome
from live.domain.payment import Payment, PaymentState
from live.domain.payment_states import AWAITING_MONEY, GIVEN_UP

ANOTHER = "this key belongs to another checkout"


class EarlierCalls:
    """The arguments: facades of the ledger, who waits for an order, and how a payment goes on."""

    def __init__(
        self, payments: SalePayments, orders: SaleOrders, waiters: OrderWaiters, run: PaymentRun
    ) -> None:
        self._payments = payments
        self._orders = orders
        self._waiters = waiters
        self._run = run

    async def same(self, call: Call) -> CheckoutAnswer | None:
        """What this very call came to before; None for a first one. Raises Conflict."""
        for payment in await self._payments.of_hold(call.show, call.buyer, call.hold):
            if payment.attempt == call.purchase.key:
                return await self.truth(call, payment)
        return None

    async def after_the_end(self, call: Call, outcome: Outcome) -> CheckoutAnswer:
        """Stock says that there is nothing (more) to pay; the ledger knows what became of it."""
        order = await self._orders.of_hold(call.show, call.buyer, call.hold)
        if order is not None:
            _check_order(call, order)
            return order_answer(order)
        payments = await self._payments.of_hold(call.show, call.buyer, call.hold)
        for payment in payments:
            if payment.attempt == call.purchase.key:
                return await self.truth(call, payment)
        if payments and payments[0].state not in GIVEN_UP:
            return call.says(Outcome.PROCESSING)
        return call.says(Outcome.PROCESSING if outcome is Outcome.CONFIRMED else outcome)

    async def truth(self, call: Call, payment: Payment) -> CheckoutAnswer:
        """What a payment that was there before this call has come to."""
        call.concerns(payment)
        mine = payment.attempt == call.purchase.key
        if _is_another(call, payment):
            raise Conflict(ANOTHER)
        if payment.state is PaymentState.ACTION_REQUIRED and mine:
            said = await call.provider.look_up(payment.id, payment.ref)
            return await self._run.go_on(call, payment, said)
        if payment.order_state is not None:
            order = await self._orders.of_hold(call.show, call.buyer, call.hold)
            if order is not None:
                return order_answer(order)
        if payment.state in GIVEN_UP:
            outcome = _WORDS.get(payment.reason, Outcome.DECLINED)
            return call.says(outcome, reason=payment.reason)
        if payment.state in AWAITING_MONEY:
            return call.says(Outcome.PROCESSING)
        with self._waiters.expect(call.show, call.buyer, call.hold) as waiter:
            order = await self._orders.of_hold(call.show, call.buyer, call.hold)
            if order is not None:
                return order_answer(order)
            return await self._run.await_order(call, waiter)


def _check_order(call: Call, order: OrderView) -> None:
    """Raises Conflict where the key of a direct purchase is the one of another order."""
    direct = call.purchase.direct
    if direct is not None:
        if [(item.offer, item.qty) for item in order.items] != [(direct.offer, direct.qty)]:
            raise Conflict(ANOTHER)


def _is_another(call: Call, payment: Payment) -> bool:
    """Whether this call's key was used before, and for something else."""
    if call.lines:  # none: the show does not know the offer any more, but an order does
        units = {(line.slot, line.qty) for line in payment.lines}
        if payment.mode is not Mode.FIRST_PAID or units != call.lines:
            return True
    asked = (call.provider.name, call.purchase.token, call.purchase.given.mark)
    mine = payment.attempt == call.purchase.key
    return mine and (payment.provider, payment.token, payment.quote) != asked


# A void keeps the refusal that caused it as its reason, in the words of the contract.
_WORDS = {outcome.value: outcome for outcome in Outcome}

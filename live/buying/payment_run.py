"""A payment under way in a checkout: `payment_flow` as it runs while the buyer waits.

Always: `confirmed` is said only when the order row is committed; who read `processing` before is
told of a failure on their channel. What this process cannot finish is due soon, for the worker.
Called by: checkout.py, for a fresh payment; earlier_calls.py, for one whose buyer had to act.
Not here: which step follows (domain/payment_flow.py); voids and captures (payments/).
"""

from collections.abc import Sequence
from typing import assert_never

import structlog

from live.base.errors import Busy, Conflict, NotFound
from live.base.failpoint import failpoint
from live.buying.ports import SaleOrders
from live.buying.purchase import Call, CheckoutAnswer, order_answer
from live.buying.waiters import OrderWaiters, Waiter
from live.domain.hold import HoldDecision
from live.domain.offer import Mode
from live.domain.outcomes import Outcome
from live.domain.payment import NewPayment, Payment, PaymentState
from live.domain.payment_flow import (
    Asked,
    AskVoid,
    Authorise,
    DoubtRefunds,
    RecordState,
    Revert,
    Said,
    Step,
    TakeUnits,
    Wait,
    after_record,
    answer_of,
    is_sold,
    what_follows,
)
from live.payments.port import Authorisation, held_against
from live.payments.ports import PaidStock, PaymentSteps

LAST_READ_SECONDS = 0.3  # of the answer's time, kept for the one Postgres read when no event came
SOON_MS = 500  # when the worker looks at a payment that this process cannot finish

log = structlog.get_logger()


class PaymentRun:
    """The arguments are facades of the packages below, and who waits for an order."""

    def __init__(
        self, stock: PaidStock, payments: PaymentSteps, orders: SaleOrders, waiters: OrderWaiters
    ) -> None:
        self._stock = stock
        self._payments = payments
        self._orders = orders
        self._waiters = waiters

    async def go_on(self, call: Call, payment: Payment, heard: Authorisation) -> CheckoutAnswer:
        """Write down what the provider said, then do what follows from it."""
        heard = held_against(payment, heard)
        if heard.state is PaymentState.DECLINED:
            call.on_declined()
        said = Said(heard.state, Asked.CHECKOUT, heard.reason)
        window_ms = call.provider.payment_window_ms(payment.token)
        return await self._run(
            call, payment, heard, what_follows(payment, said, window_ms=window_ms)
        )

    async def _run(
        self, call: Call, payment: Payment, heard: Authorisation, steps: Sequence[Step]
    ) -> CheckoutAnswer:
        now, reason = payment.state, ""
        while steps:
            step, *steps = steps
            match step:
                case Revert():
                    await self.revert(payment)
                    failpoint("checkout.after_revert")
                case RecordState():
                    now, reason = await self._record(call, payment, heard, step), step.reason
                    failpoint("checkout.after_record")
                    steps = after_record(now, steps)
                case TakeUnits():
                    return await self._secure(call, payment)
                case AskVoid():
                    return await self._ask_void(call, payment, step.reason)
                case Wait():
                    if step.soon:
                        await self._payments.postpone(payment.id, ms=SOON_MS)
                case Authorise() | DoubtRefunds():
                    raise AssertionError("a second question is the payment worker's to ask")
                case never:
                    assert_never(never)
        outcome = answer_of(now)
        action = heard.action if outcome is Outcome.ACTION_REQUIRED else None
        return call.says(
            outcome, action=action, reason=reason if outcome is Outcome.DECLINED else ""
        )

    async def _record(
        self, call: Call, payment: Payment, heard: Authorisation, step: RecordState
    ) -> PaymentState:
        if step.failed:
            call.failure = step.reason  # from here on the answer is `declined`
        return await self._payments.record(
            payment.id,
            step.state,
            ref=heard.ref,
            reason=step.reason,
            action=heard.action,
            notify=step.failed and call.processing,
        )

    async def _ask_void(self, call: Call, payment: Payment, reason: str) -> CheckoutAnswer:
        if await self._payments.ask_void(payment.id, reason=reason, unless_authorised=True):
            return call.says(Outcome.DECLINED, reason=reason)
        return call.says(Outcome.PROCESSING)  # a webhook brought the money at this moment

    async def revert(self, payment: Payment | NewPayment) -> None:
        """Nobody pays for this hold any more: it is as it was before it was paid."""
        if payment.mode is not Mode.HOLD:
            return
        try:
            await self._stock.revert(
                payment.show, payment.buyer, payment.hold, held_until=payment.held_until
            )
        except (Busy, NotFound) as error:
            # The failure counts more: the hold goes on to its deadline as a paying one.
            log.warning("checkout.not_reverted", reason=str(error))

    async def _secure(self, call: Call, payment: Payment) -> CheckoutAnswer:
        """The money is set aside: turn the hold into a sale and wait for its order."""
        with self._waiters.expect(call.show, call.buyer, call.hold) as waiter:
            refusal = await self._take_units(call, payment)
            failpoint("checkout.after_confirm")
            if refusal is not None:
                return refusal
            return await self.await_order(call, waiter)

    async def _take_units(self, call: Call, payment: Payment) -> CheckoutAnswer | None:
        """None when the units are sold to this buyer; else the answer."""
        show, buyer, hold, units = call.show, call.buyer, call.hold, payment.units
        try:
            if payment.mode is Mode.FIRST_PAID:
                sold = await self._stock.sell(show, buyer, hold, units, payment=payment.id)
                return None if is_sold(sold) else await self._give_back(call, payment, sold)
            moved = await self._stock.confirm(show, buyer, hold, units, payment=payment.id)
            if is_sold(moved):
                return None
        except Conflict as error:
            # The key was taken by another request while this one was paid.
            if await self._refuse(call, payment):
                await self._payments.ask_void(payment.id, reason=str(error))
            raise
        except (Busy, NotFound) as error:
            log.warning("checkout.left_to_worker", reason=str(error))
        # Paid, but the hold is over or stock does not answer: the worker retakes or voids.
        await self._payments.postpone(payment.id, ms=SOON_MS)
        return call.says(Outcome.PROCESSING)

    async def _give_back(
        self, call: Call, payment: Payment, sold: HoldDecision
    ) -> CheckoutAnswer | None:
        """The units are gone and the money goes back; None where they were sold after all.

        A repeat of this call, or the worker, may be about to sell with the same money: from here
        on it is refused, or it was faster.
        """
        if not await self._refuse(call, payment):
            return None
        await self._payments.ask_void(payment.id, reason=sold.outcome)
        failpoint("checkout.after_ask_void")
        return call.says(sold.outcome, reason=sold.reason)

    async def _refuse(self, call: Call, payment: Payment) -> bool:
        return await self._stock.refuse(
            call.show, call.buyer, call.hold, payment.units, payment=payment.id
        )

    async def await_order(self, call: Call, waiter: Waiter) -> CheckoutAnswer:
        """What became of a payment whose units are sold, as far as is known in time."""
        order = await waiter.order(seconds=call.seconds_left() - LAST_READ_SECONDS)
        if order is None and call.seconds_left() > 0:
            order = await self._orders.of_hold(call.show, call.buyer, call.hold)
        return call.says(Outcome.PROCESSING) if order is None else order_answer(order)

"""Checkout: from a hold (or, in `first_paid` mode, a click) to a committed order.

Always: a durable payment row precedes every call to a provider; `confirmed` is said only when the
order row is committed; an answer comes within `ANSWER_S` whatever happens. What is not decided then
goes on in this process while it lives, and after that with the payment worker, which finds the row
by its lease. A repeat with the same key tells the truth of the first call and never pays twice.
Not here: settling (ledger), late payments, voids and captures (payments/worker.py).
"""

import asyncio
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from uuid import uuid4

import structlog
from structlog.contextvars import bind_contextvars

from live.base.errors import BadField, Busy, CallError, Conflict, NotFound
from live.base.failpoint import failpoint
from live.buying.hold import HoldDesk, Wanted, require_buyer
from live.buying.offers import OfferBook
from live.buying.ports import SaleOrders, SalePayments, SaleStock
from live.buying.rehearsal import REASON, rehearsed_order
from live.buying.waiters import OrderWaiters, Waiter
from live.buying.ways import WaysToPay, check_contact, not_offered
from live.domain.caller import Caller
from live.domain.hold import HoldDecision, HoldState, Line
from live.domain.ids import BuyerId, HoldKey, ShowId, key_text, new_order_id
from live.domain.money import total_minor
from live.domain.offer import Mode
from live.domain.order import NOT_KEPT, OrderView
from live.domain.outcomes import Outcome
from live.domain.payment import Action, NewPayment, Payment, PaymentId, PaymentState, log_ids
from live.domain.payment_states import AWAITING_MONEY, GIVEN_UP, SECURED
from live.domain.show import ShowStatus
from live.domain.ways import open_to
from live.payments.port import Authorisation, Provider, authorise_request

ANSWER_S = 2.8  # the contract says 3 s: clients give up at 5
LAST_READ_S = 0.3  # of it, kept for the one Postgres read when no event came
FLOWS_MAX = 5_000  # checkouts under way in one process; beyond it: Busy
FLOW_S = 9.0  # then this process lets go: the row's lease ends at 10, and one alone may decide
SOON_MS = 500  # when the worker looks at a payment that this process cannot finish
TOO_SLOW = "this way of paying takes too long"  # in `first_paid` mode, which waits for the money
ANOTHER = "this key belongs to another checkout"
TRUTH_READS_MAX = 8  # Postgres reads at once for those whom stock has nothing for

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Purchase:
    """What the client asks: exactly one of `hold` and `direct` is set; `key` names the call."""

    key: HoldKey
    provider: str
    token: str | None
    contact: bytes | None  # JSON; passed on to Postgres and nowhere else
    hold: HoldKey | None = None
    direct: Wanted | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckoutAnswer:
    """`order` once it is committed; `action` where the buyer must go on at the provider."""

    outcome: Outcome
    hold: str
    order: OrderView | None = None
    action: Action | None = None
    reason: str = ""

    def body(self) -> dict[str, object]:
        """The JSON object of the contract: what is not there is left out."""
        fields = {
            "outcome": self.outcome,
            "hold": self.hold,
            "order": self.order,
            "action": self.action,
            "reason": self.reason or None,
        }
        return {name: value for name, value in fields.items() if value is not None}


@dataclass(slots=True)
class _Call:
    """One call under way. `opened`: its payment row may exist, so it must be answered for.

    `failure`: why the payment failed, once that is known; `processing`: the buyer was answered so
    before, and everything later must reach him on his channel. `payment` is what the call is about,
    once that is known. `lines`: the units that a direct purchase asks for, (slot, quantity).
    `on_declined` is called when the provider declines.
    """

    show: ShowId
    buyer: BuyerId
    sub: str
    guest: bool
    hold: HoldKey
    purchase: Purchase
    provider: Provider
    answer_by: float
    on_declined: Callable[[], None]
    opened: bool = False
    failure: str | None = None
    processing: bool = False
    payment: Payment | None = None
    lines: frozenset[tuple[int, int]] = frozenset()

    def seconds_left(self) -> float:
        return self.answer_by - asyncio.get_running_loop().time()

    def concerns(self, payment: Payment) -> None:
        """From here on this flow's log lines carry the payment's ids, whoever writes them."""
        self.payment = payment
        bind_contextvars(**log_ids(payment))

    def log_ids(self) -> dict[str, str]:
        if self.payment is not None:
            return log_ids(self.payment)
        return {"show": self.show, "hold": key_text(self.hold)}

    def says(
        self, outcome: Outcome, *, action: Action | None = None, reason: str = ""
    ) -> CheckoutAnswer:
        return CheckoutAnswer(
            outcome=outcome, hold=key_text(self.hold), action=action, reason=reason
        )


class Checkout:
    """`providers` by name, also of those that no new purchase may use; the other arguments are
    facades of the rooms below."""

    def __init__(
        self,
        stock: SaleStock,
        payments: SalePayments,
        orders: SaleOrders,
        providers: Mapping[str, Provider],
        *,
        ways: WaysToPay,
        book: OfferBook,
        desk: HoldDesk,
        waiters: OrderWaiters,
        answer_s: float = ANSWER_S,
    ) -> None:
        self._stock = stock
        self._payments = payments
        self._orders = orders
        self._providers = providers
        self._ways = ways
        self._book = book
        self._desk = desk
        self._waiters = waiters
        self._answer_s = answer_s
        self._flows: set[asyncio.Task[CheckoutAnswer]] = set()
        self._truth_reads = asyncio.Semaphore(TRUTH_READS_MAX)

    async def pay(
        self,
        caller: Caller,
        show: ShowId,
        purchase: Purchase,
        *,
        on_declined: Callable[[], None] = lambda: None,
    ) -> CheckoutAnswer:
        """Raises BadField, NotFound, Denied, Conflict, TooManyTries, and Busy: repeat with the same
        key. `on_declined` is called once for a try that the provider declined, however late."""
        provider = self._providers.get(purchase.provider)
        if provider is None:
            raise not_offered(self._ways.shop)
        if len(self._flows) >= FLOWS_MAX:
            raise Busy("too many checkouts at once")
        call = _Call(
            show=show,
            buyer=require_buyer(caller),
            sub=caller.sub,
            guest=caller.guest,
            hold=purchase.key if purchase.hold is None else purchase.hold,
            purchase=purchase,
            provider=provider,
            answer_by=asyncio.get_running_loop().time() + self._answer_s,
            on_declined=on_declined,
        )
        if purchase.provider in open_to(self._ways.shop, guest=caller.guest):
            check_contact(purchase.provider, purchase.contact)
        if self._is_rehearsal(show):
            return await self._rehearse(caller, call)
        if purchase.direct is None:
            return await self._in_time(call, self._pay_hold(call))
        return await self._in_time(call, self._pay_direct(caller, call, purchase.direct))

    async def close(self, *, seconds: float) -> None:
        """Let checkouts under way come to their end; the worker has what is left."""
        if self._flows:
            await asyncio.wait(self._flows, timeout=seconds)
        for flow in self._flows:
            flow.cancel()

    def _is_rehearsal(self, show: ShowId) -> bool:
        """As far as this process knows; where it knows too little, the ledger refuses the row."""
        try:
            return self._book.of(show).state.status is ShowStatus.REHEARSAL
        except Busy:
            return False

    async def _rehearse(self, caller: Caller, call: _Call) -> CheckoutAnswer:
        """Answer as if it had been paid. Raises what the stock engine raises."""
        direct = call.purchase.direct
        ways = self._ways_of(call, ())
        if call.provider.name not in ways:
            raise _not_offered(call, ways)
        if direct is None:
            moved = await self._stock.release(call.show, call.buyer, call.hold)
            lines, done = tuple(moved.lines), moved.done
            refusal = Outcome.EXPIRED
        else:
            lines, _ = self._desk.lines(caller, call.show, (direct,))
            seen = await self._stock.peek(call.show, call.buyer, call.hold, lines)
            done, refusal = seen.outcome is Outcome.HELD, seen.outcome
        if not done:
            return call.says(refusal)
        at = time.time_ns() // 1_000_000
        return CheckoutAnswer(
            outcome=Outcome.CONFIRMED,
            hold=key_text(call.hold),
            order=rehearsed_order(self._book.of(call.show), call.hold, lines, at=at),
            reason=REASON,
        )

    async def _in_time(
        self, call: _Call, flow: Coroutine[object, object, CheckoutAnswer]
    ) -> CheckoutAnswer:
        """Answer by the deadline; the flow itself goes on, and nobody's disconnect ends it."""
        task = asyncio.create_task(flow)
        self._flows.add(task)
        task.add_done_callback(partial(self._flow_ended, call))
        done, _ = await asyncio.wait({task}, timeout=self._answer_s)
        if not done:
            if not call.opened:
                raise Busy("the checkout has not begun: repeat it with the same key")
            if call.failure is not None:
                return call.says(Outcome.DECLINED, reason=call.failure)
            call.processing = True
            return call.says(Outcome.PROCESSING)
        error = task.exception()
        if error is None:
            return task.result()
        if call.opened and not isinstance(error, Conflict):
            # Whatever broke after the row was there: the worker finishes it from the row.
            return call.says(Outcome.PROCESSING)
        raise error

    def _flow_ended(self, call: _Call, task: asyncio.Task[CheckoutAnswer]) -> None:
        self._flows.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, CallError):
            log.error("checkout.broke", error=repr(error), **call.log_ids())

    async def _pay_hold(self, call: _Call) -> CheckoutAnswer:
        offers, name = self._book.of(call.show), call.provider.name
        narrow = not self._ways.everywhere(offers, name, guest=call.guest)
        if narrow:
            # Before `begin`, so that whoever chose a wrong way keeps his hold as it was.
            ways = self._ways_of(call, await self._held_lines(call))
            if name not in ways:
                return await self._another_way(call, ways)
        window_ms = call.provider.payment_window_ms(call.purchase.token)
        try:
            began = await self._stock.begin(call.show, call.buyer, call.hold, window_ms=window_ms)
        except NotFound:
            return await self._unknown_hold(call)
        failpoint("checkout.after_begin")
        if began.outcome is not Outcome.HELD:
            return await self._after_the_end(call, began.outcome)
        lines = tuple(began.lines)
        ways = self._ways_of(call, lines) if narrow else ()
        if narrow and name not in ways:
            raise _not_offered(call, ways)  # the hold came to be another one in that instant
        return await self._charge(call, lines, Mode.HOLD, began.held_until)

    def _ways_of(self, call: _Call, lines: Sequence[Line]) -> tuple[str, ...]:
        return self._ways.of(self._book.of(call.show), lines, guest=call.guest)

    async def _held_lines(self, call: _Call) -> tuple[Line, ...]:
        """What the buyer holds by this key; nothing where stock has no such live hold."""
        has = await self._stock.buyer_state(call.show, call.buyer)
        return next((hold.lines for hold in has.holds if hold.key == call.hold), ())

    async def _another_way(self, call: _Call, ways: Sequence[str]) -> CheckoutAnswer:
        """This way is not offered (any more), but a repeat is told the truth of its first call.

        Raises BadField.
        """
        async with self._truth_reads:
            for payment in await self._payments.of_hold(call.show, call.buyer, call.hold):
                if payment.attempt == call.purchase.key:
                    return await self._truth(call, payment)
        raise _not_offered(call, ways)

    async def _unknown_hold(self, call: _Call) -> CheckoutAnswer:
        """Stock forgets old holds, and data loss takes young ones; the ledger forgets nothing.

        Raises NotFound where nothing was ever lost: the hold is somebody else's, or never was.
        """
        async with self._truth_reads:
            answer = await self._after_the_end(call, Outcome.HOLD_LOST)
        first_life = self._book.of(call.show).state.stock_epoch == 1
        if answer.outcome is Outcome.HOLD_LOST and first_life:
            raise NotFound("unknown hold")
        return answer

    async def _pay_direct(self, caller: Caller, call: _Call, wanted: Wanted) -> CheckoutAnswer:
        try:
            lines, (terms,) = self._desk.lines(caller, call.show, (wanted,))
        except NotFound:  # an offer that closed long ago is not in the show's state any more
            answer = await self._refused_direct(call, Outcome.CLOSED)
            if answer.outcome is Outcome.CLOSED:
                raise
            return answer
        if terms.mode is not Mode.FIRST_PAID:
            raise BadField("hold", "is missing: this offer is sold by holds")
        ways = self._ways_of(call, lines)
        if call.provider.name not in ways:
            return await self._another_way(call, ways)
        if call.provider.is_asynchronous(call.purchase.token):
            return call.says(Outcome.DECLINED, reason=TOO_SLOW)
        call.lines = frozenset((line.slot, line.qty) for line in lines)
        seen = await self._stock.peek(call.show, call.buyer, call.hold, lines)
        if seen.outcome is not Outcome.HELD:
            return await self._refused_direct(call, seen.outcome, seen.reason)
        return await self._charge(call, lines, Mode.FIRST_PAID, 0)

    async def _refused_direct(
        self, call: _Call, outcome: Outcome, reason: str = ""
    ) -> CheckoutAnswer:
        """No stock now; but this may be the repeat of a call that got some."""
        try:
            async with asyncio.timeout(call.seconds_left()), self._truth_reads:
                answer = await self._after_the_end(call, outcome)
                return replace(answer, reason=answer.reason or reason)
        except TimeoutError:
            raise Busy("too many buyers came late: repeat it with the same key") from None

    async def _charge(
        self, call: _Call, lines: tuple[Line, ...], mode: Mode, held_until: int
    ) -> CheckoutAnswer:
        new = self._new_payment(call, lines, mode, held_until)
        call.opened = True  # from here a lost reply may hide a row
        try:
            opened = await self._payments.open_payment(new)
        except CallError as error:
            call.opened = False  # nothing was charged: the client repeats it with the same key
            if not isinstance(error, Busy):  # no row, so the hold must not wait for its money
                await self._revert(new)
            raise
        failpoint("checkout.after_open")
        call.concerns(opened.payment)
        if not opened.fresh:
            if not opened.active:  # nobody pays for this hold, so it must not wait for money
                await self._revert(opened.payment)
            return await self._truth(call, opened.payment)
        async with asyncio.timeout(FLOW_S):
            said = await call.provider.authorise(authorise_request(opened.payment))
            failpoint("checkout.after_authorise")
            return await self._apply(call, opened.payment, said)

    def _new_payment(
        self, call: _Call, lines: tuple[Line, ...], mode: Mode, held_until: int
    ) -> NewPayment:
        offers = self._book.of(call.show)
        priced = offers.priced(lines)
        try:
            amount = total_minor([(line.price_minor, line.qty) for line in priced])
        except ValueError as error:
            raise BadField("qty", str(error)) from error
        return NewPayment(
            id=PaymentId(str(uuid4())),
            order=new_order_id(),
            show=call.show,
            buyer=call.buyer,
            sub=call.sub,
            hold=call.hold,
            attempt=call.purchase.key,
            mode=mode,
            lines=priced,
            amount_minor=amount,
            currency=offers.at(lines[0].slot).currency,
            provider=call.provider.name,
            token=call.purchase.token,
            contact=call.purchase.contact,
            held_until=held_until,
        )

    async def _apply(self, call: _Call, payment: Payment, said: Authorisation) -> CheckoutAnswer:
        """Write down what the provider said, then do what follows from it."""
        state = said.state
        if state is PaymentState.AUTHORISING and payment.mode is Mode.FIRST_PAID:
            # The void needs the provider's own id, so what it said comes first.
            await self._payments.record(payment.id, state, ref=said.ref)
            if await self._payments.ask_void(payment.id, reason=TOO_SLOW, unless_authorised=True):
                return call.says(Outcome.DECLINED, reason=TOO_SLOW)
            return call.says(Outcome.PROCESSING)  # a webhook brought the money at this moment
        if state not in _ANSWERS and state is not PaymentState.AUTHORISED:
            state = PaymentState.UNKNOWN
        reason = said.reason
        if state is PaymentState.DECLINED:
            call.on_declined()
        if state in GIVEN_UP:
            await self._revert(payment)
            failpoint("checkout.after_revert")
            reason = call.failure = reason or state.value
        # From here on the answer is `declined`; who read `processing` is told on his channel.
        notify = call.failure is not None and call.processing
        state = await self._payments.record(
            payment.id, state, ref=said.ref, reason=reason, action=said.action, notify=notify
        )
        failpoint("checkout.after_record")
        if state in SECURED:
            return await self._secure(call, payment)
        if state is PaymentState.UNKNOWN:
            await self._payments.postpone(payment.id, ms=SOON_MS)
        outcome = _ANSWERS.get(state, Outcome.PROCESSING)
        action = said.action if outcome is Outcome.ACTION_REQUIRED else None
        return call.says(
            outcome, action=action, reason=reason if outcome is Outcome.DECLINED else ""
        )

    async def _revert(self, payment: Payment | NewPayment) -> None:
        """Before the failure is written down, so no other payment can have begun on the hold."""
        if payment.mode is not Mode.HOLD:
            return
        try:
            await self._stock.revert(
                payment.show, payment.buyer, payment.hold, held_until=payment.held_until
            )
        except (Busy, NotFound) as error:
            # The failure counts more: the hold goes on to its deadline as a paying one.
            log.warning("checkout.not_reverted", reason=str(error))

    async def _secure(self, call: _Call, payment: Payment) -> CheckoutAnswer:
        """The money is set aside: turn the hold into a sale and wait for its order."""
        with self._waiters.expect(call.show, call.buyer, call.hold) as waiter:
            refusal = await self._take_units(call, payment)
            failpoint("checkout.after_confirm")
            if refusal is not None:
                return refusal
            return await self._await_order(call, waiter)

    async def _take_units(self, call: _Call, payment: Payment) -> CheckoutAnswer | None:
        """None when the units are sold to this buyer; else the answer."""
        lines = tuple(Line(line.slot, line.qty) for line in payment.lines)
        try:
            if payment.mode is Mode.FIRST_PAID:
                sold = await self._stock.sell(
                    call.show, call.buyer, call.hold, lines, payment=payment.id
                )
                if sold.outcome in _SOLD:
                    return None
                return await self._give_back(call, payment, lines, sold)
            moved = await self._stock.confirm(
                call.show, call.buyer, call.hold, lines, payment=payment.id
            )
            if moved.done and moved.state is HoldState.CONFIRMED:
                return None
        except Conflict as error:
            # The key was taken by another request while this one was paid.
            if await self._refuse(call, payment, lines):
                await self._payments.ask_void(payment.id, reason=str(error))
            raise
        except (Busy, NotFound) as error:
            log.warning("checkout.left_to_worker", reason=str(error))
        # Paid, but the hold is over or stock does not answer: the worker retakes or voids.
        await self._payments.postpone(payment.id, ms=SOON_MS)
        return call.says(Outcome.PROCESSING)

    async def _give_back(
        self, call: _Call, payment: Payment, lines: tuple[Line, ...], sold: HoldDecision
    ) -> CheckoutAnswer | None:
        """The units are gone and the money goes back; None where they were sold after all.

        A repeat of this call, or the worker, may be about to sell with the same money: from here
        on it is refused, or it was faster.
        """
        if not await self._refuse(call, payment, lines):
            return None
        await self._payments.ask_void(payment.id, reason=sold.outcome)
        failpoint("checkout.after_ask_void")
        return call.says(sold.outcome, reason=sold.reason)

    async def _refuse(self, call: _Call, payment: Payment, lines: tuple[Line, ...]) -> bool:
        return await self._stock.refuse(call.show, call.buyer, call.hold, lines, payment=payment.id)

    async def _await_order(self, call: _Call, waiter: Waiter) -> CheckoutAnswer:
        order = await waiter.order(seconds=call.seconds_left() - LAST_READ_S)
        if order is None and call.seconds_left() > 0:
            order = await self._orders.of_hold(call.show, call.buyer, call.hold)
        return call.says(Outcome.PROCESSING) if order is None else _order_answer(order)

    async def _after_the_end(self, call: _Call, outcome: Outcome) -> CheckoutAnswer:
        """Stock says that there is nothing (more) to pay; the ledger knows what became of it."""
        order = await self._orders.of_hold(call.show, call.buyer, call.hold)
        if order is not None:
            self._check_order(call, order)
            return _order_answer(order)
        payments = await self._payments.of_hold(call.show, call.buyer, call.hold)
        for payment in payments:
            if payment.attempt == call.purchase.key:
                return await self._truth(call, payment)
        if payments and payments[0].state not in GIVEN_UP:
            return call.says(Outcome.PROCESSING)
        return call.says(Outcome.PROCESSING if outcome is Outcome.CONFIRMED else outcome)

    async def _truth(self, call: _Call, payment: Payment) -> CheckoutAnswer:
        """What a payment that was there before this call has come to."""
        call.concerns(payment)
        mine = payment.attempt == call.purchase.key
        if _is_another(call, payment):
            raise Conflict(ANOTHER)
        if payment.state is PaymentState.ACTION_REQUIRED and mine:
            said = await call.provider.look_up(payment.id, payment.ref)
            return await self._apply(call, payment, said)
        if payment.order_state is not None:
            order = await self._orders.of_hold(call.show, call.buyer, call.hold)
            if order is not None:
                return _order_answer(order)
        if payment.state in GIVEN_UP:
            outcome = _WORDS.get(payment.reason, Outcome.DECLINED)
            return call.says(outcome, reason=payment.reason)
        if payment.state in AWAITING_MONEY:
            return call.says(Outcome.PROCESSING)
        with self._waiters.expect(call.show, call.buyer, call.hold) as waiter:
            order = await self._orders.of_hold(call.show, call.buyer, call.hold)
            if order is not None:
                return _order_answer(order)
            return await self._await_order(call, waiter)

    def _check_order(self, call: _Call, order: OrderView) -> None:
        """Raises Conflict where the key of a direct purchase is the one of another order."""
        direct = call.purchase.direct
        if direct is not None:
            if [(item.offer, item.qty) for item in order.items] != [(direct.offer, direct.qty)]:
                raise Conflict(ANOTHER)


def _is_another(call: _Call, payment: Payment) -> bool:
    """Whether this call's key was used before, and for something else."""
    if call.lines:  # none: the show does not know the offer any more, but an order does
        units = {(line.slot, line.qty) for line in payment.lines}
        if payment.mode is not Mode.FIRST_PAID or units != call.lines:
            return True
    asked = (call.provider.name, call.purchase.token)
    mine = payment.attempt == call.purchase.key
    return mine and (payment.provider, payment.token) != asked


def _not_offered(call: _Call, ways: Sequence[str]) -> BadField:
    return not_offered(ways, call.provider.name, guest=call.guest)


def _order_answer(order: OrderView) -> CheckoutAnswer:
    gone = order.state in NOT_KEPT
    outcome = Outcome.REJECTED if gone else Outcome.CONFIRMED
    return CheckoutAnswer(outcome=outcome, hold=order.hold, order=order)


_SOLD = frozenset({Outcome.HELD, Outcome.CONFIRMED})
_ANSWERS = {
    PaymentState.DECLINED: Outcome.DECLINED,
    PaymentState.ACTION_REQUIRED: Outcome.ACTION_REQUIRED,
    PaymentState.AUTHORISING: Outcome.PROCESSING,
    PaymentState.UNKNOWN: Outcome.PROCESSING,
    PaymentState.VOIDED: Outcome.DECLINED,
}
# A void keeps the refusal that caused it as its reason, in the words of the contract.
_WORDS = {outcome.value: outcome for outcome in Outcome}

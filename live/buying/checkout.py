"""Checkout: from a hold (or, in `first_paid` mode, a click) to a committed order.

Always: a durable payment row precedes every call to a provider; `confirmed` is said only when the
order row is committed; an answer comes within `ANSWER_SECONDS` whatever happens. What is not
decided then goes on in this process while it lives, and after that with the payment worker, which
finds the row by its lease. A repeat with the same key tells the truth of the first call and never
pays twice. Not here: what becomes of the payment then (payment_run.py), what a repeat is told
(earlier_calls.py), settling (ledger), late payments, voids and captures (payments/worker.py).
"""

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import replace
from functools import partial
from uuid import uuid4

import structlog

from live.base.errors import BadField, Busy, CallError, Conflict, NotFound
from live.base.failpoint import failpoint
from live.base.faults import tell_fault
from live.buying.earlier_calls import EarlierCalls
from live.buying.hold import HoldDesk, Wanted, require_buyer
from live.buying.offers import OfferBook
from live.buying.payment_run import PaymentRun
from live.buying.ports import SaleOrders, SalePayments, SaleStock
from live.buying.purchase import Call, CheckoutAnswer, Purchase
from live.buying.quoting.quotes import Quotes
from live.buying.rehearsal import Rehearsal
from live.buying.waiters import OrderWaiters
from live.buying.ways import WaysToPay, check_contact, not_offered, refused_way
from live.domain.caller import Caller
from live.domain.hold import Line
from live.domain.ids import ShowId, new_order_id
from live.domain.money import total_minor
from live.domain.offer import Mode
from live.domain.outcomes import Outcome
from live.domain.payment import NewPayment, PaymentId
from live.domain.payment_flow import TOO_SLOW
from live.domain.ways import open_to
from live.payments.port import Provider, authorise_request

ANSWER_SECONDS = 2.8  # the contract says 3 s: clients give up at 5
FLOWS_MAX = 5_000  # checkouts under way in one process; beyond it: Busy
FLOW_SECONDS = 9.0  # this process lets go: the row's lease ends at 10, one alone may decide
TRUTH_READS_MAX = 8  # Postgres reads at once for those whom stock has nothing for

log = structlog.get_logger()


class Checkout:
    """`providers` by name, also of those that no new purchase may use; the other arguments are
    facades of the packages below."""

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
        quotes: Quotes,
        waiters: OrderWaiters,
        answer_seconds: float = ANSWER_SECONDS,
    ) -> None:
        self._stock = stock
        self._payments = payments
        self._providers = providers
        self._ways = ways
        self._book = book
        self._desk = desk
        self._quotes = quotes
        self._rehearsal = Rehearsal(stock, book, desk, ways, quotes)
        self._run = PaymentRun(stock, payments, orders, waiters)
        self._earlier = EarlierCalls(payments, orders, waiters, self._run)
        self._answer_seconds = answer_seconds
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
        call = Call(
            show=show,
            buyer=require_buyer(caller),
            sub=caller.sub,
            guest=caller.guest,
            hold=purchase.key if purchase.hold is None else purchase.hold,
            purchase=purchase,
            provider=provider,
            answer_by=asyncio.get_running_loop().time() + self._answer_seconds,
            on_declined=on_declined,
        )
        if purchase.provider in open_to(self._ways.shop, guest=caller.guest):
            check_contact(purchase.provider, purchase.contact)
        if self._rehearsal.runs(show):
            return await self._rehearsal.pay(caller, call)
        if purchase.direct is None:
            return await self._in_time(call, self._pay_hold(call))
        return await self._in_time(call, self._pay_direct(caller, call, purchase.direct))

    async def close(self, *, seconds: float) -> None:
        """Let checkouts under way come to their end; the worker has what is left."""
        if self._flows:
            await asyncio.wait(self._flows, timeout=seconds)
        for flow in self._flows:
            flow.cancel()

    async def _in_time(
        self, call: Call, flow: Coroutine[object, object, CheckoutAnswer]
    ) -> CheckoutAnswer:
        """Answer by the deadline; the flow itself goes on, and nobody's disconnect ends it."""
        task = asyncio.create_task(flow)
        self._flows.add(task)
        task.add_done_callback(partial(self._flow_ended, call))
        done, _ = await asyncio.wait({task}, timeout=self._answer_seconds)
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

    def _flow_ended(self, call: Call, task: asyncio.Task[CheckoutAnswer]) -> None:
        self._flows.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, CallError):
            tell_fault("checkout.broke", error, **call.log_ids())

    async def _pay_hold(self, call: Call) -> CheckoutAnswer:
        offers, name = self._book.of(call.show), call.provider.name
        refusal = self._quote_refusal(call, ())
        if refusal is not None:
            return await self._refused(call, refusal)
        narrow = not self._ways.everywhere(offers, name, guest=call.guest)
        if narrow:
            # Before `begin`, so that whoever chose a wrong way keeps their hold as it was.
            ways = self._ways_of(call, await self._held_lines(call))
            if name not in ways:
                return await self._refused(call, refused_way(call, ways))
        window_ms = call.provider.payment_window_ms(call.purchase.token)
        try:
            began = await self._stock.begin(call.show, call.buyer, call.hold, window_ms=window_ms)
        except NotFound:
            return await self._unknown_hold(call)
        failpoint("checkout.after_begin")
        if began.outcome is not Outcome.HELD:
            return await self._earlier.after_the_end(call, began.outcome)
        lines = tuple(began.lines)
        ways = self._ways_of(call, lines) if narrow else ()
        if narrow and name not in ways:
            raise refused_way(call, ways)  # the hold came to be another one in that instant
        return await self._charge(call, lines, Mode.HOLD, began.held_until)

    def _ways_of(self, call: Call, lines: Sequence[Line]) -> tuple[str, ...]:
        return self._ways.of(self._book.of(call.show), lines, guest=call.guest)

    async def _held_lines(self, call: Call) -> tuple[Line, ...]:
        """What the buyer holds by this key; nothing where stock has no such live hold."""
        has = await self._stock.buyer_state(call.show, call.buyer)
        return next((hold.lines for hold in has.holds if hold.key == call.hold), ())

    async def _refused(self, call: Call, refusal: CallError) -> CheckoutAnswer:
        """It cannot be paid like this (any more), but a repeat is told the truth of its first call.

        Raises `refusal`.
        """
        async with self._truth_reads:
            answer = await self._earlier.same(call)
        if answer is not None:
            return answer
        raise refusal

    def _quote_refusal(self, call: Call, lines: Sequence[Line]) -> CallError | None:
        """Read what is to be paid, before anything is done; why this quote is none for it."""
        try:
            call.bill = self._quotes.bill(call, lines)
        except (BadField, NotFound) as refusal:
            return refusal
        return None

    async def _unknown_hold(self, call: Call) -> CheckoutAnswer:
        """Stock forgets old holds, and data loss takes young ones; the ledger forgets nothing.

        Raises NotFound where nothing was ever lost: the hold is somebody else's, or never was.
        """
        async with self._truth_reads:
            answer = await self._earlier.after_the_end(call, Outcome.HOLD_LOST)
        first_epoch = self._book.of(call.show).state.stock_epoch == 1
        if answer.outcome is Outcome.HOLD_LOST and first_epoch:
            raise NotFound("unknown hold")
        return answer

    async def _pay_direct(self, caller: Caller, call: Call, wanted: Wanted) -> CheckoutAnswer:
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
            return await self._refused(call, refused_way(call, ways))
        refusal = self._quote_refusal(call, lines)
        if refusal is not None:
            return await self._refused(call, refusal)
        if call.provider.is_asynchronous(call.purchase.token):
            return call.says(Outcome.DECLINED, reason=TOO_SLOW)
        call.lines = frozenset((line.slot, line.qty) for line in lines)
        seen = await self._stock.peek(call.show, call.buyer, call.hold, lines)
        if seen.outcome is not Outcome.HELD:
            return await self._refused_direct(call, seen.outcome, seen.reason)
        return await self._charge(call, lines, Mode.FIRST_PAID, 0)

    async def _refused_direct(
        self, call: Call, outcome: Outcome, reason: str = ""
    ) -> CheckoutAnswer:
        """No stock now; but this may be the repeat of a call that got some."""
        try:
            async with asyncio.timeout(call.seconds_left()), self._truth_reads:
                answer = await self._earlier.after_the_end(call, outcome)
                return replace(answer, reason=answer.reason or reason)
        except TimeoutError:
            raise Busy("too many buyers came late: repeat it with the same key") from None

    async def _charge(
        self, call: Call, lines: tuple[Line, ...], mode: Mode, held_until: int
    ) -> CheckoutAnswer:
        new = self._new_payment(call, lines, mode, held_until)
        call.opened = True  # from here a lost reply may hide a row
        try:
            opened = await self._payments.open_payment(new)
        except CallError as error:
            call.opened = False  # nothing was charged: the client repeats it with the same key
            if not isinstance(error, Busy):  # no row, so the hold must not wait for its money
                await self._run.revert(new)
            raise
        failpoint("checkout.after_open")
        call.concerns(opened.payment)
        if not opened.fresh:
            if not opened.active:  # nobody pays for this hold, so it must not wait for money
                await self._run.revert(opened.payment)
            return await self._earlier.truth(call, opened.payment)
        async with asyncio.timeout(FLOW_SECONDS):
            said = await call.provider.authorise(authorise_request(opened.payment))
            failpoint("checkout.after_authorise")
            return await self._run.go_on(call, opened.payment, said)

    def _new_payment(
        self, call: Call, lines: tuple[Line, ...], mode: Mode, held_until: int
    ) -> NewPayment:
        offers = self._book.of(call.show)
        priced = offers.priced(lines)
        try:
            amount = total_minor([(line.price_minor, line.qty) for line in priced])
        except ValueError as error:
            raise BadField("qty", str(error)) from error
        bill = call.bill
        assert bill is None or bill.goods_minor == amount, "prices are frozen once it can be bought"
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
            amount_minor=amount if bill is None else bill.total_minor,
            currency=offers.at(lines[0].slot).currency,
            provider=call.provider.name,
            token=call.purchase.token,
            contact=call.purchase.contact,
            held_until=held_until,
            quote=call.purchase.given.mark,
            totals=() if bill is None else bill.lines,
        )

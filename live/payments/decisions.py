"""Decisions about payments that nobody else finished: `payment_flow` as the payment worker runs it.

Always: an authorised payment ends as an order or is voided, never both: confirming is the stock
engine's one atomic step, and a void is asked for in Postgres before it is sent, after which nobody
confirms.
Called by: the payment worker, which holds the payment's lease.
Not here: which step follows (domain/payment_flow.py); captures, voids, refunds (money_moves.py).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import assert_never

from live.aio.loops import Backoff
from live.base.errors import Conflict, NotFound
from live.base.failpoint import failpoint
from live.domain.hold import HoldState
from live.domain.offer import Mode
from live.domain.outcomes import Outcome
from live.domain.payment import Payment, PaymentState
from live.domain.payment_flow import (
    Asked,
    AskVoid,
    Authorise,
    DoubtRefunds,
    LookUp,
    RecordState,
    Revert,
    Said,
    Step,
    TakeUnits,
    Wait,
    after_record,
    first_step,
    give_up,
    is_sold,
    what_follows,
)
from live.domain.payment_states import FINAL
from live.payments.port import Authorisation, Provider, authorise_request, held_against
from live.payments.ports import WorkerRows, WorkerStock

BACKOFF_SECONDS, BACKOFF_SECONDS_MAX = 0.5, 300.0
UNITS_TAKEN_MS = 2_000  # at least, after units were sold: the order row comes through the outbox
OTHER_PURCHASE = "this key belongs to another purchase"


def backoff_ms(tries: int, *, seconds_max: float = BACKOFF_SECONDS_MAX) -> int:
    """How long to wait after so many tries."""
    return int(1_000 * Backoff(BACKOFF_SECONDS, seconds_max).seconds(tries + 1))


class Decisions:
    """`providers` by name; `wake` is called when a void was asked for."""

    def __init__(
        self,
        rows: WorkerRows,
        stock: WorkerStock,
        providers: Mapping[str, Provider],
        *,
        wake: Callable[[], None],
    ) -> None:
        self._rows = rows
        self._stock = stock
        self._providers = providers
        self._wake = wake

    async def decide(self, payment: Payment) -> str:
        """Take a payment one step further; says what was decided. Raises Busy: stock is."""
        match first_step(payment):
            case TakeUnits():
                return await self._take_units(payment)
            case LookUp():
                provider = self._providers[payment.provider]
                heard = await provider.look_up(payment.id, payment.ref)
                return await self._go_on(payment, heard, Asked.LOOK_UP)
            case never:
                assert_never(never)

    async def give_up(self, payment: Payment, state: PaymentState, reason: str) -> None:
        """The payment failed without its provider being asked."""
        for step in give_up(payment, state, reason):
            match step:
                case Revert():
                    await self._revert(payment)
                case RecordState():
                    await self._record(payment, Authorisation(state=state), step)

    async def _go_on(self, payment: Payment, heard: Authorisation, asked: Asked) -> str:
        heard = held_against(payment, heard)
        window_ms = self._window_ms(payment)
        said = Said(heard.state, asked, heard.reason)
        steps = what_follows(payment, said, window_ms=window_ms)
        return await self._run(payment, heard, steps)

    def _window_ms(self, payment: Payment) -> int:
        return self._providers[payment.provider].payment_window_ms(payment.token)

    def _look_again_ms(self, payment: Payment) -> int:
        """After the usual pause, and when the window is over: then the hold ends as well."""
        pause, left = backoff_ms(payment.tries), self._window_ms(payment) - payment.age_ms
        return min(pause, left + 1) if left > 0 else pause

    async def _run(self, payment: Payment, heard: Authorisation, steps: Sequence[Step]) -> str:
        decision = "nothing to do"
        while steps:
            step, *steps = steps
            match step:
                case Authorise():
                    charged = await self._providers[payment.provider].authorise(
                        authorise_request(payment)
                    )
                    failpoint("worker.after_authorise")
                    return await self._go_on(payment, charged, Asked.CHARGE)
                case Revert():
                    await self._revert(payment)
                    failpoint("worker.after_revert")
                case DoubtRefunds():
                    await self._rows.doubt_refunds(payment.id)
                case RecordState():
                    now = await self._record(payment, heard, step)
                    decision = self._recorded(step, now)
                    steps = after_record(now, steps)
                case TakeUnits():
                    return await self._take_units(payment)
                case AskVoid():
                    await self._rows.ask_void(
                        payment.id, reason=step.reason, unless_authorised=True
                    )
                    return "void: not finished in time"
                case Wait():
                    await self._rows.postpone(payment.id, ms=self._look_again_ms(payment))
                    return f"waiting: {heard.state}"
                case never:
                    assert_never(never)
        return decision

    def _recorded(self, step: RecordState, now: PaymentState) -> str:
        if now in FINAL and step.state not in FINAL:
            # Somebody gave it up meanwhile; recording has asked for the void.
            self._wake()
            return f"void: {step.state} when it was {now}"
        return f"{step.state}: {step.reason}" if step.failed else step.state

    async def _revert(self, payment: Payment) -> None:
        try:
            await self._stock.revert(
                payment.show, payment.buyer, payment.hold, held_until=payment.held_until
            )
        except NotFound:
            pass  # forgotten after its end, or lost with Redis' data: nothing is held

    async def _record(
        self, payment: Payment, heard: Authorisation, step: RecordState
    ) -> PaymentState:
        return await self._rows.record(
            payment.id,
            step.state,
            ref=heard.ref,
            reason=step.reason,
            action=heard.action,
            notify=step.failed,
        )

    async def _take_units(self, payment: Payment) -> str:
        """Turn an authorised payment into sold units, or ask for its void."""
        failpoint("worker.before_confirm")
        refusal = await self._refusal(payment)
        failpoint("worker.after_confirm")
        if refusal is None or not await self._refuse(payment):
            # Until the order row is there this is repeated.
            ms = max(backoff_ms(payment.tries), UNITS_TAKEN_MS)
            await self._rows.postpone(payment.id, ms=ms)
            return "confirmed"
        await self._rows.ask_void(payment.id, reason=refusal)
        failpoint("worker.after_ask_void")
        self._wake()
        return f"void: {refusal}"

    async def _refuse(self, payment: Payment) -> bool:
        return await self._stock.refuse(
            payment.show, payment.buyer, payment.hold, payment.units, payment=payment.id
        )

    async def _refusal(self, payment: Payment) -> str | None:
        """None when the units are sold to this buyer; else why they are not."""
        try:
            if payment.mode is Mode.FIRST_PAID:
                return await self._sell(payment)
            return await self._confirm_or_retake(payment)
        except Conflict:
            return OTHER_PURCHASE

    async def _sell(self, payment: Payment) -> str | None:
        show, buyer, hold, units = payment.show, payment.buyer, payment.hold, payment.units
        answer = await self._stock.sell(show, buyer, hold, units, payment=payment.id)
        return None if is_sold(answer) else answer.outcome

    async def _confirm_or_retake(self, payment: Payment) -> str | None:
        show, buyer, hold, units = payment.show, payment.buyer, payment.hold, payment.units
        try:
            moved = await self._stock.confirm(show, buyer, hold, units, payment=payment.id)
            if is_sold(moved):
                return None
            if moved.state is HoldState.RELEASED:
                return Outcome.ALREADY_RELEASED  # the buyer themselves gave it back meanwhile
        except NotFound:
            pass  # a rebuild did not find the hold; the payment's own lines say what it was
        try:
            moved = await self._stock.retake(show, buyer, hold, units, payment=payment.id)
        except NotFound:
            return Outcome.HOLD_LOST
        return None if is_sold(moved) else Outcome.EXPIRED

"""One key of one viewer: from the click to a verdict.

Always: a purchase is settled once, with what the buyer was told in the end; an answer and an event
may say the same thing, in any order, and count once.
"""

import asyncio
import time
from dataclasses import dataclass, field
from typing import Protocol
from uuid import uuid4

from live.client import CallFailed, NoAnswer
from live.domain.order import NOT_KEPT
from live.domain.outcomes import Outcome
from live.tools.demo.crowd import Fate
from live.tools.demo.seen import AnswerSeen, EventSeen, read_answer, read_order
from live.tools.demo.tally import KeyVerdict, Tally, Told

PROVIDER = "sandbox"
TOKEN_APPROVE, TOKEN_DECLINE = "tok_approve", "tok_decline"
PROCESSING_SECONDS = 4.0  # then the buyer asks again instead of waiting on
EXPIRY_GRACE_SECONDS = 5.0  # after the deadline, until they must have heard that the hold expired


class Buyer(Protocol):
    """What a purchase needs of its viewer."""

    sub: str
    tally: Tally
    offer: str
    over: asyncio.Event

    async def ask(self, method: str, data: object) -> bytes: ...

    def write_down(self, told: Told) -> None: ...


@dataclass(slots=True, eq=False)
class ViewerPurchase:
    buyer: Buyer
    qty: int
    think_seconds: float
    key: str = field(default_factory=lambda: str(uuid4()))
    is_held: bool = False
    settled: bool = False
    outcome: str = ""  # the last refusal, "" before any answer
    expires_at: int = 0
    _attempts: int = 0  # to pay
    _news: asyncio.Queue[EventSeen] = field(default_factory=asyncio.Queue)

    def tell(self, event: EventSeen) -> None:
        """Hear what the viewer's own channel says about this key."""
        self._news.put_nowait(event)

    def settle(self, verdict: KeyVerdict, outcome: str, *, order: str = "") -> None:
        """Write down what the buyer was told; the first word counts."""
        if self.settled:
            return
        self.settled = True
        tally = self.buyer.tally
        if verdict is KeyVerdict.OK:
            tally.confirmed += 1
            tally.confirmed_units += self.qty
        elif verdict is KeyVerdict.UNKNOWN:
            tally.unknown += 1
        self.buyer.write_down(
            Told(
                sub=self.buyer.sub,
                key=self.key,
                qty=self.qty,
                verdict=verdict,
                outcome=outcome,
                order=order,
            )
        )

    # -- the hold

    async def click(self) -> None:
        """Press Buy once; a repeat of the key must get the first answer."""
        tally = self.buyer.tally
        tally.clicks += 1
        pressed = time.monotonic()
        answer = await self._ask(
            "offer.hold", {"offer": self.buyer.offer, "qty": self.qty, "key": self.key}
        )
        if answer is None:
            return
        tally.hold.add((time.monotonic() - pressed) * 1000)
        tally.note_outcome(answer.outcome)
        if answer.outcome == Outcome.HELD:
            self._take(answer)
        else:
            self.outcome = answer.outcome

    def give_up(self) -> None:
        """Take the refusal as it is; without any answer the outcome stays unknown."""
        if self.outcome:
            self._refuse(self.outcome)
        else:
            self.settle(KeyVerdict.UNKNOWN, "no answer")

    async def wait_in_line(self) -> None:
        """Join the waitlist; pay when units are granted."""
        answer = await self._ask(
            "waitlist.join", {"offer": self.buyer.offer, "qty": self.qty, "key": self.key}
        )
        if answer is None:
            return self.give_up()
        self.buyer.tally.note_outcome(answer.outcome)
        if answer.outcome == Outcome.HELD:
            self._take(answer)
        elif answer.outcome == Outcome.WAITLISTED:
            self.buyer.tally.waitlisted += 1
            if not await self._granted():
                return self._refuse(Outcome.CLOSED)
        else:
            return self._refuse(answer.outcome)
        await self.finish(Fate.PAY)

    async def _granted(self) -> bool:
        """Wait until units are granted, or the offer is over."""
        over = asyncio.create_task(self.buyer.over.wait())
        try:
            while True:
                news = asyncio.create_task(self._news.get())
                await asyncio.wait((news, over), return_when=asyncio.FIRST_COMPLETED)
                if not news.done():
                    news.cancel()
                    return False
                if news.result().type == "hold.granted":
                    self.buyer.tally.granted += 1
                    self.is_held = True
                    return True
        finally:
            over.cancel()

    def _take(self, answer: AnswerSeen) -> None:
        self.expires_at = answer.expires_at
        if not self.is_held:
            self.is_held = True
            self.buyer.tally.held += 1

    # -- the payment

    async def finish(self, fate: Fate) -> None:
        """Do with the held units what the plan says, until there is a verdict."""
        if fate is Fate.ABANDON:
            return await self._let_expire()
        await asyncio.sleep(self.think_seconds)
        if fate is Fate.PAY:
            return await self._pay(TOKEN_APPROVE)
        await self._pay(TOKEN_DECLINE)
        if self.settled:
            return
        if fate is Fate.DECLINE_THEN_PAY:
            await self._pay(TOKEN_APPROVE)
        else:
            answer = await self._ask("hold.release", {"hold": self.key})
            if answer is not None:
                self.outcome = answer.outcome
        if not self.settled:
            self.give_up()

    async def _pay(self, token: str) -> None:
        """One attempt; leaves the purchase unsettled only where the card was declined."""
        tally = self.buyer.tally
        tally.checkouts += 1
        self._attempts += 1
        self.outcome = ""
        pressed = time.monotonic()
        request = {
            "hold": self.key,
            "provider": PROVIDER,
            "token": token,
            "contact": {"name": "Demo Viewer", "email": f"{self.buyer.sub}@example.com"},
            "key": str(uuid4()),  # of this attempt; repeats of it carry the same one
        }
        answer = await self._ask("hold.checkout", request)
        if answer is not None:
            tally.checkout.add((time.monotonic() - pressed) * 1000)
            tally.note_outcome(answer.outcome)
        if self._is_final(answer) or await self._hear_verdict():
            return
        # Nothing was heard: the same key goes on with the same attempt, or tells how it ended.
        tally.repeats += 1
        if self._is_final(await self._ask("hold.checkout", request)):
            return
        if not await self._hear_verdict():
            await self._look_up_order()

    def _is_final(self, answer: AnswerSeen | None) -> bool:
        """Take the answer of a checkout; False where it leaves the outcome open."""
        if answer is None:
            if self.outcome:  # an error, and no outcome
                self._refuse(self.outcome)
            return bool(self.outcome)
        if answer.outcome in (Outcome.PROCESSING, Outcome.ACTION_REQUIRED):
            return False
        if answer.outcome == Outcome.CONFIRMED:
            self.settle(KeyVerdict.OK, answer.outcome, order=answer.order_id)
        elif answer.outcome == Outcome.DECLINED:
            self._declined()
        else:
            self._refuse(answer.outcome)
        return True

    async def _hear_verdict(self) -> bool:
        """Wait for the news of the buyer's own channel; False where none came."""
        try:
            async with asyncio.timeout(PROCESSING_SECONDS):
                while not self._heard_verdict(await self._news.get()):
                    pass
        except TimeoutError:
            return False
        return True

    def _heard_verdict(self, event: EventSeen) -> bool:
        match event.type:
            case "order.confirmed" if event.order is not None:
                self.settle(KeyVerdict.OK, event.type, order=event.order.order)
            case "order.rejected" | "order.cancelled":
                self._refuse(event.type)
            case "payment.failed" if self._attempts == 1:
                self._declined()  # of a second attempt it may be the first one's, come late: ask
            case "hold.expired":
                self._refuse(Outcome.EXPIRED)
            case _:
                return False
        return True

    async def _look_up_order(self) -> None:
        try:
            order = read_order(await self.buyer.ask("order.get", {"hold": self.key}))
        except (NoAnswer, CallFailed) as fault:
            return self.settle(KeyVerdict.UNKNOWN, f"order.get: {fault}")
        if order.state in NOT_KEPT:
            self._refuse(order.state)
        else:
            self.settle(KeyVerdict.OK, order.state, order=order.order)

    async def _let_expire(self) -> None:
        left = self.expires_at / 1000 - time.time() if self.expires_at else 0.0
        try:
            async with asyncio.timeout(max(0.0, left) + EXPIRY_GRACE_SECONDS):
                while (await self._news.get()).type != "hold.expired":
                    pass
        except TimeoutError:
            self.buyer.tally.note_failure("expiry was not told")
            return self._refuse("abandoned")
        self._refuse(Outcome.EXPIRED)

    # -- below

    def _declined(self) -> None:
        self.buyer.tally.declined += 1
        self.outcome = Outcome.DECLINED

    def _refuse(self, outcome: str) -> None:
        tally = self.buyer.tally
        if self.settled:
            return
        if outcome == Outcome.EXPIRED:
            tally.expired += 1
        elif not self.is_held:
            tally.refused += 1
        self.settle(KeyVerdict.REFUSED, outcome)

    async def _ask(self, method: str, data: object) -> AnswerSeen | None:
        """Ask until answered; None without an answer, and then `outcome` names an error if any."""
        try:
            return read_answer(await self.buyer.ask(method, data))
        except NoAnswer:
            return None
        except CallFailed as failure:
            self.outcome = f"error {failure.code}"
            return None

"""Hostile buyers in millions: random commands of clients and every step of their checkouts, in any
order, against the real scripts; the till (till.py) raises where the ledger would reject a sale.

A checkout is a generator that stops after each step that another process could come between. The
scripts' clock is the test's, by stock_clock.py. A failing seed repeats exactly.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from random import Random

from live.base.errors import CallError, Conflict, NotFound
from live.domain.hold import HoldState, Line
from live.domain.ids import BuyerId, HoldKey, ShowId
from live.domain.offer import Mode, OfferTerms, Phase
from live.domain.outcomes import Outcome
from live.stock.engine import StockEngine
from live.stock.keys import show_keys
from live.stock.records import read_entry
from live.stock.replies import as_bytes, as_list
from tests.support.stock_clock import START_MS, TEST_CLOCK
from tests.support.stock_kit import buyer as buyer_number
from tests.support.stock_kit import terms
from tests.support.till import Pay, Till

BUYERS = 3
KEYS_EACH = 4
FLOWS_MAX = 24  # checkouts under way
DIRECT = 2  # the slot that is sold to whoever pays first
WINDOW_MS = 30_000
SETTLE_EVERY = 60
REBUILD_EVERY = 2_500

Flow = AsyncIterator[None]


class HostileBuyers:
    def __init__(self, engine: StockEngine, show: ShowId, seed: int) -> None:
        self.engine, self.show, self.random = engine, show, Random(seed)
        self.now, self.epoch, self.operations = START_MS, 1, 0
        self.till, self.flows, self.last = Till(), list[Flow](), "-"
        self.offers = {
            slot: terms(
                show,
                slot,
                allotted=40,
                per_buyer_limit=30,
                hold_seconds=20,
                mode=Mode.FIRST_PAID if slot == DIRECT else Mode.HOLD,
            )
            for slot in range(DIRECT + 1)
        }
        self.people = list(range(BUYERS))
        self.keys = [[self._new_key() for _ in range(KEYS_EACH)] for _ in range(BUYERS)]
        self.newest = [0] * BUYERS  # which key was used last

    async def run(self, operations: int) -> None:
        await self.engine.install_show(self.show, stock_epoch=1)
        await self._set_clock()
        for offer in self.offers.values():
            await self.engine.apply_offer(offer)
        commands: list[tuple[Callable[[], Awaitable[None]], int]] = [
            (self._hold, 14), (self._release, 8), (self._check_out, 10), (self._buy, 7),
            (self._join, 4), (self._leave, 1), (self._sixteen, 3), (self._step, 45),
            (self._late, 6), (self._cancel, 1), (self._reap, 3), (self._advance, 4),
            (self._restock, 1),
        ]  # fmt: skip
        kinds, weights = zip(*commands, strict=True)
        settled = rebuilt = 0
        while self.operations < operations:
            await self.random.choices(kinds, weights)[0]()
            self.operations += 1
            if self.operations - settled >= SETTLE_EVERY:
                settled = self.operations
                await self._settle()
            if self.operations - rebuilt >= REBUILD_EVERY:
                rebuilt = self.operations
                await self._rebuild()
        await self._end()

    # What clients send

    def _new_key(self) -> HoldKey:
        return HoldKey(self.random.randbytes(16))

    def _who(self) -> tuple[BuyerId, HoldKey]:
        at = self.random.randrange(BUYERS)
        # somebody else: their records are full of what they bought
        if self.random.random() < 0.002:
            self.people[at] = max(self.people) + 1
        keys = self.keys[at]
        if self.random.random() < 0.4:
            self.newest[at] = self.random.randrange(len(keys))
            if self.random.random() < 0.3:
                keys[self.newest[at]] = self._new_key()
        return buyer_number(self.people[at]), keys[self.newest[at]]

    async def _hold(self) -> None:
        lines = [Line(self.random.choice((0, 0, 1, DIRECT)), self.random.randint(1, 3))]
        if self.random.random() < 0.3:
            lines = [Line(0, self.random.randint(1, 2)), Line(1, 1)]
        with suppress(CallError):
            await self.engine.hold(self.show, *self._who(), lines)

    async def _release(self) -> None:
        with suppress(CallError):
            await self.engine.release(self.show, *self._who())

    async def _join(self) -> None:
        with suppress(CallError):
            line = Line(self.random.randrange(2), self.random.randint(1, 2))
            await self.engine.join_waitlist(self.show, *self._who(), line)

    async def _leave(self) -> None:
        await self.engine.leave_waitlist(self.show, self._who()[0], self.random.randrange(2))

    async def _sixteen(self) -> None:
        """So many new records that the oldest ended one is forgotten."""
        who, _ = self._who()
        for _ in range(17):
            key = self._new_key()
            with suppress(NotFound):  # there may be none left to hold
                await self.engine.hold(self.show, who, key, [Line(0, 1)])
                await self.engine.release(self.show, who, key)
            self.operations += 2

    async def _check_out(self) -> None:
        if len(self.flows) < FLOWS_MAX:
            self.flows.append(self._pay_hold(*self._who()))

    async def _buy(self) -> None:
        if len(self.flows) < FLOWS_MAX:
            lines = (Line(DIRECT, self.random.randint(1, 2)),)
            self.flows.append(self._pay_direct(*self._who(), lines))

    # What a gateway does with it (buying/payment_run.py)

    async def _step(self) -> None:
        if not self.flows:
            return
        flow = self.random.choice(self.flows)
        try:
            await anext(flow)
        except (StopAsyncIteration, CallError):
            self.flows.remove(flow)

    async def _pay_hold(self, who: BuyerId, key: HoldKey) -> Flow:
        began = await self.engine.begin(self.show, who, key, window_ms=WINDOW_MS)
        yield
        if began.outcome is Outcome.HELD:
            attempt = self.random.choice((key, self._new_key(), self._new_key()))
            lines, until = tuple(began.lines), began.held_until
            pay = Pay((who, key), attempt, False, lines, until, self.now)
            async for _ in self._charge(pay):
                yield

    async def _pay_direct(self, who: BuyerId, key: HoldKey, lines: tuple[Line, ...]) -> Flow:
        seen = await self.engine.peek(self.show, who, key, lines)
        yield
        if seen.outcome is Outcome.HELD:
            async for _ in self._charge(Pay((who, key), key, True, lines, 0, self.now)):
                yield

    async def _charge(self, new: Pay) -> Flow:
        pay = self.till.open(new)
        if pay is not new:
            self.till.seen["paid before"] += 1
            if self.till.active(new.who) is None:
                await self._revert(pay)
            if new.first_paid and (not pay.first_paid or pay.lines != new.lines):
                raise Conflict("this key belongs to another checkout")
            if pay.attempt != new.attempt:
                return  # the first one's order is waited for
        yield
        mood = self.random.random()
        if mood < 0.2:
            return  # unknown, or an action of the buyer's: the worker or a repeat goes on
        if mood < 0.4:
            await self._revert(pay)
            yield
            self.till.record(pay, authorised=False)
            return
        may_sell = self.till.record(pay, authorised=True)
        yield
        if may_sell:
            async for _ in self._secure(pay):
                yield

    async def _revert(self, pay: Pay) -> None:
        if not pay.first_paid:
            with suppress(NotFound):
                await self.engine.revert(self.show, *pay.who, held_until=pay.held_until)

    async def _secure(self, pay: Pay) -> Flow:
        if pay.first_paid:
            async for _ in self._sell(pay):
                yield
            return
        try:
            await self.engine.confirm(self.show, *pay.who, pay.lines, payment=pay.id)
        except Conflict:
            yield
            async for _ in self._refuse(pay):
                yield

    async def _sell(self, pay: Pay) -> Flow:
        try:
            sold = (await self.engine.sell(self.show, *pay.who, pay.lines, payment=pay.id)).outcome
        except Conflict:
            sold = Outcome.REJECTED
        yield
        if sold not in (Outcome.CONFIRMED, Outcome.HELD):
            async for _ in self._refuse(pay):
                yield

    async def _refuse(self, pay: Pay) -> Flow:
        if await self.engine.refuse(self.show, *pay.who, pay.lines, payment=pay.id):
            yield
            self.till.ask_void(pay)

    # What the payment worker does (payments/decisions.py)

    async def _late(self) -> None:
        """Somebody else takes over a payment, perhaps while a gateway is still at it."""
        undecided = [
            pay
            for mine in self.till.pays.values()
            for pay in mine
            if pay.state in ("open", "authorised")
        ]
        if undecided and len(self.flows) < FLOWS_MAX:
            self.flows.append(self._decide(self.random.choice(undecided)))

    async def _decide(self, pay: Pay) -> Flow:
        if pay.voiding:
            await self._revert(pay)
            yield
            if pay.state in ("open", "authorised"):
                pay.state = "over"
            return
        if pay.state == "open" and self.now - pay.since > WINDOW_MS and self.random.random() < 0.5:
            yield
            self.till.ask_void(pay, unless_authorised=True)
            return
        yield
        if self.till.record(pay, authorised=True):
            yield
            async for _ in self._take(pay):
                yield

    async def _take(self, pay: Pay) -> Flow:
        if pay.first_paid:
            async for _ in self._sell(pay):
                yield
            return
        try:
            moved = await self.engine.confirm(self.show, *pay.who, pay.lines, payment=pay.id)
            if moved.done:
                return
            yield
            if moved.state is not HoldState.RELEASED:
                moved = await self.engine.retake(self.show, *pay.who, pay.lines, payment=pay.id)
                if moved.done:
                    return
        except NotFound:
            if (await self.engine.retake(self.show, *pay.who, pay.lines, payment=pay.id)).done:
                return
        except Conflict:
            self.till.seen["other units"] += 1
        yield
        async for _ in self._refuse(pay):
            yield

    async def _cancel(self) -> None:
        """A capture was refused for good."""
        standing = [who for who, order in self.till.orders.items() if not order.cancelled]
        if standing and self.random.random() < 0.2:
            with suppress(NotFound):
                who = self.random.choice(standing)
                payment = self.till.orders[who].pay.id
                await self.engine.cancel(self.show, *who, payment=payment)

    # Time, hosts and the settler

    async def _reap(self) -> None:
        await self.engine.reap(self.show)

    async def _advance(self) -> None:
        self.now += self.random.choices((10, 300, 2_000, 25_000), (8, 8, 3, 1))[0]
        await self._set_clock()

    async def _set_clock(self) -> None:
        await self.engine._calls.send(b"SET", TEST_CLOCK, b"%d" % self.now)

    async def _restock(self) -> None:
        """More units, so that the sale never ends."""
        slot = self.random.randrange(len(self.offers))
        taken = self.till.sold[slot]
        await self._apply(slot, allotted=max(self.offers[slot].allotted, taken + 40))
        limit = max(30, taken + 30)
        await self._apply(slot, per_buyer_limit=min(limit, 60_000))

    async def _apply(self, slot: int, **changes: int) -> None:
        offer = self.offers[slot]
        changed: OfferTerms = replace(offer, version=offer.version + 1, **changes)  # type: ignore[arg-type]  # names are checked by replace
        self.offers[slot] = changed
        await self.engine.apply_offer(changed)

    async def _settle(self) -> None:
        start = "-" if self.last == "-" else f"({self.last}"
        key = show_keys(self.show).outbox
        entries = as_list(await self.engine._calls.send(b"XRANGE", key, start.encode(), b"+"))
        allotted = {slot: offer.allotted for slot, offer in self.offers.items()}
        for item in entries:
            entry, fields = as_list(item)
            values = [as_bytes(value) for value in as_list(fields)]
            self.last = as_bytes(entry).decode()
            pairs = dict(zip(values[0::2], values[1::2], strict=True))
            for movement in read_entry(self.show, self.last, pairs):
                self.till.settle(movement, allotted)

    async def _rebuild(self) -> None:
        await self.engine.stop_show(self.show)
        await self._settle()
        self.epoch += 1
        offers = tuple(self.offers.values())
        assert all(offer.phase is Phase.OPEN for offer in offers)
        stock = self.till.stock(self.show, self.epoch, offers, self.now)
        await self.engine.load_show(self.show, stock)

    async def _end(self) -> None:
        """Whatever is under way comes to its end; nothing is left hanging or differs."""
        while self.flows:
            await self._step()
        for mine in list(self.till.pays.values()):
            for pay in mine:
                for _ in range(3):
                    if pay.state in ("open", "authorised"):
                        async for _ in self._decide(pay):
                            pass
                        await self._settle()
                assert pay.state in ("captured", "over"), pay
        await self._settle()
        figures = (await self.engine.figures(self.show)).offers
        for slot, offer in self.offers.items():
            assert figures[slot].sold == self.till.sold[slot]
            assert figures[slot].allotted == offer.allotted

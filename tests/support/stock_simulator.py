"""A seeded simulator: random commands against the real scripts and the plain model, side by side.

The scripts run on a real server, by the test's clock (stock_clock.py). A third of the holds go
through the batcher, on one lane: which of two lanes Redis hears first is chance. A failing seed
repeats exactly. Here are the run and what hosts, time and losses do; what buyers do is in
stock_commands.py, what is drawn in stock_choices.py, what is compared in stock_checks.py.
"""

from dataclasses import replace

import pytest

from live.base.errors import Busy
from live.domain.hold import Line
from live.domain.offer import Mode, Phase
from live.stock.keys import show_keys
from tests.support.stock_choices import HASH_SLOTS
from tests.support.stock_clock import TEST_CLOCK
from tests.support.stock_commands import BuyersCommands
from tests.support.stock_kit import terms

COMPARE_EVERY = 150
LOSABLE = ("buyers", "deadlines", "guests")  # that every one of the commands below needs


class Simulator(BuyersCommands):
    async def run(self, operations: int) -> None:
        await self.engine.install_show(self.show, stock_epoch=self.epoch)
        await self._set_clock()
        for slot in range(HASH_SLOTS):
            await self._apply_new(slot)
        commands = (
            [self._hold_batch] * 20
            + [self._hold_together] * 10
            + [self._begin] * 12
            + [self._confirm] * 9
            + [self._revert] * 3
            + [self._release] * 7
            + [self._cancel] * 3
            + [self._retake] * 4
            + [self._refuse] * 2
            + [self._peek] * 2
            + [self._sell] * 8
            + [self._join] * 16
            + [self._leave] * 2
            + [self._reap] * 3
            + [self._apply] * 5
            + [self._close, self._buyer_state]
            + [self._advance] * 12
        )
        checked = rebuilt = 0
        while self.operations < operations:
            await self.random.choice(commands)()
            if self.operations - checked >= COMPARE_EVERY:
                checked = self.operations
                await self.compare()
            if self.operations - rebuilt >= 4_000:
                rebuilt = self.operations
                await self._rebuild(lost=self.random.choice((None, *LOSABLE)))
        await self.compare()
        self.seen.update(self.model.events)

    # Hosts, time, losses

    async def _reap(self) -> None:
        expected = self.model.reap()
        assert await self.engine.reap(self.show) == expected
        self._count("reap", expected > 0)

    async def _apply_new(self, slot: int) -> None:
        self.versions[slot] += 1
        fresh = terms(
            self.show,
            slot,
            version=self.versions[slot],
            mode=Mode.FIRST_PAID if slot == HASH_SLOTS - 1 else Mode.HOLD,
            hold_seconds=(10, 10, 45, 10, 10)[slot],
            per_buyer_limit=(3, 60, 6, 4, 5)[slot],
            allotted=(12, 90, 20, 5, 15)[slot],
            waitlist=slot != 2,
        )
        stock = await self.engine.apply_offer(fresh)
        assert stock == self.model.apply(fresh)

    async def _apply(self) -> None:
        slot = self.random.choice((*range(HASH_SLOTS), HASH_SLOTS - 2, HASH_SLOTS - 2))
        offer = self.model.offers[slot]
        phases = [Phase.OPEN] * 6 + [Phase.PAUSED, Phase.SCHEDULED, Phase.DRAFT, Phase.CLOSING]
        stale = self.random.random() < 0.1
        self.versions[slot] += 0 if stale else 1
        opens = self.random.choice((None, None, self.model.now + 3_000, self.model.now - 1))
        closes = self.random.choice((None, None, None, self.model.now + 20_000))
        changed = replace(
            offer.terms,
            version=self.versions[slot],
            phase=self.random.choice(phases),
            allotted=max(0, offer.terms.allotted + self.random.choice((-3, 0, 1, 1, 2, 5, 9))),
            opens_at=opens,
            closes_at=closes,
        )
        expected = self.model.apply(changed)
        assert await self.engine.apply_offer(changed) == expected
        self._count("apply", changed.phase.value)

    async def _close(self) -> None:
        expected = self.model.close()
        assert await self.engine.close_offers(self.show) == expected
        self._count("close", expected)
        # A closed offer stays closed; another one takes over its slot in the next life.
        if sum(offer.phase is Phase.CLOSED for offer in self.model.offers.values()) >= 2:
            await self._rebuild(reopen=True)

    async def _buyer_state(self) -> None:
        who = self._who()
        keys, places = self.model.live_state(who)
        state = await self.engine.buyer_state(self.show, who)
        assert {hold.key for hold in state.holds} == keys
        assert {place.slot: place.position for place in state.waiting} == places
        self._count("buyer", bool(keys or places))

    async def _advance(self) -> None:
        step = self.random.choice((1, 50, 400, 2_500, 9_999))
        if self.random.random() < 0.3:  # both sides of the next deadline or window
            step = max(1, self._next_event() - self.model.now + self.random.choice((-1, 0)))
        self.model.now += step
        await self._set_clock()
        self._count("clock", "on")

    def _next_event(self) -> int:
        offers = [offer.terms for offer in self.model.offers.values()]
        times = [*self.model.deadlines.values(), *self.model.batches]
        times += [time for item in offers for time in (item.opens_at, item.closes_at) if time]
        return min((time for time in times if time > self.model.now), default=self.model.now)

    async def _set_clock(self) -> None:
        await self.engine._calls.send(b"SET", TEST_CLOCK, b"%d" % self.model.now)

    async def _refused(self, lost: str) -> None:
        """Without one of its keys no command that needs it is decided, and nothing changes."""
        await self.engine._calls.send(b"DEL", getattr(show_keys(self.show), lost))
        model, asked = self.model, self.random.sample(range(HASH_SLOTS), HASH_SLOTS)
        for slot in asked:
            who, line = self._who(), Line(slot, 1)
            record = next(iter(model.buyers.get(who, [])), None)
            mine = record.key if record else self._new_key()
            for call in (
                self.engine.hold(self.show, who, self._key(who), [line]),
                self.engine.begin(self.show, who, mine, window_ms=1_000),
                self.engine.release(self.show, who, mine),
                self.engine.confirm(self.show, who, mine, record.lines if record else [line]),
                self.engine.join_waitlist(self.show, who, self._key(who), line),
                self.engine.leave_waitlist(self.show, who, slot),
                self.engine.reap(self.show),
            ):
                with pytest.raises(Busy):
                    await call
        self._count("lost", lost)

    async def _rebuild(self, *, reopen: bool = False, lost: str | None = None) -> None:
        """A new life of the show, read from the outbox alone, as the ledger would have it."""
        await self.compare()
        if lost is not None:
            await self._refused(lost)
        self.epoch += 1
        if reopen:
            for slot, offer in self.model.offers.items():
                self.versions[slot] += 1
                offer.phase = Phase.OPEN
                offer.terms = replace(
                    offer.terms, phase=Phase.OPEN, version=self.versions[slot], closes_at=None
                )
        await self.engine.stop_show(self.show)
        with pytest.raises(Busy):
            await self.engine.figures(self.show)
        stock = self._ledger()
        await self.engine.load_show(self.show, stock)
        self.model.live_again()
        self.model.reap()
        # Loading an older life changes nothing.
        await self.engine.load_show(self.show, replace(stock, stock_epoch=1, holds=()))
        self._count("rebuild", reopen)
        self._forget_rows()
        await self.compare()

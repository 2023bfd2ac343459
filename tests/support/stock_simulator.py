"""A seeded simulator: random commands against the real scripts and the plain model, side by side.

The scripts run on a real server. Their clock is the test's (`TEST_CLOCK`), because thousands of
deadlines must pass in a second, and the bounds of a grant are the model's, so that a dozen waiters
reach them. A third of the holds go through the batcher, on one lane: which of two lanes Redis hears
first is chance. A failing seed repeats exactly.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import replace
from random import Random

import pytest

from live.base.errors import Busy, CallError, Conflict, NotFound
from live.domain.hold import HoldDecision, Line
from live.domain.ids import BuyerId, HoldKey, ShowId
from live.domain.offer import Mode, Phase
from live.domain.outcomes import Outcome
from live.domain.stock import Transition
from live.redis import scripts
from live.stock.answers import REFUSALS, REPEATS, BatchReader
from live.stock.engine import StockEngine
from live.stock.keys import show_keys
from live.stock.records import pack_request, read_offers_now
from live.stock.replies import as_bytes, as_list, as_number
from tests.support.stock_checks import Checks
from tests.support.stock_kit import buyer as buyer_number
from tests.support.stock_kit import terms
from tests.support.stock_model import STATE_OF, WANTING, Model, Request, Told
from tests.support.stock_rules import GRANTS_MAX, GUEST, LOOKS_MAX

TEST_CLOCK = b"test:clock"
START_MS = 1_800_000_000_000
BUYERS = 14
KEYS_EACH = 5
HASH_SLOTS = 5
COMPARE_EVERY = 150
LOSABLE = ("buyers", "deadlines", "guests")  # that every one of the commands below needs


def prepare_scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the scripts read their time from a key of the test, and grant in small steps."""
    plain = scripts.read_source
    changes = {
        "_records": {
            "local time = call('TIME')\n  return time[1] * 1000 + floor(time[2] / 1000)": (
                f"return tonumber(call('GET', '{TEST_CLOCK.decode()}'))"
            )
        },
        "_work": {
            "GRANT_PAGE, LOOKS_MAX = 64, 2048": f"GRANT_PAGE, LOOKS_MAX = 2, {LOOKS_MAX}",
            "GRANTS_MAX = 64 ": f"GRANTS_MAX = {GRANTS_MAX} ",
        },
    }

    def prepared(package: str, name: str) -> str:
        text = plain(package, name)
        for real, small in changes.get(name, {}).items():
            assert text.count(real) == 1
            text = text.replace(real, small)
        return text

    monkeypatch.setattr(scripts, "read_source", prepared)
    scripts.read_scripts.cache_clear()


def simulated(number: int) -> BuyerId:
    """Every fifth one is a guest, and these come from two ranges of addresses."""
    plain = buyer_number(number)
    return BuyerId(GUEST + bytes((0, 0, 0, number % 2)) + plain[8:]) if number % 5 == 2 else plain


class Simulator(Checks):
    def __init__(self, engine: StockEngine, show: ShowId, seed: int) -> None:
        super().__init__(engine, show, Model(START_MS), Random(seed))
        self.keys = {
            simulated(n): [self._new_key() for _ in range(KEYS_EACH)] for n in range(BUYERS)
        }
        self.versions = Counter[int]()
        self.operations = 0
        self.seen = Counter[str]()  # what was covered: command and answer

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

    # Choices

    def _new_key(self) -> HoldKey:
        return HoldKey(self.random.randbytes(16))

    def _who(self) -> BuyerId:
        eager = self.random.random() < 0.25  # one buyer reaches the bound on their records
        return simulated(0 if eager else self.random.randrange(BUYERS))

    def _key(self, who: BuyerId) -> HoldKey:
        keys = self.keys[who]
        at = self.random.randrange(len(keys))
        if self.random.random() < 0.3:
            keys[at] = self._new_key()
        return keys[at]

    def _held_key(self, who: BuyerId) -> HoldKey:
        """Mostly a key that Redis knows, so that commands find something to do."""
        records = self.model.buyers.get(who, [])
        if records and self.random.random() < 0.8:
            return self.random.choice(records).key
        return self._key(who)

    def _lines(self) -> tuple[Line, ...]:
        if self.random.random() < 0.01:
            return (Line(HASH_SLOTS, 1),)  # an offer that Redis does not know
        count = self.random.choice((1, 1, 1, 1, 2, 3))
        slots = self.random.sample(range(HASH_SLOTS), count)
        return tuple(Line(slot, self.random.choice((1, 1, 2, 3))) for slot in slots)

    def _sale_lines(self) -> tuple[Line, ...]:
        """Mostly the offer that is sold to whoever pays first."""
        if self.random.random() < 0.2:
            return self._lines()
        return (Line(HASH_SLOTS - 1, self.random.choice((1, 1, 2, 5))),)

    def _requests(self) -> list[Request]:
        requests = [self._request() for _ in range(self.random.choice((1, 2, 5, 12, 40)))]
        if len(requests) > 4:  # repeats and conflicts inside one batch
            requests[-1] = requests[0]
            requests[-2] = (*requests[1][:2], self._lines())
        return requests

    def _request(self) -> Request:
        who = self._who()
        key = self._key(who)
        waiting = [r for r in self.model.buyers.get(who, []) if r.state == "W"]
        if waiting and self.random.random() < 0.5:  # takes a little while they wait for more
            return who, self._new_key(), (Line(waiting[0].lines[0].slot, 1),)
        known = self.model.find(who, key)
        lines = known.lines if known and self.random.random() < 0.6 else self._lines()
        if self.random.random() < 0.1:  # the same cart, its items in another order
            lines = tuple(reversed(lines))
        return who, key, lines

    def _count(self, command: str, answer: object, operations: int = 1) -> None:
        self.operations += operations
        self.seen[f"{command} {answer}"] += operations

    # Commands

    async def _hold_batch(self) -> None:
        requests = self._requests()
        expected = self.model.hold_batch(requests)
        blob = b"".join(pack_request(*request) for request in requests)
        keys = show_keys(self.show)
        names = (
            keys.meta,
            keys.offers,
            keys.buyers,
            keys.outbox,
            keys.deadlines,
            keys.guests,
        )
        count = b"%d" % len(requests)
        reply = as_list(await self.engine._calls.run("hold", self.show, names, blob, count))
        statuses, now, offers, details, due = reply
        codes = as_bytes(statuses)
        reader = BatchReader(as_number(now), read_offers_now(as_bytes(offers)), as_bytes(details))
        for code, request, wanted in zip(codes, requests, expected, strict=True):
            answer = reader.answer(code, request[2])
            assert chr(code) == wanted.code, (request, chr(code), wanted)
            self._check_hold_answer(answer, wanted)
        if set(WANTING) & {wanted.code for wanted in expected}:
            assert bool(due) == (self.model.due() or self.model.reserved_seen)

    async def _hold_together(self) -> None:
        """The same through the batcher, all in one turn of the loop and so in one batch."""
        requests = self._requests()
        expected = self.model.hold(requests)
        answers = await asyncio.gather(
            *(self.engine.hold(self.show, *request) for request in requests),
            return_exceptions=True,
        )
        for answer, wanted in zip(answers, expected, strict=True):
            assert isinstance(answer, HoldDecision | CallError), answer
            self._check_hold_answer(answer, wanted)

    def _check_hold_answer(self, answer: HoldDecision | CallError, wanted: Told) -> None:
        code, slot, left, until = wanted
        self._count("hold", code)
        if isinstance(answer, CallError):
            assert code in "dmu", (answer, wanted)
            return
        table = {chr(k): v for k, v in (REFUSALS | REPEATS).items()}
        table |= {"H": Outcome.HELD, "t": Outcome.HELD}
        assert answer.outcome is table[code], (answer, wanted)
        assert (answer.slot, answer.left) == (slot, left)
        assert answer.repeat == (code in "tersw")
        if code in "Ht":
            assert answer.expires_at == until

    async def _begin(self) -> None:
        who = self._who()
        key = self._held_key(who)
        window = self.random.choice((1_000, 60_000, 600_000))
        code, *until = self.model.begin(who, key, window)
        try:
            answer = await self.engine.begin(self.show, who, key, window_ms=window)
        except NotFound:
            assert code == "u"
        else:
            outcomes = {
                "P": Outcome.HELD,
                "E": Outcome.EXPIRED,
                "R": Outcome.ALREADY_RELEASED,
                "X": Outcome.ALREADY_RELEASED,
                "S": Outcome.CONFIRMED,
            }
            assert answer.outcome is outcomes[code]
            assert [answer.expires_at, answer.held_until] == until
        self._count("begin", code)

    async def _revert(self) -> None:
        who = self._who()
        key = self._held_key(who)
        until = self.model.now + self.random.choice((-1_000, 0, 5_000, 900_000))
        code = self.model.revert(who, key, until)
        try:
            answer = await self.engine.revert(self.show, who, key, held_until=until)
        except NotFound:
            assert code == "u"
        else:
            assert (answer.done, answer.state) == (code == "H", STATE_OF[code])
        self._count("revert", code)

    async def _confirm(self) -> None:
        who = self._who()
        key = self._held_key(who)
        paid = self._paid_lines(who, key)
        code = self.model.confirm(who, key, paid)
        await self._transition("confirm", "S", code, who, key, paid)

    async def _release(self) -> None:
        who = self._who()
        key = self._held_key(who)
        await self._transition("release", "R", self.model.release(who, key), who, key)

    async def _cancel(self) -> None:
        who = self._who()
        key = self._held_key(who)
        await self._transition("cancel", "X", self.model.cancel(who, key), who, key)

    def _paid_lines(self, who: BuyerId, key: HoldKey) -> tuple[Line, ...]:
        """Mostly what the hold is for."""
        known = self.model.find(who, key)
        return known.lines if known and self.random.random() < 0.95 else self._lines()

    async def _refuse(self) -> None:
        who = self._who()
        key = self._held_key(who)
        paid = self._paid_lines(who, key)
        expected = self.model.refuse(who, key, paid)
        payment = self._new_key().hex()  # its own: what the record says is compared here
        refused = self.engine.refuse(self.show, who, key, paid, payment=payment)
        assert await refused == expected
        self._count("refuse", expected)

    async def _transition(
        self, name: str, wanted: str, code: str, who: BuyerId, key: HoldKey, *paid: tuple[Line, ...]
    ) -> None:
        commands: dict[str, Callable[..., Awaitable[Transition]]] = {
            "confirm": self.engine.confirm,
            "release": self.engine.release,
            "cancel": self.engine.cancel,
        }
        try:
            answer = await commands[name](self.show, who, key, *paid)
        except NotFound:
            assert code == "u", (name, code)
        except Conflict:
            assert code == "d", (name, code)
        else:
            assert (answer.done, answer.state) == (code == wanted, STATE_OF[code])
        self._count(name, code)

    async def _retake(self) -> None:
        who = self._who()
        key = self._held_key(who)
        record = self.model.find(who, key)
        lines = self._paid_lines(who, key)
        if record is None and any(line.slot == HASH_SLOTS for line in lines):
            return  # an offer that Redis does not know: Busy, as its own test says
        code = self.model.retake(who, key, lines)
        try:
            answer = await self.engine.retake(self.show, who, key, lines)
        except NotFound:
            assert code == "u"
        except Conflict:
            assert code == "d"
        else:
            assert (answer.done, answer.state) == (code == "S", STATE_OF[code])
        self._count("retake", code)

    async def _peek(self) -> None:
        who, lines = self._who(), self._sale_lines()
        key = self._held_key(who) if self.random.random() < 0.4 else self._new_key()
        code, slot = self.model.peek(who, key, lines)
        await self._check_sale("peek", code, slot, self.engine.peek(self.show, who, key, lines))

    async def _sell(self) -> None:
        who, key, lines = self._request()
        if self.model.find(who, key) is None:
            lines = self._sale_lines()
        code, slot = self.model.sell(who, key, lines)
        await self._check_sale("sell", code, slot, self.engine.sell(self.show, who, key, lines))

    async def _check_sale(self, name: str, code: str, slot: int, call: object) -> None:
        try:
            answer = await call  # type: ignore[misc]  # a coroutine of either method
        except (Conflict, Busy, CallError):
            assert code in ("d", "m", "u", "t"), code
        else:
            good = {"H": Outcome.HELD, "S": Outcome.CONFIRMED, "t": Outcome.HELD}
            table = {chr(k): v for k, v in (REFUSALS | REPEATS).items()} | good
            assert answer.outcome is table[code], (answer, code)
            if code in "niclok":
                assert answer.slot == slot
        self._count(name, code)

    async def _join(self) -> None:
        who = self._who()
        key = self._key(who) if self.random.random() < 0.7 else self._held_key(who)
        known = self.model.find(who, key)
        line = known.lines[0] if known and self.random.random() < 0.6 else self._lines()[0]
        if known is None and self.random.random() < 0.7:  # a long line for one offer
            line = Line(HASH_SLOTS - 2, self.random.choice((1, 4, 4, 4)))
        code, position = self.model.join(who, key, line)
        try:
            answer = await self.engine.join_waitlist(self.show, who, key, line)
        except CallError:
            assert code in ("d", "m", "u"), code
        else:
            table = {chr(k): v for k, v in (REFUSALS | REPEATS).items()}
            table |= {"H": Outcome.HELD, "t": Outcome.HELD, "W": Outcome.WAITLISTED}
            assert (answer.outcome, answer.position) == (table[code], position)
            if code in "Ht":
                record = self.model.find(who, key)
                assert record is not None and answer.expires_at == record.time
        self._count("join", code)

    async def _leave(self) -> None:
        who, slot = self._who(), self.random.randrange(HASH_SLOTS)
        waiting = [slot for slot, waits in self.model.waits.items() if waits]
        if waiting and self.random.random() < 0.8:
            slot = self.random.choice(waiting)
            who = self.random.choice(self.model.waits[slot])[0]
        expected = self.model.leave(who, slot)
        assert await self.engine.leave_waitlist(self.show, who, slot) == expected
        self._count("leave", expected)

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

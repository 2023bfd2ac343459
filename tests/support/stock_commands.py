"""What the simulator's buyers do: holds, payments, direct sales and places in line.

Each command is given to the model and to Redis, and the answers are compared.
"""

import asyncio
from collections.abc import Awaitable, Callable

from live.base.errors import Busy, CallError, Conflict, NotFound
from live.domain.hold import HoldDecision, Line
from live.domain.ids import BuyerId, HoldKey
from live.domain.outcomes import Outcome
from live.domain.stock import Transition
from live.stock.answers import REFUSALS, REPEATS, BatchReader
from live.stock.keys import show_keys
from live.stock.records import pack_request, read_offers_now
from live.stock.replies import as_bytes, as_list, as_number
from tests.support.stock_choices import HASH_SLOTS, Choices
from tests.support.stock_model import STATE_OF, WANTING, Told


class BuyersCommands(Choices):
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

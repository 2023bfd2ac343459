"""A plain model of one show's stock: lists and dictionaries, no bytes.

What the Lua scripts must answer and leave behind, written a second time as simply as possible.
"""

from collections.abc import Sequence
from typing import NamedTuple

from live.domain.hold import HoldState, Line
from live.domain.ids import BuyerId, HoldKey
from live.domain.offer import Mode, OfferTerms, Phase, Stock
from tests.support.stock_rules import (
    COUNTED,
    ENDED,
    LATE_MONEY,
    LIVE,
    REFUSED,
    Offer,
    Record,
    Rules,
)

WANTING = ("l", "o", "k", "g")
Request = tuple[BuyerId, HoldKey, tuple[Line, ...]]


class Told(NamedTuple):
    """What a hold is answered: `slot` is the one that failed, where one did."""

    code: str
    slot: int
    left: int
    until: int  # where the code is H or t


class Model(Rules):
    """Commands, as the engine's facade offers them."""

    def hold(self, requests: Sequence[Request]) -> list[Told]:
        """As the batcher answers: who is refused while units are due is asked once more."""
        answers = self.hold_batch(requests)
        again = [i for i, told in enumerate(answers) if told.code in WANTING]
        if again and (self.due() or self.reserved_seen):
            self.reap()
            self.events.add("holds asked again")
            second = self.hold_batch([requests[i] for i in again])
            for i, answer in zip(again, second, strict=True):
                answers[i] = answer
        return answers

    def hold_batch(self, requests: Sequence[Request]) -> list[Told]:
        answers: list[tuple[str, int]] = []
        seconds: set[int] = set()
        self.reserved_seen = False
        for buyer, key, lines in requests:
            record = self.find(buyer, key)
            if record is not None:
                code = self.repeated(record, lines)
                if code != "d":  # what is left of its first offer was looked up
                    self.verdict(buyer, lines[:1], Mode.HOLD)
                    # A payment was refused for an offer that never was.
                    code = code if lines[0].slot in self.offers else "u"
                answers.append((code, lines[0].slot))
                continue
            code, slot = self.verdict(buyer, lines, Mode.HOLD)
            if not code and not self._would_fit(buyer, lines):
                code, slot = "k", lines[0].slot
            for line in lines:
                if not code and not self.guest_fits(buyer, line):
                    code, slot = "g", line.slot
            if code:
                answers.append((code, slot))
                continue
            self.make_room(buyer, lines)
            ttl = min(self.offers[line.slot].terms.hold_seconds for line in lines)
            self.move(lines, "left", "held")
            self.add(buyer, Record(key, lines, "H", self.now + 1000 * ttl))
            seconds.add(ttl)
            answers.append(("H", lines[0].slot))
        self.batches += [self.now + 1000 * ttl for ttl in seconds]
        left = {slot: offer.left for slot, offer in self.offers.items()}
        return [
            Told(code, slot, left.get(slot, 0), held.time if (held := self.find(buyer, key)) else 0)
            for (code, slot), (buyer, key, _) in zip(answers, requests, strict=True)
        ]

    def begin(self, buyer: BuyerId, key: HoldKey, window_ms: int) -> tuple[str, int, int]:
        record = self.find(buyer, key)
        if record is None or record.state == "W":
            return "u", 0, 0
        if record.state == "P":
            return "P", record.time, record.held_until
        if record.state != "H":
            return record.state, 0, 0
        if record.time <= self.now:
            return "E", 0, 0
        record.state, record.held_until = "P", record.time
        record.time = max(record.time, self.now + window_ms)
        self.deadlines[buyer, key] = record.time
        return "P", record.time, record.held_until

    def revert(self, buyer: BuyerId, key: HoldKey, held_until: int) -> str:
        record = self.find(buyer, key)
        if record is None or record.state == "W":
            return "u"
        if record.state == "E" and record.time > self.now:
            record.time = 0
            self.events.add("late money is off")
        if record.state == "P":
            record.state, record.time = "H", min(record.held_until, held_until)
            self.deadlines[buyer, key] = record.time
        return record.state

    def confirm(self, buyer: BuyerId, key: HoldKey, paid: tuple[Line, ...]) -> str:
        record = self.find(buyer, key)
        if record is not None and set(record.lines) != set(paid):
            return "d"
        return self._end(buyer, key, ("P",), "S", "held", "sold")

    def release(self, buyer: BuyerId, key: HoldKey) -> str:
        return self._end(buyer, key, ("H",), "R", "held", "left")

    def refuse(self, buyer: BuyerId, key: HoldKey, paid: tuple[Line, ...]) -> bool:
        """Whether nothing is sold for this key now, and will not be."""
        record = self.find(buyer, key)
        if record is None:
            if self.make_room(buyer, paid):
                self.add(buyer, Record(key, paid, "R", REFUSED))
                self.unheard.add((buyer, key))
            return True
        if set(record.lines) != set(paid):
            return True
        if record.state in ("E", "R"):
            record.time = REFUSED
        return record.state != "S"

    def cancel(self, buyer: BuyerId, key: HoldKey) -> str:
        return self._end(buyer, key, ("S",), "X", "sold", "left")

    def _end(
        self,
        buyer: BuyerId,
        key: HoldKey,
        allowed: Sequence[str],
        then: str,
        source: str,
        target: str,
    ) -> str:
        record = self.find(buyer, key)
        if record is None or record.state == "W":
            return "u"
        if record.state not in allowed:
            return record.state
        self.move(record.lines, source, target)
        record.state, record.time = then, 0
        self.deadlines.pop((buyer, key), None)
        if target == "left":
            for line in record.lines:
                self.grant(line.slot)
        return then

    def retake(self, buyer: BuyerId, key: HoldKey, asked: tuple[Line, ...]) -> str:
        first = self._retake(buyer, key, asked)
        if first != "refused":
            return first
        if self.due() or self.reserved_seen:
            self.reap()
            first = self._retake(buyer, key, asked)
        if first != "refused":
            return first
        record = self.find(buyer, key)
        return record.state if record else "E"

    def _retake(self, buyer: BuyerId, key: HoldKey, asked: tuple[Line, ...]) -> str:
        record = self.find(buyer, key)
        if record is not None and set(record.lines) != set(asked):
            return "d"
        if record is not None and record.state in ("S", "X", "W"):
            return "u" if record.state == "W" else record.state
        if record is not None and record.state in ("E", "R") and record.time == REFUSED:
            self.events.add("refused for good")
            return record.state
        lines = record.lines if record else asked
        live = record is not None and record.state in LIVE
        self.reserved_seen = any(self.offers[line.slot].reserved for line in lines)
        if record is None and not self._would_fit(buyer, asked):
            return "refused"
        for line in lines:
            offer = self.offers[line.slot]
            if offer.phase in (Phase.CLOSED, Phase.DRAFT):
                return "refused"
            over = self.units(buyer, line.slot) + line.qty > offer.terms.per_buyer_limit
            if not live and (line.qty > offer.left_for_new or over):
                return "refused"
        self.move(lines, "held" if live else "left", "sold")
        self.deadlines.pop((buyer, key), None)
        if record is None:
            self.make_room(buyer, lines)
            self.add(buyer, Record(key, lines, "S", 0))
        else:
            record.state, record.time = "S", 0
        return "S"

    def peek(self, buyer: BuyerId, key: HoldKey, lines: tuple[Line, ...]) -> tuple[str, int]:
        record = self.find(buyer, key)
        if record is not None:
            return self.repeated(record, lines), lines[0].slot
        code, slot = self._sale_verdict(buyer, lines)
        if code in WANTING and self.due():
            self.reap()
            code, slot = self._sale_verdict(buyer, lines)
        return code or "H", slot

    def _sale_verdict(self, buyer: BuyerId, lines: tuple[Line, ...]) -> tuple[str, int]:
        code, slot = self.verdict(buyer, lines, Mode.FIRST_PAID)
        if not code and not self._would_fit(buyer, lines):
            return "k", lines[0].slot
        return code, slot

    def sell(self, buyer: BuyerId, key: HoldKey, lines: tuple[Line, ...]) -> tuple[str, int]:
        record = self.find(buyer, key)
        if record is not None:
            return self.repeated(record, lines), lines[0].slot
        code, slot = self._sale_verdict(buyer, lines)
        if code in WANTING and self.due():
            self.reap()
            code, slot = self._sale_verdict(buyer, lines)
        if code:
            return code, slot
        self.make_room(buyer, lines)
        self.move(lines, "left", "sold")
        self.add(buyer, Record(key, lines, "S", 0))
        return "S", lines[0].slot

    def join(self, buyer: BuyerId, key: HoldKey, line: Line) -> tuple[str, int]:
        answer, position, look_again = self._join(buyer, key, line)
        reserved = answer not in ("l", "k", "g") and look_again and self.offers[line.slot].reserved
        if look_again and (self.due() or reserved):
            self.reap()
            answer, position, _ = self._join(buyer, key, line)
        return answer, position

    def _join(self, buyer: BuyerId, key: HoldKey, line: Line) -> tuple[str, int, bool]:
        record = self.find(buyer, key)
        if record is not None:
            code = self.repeated(record, (line,))
            if code == "w":
                return "W", self.position(line.slot, buyer), False
            return code, 0, False
        waits = self.waits.get(line.slot, [])
        if any(who == buyer for who, _, _ in waits):  # their other window
            self.events.add("joined twice")
            return "W", self.position(line.slot, buyer), False
        offer = self.offers.get(line.slot)
        if offer is None:
            return "u", 0, False
        code = "m" if offer.terms.mode is not Mode.HOLD else self.refusal(offer)
        if code and code != "i":
            return code, 0, False
        if self.units(buyer, line.slot) + line.qty > offer.terms.per_buyer_limit:
            return "l", 0, True
        takes = not code and line.qty <= offer.left_for_new
        if not self._would_fit(buyer, (line,)):
            return "k", 0, True
        if not self.guest_fits(buyer, line):
            return "g", 0, True
        if not takes and not offer.terms.waitlist:
            return "o", 0, True
        self.make_room(buyer, (line,))
        if takes:
            until = self.now + 1000 * offer.terms.hold_seconds
            self.move((line,), "left", "held")
            self.add(buyer, Record(key, (line,), "H", until))
            self.deadlines[buyer, key] = until
            return "H", 0, False
        self.joins += 1
        self.add(buyer, Record(key, (line,), "W", self.joins))
        self.waits.setdefault(line.slot, []).append((buyer, key, line.qty))
        return "W", len(self.waits[line.slot]), True

    def _would_fit(self, buyer: BuyerId, lines: Sequence[Line]) -> bool:
        before = list(self.buyers.get(buyer, []))
        roomy = self.make_room(buyer, lines)
        if before:
            self.buyers[buyer] = before
        return roomy

    def position(self, slot: int, buyer: BuyerId) -> int:
        return [who for who, _, _ in self.waits[slot]].index(buyer) + 1

    def leave(self, buyer: BuyerId, slot: int) -> bool:
        for who, key, qty in self.waits.get(slot, []):
            if who == buyer:
                self.waits[slot].remove((who, key, qty))
                record = self.find(buyer, key)
                assert record is not None
                self.remove(buyer, record)
                self.grant(slot)
                return True
        return False

    def reap(self) -> int:
        self.batches = [time for time in self.batches if time > self.now]
        moved = 0
        for records in self.buyers.values():
            for record in records:
                if record.state in LIVE and record.time <= self.now:
                    self.move(record.lines, "held", "left")
                    late = self.now + LATE_MONEY if record.state == "P" else 0
                    record.state, record.time = "E", late
                    moved += 1
        for who, time in list(self.deadlines.items()):
            if time <= self.now:
                del self.deadlines[who]
        for slot in self.offers:
            more = True
            while more:
                granted, more = self.grant(slot)
                moved += granted
        return moved

    def apply(self, terms: OfferTerms) -> Stock:
        offer = self.offers.get(terms.slot)
        if offer is None:
            offer = self.offers[terms.slot] = Offer(terms, terms.phase, terms.allotted)
        elif terms.version > offer.terms.version:
            offer.terms = terms
            if offer.phase is not Phase.CLOSED:
                offer.phase = terms.phase
            offer.left = terms.allotted - offer.held - offer.sold
            offer.reserved = 1
            self.grant(terms.slot)
        if terms.phase in (Phase.CLOSING, Phase.CLOSED):
            self.drain()
        return offer.stock

    def drain(self) -> None:
        for slot, waits in self.waits.items():
            if self.offers[slot].phase in (Phase.CLOSING, Phase.CLOSED):
                for buyer, _, _ in list(waits):
                    self.leave(buyer, slot)

    def close(self) -> int:
        self.drain()
        closed = 0
        for offer in self.offers.values():
            if offer.phase is Phase.CLOSING and offer.held == 0:
                offer.phase = Phase.CLOSED
                closed += 1
        return closed

    def live_state(self, buyer: BuyerId) -> tuple[set[HoldKey], dict[int, int]]:
        """Keys of live holds, and positions in waitlists by slot."""
        records = self.buyers.get(buyer, [])
        live = {r.key for r in records if r.state == "P" or (r.state == "H" and r.time > self.now)}
        places = {
            r.lines[0].slot: self.position(r.lines[0].slot, buyer)
            for r in records
            if r.state == "W"
        }
        return live, places

    def live_again(self) -> None:
        """What a rebuild leaves: what is over, in short, then live holds, sold ones and places."""
        self._remember_ends()
        kept = {
            buyer: [r for r in records if self._is_finished(r)]
            + [r for r in records if r.state in ENDED]
            + [r for r in records if r.state in COUNTED and not self._is_finished(r)]
            + sorted((r for r in records if r.state == "W"), key=lambda r: r.time)
            for buyer, records in self.buyers.items()
        }
        self.buyers = {buyer: records for buyer, records in kept.items() if records}
        self.batches = []
        for slot, offer in self.offers.items():
            offer.reserved = int(offer.left > 0 and bool(self.waits.get(slot)))
        self.deadlines = {
            (buyer, r.key): r.time
            for buyer, records in self.buyers.items()
            for r in records
            if r.state in LIVE
        }

    def _is_finished(self, record: Record) -> bool:
        slots = [line.slot for line in record.lines]
        return record.state == "S" and all(self.offers[s].phase is Phase.CLOSED for s in slots)

    def _remember_ends(self) -> None:
        """The ledger knows no refused key that was never held; of the others, not the refusal."""
        for buyer, records in self.buyers.items():
            self.buyers[buyer] = [r for r in records if (buyer, r.key) not in self.unheard]
            for record in self.buyers[buyer]:
                if record.state in ENDED and record.time <= self.now:
                    record.time = 0
        self.unheard.clear()


STATE_OF = {
    "H": HoldState.HELD,
    "P": HoldState.PAYING,
    "S": HoldState.CONFIRMED,
    "R": HoldState.RELEASED,
    "E": HoldState.EXPIRED,
    "X": HoldState.RELEASED,
}

"""The state of the plain model and the rules that its commands (stock_model.py) share.

Of the scripts' bounds on their work it has the two that decide who is granted first, made small.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from live.domain.hold import Line
from live.domain.ids import BuyerId, HoldKey
from live.domain.offer import Mode, OfferTerms, Phase, Stock

RECORDS_PER_OFFER = 16
RECORDS = 128
LATE_MONEY = 86_400_000
REFUSED = 1
GUEST = b"gst\0"
GRANTS_MAX = 1  # of one offer in one call; the scripts get the same two numbers
LOOKS_MAX = 2  # waiters of one offer in one call
LIVE = ("H", "P")
COUNTED = ("H", "P", "S")
ENDED = ("R", "E", "X")


@dataclass
class Record:
    key: HoldKey
    lines: tuple[Line, ...]
    state: str
    time: int
    held_until: int = 0  # of a paying hold: its deadline from before


@dataclass
class Offer:
    terms: OfferTerms
    phase: Phase
    left: int
    held: int = 0
    sold: int = 0
    reserved: int = 0  # what is left belongs to waiters from this turn on; 0: to anybody

    @property
    def left_for_new(self) -> int:
        return 0 if self.reserved else self.left

    @property
    def stock(self) -> Stock:
        return Stock(self.left, self.held, self.sold)


@dataclass
class Rules:
    now: int
    offers: dict[int, Offer] = field(default_factory=dict)
    buyers: dict[BuyerId, list[Record]] = field(default_factory=dict)
    waits: dict[int, list[tuple[BuyerId, HoldKey, int]]] = field(default_factory=dict)
    deadlines: dict[tuple[BuyerId, HoldKey], int] = field(default_factory=dict)
    batches: list[int] = field(default_factory=list)  # deadlines of batches of new holds
    events: set[str] = field(default_factory=set)  # rare branches that were taken
    reserved_seen: bool = False  # the last call looked at an offer that waiters come first for
    unheard: set[tuple[BuyerId, HoldKey]] = field(default_factory=set)  # refused, never held
    joins: int = 0  # waiting records keep their turn in `time`

    # Helpers

    def find(self, buyer: BuyerId, key: HoldKey) -> Record | None:
        records = self.buyers.get(buyer, [])
        return next((record for record in records if record.key == key), None)

    def units(self, buyer: BuyerId, slot: int) -> int:
        return sum(
            line.qty
            for record in self.buyers.get(buyer, [])
            if record.state in COUNTED
            for line in record.lines
            if line.slot == slot
        )

    def due(self) -> bool:
        times = [*self.deadlines.values(), *self.batches]
        return any(time <= self.now for time in times)

    def refusal(self, offer: Offer) -> str:
        terms = offer.terms
        if offer.phase in (Phase.CLOSING, Phase.CLOSED):
            return "c"
        if terms.closes_at and self.now >= terms.closes_at:
            return "c"
        if offer.phase is Phase.PAUSED:
            return "i"
        if offer.phase is Phase.DRAFT or self.now < (terms.opens_at or 0):
            return "n"
        if offer.phase is Phase.SCHEDULED and not terms.opens_at:
            return "n"
        return ""

    def verdict(self, buyer: BuyerId, lines: Sequence[Line], mode: Mode) -> tuple[str, int]:
        for line in lines:
            offer = self.offers.get(line.slot)
            if offer is None:
                return "u", line.slot
            if offer.terms.mode is not mode:
                return "m", line.slot
            code = self.refusal(offer)
            if not code and mode is Mode.HOLD and offer.reserved:
                self.events.add("waiters first")
                self.reserved_seen = True
                return "o", line.slot
            if not code and line.qty + self.units(buyer, line.slot) > offer.terms.per_buyer_limit:
                code = "l"
            if not code and line.qty > offer.left:
                code = "o"
            if code:
                return code, line.slot
        return "", 0

    def repeated(self, record: Record, lines: Sequence[Line]) -> str:
        if set(record.lines) != set(lines):
            return "d"
        if record.state == "H":
            return "t" if record.time > self.now else "e"
        return {"P": "t", "S": "s", "E": "e", "W": "w", "R": "r", "X": "r"}[record.state]

    def make_room(self, buyer: BuyerId, lines: Sequence[Line]) -> bool:
        """Drop ended records until one more fits; nothing is dropped where it never fits."""
        records = list(self.buyers.get(buyer, []))
        for line in lines:
            named = [r for r in records if any(item.slot == line.slot for item in r.lines)]
            ended: list[Record] = []
            if len(named) >= RECORDS_PER_OFFER:
                ended = [r for r in named if r.state in ENDED]
            elif len(records) >= RECORDS:
                ended = [r for r in records if r.state in ENDED]
            else:
                continue
            ended = [r for r in ended if r.time <= self.now]  # money may come for the others
            if not ended:
                self.events.add("records full")
                return False
            self.events.add("records dropped")
            records.remove(ended[0])
        if records:
            self.buyers[buyer] = records
        return True

    def guest_fits(self, buyer: BuyerId, line: Line) -> bool:
        """What guests hold or wait for: half of an offer, one range of addresses a twentieth."""
        if not buyer.startswith(GUEST):
            return True
        have = {
            who: sum(
                item.qty
                for record in records
                if record.state in (*LIVE, "W")
                for item in record.lines
                if item.slot == line.slot
            )
            for who, records in self.buyers.items()
            if who.startswith(GUEST)
        }
        near = sum(units for who, units in have.items() if who[4:8] == buyer[4:8])
        offer = self.offers[line.slot]
        allotted, limit = offer.stock.allotted, offer.terms.per_buyer_limit
        fits = sum(have.values()) + line.qty <= max(limit, allotted // 2)
        if fits and near + line.qty > max(limit, allotted // 20):
            self.events.add("addresses have enough")
        elif not fits:
            self.events.add("guests have enough")
        return fits and near + line.qty <= max(limit, allotted // 20)

    def add(self, buyer: BuyerId, record: Record) -> None:
        self.buyers.setdefault(buyer, []).append(record)

    def remove(self, buyer: BuyerId, record: Record) -> None:
        self.buyers[buyer].remove(record)
        if not self.buyers[buyer]:
            del self.buyers[buyer]

    def move(self, lines: Sequence[Line], source: str, target: str) -> None:
        for line in lines:
            offer = self.offers[line.slot]
            setattr(offer, source, getattr(offer, source) - line.qty)
            setattr(offer, target, getattr(offer, target) + line.qty)
            if target == "left":
                offer.reserved = 1

    def grant(self, slot: int) -> tuple[int, bool]:
        """Movements, and whether this call stopped before the end of the line."""
        offer, moved = self.offers[slot], 0
        sells = offer.terms.waitlist and offer.phase not in (Phase.CLOSING, Phase.CLOSED)
        line = self.line_from(slot, offer.reserved) if offer.reserved and sells else []
        if line and offer.left > 0 and self.refusal(offer):
            self.events.add("reserved while refused")
            return 0, False
        for looked, (record, buyer) in enumerate(line):
            if offer.left <= 0:
                break
            fits = record.lines[0].qty <= offer.left
            if looked == LOOKS_MAX or (fits and moved == GRANTS_MAX):
                self.events.add("looks in steps" if looked == LOOKS_MAX else "grants in steps")
                offer.reserved = record.time
                return moved, True
            if fits:
                moved += 1
                self.grant_to(offer, record, buyer)
        offer.reserved = 0
        return moved, False

    def line_from(self, slot: int, turn: int) -> list[tuple[Record, BuyerId]]:
        line = [(self.find(buyer, key), buyer) for buyer, key, _ in self.waits.get(slot, [])]
        return [(record, buyer) for record, buyer in line if record and record.time >= turn]

    def grant_to(self, offer: Offer, record: Record, buyer: BuyerId) -> None:
        [line] = record.lines
        self.waits[line.slot].remove((buyer, record.key, line.qty))
        if self.units(buyer, line.slot) + line.qty > offer.terms.per_buyer_limit:
            self.remove(buyer, record)
            self.events.add("grant over the limit")
            return
        self.move(record.lines, "left", "held")
        record.state = "H"
        record.time = self.now + 1000 * offer.terms.hold_seconds
        self.deadlines[buyer, record.key] = record.time

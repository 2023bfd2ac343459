"""What the simulator holds against each other: Redis, the model, and the outbox read alone."""

from collections import Counter
from dataclasses import replace
from random import Random

from live.domain.hold import HoldState, Movement, MovementKind
from live.domain.ids import BuyerId, HoldKey, ShowId
from live.domain.stock import RebuiltEnd, RebuiltHold, RebuiltWaiting, ShowStock
from live.stock.engine import StockEngine
from live.stock.keys import show_keys
from live.stock.records import read_entry, read_records
from live.stock.replies import as_bytes, as_list
from tests.support.stock_model import STATE_OF, Model
from tests.support.stock_rules import ENDED, GUEST, LIVE

LAST_STATE = {
    MovementKind.HELD: "H",
    MovementKind.GRANTED: "H",
    MovementKind.BEGAN: "P",
    MovementKind.REVERTED: "H",
    MovementKind.CONFIRMED: "S",
    MovementKind.RETAKEN: "S",
    MovementKind.SOLD: "S",
    MovementKind.RELEASED: "R",
    MovementKind.EXPIRED: "E",
    MovementKind.CANCELLED: "X",
    MovementKind.WAITLISTED: "W",
}


class Checks:
    """Compares one show's two sides; the simulator gives it commands to compare."""

    def __init__(self, engine: StockEngine, show: ShowId, model: Model, random: Random) -> None:
        self.engine, self.show, self.model, self.random = engine, show, model, random
        self.movements: list[Movement] = []
        self.rows: dict[tuple[BuyerId, HoldKey], Movement] = {}
        self.last_entry = "-"
        self.kinds: set[MovementKind] = set()
        self.epoch = 1

    async def compare(self) -> None:
        """Figures, every record and every deadline are the same on both sides."""
        await self._compare_figures()
        await self._compare_buyers()
        await self._compare_guests()
        await self._replay()

    async def _compare_figures(self) -> None:
        figures = await self.engine.figures(self.show)
        assert figures.offers == {slot: offer.stock for slot, offer in self.model.offers.items()}
        for slot, offer in self.model.offers.items():
            assert offer.stock.allotted == offer.terms.allotted
            assert figures.waiting[slot] == len(self.model.waits.get(slot, []))

    async def _compare_buyers(self) -> None:
        send = self.engine._calls.send
        stored = as_list(await send(b"HGETALL", show_keys(self.show).buyers))
        values = map(as_bytes, stored)
        found = {
            who: [
                (r.key, r.lines, r.state, 0 if r.state == "W" else r.time, r.held_until)
                for r in read_records(next(values))
            ]
            for who in values
            if who != b"mark" or not next(values)
        }
        expected = {
            who: [
                (
                    r.key,
                    r.lines,
                    r.state,
                    0 if r.state == "W" else r.time,
                    r.held_until if r.state == "P" else 0,
                )
                for r in records
            ]
            for who, records in self.model.buyers.items()
        }
        assert found.keys() == expected.keys()
        for who in expected:  # one buyer at a time: a difference can be read
            assert found[who] == expected[who]
        members = as_list(
            await send(b"ZRANGE", show_keys(self.show).deadlines, b"0", b"-1", b"WITHSCORES")
        )
        single = {
            (as_bytes(member)[1:17], as_bytes(member)[17:]): int(as_bytes(score))
            for member, score in zip(members[0::2], members[1::2], strict=True)
            if as_bytes(member)[:1] == b"h"
        }
        assert single == self.model.deadlines

    async def _compare_guests(self) -> None:
        """The counts by offer and by range are the sums of what guests hold or wait for."""
        units: Counter[bytes] = Counter()
        for who, records in self.model.buyers.items():
            for record in records if who.startswith(GUEST) else []:
                for line in record.lines if record.state in (*LIVE, "W") else ():
                    slot = line.slot.to_bytes(2, "big")
                    units.update({slot: line.qty, slot + who[4:8]: line.qty})
        key = show_keys(self.show).guests
        stored = map(as_bytes, as_list(await self.engine._calls.send(b"HGETALL", key)))
        assert {field: int(next(stored)) for field in stored} == {b"mark": 1, **units}

    async def _replay(self) -> None:
        """The outbox alone tells the state of every hold that Redis still knows."""
        await self._read_outbox()
        rows: dict[tuple[BuyerId, HoldKey], Movement] = {}
        shuffled = self.random.sample(self.movements, len(self.movements))
        for movement in shuffled:  # any order: only a higher seq counts
            row = rows.get((movement.buyer, movement.key))
            if row is None or movement.seq > row.seq:
                rows[movement.buyer, movement.key] = movement
        left = MovementKind.LEFT_WAITLIST
        offers = (MovementKind.CLOSING, MovementKind.CLOSED)
        alive = {
            who: (LAST_STATE[row.kind], row.lines, row.expires_at)
            for who, row in rows.items()
            if row.kind not in (left, *offers)
        }
        known = {
            (who, r.key): (r.state, r.lines, r.time if r.state in "HP" else 0)
            for who, records in self.model.buyers.items()
            for r in records
        }
        assert {who: row for who, row in alive.items() if row[0] in "HPSW"} == {
            who: row for who, row in known.items() if row[0] in "HPSW"
        }
        known = {who: row for who, row in known.items() if who not in self.model.unheard}
        assert all(alive[who] == row for who, row in known.items())
        self.rows = rows

    async def _read_outbox(self) -> None:
        start = "-" if self.last_entry == "-" else f"({self.last_entry}"
        key = show_keys(self.show).outbox
        entries = await self.engine._calls.send(b"XRANGE", key, start.encode(), b"+")
        for item in as_list(entries):
            entry, fields = as_list(item)
            values = [as_bytes(value) for value in as_list(fields)]
            self.last_entry = as_bytes(entry).decode()
            pairs = dict(zip(values[0::2], values[1::2], strict=True))
            for movement in read_entry(self.show, self.last_entry, pairs):
                assert not self.movements or movement.seq > self.movements[-1].seq
                self.movements.append(movement)
                self.kinds.add(movement.kind)

    def _ledger(self) -> ShowStock:
        holds, waiting, ended = [], [], []
        for who, records in self.model.buyers.items():
            for record in records:
                if (who, record.key) in self.model.unheard:
                    continue
                row = self.rows[who, record.key]
                if record.state in ENDED:
                    state = STATE_OF[LAST_STATE[row.kind]]
                    late = record.time if record.time > self.model.now else 0  # payments' rows
                    cancelled = record.state == "X"
                    ended.append(RebuiltEnd(who, record.key, state, row.lines, cancelled, late))
                if record.state == "W":
                    waiting.append(RebuiltWaiting(who, record.key, row.lines[0], row.seq))
                elif record.state in ("H", "P", "S"):
                    state = STATE_OF[LAST_STATE[row.kind]]
                    until = record.held_until  # the outbox does not tell: the payment's row does
                    holds.append(
                        RebuiltHold(who, record.key, state, row.lines, row.expires_at, until)
                    )
        assert {hold.state for hold in holds} <= {
            HoldState.HELD,
            HoldState.PAYING,
            HoldState.CONFIRMED,
        }
        offers = tuple(
            replace(offer.terms, phase=offer.phase) for offer in self.model.offers.values()
        )
        return ShowStock(
            show=self.show,
            stock_epoch=self.epoch,
            offers=offers,
            holds=tuple(holds),
            waiting=tuple(waiting),
            ended=tuple(ended),
        )

    def _forget_rows(self) -> None:
        """Places that were left are not carried over: history for the comparison."""
        kept = list(LAST_STATE)
        self.movements = sorted(
            (row for row in self.rows.values() if row.kind in kept), key=lambda row: row.seq
        )

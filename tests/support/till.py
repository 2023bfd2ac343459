"""Payments and orders in memory, by the rules of the ledger: for millions of checkouts.

The rules stand in live/domain/payment_states.py, live/ledger/money/ and live/ledger/settle/; here
they are written a second time as simply as possible. A sale that the ledger would reject raises
AssertionError.
"""

from collections import Counter
from dataclasses import dataclass, field
from uuid import uuid4

from live.domain.hold import HoldState, Line, Movement, MovementKind
from live.domain.ids import BuyerId, HoldKey, ShowId
from live.domain.offer import OfferTerms, Phase
from live.domain.stock import RebuiltEnd, RebuiltHold, RebuiltWaiting, ShowStock

Identity = tuple[BuyerId, HoldKey]
K = MovementKind
SELLS = (K.CONFIRMED, K.SOLD, K.RETAKEN)
HOLDS = {
    K.HELD: "held",
    K.GRANTED: "held",
    K.REVERTED: "held",
    K.BEGAN: "paying",
    K.CONFIRMED: "confirmed",
    K.RETAKEN: "confirmed",
    K.SOLD: "confirmed",
    K.RELEASED: "released",
    K.EXPIRED: "expired",
    K.CANCELLED: "cancelled",
}
LATE_MS = 86_400_000
GRACE_MS = 60_000


@dataclass(eq=False)
class Pay:
    """`state`: open, authorised, captured, or over."""

    who: Identity
    attempt: HoldKey
    first_paid: bool
    lines: tuple[Line, ...]
    held_until: int
    since: int
    state: str = "open"
    voiding: bool = False
    id: str = field(default_factory=lambda: str(uuid4()))


@dataclass
class Order:
    pay: Pay
    lines: tuple[Line, ...]
    cancelled: bool = False


@dataclass
class Till:
    pays: dict[Identity, list[Pay]] = field(default_factory=dict)
    orders: dict[Identity, Order] = field(default_factory=dict)
    rows: dict[Identity, Movement] = field(default_factory=dict)  # the newest of each hold
    waits: dict[Identity, Movement] = field(default_factory=dict)
    sold: Counter[int] = field(default_factory=Counter)
    seen: Counter[str] = field(default_factory=Counter)

    # As payments' rows

    def open(self, pay: Pay) -> Pay:
        """The payment that counts: this one, or the one from before."""
        mine = self.pays.setdefault(pay.who, [])
        same = next((one for one in mine if one.attempt == pay.attempt), None)
        if known := same or self.active(pay.who):
            return known
        if order := self.orders.get(pay.who):
            return order.pay
        mine.append(pay)
        return pay

    def active(self, who: Identity) -> Pay | None:
        return next((one for one in self.pays.get(who, []) if one.state != "over"), None)

    def record(self, pay: Pay, *, authorised: bool) -> bool:
        """Whether units may be sold for it."""
        if pay.state == "over" or (authorised and pay.voiding):
            self.seen["money for nothing"] += authorised
            return False
        if pay.state == "open":
            pay.state = "authorised" if authorised else "over"
        return authorised

    def ask_void(self, pay: Pay, *, unless_authorised: bool = False) -> None:
        if pay.state == "open" or (pay.state == "authorised" and not unless_authorised):
            pay.voiding = True

    # As settlement

    def settle(self, one: Movement, allotted: dict[int, int]) -> None:
        who = (one.buyer, one.key)
        if one.kind in HOLDS and (who not in self.rows or self.rows[who].seq < one.seq):
            self.rows[who] = one
        if one.kind is K.WAITLISTED:
            self.waits[who] = one
        elif one.kind in (K.GRANTED, K.LEFT_WAITLIST):
            self.waits.pop(who, None)
        if one.kind in SELLS:
            self._sell(who, one, allotted)
        if one.kind is K.CANCELLED and who in self.orders and not self.orders[who].cancelled:
            self.orders[who].cancelled = True
            self.orders[who].pay.state = "over"
            self.sold.subtract({line.slot: line.qty for line in one.lines})

    def _sell(self, who: Identity, one: Movement, allotted: dict[int, int]) -> None:
        pay = self.active(who)
        assert who not in self.orders, "this hold had an order already"
        assert pay is not None, "no payment row"
        assert pay.state == "authorised", f"the payment is {pay.state}, not authorised"
        assert not pay.voiding, "the payment is being voided"
        assert set(pay.lines) == set(one.lines), "the payment is for other units"
        self.sold.update({line.slot: line.qty for line in one.lines})
        assert all(self.sold[slot] <= units for slot, units in allotted.items()), "sold out"
        pay.state = "captured"
        self.orders[who] = Order(pay, one.lines)

    # As a rebuild

    def stock(
        self, show: ShowId, epoch: int, offers: tuple[OfferTerms, ...], now: int
    ) -> ShowStock:
        closed = {terms.slot for terms in offers if terms.phase is Phase.CLOSED}
        found: dict[Identity, RebuiltHold] = {}
        for who, order in self.orders.items():
            if not order.cancelled:
                found[who] = RebuiltHold(*who, HoldState.CONFIRMED, order.lines, 0)
        late: set[Identity] = set()
        for who in self.pays:
            pay, row = self.active(who), self.rows.get(who)
            if pay is None or pay.first_paid or pay.voiding or who in self.orders:
                continue
            state = HOLDS[row.kind] if row else None
            if state == "expired":
                late.add(who)
            over = state in ("released", "cancelled", "expired")
            if not over and not any(line.slot in closed for line in pay.lines):
                until = max(row.expires_at if row else 0, now + GRACE_MS)
                found[who] = RebuiltHold(*who, HoldState.PAYING, pay.lines, until, pay.held_until)
        ends = []
        for who, row in sorted(self.rows.items(), key=lambda item: item[1].seq):
            state = HOLDS[row.kind]
            if who in found:
                continue
            gone = who in self.orders
            if state in ("released", "expired", "cancelled") or gone:
                ended = HoldState.EXPIRED if state == "expired" else HoldState.RELEASED
                until = now + LATE_MS if who in late else 0
                cancelled = gone or state == "cancelled"
                ends.append(RebuiltEnd(*who, ended, row.lines, cancelled, until))
            elif state in ("held", "paying") and not self._is_paid(who):
                found[who] = RebuiltHold(*who, HoldState.HELD, row.lines, row.expires_at)
        waiting = tuple(
            RebuiltWaiting(*who, row.lines[0], row.seq)
            for who, row in self.waits.items()
            if row.lines[0].slot not in closed
        )
        return ShowStock(
            show=show,
            stock_epoch=epoch,
            offers=offers,
            holds=tuple(found.values()),
            waiting=waiting,
            ended=tuple(ends),
        )

    def _is_paid(self, who: Identity) -> bool:
        pay = self.active(who)
        return pay is not None and not pay.first_paid and not pay.voiding

"""What the stock engine is asked and answers, beside a hold's own words (hold.py)."""

from dataclasses import dataclass

from live.domain.hold import HoldState, Line, LiveHold, Movement, Waiting
from live.domain.ids import BuyerId, HoldKey, ShowId
from live.domain.offer import Mode, OfferTerms, Phase, Stock
from live.domain.outcomes import Outcome


@dataclass(frozen=True, slots=True)
class BeginAnswer:
    """`outcome` HELD: the hold is now paying, until `expires_at`; any other: why it cannot be.

    `held_until` is its deadline before that, for the case that the payment fails.
    """

    outcome: Outcome
    lines: tuple[Line, ...]
    expires_at: int
    held_until: int = 0


@dataclass(frozen=True, slots=True)
class Transition:
    """`done`: the hold is in the wanted state, by this call or by an earlier one like it.

    `repeat` is set by releases and cancellations only: an earlier call had done it.
    """

    done: bool
    state: HoldState
    lines: tuple[Line, ...]
    repeat: bool = False


@dataclass(frozen=True, slots=True)
class WaitAnswer:
    """WAITLISTED with a position from 1, HELD (units were there), or a refusal; else position 0.

    `expires_at` is the hold's deadline where the outcome is HELD; `reason` as in `HoldDecision`.
    """

    outcome: Outcome
    position: int
    expires_at: int = 0
    reason: str = ""


@dataclass(frozen=True, slots=True)
class BuyerState:
    """What one buyer has in a show: live and paying holds, places in waitlists, and the keys of
    what was sold to them, the oldest first."""

    holds: tuple[LiveHold, ...]
    waiting: tuple[Waiting, ...]
    sold: tuple[HoldKey, ...] = ()


@dataclass(frozen=True, slots=True)
class ShowFigures:
    """All offers of a show at one instant: `last_entry` is the outbox as of the same instant."""

    at: int  # Unix ms, by Redis TIME
    last_entry: str  # "0-0": nothing was ever written
    offers: dict[int, Stock]
    waiting: dict[int, int]


@dataclass(frozen=True, slots=True)
class OutboxBatch:
    """One entry of an outbox: everything that one call of a script decided, in order.

    `fault` says why it could not be decoded ("" else); it has no movements then.
    """

    show: ShowId
    entry: str
    movements: tuple[Movement, ...]
    fault: str = ""


@dataclass(frozen=True, slots=True)
class OutboxBacklog:
    """`length`: entries not delivered or not acknowledged; `oldest_ms`: age of the first one."""

    length: int
    pending: int
    oldest_ms: int


@dataclass(frozen=True, slots=True)
class RebuiltHold:
    """A hold as the ledger knows it: HELD, PAYING or CONFIRMED. `expires_at` 0: confirmed.

    `held_until`: the deadline of a paying one if its payment fails; 0: that is not known, and it
    keeps the one that it has.
    """

    buyer: BuyerId
    key: HoldKey
    state: HoldState
    lines: tuple[Line, ...]
    expires_at: int
    held_until: int = 0


@dataclass(frozen=True, slots=True)
class RebuiltEnd:
    """A hold that is over, so that a repeat of its key is told the truth.

    `cancelled`: its order was, or the ledger rejected it; nothing is sold for this key again.
    `late_until`: it expired with a payment that is not decided, which may still take units; so
    long (Unix ms) at least its record is kept. 0: no money comes for it.
    """

    buyer: BuyerId
    key: HoldKey
    state: HoldState  # RELEASED or EXPIRED
    lines: tuple[Line, ...]
    cancelled: bool = False
    late_until: int = 0


@dataclass(frozen=True, slots=True)
class RebuiltWaiting:
    """A place in a waitlist; earlier places have a lower `seq`."""

    buyer: BuyerId
    key: HoldKey
    line: Line
    seq: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ShowStock:
    """A show's stock read from the ledger in one transaction: what a rebuild writes to Redis.

    Each (buyer, key) appears once. `left` of an offer follows: allotted minus the units of all
    `holds`. `ended` are those that a repeat may still ask for, the oldest first.
    """

    show: ShowId
    stock_epoch: int
    offers: tuple[OfferTerms, ...]
    holds: tuple[RebuiltHold, ...]
    waiting: tuple[RebuiltWaiting, ...]
    ended: tuple[RebuiltEnd, ...] = ()


@dataclass(frozen=True, slots=True)
class RecordNow:
    """One hold, sale or place in a line as Redis remembers it.

    `state`: held, paying, confirmed, released, expired, cancelled or waiting. `time` is the
    deadline of a live hold (Unix ms), the place of a waiter, 0 once it ended.
    """

    buyer: BuyerId
    key: HoldKey
    state: str
    lines: tuple[Line, ...]
    time: int
    held_until: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class OfferNow:
    """One offer as Redis has it: what its host decided, and what buyers made of it."""

    phase: Phase
    mode: Mode
    waitlist: bool
    version: int
    per_buyer_limit: int
    hold_seconds: int
    opens_at: int | None
    closes_at: int | None
    reserved: int  # place in the line from which on nobody was looked at; 0: nothing is reserved
    stock: Stock


@dataclass(frozen=True, slots=True, kw_only=True)
class StockSnapshot:
    """All that Redis has of a show's stock, for whoever proves it; `mark` names the instant.

    `alarms`: when the reaper looks at a hold, by (buyer, key). `batch_alarms`: when it looks at
    all holds of a batch whose outbox entry is still there. `places`: (place, qty) of a waiter by
    (slot, buyer). `seq` is the counter of movements in this life of the stock.
    """

    mark: bytes
    stock_epoch: int
    seq: int
    offers_known: int
    longest_hold_seconds: int
    offers: dict[int, OfferNow]
    records: tuple[RecordNow, ...]
    alarms: dict[tuple[BuyerId, HoldKey], int]
    batch_alarms: frozenset[int]
    places: dict[tuple[int, BuyerId], tuple[int, int]]

"""A hold: units set aside for one buyer until a deadline; ends exactly once."""

from dataclasses import dataclass
from enum import StrEnum

from live.domain.ids import BuyerId, HoldKey, OfferId, ShowId
from live.domain.outcomes import Outcome

CART_LINES_MAX = 8  # offers in one atomic hold; bounds the work of one request in the batch
QTY_MAX = 1_000  # units of one offer in one hold


class HoldState(StrEnum):
    """held <-> paying -> confirmed | released | expired.

    A payment that fails takes its hold back to `held`, with the deadline from before it began: so
    the buyer may try another card for as long as they were promised, and trying gains them no time.
    """

    HELD = "held"
    PAYING = "paying"
    CONFIRMED = "confirmed"
    RELEASED = "released"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class Line:
    """So many units of one offer, named by its slot in the show."""

    slot: int
    qty: int


@dataclass(frozen=True, slots=True)
class HoldDecision:
    """The engine's decision on a hold request.

    `slot` is the first offer that failed (a refusal) or the first line's (held); `left` is that
    offer's remaining stock after the decision; `expires_at` (Unix ms) is 0 on a refusal.
    `repeat` tells that this (buyer, key) had been decided before. `reason` says which limit a
    LIMIT_REACHED means where it is not the offer's limit per buyer. `forgotten` goes with CLOSED:
    the engine forgot old purchases of this buyer, so only the ledger knows whether this is one.
    """

    outcome: Outcome
    slot: int
    left: int
    expires_at: int
    repeat: bool = False
    reason: str = ""
    forgotten: bool = False


@dataclass(frozen=True, slots=True)
class LiveHold:
    """One hold as Redis holds it now."""

    key: HoldKey
    state: HoldState
    lines: tuple[Line, ...]
    expires_at: int


@dataclass(frozen=True, slots=True)
class Waiting:
    """A buyer's place in the waitlist of one offer."""

    slot: int
    key: HoldKey
    qty: int
    position: int


class MovementKind(StrEnum):
    """What one outbox record says happened; see `Movement`."""

    HELD = "held"
    GRANTED = "granted"  # a waitlist entry became a hold
    BEGAN = "began"  # held -> paying, the deadline moved
    REVERTED = "reverted"  # paying -> held: the payment failed, the deadline is the old one
    CONFIRMED = "confirmed"  # paying -> sold
    RELEASED = "released"  # held -> left
    EXPIRED = "expired"
    CANCELLED = "cancelled"  # sold -> left
    RETAKEN = "retaken"  # a late payment took stock again: left -> sold
    SOLD = "sold"  # first_paid: left -> sold without a hold
    WAITLISTED = "waitlisted"
    LEFT_WAITLIST = "left_waitlist"
    CLOSING = "closing"  # no buyer; the line names the offer
    CLOSED = "closed"  # no buyer; everything before it in the stream was decided


@dataclass(frozen=True, slots=True)
class Movement:
    """One decided change of stock, as the outbox carries it to the ledger.

    `seq` grows with every movement of a show, across lives of Redis; a row in Postgres is changed
    only by a movement with a higher `seq` than the last one applied to it, so any order of
    delivery ends in the same row. `entry` is the id of the stream entry that carried it.
    `expires_at` is the hold's deadline after the movement (Unix ms), 0 where there is none.
    """

    show: ShowId
    seq: int
    entry: str
    at: int  # Unix ms, by Redis TIME
    kind: MovementKind
    buyer: BuyerId
    key: HoldKey
    lines: tuple[Line, ...]
    expires_at: int


@dataclass(frozen=True, slots=True)
class HoldItem:
    offer: OfferId
    qty: int
    price_minor: int


@dataclass(frozen=True, slots=True)
class HoldView:
    """The `hold` object of the public contract; `hold` is the client's key."""

    hold: str
    items: tuple[HoldItem, ...]
    currency: str
    state: HoldState
    expires_at: int

"""From the letters of the scripts' answers to the domain's words."""

from typing import Final

from live.base.errors import Busy, CallError, Conflict
from live.domain.hold import HoldDecision, Line
from live.domain.outcomes import Outcome
from live.stock.letters import Kept, StockAnswer

HELD: Final = ord(Kept.HELD)
LIVE: Final = ord(StockAnswer.LIVE)
CONFLICT: Final = ord(StockAnswer.DIFFERENT)
UNKNOWN: Final = ord(StockAnswer.UNKNOWN)
WRONG_MODE: Final = ord(StockAnswer.MODE)
FORGOTTEN: Final = ord(StockAnswer.FORGOTTEN)
WANTING: Final = frozenset(
    map(ord, (StockAnswer.LIMIT, StockAnswer.SOLD_OUT, StockAnswer.FULL, StockAnswer.GUESTS))
)
"""Refusals that a reap may turn into a yes."""

REPEATS: Final = {
    ord(StockAnswer.ENDED): Outcome.EXPIRED,
    ord(StockAnswer.GIVEN_BACK): Outcome.ALREADY_RELEASED,
    ord(StockAnswer.BOUGHT): Outcome.CONFIRMED,
    ord(StockAnswer.IN_LINE): Outcome.WAITLISTED,
}
REFUSALS: Final = {
    ord(StockAnswer.NOT_OPEN): Outcome.NOT_OPEN,
    ord(StockAnswer.PAUSED): Outcome.PAUSED,
    ord(StockAnswer.CLOSED): Outcome.CLOSED,
    FORGOTTEN: Outcome.CLOSED,
    ord(StockAnswer.LIMIT): Outcome.LIMIT_REACHED,
    ord(StockAnswer.SOLD_OUT): Outcome.SOLD_OUT,
    ord(StockAnswer.FULL): Outcome.LIMIT_REACHED,
    ord(StockAnswer.GUESTS): Outcome.LIMIT_REACHED,
}
REASONS: Final = {
    ord(StockAnswer.FULL): "too many purchases of this buyer are open at once",
    ord(StockAnswer.GUESTS): "guests have as much of this offer as they may for now",
}
"""Which limit it is, where it is not the offer's own limit per buyer."""


def failure(code: int) -> CallError:
    """The error for a code that is no refusal."""
    if code == CONFLICT:
        return Conflict("this key was used for another request")
    if code == WRONG_MODE:
        return Conflict("this offer is sold in the other mode")
    # Callers name offers that the ledger knows, so a missing one is missing here: never sold out.
    return Busy("this offer is not loaded yet")


def refused(code: int, slot: int, left: int) -> HoldDecision:
    """The answer for a code of REFUSALS."""
    return HoldDecision(
        REFUSALS[code],
        slot,
        left,
        0,
        reason=REASONS.get(code, ""),
        forgotten=code == FORGOTTEN,
    )


class BatchReader:
    """Turns the reply to one batch into answers; requests of one offer share one answer object."""

    __slots__ = ("_at", "_details", "_now", "_offers", "_shared")

    def __init__(self, now: int, offers: dict[int, tuple[int, int]], details: bytes) -> None:
        self._now = now
        self._offers = offers
        self._details = details
        self._at = 0
        self._shared: dict[tuple[int, int], HoldDecision] = {}

    def answer(self, code: int, lines: tuple[Line, ...]) -> HoldDecision | CallError:
        """Must be called for the requests in their order: details are read as they come."""
        slot = lines[0].slot
        if len(lines) == 1 and code != LIVE:
            shared = self._shared.get((code, slot))
            if shared is not None:
                return shared
        elif len(lines) > 1 and (code in REFUSALS or code in (UNKNOWN, WRONG_MODE)):
            slot = int.from_bytes(self._take(2), "big")
        return self._make(code, slot, lines)

    def _make(self, code: int, slot: int, lines: tuple[Line, ...]) -> HoldDecision | CallError:
        ttl, left = self._offers.get(slot, (0, 0))
        if code == LIVE:
            until = int.from_bytes(self._take(6), "big")
            return HoldDecision(Outcome.HELD, slot, left, until, repeat=True)
        if code == HELD:
            if len(lines) > 1:
                ttl = min(self._offers[line.slot][0] for line in lines)
            answer = HoldDecision(Outcome.HELD, slot, left, self._now + 1000 * ttl)
        elif code in REFUSALS:
            answer = refused(code, slot, left)
        elif code in REPEATS:
            answer = HoldDecision(REPEATS[code], slot, left, 0, repeat=True)
        else:
            return failure(code)
        if len(lines) == 1:
            self._shared[code, slot] = answer
        return answer

    def _take(self, size: int) -> bytes:
        piece = self._details[self._at : self._at + size]
        self._at += size
        return piece

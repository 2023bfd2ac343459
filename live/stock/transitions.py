"""What the replies of scripts that move units say: transitions, sales, places in line."""

from collections.abc import Mapping
from typing import Final

from live.base.errors import NotFound
from live.domain.hold import HoldDecision
from live.domain.outcomes import Outcome
from live.domain.stock import Transition, WaitAnswer
from live.stock.answers import CONFLICT, HELD, LIVE, REASONS, REFUSALS, REPEATS, failure, refused
from live.stock.letters import Kept
from live.stock.records import STATES, HoldRecord, read_records
from live.stock.replies import as_bytes, as_number

BEGIN: Final[Mapping[str, Outcome]] = {
    Kept.PAYING: Outcome.HELD,
    Kept.EXPIRED: Outcome.EXPIRED,
    Kept.RELEASED: Outcome.ALREADY_RELEASED,
    Kept.CANCELLED: Outcome.ALREADY_RELEASED,
    Kept.SOLD: Outcome.CONFIRMED,
}
_SOLD: Final = ord(Kept.SOLD)
_NO_HOLD: Final = "this hold is not known"


def transition(status: str, record: HoldRecord, wanted: str, *, repeat: bool = False) -> Transition:
    return Transition(status == wanted, STATES[status], record.lines, repeat)


def given_back(reply: list[object], wanted: str) -> Transition:
    """Read the reply of release or cancel, which count their movements."""
    status = as_bytes(reply[0]).decode()
    repeat = status == wanted and not as_number(reply[2])
    return transition(status, hold_record(reply[1]), wanted, repeat=repeat)


def sale_decision(reply: list[object]) -> HoldDecision:
    """Read the reply of peek or sell."""
    code, slot, left = as_bytes(reply[0])[0], as_number(reply[1]), as_number(reply[2])
    if code in REFUSALS:
        return refused(code, slot, left)
    if code in REPEATS:
        return HoldDecision(REPEATS[code], slot, left, 0, repeat=True)
    if code not in (HELD, _SOLD):
        # A live hold has this key: it is sold by its own checkout, not by this one.
        raise failure(CONFLICT if code == LIVE else code)
    outcome = Outcome.HELD if code == HELD else Outcome.CONFIRMED
    return HoldDecision(outcome, slot, left, 0)


def no_place(code: int) -> WaitAnswer:
    outcome = REFUSALS.get(code) or REPEATS.get(code)
    if outcome is None:
        raise failure(code)
    return WaitAnswer(outcome, 0, reason=REASONS.get(code, ""))


def hold_record(packed: object) -> HoldRecord:
    """The record in a reply. Raises NotFound where there is none, or only a place in a waitlist."""
    records = list(read_records(as_bytes(packed)))
    if not records or records[0].state == Kept.WAITING:
        raise NotFound(_NO_HOLD)
    return records[0]

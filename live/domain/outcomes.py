"""What a buyer's request can end in. An expected "no" is one of these, never an error."""

from enum import StrEnum


class Outcome(StrEnum):
    """The `outcome` of an RPC answer; the words are part of the public contract."""

    HELD = "held"
    SOLD_OUT = "sold_out"
    LIMIT_REACHED = "limit_reached"
    NOT_OPEN = "not_open"
    CLOSED = "closed"
    PAUSED = "paused"
    WAITLISTED = "waitlisted"
    RELEASED = "released"
    ALREADY_RELEASED = "already_released"
    EXPIRED = "expired"
    CONFIRMED = "confirmed"
    PROCESSING = "processing"
    ACTION_REQUIRED = "action_required"
    DECLINED = "declined"
    HOLD_LOST = "hold_lost"
    REJECTED = "rejected"

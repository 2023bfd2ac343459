"""Error, close and unsubscribe codes of the client protocol, each with its text.

Always: a close reason is non-empty plain words of at most 32 ASCII bytes. The JavaScript SDK does
not look at the code of a close without a reason, and takes a reason that parses as JSON for the
advice of an older protocol; either way it would do the opposite of what the code says.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Failure:
    """An error reply. `temporary` tells the SDKs that a repeat may succeed."""

    code: int
    message: str
    temporary: bool = False


@dataclass(frozen=True, slots=True)
class Close:
    """How a connection ends. SDKs stay away for 3500-3999 and 4500-4999, else they return."""

    code: int
    reason: str


@dataclass(frozen=True, slots=True)
class Unsubscribed:
    """How a subscription ends from our side. SDKs subscribe again for codes >= 2500."""

    code: int
    reason: str


INTERNAL = Failure(100, "internal error", temporary=True)
UNKNOWN_CHANNEL = Failure(102, "unknown channel")
PERMISSION_DENIED = Failure(103, "permission denied")
METHOD_NOT_FOUND = Failure(104, "method not found")
ALREADY_SUBSCRIBED = Failure(105, "already subscribed")
LIMIT_EXCEEDED = Failure(106, "limit exceeded")
BAD_REQUEST = Failure(107, "bad request")
NOT_AVAILABLE = Failure(108, "not available")
TOKEN_EXPIRED = Failure(109, "token expired")
TOO_MANY_REQUESTS = Failure(111, "too many requests", temporary=True)
UNRECOVERABLE = Failure(112, "unrecoverable position")

INVALID_UTF8 = Close(1007, "invalid utf-8")
TOO_BIG = Close(1009, "message too big")
SHUTDOWN = Close(3001, "shutdown")
SERVER_ERROR = Close(3004, "internal server error")
EXPIRED = Close(3005, "connection expired")
SUBSCRIPTION_EXPIRED = Close(3006, "subscription expired")
SLOW = Close(3008, "slow")
INSUFFICIENT_STATE = Close(3010, "insufficient state")
NO_PONG = Close(3012, "no pong")
FLOOD = Close(3013, "too many requests")
INVALID_TOKEN = Close(3500, "invalid token")
BAD_FRAME = Close(3501, "bad request")
STALE = Close(3502, "stale")
FORCED = Close(3503, "force disconnect")
BANNED = Close(3503, "banned from this show")
CONNECTION_LIMIT = Close(3504, "connection limit")
WRONG_PROTOCOL = Close(3506, "inappropriate protocol")
CLOSED_FOR_ROLE = Close(3507, "permission denied")
CLOSED_NOT_AVAILABLE = Close(3508, "not available")
TOO_MANY_ERRORS = Close(3509, "too many errors")

ALL_CLOSES = (
    INVALID_UTF8,
    TOO_BIG,
    SHUTDOWN,
    SERVER_ERROR,
    EXPIRED,
    SUBSCRIPTION_EXPIRED,
    SLOW,
    INSUFFICIENT_STATE,
    NO_PONG,
    FLOOD,
    INVALID_TOKEN,
    BAD_FRAME,
    STALE,
    FORCED,
    BANNED,
    CONNECTION_LIMIT,
    WRONG_PROTOCOL,
    CLOSED_FOR_ROLE,
    CLOSED_NOT_AVAILABLE,
    TOO_MANY_ERRORS,
)

SERVER_UNSUBSCRIBE = Unsubscribed(2000, "server unsubscribe")
POSITION_LOST = Unsubscribed(2500, "insufficient state")
UNSUBSCRIBE_EXPIRED = Unsubscribed(2501, "subscription expired")

"""Whether a client comes back, and when: the ranges and the pauses of the official SDKs."""

from live.protocol.codes import TOO_BIG, Failure

RETRY_SECONDS_MIN, RETRY_SECONDS_MAX = 0.5, 20.0
_DOUBLINGS_MAX = 10  # by then the bound above is reached; a larger power would only overflow


def may_return(close_code: int) -> bool:
    """Whether a client returns after this close code."""
    final = 3500 <= close_code < 4000 or 4500 <= close_code < 5000 or close_code == TOO_BIG.code
    return not final


def may_repeat(failure: Failure) -> bool:
    """Whether a client whose connect was answered with this error tries again."""
    return failure.temporary or failure.code < 100


def retry_seconds(tries: int, spread: float) -> float:
    """The pause before try `tries` (from 0); `spread` is random in 0..1, so that crowds part."""
    window = min(RETRY_SECONDS_MAX, RETRY_SECONDS_MIN * 2.0 ** min(tries, _DOUBLINGS_MAX))
    return min(RETRY_SECONDS_MAX, RETRY_SECONDS_MIN + spread * window)

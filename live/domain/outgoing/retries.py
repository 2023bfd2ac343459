"""When a webhook that failed is sent again, and for how long an endpoint may fail.

The pauses are the example of Standard Webhooks 1.0.0: 75 h 35 min from the first try to the last.
"""

from email.utils import parsedate_to_datetime
from typing import Final

PAUSES_SECONDS: Final = (
    *(5, 5 * 60, 30 * 60),
    *(2 * 3_600, 5 * 3_600, 10 * 3_600, 14 * 3_600, 20 * 3_600, 24 * 3_600),
)
TRIES_MAX: Final = len(PAUSES_SECONDS) + 1
JITTER: Final = 0.1  # of a pause, at most, is added: receivers that come back are not met at once
RETRY_AFTER_SECONDS_MAX: Final = 86_400
REST_FIRST_SECONDS: Final = 5.0  # of an endpoint that asked for one and did not say how long
REST_SECONDS_MAX: Final = 300.0
FAILING_SECONDS_MAX: Final = sum(PAUSES_SECONDS) * (1 + JITTER)
"""An endpoint of which nothing was taken for so long is disabled: the last try of its first
failure is over."""
THROTTLING: Final = frozenset({429, 502, 503, 504})
GONE: Final = 410


def pause_seconds(tries: int, *, chance: float) -> float | None:
    """How long to wait after so many tries; None: that was the last. `chance` in 0..1."""
    if tries >= TRIES_MAX:
        return None
    return PAUSES_SECONDS[tries - 1] * (1 + JITTER * chance)


def rest_seconds(throttles: int) -> float:
    """How long an endpoint is left alone after so many answers in a row that asked for it."""
    doubled: float = REST_FIRST_SECONDS * 2.0 ** min(throttles - 1, 16)
    return min(doubled, REST_SECONDS_MAX)


def read_retry_after(text: str, *, now: float) -> float | None:
    """Seconds of a `Retry-After`, at most a day; None where it has neither of its two forms.

    `now` in Unix seconds: one form is a date.
    """
    text = text.strip()
    if text.isascii() and text.isdecimal():
        seconds = float(text[:9])
    else:
        try:
            seconds = parsedate_to_datetime(text).timestamp() - now
        except (ValueError, TypeError, OverflowError):
            return None
    return min(max(0.0, seconds), RETRY_AFTER_SECONDS_MAX)

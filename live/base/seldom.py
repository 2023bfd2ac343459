"""Log lines that anybody can provoke: the first at once, the others counted and told by period.

Always: at most one line of an event a period, with the number of those that were not told.
"""

import time
from collections.abc import Callable

import structlog

log = structlog.get_logger()

PERIOD_SECONDS = 60.0


class Seldom:
    """One event. `clock`: monotonic seconds."""

    def __init__(self, event: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._event = event
        self._clock = clock
        self._told_at = -float("inf")
        self._untold = 0

    def warn(self, **fields: object) -> None:
        now = self._clock()
        if now < self._told_at + PERIOD_SECONDS:
            self._untold += 1
            return
        log.warning(self._event, **fields, times=self._untold + 1)
        self._told_at, self._untold = now, 0

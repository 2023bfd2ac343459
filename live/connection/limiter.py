"""Lets a crowd in a few at a time, so that those who are inside do not wait for those who come.

Always: at most `INSIDE_MAX` joins are on their way at once and at most `SLICE` start in one turn of
the loop; the rest wait in the order they came. Who has waited for `PATIENCE_SECONDS` is told to
come back instead: their SDK would give up a second later and dial again, which makes the storm
worse.
Runs on: the event loop only; no method awaits.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

INSIDE_MAX = 256  # a join is about 0.15 ms of work, so a turn of the loop takes 40 ms at most
SLICE = 64
PATIENCE_SECONDS = 3.0  # with the join's own deadline below the 5 s after which SDKs give up
WAITING_MAX = 20_000  # as many as a process takes connections


@dataclass(frozen=True, slots=True)
class _Waiting:
    start: Callable[[], None]
    refuse: Callable[[], None]
    since: float


class JoinLimiter:
    def __init__(self) -> None:
        self._inside = 0
        self._waiting: deque[_Waiting] = deque()
        self._turning = False

    def come(self, start: Callable[[], None], refuse: Callable[[], None]) -> None:
        """Call `start` now or soon, or `refuse` when it takes too long."""
        if not self._waiting and self._inside < INSIDE_MAX:
            start()
        elif len(self._waiting) >= WAITING_MAX:
            refuse()
        else:
            loop = asyncio.get_running_loop()
            self._waiting.append(_Waiting(start, refuse, loop.time()))
            self._turn_soon()

    def entered(self) -> None:
        """A join that was started waits for something; it has to call `left`."""
        self._inside += 1

    def left(self) -> None:
        self._inside -= 1
        self._turn_soon()

    def _turn_soon(self) -> None:
        if self._waiting and not self._turning and self._inside < INSIDE_MAX:
            self._turning = True
            asyncio.get_running_loop().call_soon(self._turn)

    def _turn(self) -> None:
        self._turning = False
        late = asyncio.get_running_loop().time() - PATIENCE_SECONDS
        for _ in range(SLICE):
            if not self._waiting or self._inside >= INSIDE_MAX:
                return
            first = self._waiting.popleft()
            if first.since < late:
                first.refuse()
            else:
                first.start()
        self._turn_soon()

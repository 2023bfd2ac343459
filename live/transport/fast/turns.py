"""Turns of connections that have more to be parsed than one pass allows.

Always: all of them together take `TURN_SECONDS` of one turn of the loop, however many they are; who
has waited longest comes first. Runs on: the event loop only; no method awaits.
"""

import asyncio
import sys
from collections import deque
from collections.abc import Callable
from typing import Final

TURN_SECONDS: Final = 0.004  # as a slice of fan-out: nobody else waits longer than for that


class Turns:
    """`later(step)` runs the step in one of the next turns of the loop.

    `steps_max`: so many in one turn, where a step begins work that goes on behind it.
    """

    def __init__(self, *, steps_max: int = sys.maxsize) -> None:
        self._steps_max = steps_max
        self._steps: deque[Callable[[], None]] = deque()
        self._loop: asyncio.AbstractEventLoop | None = None  # the one that is to run us

    def later(self, step: Callable[[], None]) -> None:
        self._steps.append(step)
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            self._loop = loop
            loop.call_soon(self._run)

    def _run(self) -> None:
        loop = asyncio.get_running_loop()
        end = loop.time() + TURN_SECONDS
        for _ in range(min(self._steps_max, len(self._steps))):
            self._steps.popleft()()
            if loop.time() >= end:
                break
        if self._steps:
            loop.call_soon(self._run)
        else:
            self._loop = None


TURNS: Final = Turns()
"""Of this process: there is one loop, and both doors share it."""

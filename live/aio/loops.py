"""Loops that outlive whatever their work raises, and the pauses between two rounds."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import structlog

from live.base.faults import tell_fault

_DOUBLINGS_MAX = 64  # far beyond any bound, and safe in every product

log = structlog.get_logger()


async def pause(seconds: float, *until: asyncio.Event) -> bool:
    """Sleep, but no longer than until one of these events is set; whether one is."""
    waits = [asyncio.ensure_future(event.wait()) for event in until]
    try:
        if waits:
            await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        else:
            await asyncio.sleep(seconds)
    finally:
        for wait in waits:
            wait.cancel()
    return any(event.is_set() for event in until)


@dataclass(frozen=True, slots=True)
class Backoff:
    """Pauses after failures in a row: they double, up to a bound.

    Up to half of each is left out at random, so that many who failed together do not come back
    together.
    """

    first_seconds: float
    seconds_max: float

    def seconds(self, failures: int) -> float:
        """The pause after so many failures; 1 is the first."""
        doubled = self.first_seconds * 2.0 ** min(failures - 1, _DOUBLINGS_MAX)
        return min(doubled, self.seconds_max) * random.uniform(0.5, 1.0)


class Trouble:
    """Failures in a row of one loop: told when they begin, become others, and end."""

    def __init__(self, loop: str, backoff: Backoff, **ids: object) -> None:
        self._names = {"loop": loop, **ids}
        self._backoff = backoff
        self._failures = 0
        self._kind: type[Exception] | None = None  # of the last failure; None: all is well

    def failed(self, error: Exception) -> float:
        """Note a failure; returns how many seconds to wait before the next try."""
        if type(error) is not self._kind:
            tell_fault("loop.failing", error, **self._names)
        self._kind = type(error)
        self._failures += 1
        return self._backoff.seconds(self._failures)

    def over(self) -> None:
        if self._kind is not None:
            log.info("loop.recovered", **self._names, failures=self._failures)
        self._kind, self._failures = None, 0


NO_PAUSE = Backoff(0.0, 0.0)


def _nothing() -> None:
    pass


async def repeat(
    loop: str,
    work: Callable[[], Awaitable[object]],
    *until: asyncio.Event,
    every_seconds: float = 0.0,
    backoff: Backoff = NO_PAUSE,
    on_failure: Callable[[], object] = _nothing,
) -> None:
    """Do the work again and again until one of these events is set, or until cancelled.

    A pause of `every_seconds` follows each round, a longer one a failure, as `backoff` says.
    Where both are 0 the work itself waits for something.
    """
    trouble = Trouble(loop, backoff)
    while not any(event.is_set() for event in until):
        seconds = every_seconds
        try:
            await work()
        except Exception as error:  # engines fail in many ways, and the loop outlives all of them
            on_failure()
            seconds = max(seconds, trouble.failed(error))
        else:
            trouble.over()
        if seconds:
            await pause(seconds, *until)

"""For commands that a busy machine may leave unanswered in time."""

import contextlib
from collections.abc import Awaitable, Callable
from typing import TypeVar

from live.base.errors import Busy

TRIES = 20  # of half a second each
T = TypeVar("T")


async def patiently(ask: Callable[[], Awaitable[T]]) -> T:
    """Ask again where Redis was not quick enough: on a busy machine that is no fault of the log."""
    for _ in range(TRIES - 1):
        with contextlib.suppress(Busy):
            return await ask()
    return await ask()

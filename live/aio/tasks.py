"""How tasks end."""

import asyncio
from collections.abc import Iterable

CANCEL_TRIES_MAX = 20  # of CANCEL_SECONDS each
CANCEL_SECONDS = 0.25


async def cancel_all(tasks: Iterable[asyncio.Task[None]]) -> None:
    """Cancel tasks and wait until they are done; their exceptions count as seen.

    More than one try: a Redis command that is cancelled just as its reply comes in swallows the
    cancellation, and the task would go on for ever.
    """
    left = set(tasks)
    for _ in range(CANCEL_TRIES_MAX):
        for task in left:
            task.cancel()
        if not left:
            return
        done, left = await asyncio.wait(left, timeout=CANCEL_SECONDS)
        for task in done:
            if not task.cancelled():
                task.exception()

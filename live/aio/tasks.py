"""Tasks that nobody waits for, and how they end."""

import asyncio
from collections.abc import Coroutine, Iterable
from functools import partial
from typing import Any, TypeVar  # Any: tasks of all kinds are ended alike

from live.base.faults import tell_fault

T = TypeVar("T")

CANCEL_TRIES_MAX = 20  # of CANCEL_SECONDS each
CANCEL_SECONDS = 0.25


class Tasks:
    """Background tasks: held until they end, because the loop itself would lose them.

    A fault that ends one is told to the log, under its name and with the ids given.
    """

    def __init__(self) -> None:
        self._running: set[asyncio.Task[Any]] = set()

    def __len__(self) -> int:
        return len(self._running)

    def start(
        self, name: str, work: Coroutine[object, object, T], **ids: object
    ) -> asyncio.Task[T]:
        task = asyncio.get_running_loop().create_task(work)
        self._running.add(task)
        task.add_done_callback(partial(self._ended, name, ids))
        return task

    async def finish(self) -> None:
        """Wait until all have ended."""
        await asyncio.gather(*self._running, return_exceptions=True)

    async def close(self) -> None:
        """End all."""
        await cancel_all(self._running)

    def _ended(self, name: str, ids: dict[str, object], task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            tell_fault("task.failed", error, task=name, **ids)


async def cancel_all(tasks: Iterable[asyncio.Task[Any]]) -> None:
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

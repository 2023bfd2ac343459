"""Group commit: callers that arrive together share one statement.

Always: an item is in exactly one flush and its caller gets that item's result; while a flush runs
the next one gathers, so there is no timer and a lone caller waits for nobody.
Runs on: the event loop; flushes are tasks that this object holds.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from live.base.errors import Busy

Item = TypeVar("Item")
Result = TypeVar("Result")

FLUSHING_MAX = 2  # statements in flight: one is planned while the other waits for its fsync


class GroupCommit(Generic[Item, Result]):
    """`flush` gets up to `batch_max` items and returns one result or exception for each."""

    def __init__(
        self,
        flush: Callable[[Sequence[Item]], Awaitable[Sequence[Result | Exception]]],
        *,
        batch_max: int,
        queue_max: int,
    ) -> None:
        self._flush = flush
        self._batch_max = batch_max
        self._queue_max = queue_max
        self._waiting: deque[tuple[Item, asyncio.Future[Result]]] = deque()
        self._flushing: set[asyncio.Task[None]] = set()

    async def submit(self, item: Item) -> Result:
        """Raises Busy when the queue is full, or what the flush says about this item."""
        if len(self._waiting) >= self._queue_max:
            raise Busy("too many requests wait for the ledger")
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        if len(self._flushing) < FLUSHING_MAX:
            task = asyncio.create_task(self._drain())
            self._flushing.add(task)
            task.add_done_callback(self._flushing.discard)
        return await future

    async def _drain(self) -> None:
        await asyncio.sleep(0)  # let the callers of this turn of the loop join
        while self._waiting:
            size = min(self._batch_max, len(self._waiting))
            taken = [self._waiting.popleft() for _ in range(size)]
            await self._flush_one([pair for pair in taken if not pair[1].done()])

    async def _flush_one(self, taken: list[tuple[Item, "asyncio.Future[Result]"]]) -> None:
        if not taken:
            return
        results: Sequence[Result | Exception]
        try:
            results = await self._flush([item for item, _ in taken])
        except Exception as error:  # whatever it was, the callers must not wait for ever
            results = [error] * len(taken)
        for (_, future), result in zip(taken, results, strict=True):
            if future.done():  # its caller went away
                continue
            if isinstance(result, Exception):
                future.set_exception(result)
            else:
                future.set_result(result)

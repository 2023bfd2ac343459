"""Coalescing: many small questions as few large ones; who arrives together shares a call.

Always: an item is in exactly one call, which began after it was given; its caller gets that item's
result, or the error of the whole. While calls are under way the next one gathers, so there is no
timer and a lone caller waits for nobody. What waits has a bound.
Runs on: the event loop; tasks while there is something to do.
"""

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Sequence
from itertools import islice
from typing import Generic, TypeVar

from live.aio.tasks import Tasks
from live.base.errors import Busy

Item = TypeVar("Item")
Result = TypeVar("Result")


class Coalescer(Generic[Item, Result]):
    """`work` gets up to `batch_max` items and returns one result or exception for each.

    `at_once` calls may be under way, each followed by a rest. `shared`: who gives an equal item
    shares the answer to the one that waits, so items are hashable.
    """

    def __init__(
        self,
        work: Callable[[Sequence[Item]], Awaitable[Sequence[Result | Exception]]],
        *,
        batch_max: int,
        waiting_max: int,
        at_once: int = 1,
        rest_seconds: float = 0.0,
        shared: bool = False,
    ) -> None:
        self._work = work
        self._batch_max = batch_max
        self._waiting_max = waiting_max
        self._at_once = at_once
        self._rest_seconds = rest_seconds
        self._shared = shared
        self._waiting: dict[Hashable, tuple[Item, asyncio.Future[Result]]] = {}
        self._workers = 0
        self._tasks = Tasks()

    @property
    def idle(self) -> bool:
        return not self._workers

    def put(self, item: Item) -> "asyncio.Future[Result]":
        """Have the item in one of the next calls; nobody has to await its result.

        Raises Busy where too many wait.
        """
        key: Hashable = item if self._shared else object()
        if key in self._waiting:
            return self._waiting[key][1]
        if len(self._waiting) >= self._waiting_max:
            raise Busy("too many requests wait")
        answer: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting[key] = (item, answer)
        if self._workers < self._at_once:
            self._workers += 1
            self._tasks.start("coalesce", self._empty())
        return answer

    async def ask(self, item: Item) -> Result:
        """The item's result. Raises what the work says about it, and Busy where too many wait.

        Whoever goes away takes with them what waits for them alone.
        """
        answer = self.put(item)
        return await (asyncio.shield(answer) if self._shared else answer)

    async def close(self) -> None:
        """End what is under way; whoever still waits is cancelled."""
        await self._tasks.close()
        for _, answer in self._waiting.values():
            answer.cancel()

    async def _empty(self) -> None:
        try:
            await asyncio.sleep(0)  # let the callers of this turn of the loop join
            while self._waiting:
                keys = list(islice(self._waiting, self._batch_max))
                taken = [self._waiting.pop(key) for key in keys]
                await self._answer([pair for pair in taken if not pair[1].done()])
                if self._rest_seconds:
                    await asyncio.sleep(self._rest_seconds)
        finally:
            self._workers -= 1

    async def _answer(self, taken: list[tuple[Item, "asyncio.Future[Result]"]]) -> None:
        if not taken:
            return
        results: Sequence[Result | Exception]
        try:
            results = await self._work([item for item, _ in taken])
            assert len(results) == len(taken), "a result for each item"
        except Exception as error:  # handed on to whoever asked, who knows what it means
            results = [error] * len(taken)
        except asyncio.CancelledError:
            for _, answer in taken:
                answer.cancel()
            raise
        for (_, answer), result in zip(taken, results, strict=True):
            if answer.done():  # its caller has gone
                continue
            if isinstance(result, Exception):
                answer.set_exception(result)
                answer.exception()  # whoever asked may have gone
            else:
                answer.set_result(result)

"""Many small questions to Postgres as few large ones, where anybody may cause them.

Always: one query is under way; who asks meanwhile shares the next one, and who asks the same shares
the answer; queries have a least distance, the questions that wait a bound. So what strangers can
cause is a few queries a second, however many they are.
Runs on: the event loop; a task while there is something to ask.
"""

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import Generic, TypeVar

from live.base.errors import Busy
from live.ledger.db.pool import DATABASE_ERRORS

ASKED_MAX = 10_000  # questions that wait; each has a connection behind it
ASKED_A_QUERY_MAX = 500
QUERY_EVERY_S = 0.05  # 20 a second at most

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class AskedTogether(Generic[K, V]):
    """`query` answers all questions that it is given. Raises DATABASE_ERRORS."""

    def __init__(self, query: Callable[[Sequence[K]], Awaitable[dict[K, V]]]) -> None:
        self._query = query
        self._asked: dict[K, asyncio.Future[V]] = {}
        self._asking: asyncio.Task[None] | None = None

    async def ask(self, question: K) -> V:
        """Raises Busy where too many ask, or Postgres does not answer."""
        answer = self._asked.get(question)
        if answer is None:
            if len(self._asked) >= ASKED_MAX:
                raise Busy("too many ask the ledger")
            answer = self._asked[question] = asyncio.get_running_loop().create_future()
        if self._asking is None:
            self._asking = asyncio.create_task(self._ask_all())
        return await asyncio.shield(answer)

    async def close(self) -> None:
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.gather(self._asking, return_exceptions=True)

    async def _ask_all(self) -> None:
        try:
            while self._asked:
                questions = list(self._asked)[:ASKED_A_QUERY_MAX]
                await self._answer({one: self._asked.pop(one) for one in questions})
                await asyncio.sleep(QUERY_EVERY_S)
        finally:
            self._asking = None
            for answer in self._asked.values():  # only where this task was cancelled
                answer.cancel()

    async def _answer(self, asked: dict[K, asyncio.Future[V]]) -> None:
        try:
            found = await self._query(list(asked))
        except DATABASE_ERRORS as error:
            fault = Busy("the ledger does not answer")
            fault.__cause__ = error
            for answer in asked.values():
                answer.set_exception(fault)
                answer.exception()  # whoever asked may have gone
        else:
            for question, answer in asked.items():
                answer.set_result(found[question])
        finally:
            for answer in asked.values():  # the same as above
                answer.cancel()

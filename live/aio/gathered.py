"""Many small reads of one hash as few large ones: a crowd that joins at once asks once.

Always: while one read of a show is in flight the next ones gather, so nobody waits for a timer and
nobody gets an answer that is older than his question; an error reaches all who asked together.
Runs on: the event loop.
"""

import asyncio
from collections.abc import Awaitable, Callable

from live.domain.ids import ShowId

FIELDS_MAX = 512  # of one read

Read = Callable[[ShowId, list[str]], Awaitable[list[str | None]]]
_Asked = list[tuple[str, asyncio.Future[str | None]]]


class GatheredReads:
    def __init__(self, read: Read) -> None:
        self._read = read
        self._asked: dict[ShowId, _Asked] = {}
        self._reading: dict[ShowId, asyncio.Task[None]] = {}

    async def read(self, show: ShowId, field: str) -> str | None:
        """One field's value, read after this call. Raises what the read raises."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[str | None] = loop.create_future()
        self._asked.setdefault(show, []).append((field, answer))
        if show not in self._reading:
            self._reading[show] = loop.create_task(self._empty(show))
        return await answer

    async def _empty(self, show: ShowId) -> None:
        try:
            while asked := self._asked.pop(show, []):
                for first in range(0, len(asked), FIELDS_MAX):
                    await self._answer(show, asked[first : first + FIELDS_MAX])
        finally:
            del self._reading[show]

    async def _answer(self, show: ShowId, asked: _Asked) -> None:
        try:
            found = await self._read(show, [field for field, _ in asked])
        except Exception as error:  # handed on to whoever asked, who knows what it means
            for _, answer in asked:
                if not answer.done():
                    answer.set_exception(error)
            return
        for (_, answer), value in zip(asked, found, strict=True):
            if not answer.done():  # its caller may have gone
                answer.set_result(value)

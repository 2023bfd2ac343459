"""Buyers who never stop, for tests in which the ground moves under a sale."""

import asyncio

from live.base.errors import Busy
from live.domain.outcomes import Outcome
from tests.support.ledger_kit import Sale, new_buyer
from tests.support.stock_kit import one


class Crowd:
    """Buyers who press one hold after another, and what they were told."""

    def __init__(self, sale: Sale) -> None:
        self.sale = sale
        self.held = 0
        self.busy = 0
        self.slowest = 0.0  # seconds until an answer, whatever it was
        self._news = asyncio.Event()
        self._tasks = [asyncio.create_task(self._buy()) for _ in range(20)]

    async def _buy(self) -> None:
        clock = asyncio.get_running_loop().time
        while True:
            who, asked_at = new_buyer(), clock()
            try:
                answer = await self.sale.engine.hold(self.sale.show, who.id, who.key, one())
            except Busy:
                self.busy += 1
                self.slowest = max(self.slowest, clock() - asked_at)
                await asyncio.sleep(0.02)
            else:
                assert answer.outcome is Outcome.HELD, answer
                self.held += 1
                self.slowest = max(self.slowest, clock() - asked_at)
                await asyncio.sleep(0.01)  # else a fast machine sells the offer out meanwhile
            self._news.set()

    async def reached(self, *, held: int = 0, busy: int = 0) -> None:
        async with asyncio.timeout(60):  # it fails by what is decided, not by how soon
            while self.held < held or self.busy < busy:
                self._news.clear()
                await self._news.wait()

    async def stop(self) -> None:
        """Nobody is in the middle of a call when this returns."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

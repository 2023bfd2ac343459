"""A host steers an offer while buyers storm it: the figures add up at every look.

Method: buyers press as fast as they are answered; each step of the host waits until they heard of
it; beside both somebody reads the figures all the time.
"""

import asyncio
import os
from collections import Counter
from collections.abc import AsyncIterator

import pytest

from live.domain.hold import HoldDecision, MovementKind
from live.domain.ids import BuyerId, ShowId
from live.domain.offer import OfferTerms, Phase
from live.domain.outcomes import Outcome
from live.stock.engine import StockEngine
from live.stock.outbox import Outbox
from tests.support.stock_kit import key, now_ms, one, terms

ALLOTTED = 1_000_000
BUYERS = 60
HEARD = 2 * BUYERS  # answers: more than can have been under way when a step was taken


class Storm:
    """Buyers who press again as soon as they are answered, and one who looks at the figures."""

    def __init__(self, engine: StockEngine, show: ShowId) -> None:
        self.engine, self.show = engine, show
        self.answers = Counter[Outcome]()
        self.allotted = Counter[int]()
        self.stopping = False
        self._answered = asyncio.Event()
        self._tasks = [asyncio.create_task(self._buy()) for _ in range(BUYERS)]
        self._tasks.append(asyncio.create_task(self._look()))

    async def _buy(self) -> None:
        while not self.stopping:
            answer: HoldDecision = await self.engine.hold(
                self.show, BuyerId(os.urandom(16)), key(), one()
            )
            self.answers[answer.outcome] += 1
            self._answered.set()

    async def _look(self) -> None:
        while not self.stopping:
            self.allotted[(await self.engine.figures(self.show)).offers[0].allotted] += 1

    async def hear(self, outcome: Outcome) -> None:
        """Wait until buyers were answered so, many times from now on."""
        wanted = self.answers[outcome] + HEARD
        async with asyncio.timeout(60):
            while self.answers[outcome] < wanted:
                await self._answered.wait()
                self._answered.clear()

    async def stop(self) -> None:
        self.stopping = True
        await asyncio.gather(*self._tasks)


class Host:
    """Changes one offer; each change is a newer version, as Postgres would have it."""

    def __init__(self, engine: StockEngine, offer: OfferTerms) -> None:
        self.engine, self.offer = engine, offer

    async def change(self, **changes: object) -> None:
        version = self.offer.version + 1
        self.offer = terms(
            self.offer.show,
            **{
                "allotted": ALLOTTED,
                "phase": self.offer.phase,
                "closes_at": self.offer.closes_at,
                "version": version,
                **changes,
            },
        )
        stock = await self.engine.apply_offer(self.offer)
        assert stock.allotted == ALLOTTED


@pytest.fixture
async def storm(engine: StockEngine, show: ShowId) -> AsyncIterator[Storm]:
    await engine.apply_offer(terms(show, allotted=ALLOTTED))
    storm = Storm(engine, show)
    yield storm
    await storm.stop()


async def test_pause_resume_extend_and_close_in_a_burst_keep_the_sum(
    engine: StockEngine, show: ShowId, storm: Storm, outbox: Outbox
) -> None:
    """allotted = left + held + sold at each look; each step counts for whoever asks after it."""
    host = Host(engine, terms(show, allotted=ALLOTTED))
    await storm.hear(Outcome.HELD)

    await host.change(phase=Phase.PAUSED)
    await storm.hear(Outcome.PAUSED)
    await host.change(phase=Phase.OPEN, closes_at=now_ms() + 60_000)  # resume
    await storm.hear(Outcome.HELD)
    await host.change(closes_at=now_ms() + 120_000)  # extend
    await storm.hear(Outcome.HELD)
    await host.change(closes_at=now_ms() + 50)  # its end passes by the clock alone
    await storm.hear(Outcome.CLOSED)
    await host.change(closes_at=now_ms() + 60_000)  # extend once more
    await storm.hear(Outcome.HELD)
    await host.change(phase=Phase.CLOSING)
    await storm.hear(Outcome.CLOSED)
    await storm.stop()

    assert storm.allotted.keys() == {ALLOTTED}
    assert storm.answers.keys() == {Outcome.HELD, Outcome.PAUSED, Outcome.CLOSED}
    figures = (await engine.figures(show)).offers[0]
    held = storm.answers[Outcome.HELD]
    assert (figures.held, figures.left) == (held, ALLOTTED - held)
    batches = await outbox.read([show], consumer="c", entries_max=100_000, block_ms=10)
    kinds = [movement.kind for batch in batches for movement in batch.movements]
    assert kinds == [MovementKind.HELD] * held + [MovementKind.CLOSING]

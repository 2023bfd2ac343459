"""The batcher: how requests become batches, and that each is answered once whatever happens."""

import asyncio
import os
from collections import Counter
from itertools import count

import pytest
from structlog.testing import capture_logs

from live.base.errors import Busy, CallError
from live.domain.hold import HoldDecision, Line
from live.domain.ids import BuyerId, ShowId
from live.domain.offer import Stock
from live.domain.outcomes import Outcome
from live.stock import batcher
from live.stock.answers import BatchReader
from live.stock.batcher import Batcher
from live.stock.engine import StockEngine
from live.stock.keys import show_keys
from live.stock.outbox import Outbox
from live.stock.replies import as_bytes
from tests.support.stock_kit import buyer, key, make_due, one, terms

Answer = HoldDecision | CallError


class Crowd:
    """Submits holds of many buyers in one turn of the loop and gathers the answers."""

    def __init__(self, engine: StockEngine) -> None:
        self.engine = engine
        self.answers: list[Answer] = []
        self.submitted = 0
        self.complete = asyncio.Event()

    def press(self, show: ShowId, count: int) -> None:
        for _ in range(count):
            self.submitted += 1
            who = BuyerId(os.urandom(16))
            self.engine.submit_hold(show, who, key(), one(), self._done)

    def _done(self, answer: Answer) -> None:
        self.answers.append(answer)
        if len(self.answers) == self.submitted:
            self.complete.set()

    async def outcomes(self) -> Counter[str]:
        async with asyncio.timeout(60):
            await self.complete.wait()
        return Counter(
            answer.outcome.value if isinstance(answer, HoldDecision) else type(answer).__name__
            for answer in self.answers
        )


async def entries(outbox: Outbox, show: ShowId) -> list[int]:
    """Movements in each entry, in stream order."""
    batches = await outbox.read([show], consumer="c", entries_max=999, block_ms=10)
    return [len(batch.movements) for batch in batches]


async def test_lone_request_leaves_at_once_and_a_crowd_is_split(
    engine: StockEngine, show: ShowId, outbox: Outbox
) -> None:
    """One request is one batch; 600 in one turn leave as two halves on the two lanes."""
    await engine.apply_offer(terms(show, allotted=2000))
    crowd = Crowd(engine)

    crowd.press(show, 1)
    await crowd.outcomes()
    crowd.complete.clear()
    crowd.press(show, 600)
    assert await crowd.outcomes() == {"held": 601}

    assert await entries(outbox, show) == [1, 300, 300]


async def test_batch_never_exceeds_512(engine: StockEngine, show: ShowId, outbox: Outbox) -> None:
    """A crowd of 3,000 is cut at the bound that keeps Redis responsive."""
    await engine.apply_offer(terms(show, allotted=5000))
    crowd = Crowd(engine)

    crowd.press(show, 3_000)
    assert await crowd.outcomes() == {"held": 3_000}

    sizes = await entries(outbox, show)
    assert max(sizes) == batcher.BATCH_MAX == 512 and sum(sizes) == 3_000


async def test_shows_take_turns(engine: StockEngine, show: ShowId) -> None:
    """A show with a crowd does not starve another one's lone request."""
    quiet = ShowId(f"{show}q")
    await engine.install_show(quiet, stock_epoch=1)
    for each in (show, quiet):
        await engine.apply_offer(terms(each, allotted=100_000))
        await engine.hold(each, buyer(1), key(), one())  # both epochs are known
    crowd, lone = Crowd(engine), Crowd(engine)

    crowd.press(show, 20_000)
    lone.press(quiet, 1)
    await lone.outcomes()

    assert len(crowd.answers) < 3_000
    await crowd.outcomes()


async def test_request_in_a_turn_is_answered_after_the_turn(
    engine: StockEngine, show: ShowId, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`done` is never called from inside `submit_hold`, not even for an overflow."""
    monkeypatch.setattr(batcher, "QUEUE_MAX", 2_000)  # a busy machine decides them in time, too
    await engine.apply_offer(terms(show))
    crowd = Crowd(engine)

    crowd.press(show, batcher.QUEUE_MAX + 1)

    assert crowd.answers == []
    await asyncio.sleep(0)
    assert [type(answer) for answer in crowd.answers] == [Busy]
    outcomes = await crowd.outcomes()
    assert outcomes == {"held": 10, "sold_out": batcher.QUEUE_MAX - 10, "Busy": 1}


async def test_broken_callback_costs_nobody_else_an_answer(
    engine: StockEngine, show: ShowId
) -> None:
    """An exception in one buyer's callback is logged; the batch goes on."""
    await engine.apply_offer(terms(show))
    crowd = Crowd(engine)

    def broken(answer: Answer) -> None:
        raise RuntimeError("a bug in a handler")

    crowd.press(show, 3)
    engine.submit_hold(show, buyer(1), key(), one(), broken)
    crowd.press(show, 3)

    assert await crowd.outcomes() == {"held": 6}
    assert (await engine.figures(show)).offers[0] == Stock(3, 7, 0)


# Bugs of ours: each kind costs one batch its decision, and the log has its trace


async def test_bug_in_reading_a_reply_leaves_nobody_waiting(
    engine: StockEngine, show: ShowId, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those before it have their decision, the rest of their batch an error, the other lane all."""
    await engine.apply_offer(terms(show))
    crowd, read = Crowd(engine), BatchReader.answer
    bug, numbers = KeyError("a bug"), count(1)

    def answer(reader: BatchReader, code: int, lines: tuple[Line, ...]) -> Answer:
        if next(numbers) == 3:
            raise bug
        return read(reader, code, lines)

    monkeypatch.setattr(BatchReader, "answer", answer)
    crowd.press(show, 8)
    with capture_logs() as lines:
        assert await crowd.outcomes() == {"held": 6, "CallError": 2}
    monkeypatch.undo()

    assert [line["exc_info"] for line in lines] == [bug]
    told = [answer for answer in crowd.answers if isinstance(answer, CallError)]
    assert all((one.code, one.temporary) == (100, False) for one in told)
    assert (await engine.hold(show, buyer(1), key(), one())).outcome is Outcome.HELD


@pytest.mark.parametrize("reply", [[], [b"HHH", 1, b"", b"", 0], [b"HHH", 1, b"odd", b"", 0]])
async def test_reply_that_is_none_leaves_nobody_waiting(
    engine: StockEngine, show: ShowId, monkeypatch: pytest.MonkeyPatch, reply: list[object]
) -> None:
    """Too few parts, too many answers, offers that cannot be read."""
    await engine.apply_offer(terms(show))
    crowd, decided = Crowd(engine), Batcher._decided
    monkeypatch.setattr(Batcher, "_decided", lambda it, batch, _: decided(it, batch, reply))

    crowd.press(show, 4)
    with capture_logs() as lines:
        await crowd.outcomes()
    monkeypatch.undo()

    assert len(crowd.answers) == 4 and len(lines) == batcher.LANES
    assert (await engine.hold(show, buyer(1), key(), one())).outcome is Outcome.HELD


async def test_bug_in_sending_leaves_nobody_waiting(
    engine: StockEngine, show: ShowId, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both lanes go on behind it."""
    await engine.apply_offer(terms(show))
    await engine.hold(show, buyer(1), key(), one())
    crowd = Crowd(engine)

    def prefix(*_: object) -> bytes:
        raise KeyError("a bug")

    monkeypatch.setattr(Batcher, "_prefix", prefix)
    many = 3 * batcher.BATCH_MAX  # more than the lanes take at once
    crowd.press(show, many)
    with capture_logs() as lines:
        assert await crowd.outcomes() == {"CallError": many}
    monkeypatch.undo()

    assert {type(line["exc_info"]) for line in lines} == {KeyError}
    crowd.complete.clear()
    crowd.press(show, 9)
    assert await crowd.outcomes() == {"CallError": many, "held": 9}


async def test_bug_in_learning_a_life_leaves_nobody_waiting(
    engine: StockEngine, show: ShowId, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is told at once, not as a Redis that does not answer; the show is asked for again."""
    await engine.apply_offer(terms(show))
    other, crowd = StockEngine(engine._calls.nodes.of(show)), Crowd(engine)
    await other.open()
    crowd.engine = other

    async def learn(*_: object) -> None:
        raise KeyError("a bug")

    monkeypatch.setattr(other._calls, "learn_other_epoch", learn)
    crowd.press(show, 3)
    with capture_logs() as lines:
        assert await crowd.outcomes() == {"CallError": 3}
    monkeypatch.undo()

    assert [type(line["exc_info"]) for line in lines] == [KeyError]
    assert (await other.hold(show, buyer(1), key(), one())).outcome is Outcome.HELD
    await other.close()


async def test_bug_in_connecting_costs_no_lane(
    engine: StockEngine, show: ShowId, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever comes meanwhile is told to repeat; then both lanes are back."""
    monkeypatch.setattr(batcher, "ATTEMPT_SECONDS", 0.1)
    await engine.apply_offer(terms(show))
    tried = asyncio.Event()

    def address(_: object) -> None:
        tried.set()
        raise KeyError("a bug")

    with capture_logs() as lines:
        with monkeypatch.context() as broken:
            broken.setattr(batcher, "stock_address", address)
            lanes = engine._batcher._all_lanes()
            for lane in lanes:
                assert lane.wire is not None
                lane.wire.abort()
            await tried.wait()
        answer = await engine.hold(show, buyer(1), key(), one())

    assert answer.outcome is Outcome.HELD
    bugs = [line for line in lines if isinstance(line.get("exc_info"), KeyError)]
    assert bugs and all(line["task"] == "revive" for line in bugs)


# Whatever else happens


async def test_caller_that_went_away_disturbs_nobody(engine: StockEngine, show: ShowId) -> None:
    """A cancelled `hold` may still be decided; the others of its batch get their answers."""
    await engine.apply_offer(terms(show))
    tasks = [asyncio.create_task(engine.hold(show, buyer(n), key(), one())) for n in range(4)]
    await asyncio.sleep(0)
    tasks[1].cancel()

    answers = await asyncio.gather(*tasks, return_exceptions=True)

    assert isinstance(answers[1], asyncio.CancelledError)
    assert [answers[n].outcome for n in (0, 2, 3)] == [Outcome.HELD] * 3  # type: ignore[union-attr]  # not cancelled


async def test_unknown_show_is_busy_for_the_whole_queue(engine: StockEngine, show: ShowId) -> None:
    """A show that Redis does not carry is being rebuilt, as far as buyers are told."""
    crowd = Crowd(engine)

    crowd.press(ShowId(f"{show}x"), 700)

    assert await crowd.outcomes() == {"Busy": 700}


async def test_error_of_redis_answers_the_whole_batch(engine: StockEngine, show: ShowId) -> None:
    """Broken data raises inside the script: everybody hears Busy, the connection stays."""
    await engine.apply_offer(terms(show))
    offers, send = show_keys(show).offers, engine._calls.send
    packed = as_bytes(await send(b"HGET", offers, b"\0\0"))
    await send(b"HSET", offers, b"\0\0", b"short")
    crowd = Crowd(engine)

    crowd.press(show, 5)

    assert await crowd.outcomes() == {"Busy": 5}
    await send(b"HSET", offers, b"\0\0", packed)
    assert (await engine.hold(show, buyer(1), key(), one())).outcome is Outcome.HELD


class SlowReap:
    """Stands in for the reap that a refused request waits for, until `go` is set."""

    def __init__(self, engine: StockEngine, monkeypatch: pytest.MonkeyPatch) -> None:
        self.engine = engine
        self.go = asyncio.Event()
        self.fault: Exception | None = None
        monkeypatch.setattr(engine._batcher, "_reap", self._reap)

    async def _reap(self, show: ShowId) -> int:
        await self.go.wait()
        if self.fault is not None:
            raise self.fault
        return await self.engine.reap(show)

    async def awaited_by(self, show: ShowId, count: int) -> None:
        async with asyncio.timeout(60):
            while len(self.engine._batcher._again.get(show, [])) < count:  # noqa: ASYNC110  # no event for it
                await asyncio.sleep(0)


@pytest.fixture
async def slow_reap(engine: StockEngine, show: ShowId, monkeypatch: pytest.MonkeyPatch) -> SlowReap:
    """The one unit of an offer is held by a hold that is due, and nobody has reaped it yet."""
    await engine.apply_offer(terms(show, allotted=1))
    mine = key()
    await engine.hold(show, buyer(1), mine, one())
    await make_due(engine, show, 1, mine)
    return SlowReap(engine, monkeypatch)


async def test_requests_that_wait_for_a_reap_fill_the_queue(
    engine: StockEngine, show: ShowId, slow_reap: SlowReap, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever they wait for, no more wait than the queue may hold; then all are answered."""
    monkeypatch.setattr(batcher, "QUEUE_MAX", 100)
    crowd = Crowd(engine)
    crowd.press(show, 100)
    await slow_reap.awaited_by(show, 100)

    with pytest.raises(Busy):
        async with asyncio.timeout(60):
            await engine.hold(show, buyer(2), key(), one())
    slow_reap.go.set()

    assert await crowd.outcomes() == {"held": 1, "sold_out": 99}
    assert engine._batcher._queued == 0
    assert (await engine.hold(show, buyer(2), key(), one())).outcome is Outcome.SOLD_OUT


async def test_request_that_waits_for_a_reap_is_answered_in_time(
    engine: StockEngine, show: ShowId, slow_reap: SlowReap, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reap that does not end costs nobody more than the time that any request may take."""
    monkeypatch.setattr(batcher, "DEADLINE_SECONDS", 0.2)
    crowd = Crowd(engine)

    crowd.press(show, 3)

    assert await crowd.outcomes() == {"Busy": 3}
    assert engine._batcher._queued == 0
    slow_reap.go.set()


async def test_broken_reap_costs_nobody_an_answer(
    engine: StockEngine, show: ShowId, slow_reap: SlowReap
) -> None:
    """A bug in it ends its task; those who waited are asked again all the same."""
    slow_reap.fault = RuntimeError("a bug in reaping")
    slow_reap.go.set()
    crowd = Crowd(engine)

    crowd.press(show, 3)

    assert await crowd.outcomes() == {"sold_out": 3}


async def test_close_answers_what_still_waits(engine: StockEngine, show: ShowId) -> None:
    """Shutting down tells everybody "repeat", in the queue and in flight."""
    await engine.apply_offer(terms(show))
    crowd = Crowd(engine)
    crowd.press(show, 2_000)
    await asyncio.sleep(0)

    await engine.close()

    outcomes = await crowd.outcomes()
    assert sum(outcomes.values()) == 2_000
    with pytest.raises(Busy):
        await engine.hold(show, buyer(1), key(), one())

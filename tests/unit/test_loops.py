"""Loops and their pauses, on a clock that jumps."""

import asyncio
import itertools

import pytest
from structlog.testing import capture_logs

from live.aio.loops import Backoff, pause, repeat
from live.aio.tasks import Tasks
from tests.support.virtual_time import VirtualLoop, run_virtually

BACKOFF = Backoff(1.0, seconds_max=8.0)


def test_pause_ends_with_its_time_or_with_an_event() -> None:
    """Whichever comes first; the answer tells which it was."""

    async def test(loop: VirtualLoop) -> None:
        stop, news = asyncio.Event(), asyncio.Event()
        began = loop.time()
        assert not await pause(5, stop, news)
        assert loop.time() == pytest.approx(began + 5)
        loop.call_later(2, news.set)
        assert await pause(5, stop, news)
        assert loop.time() == pytest.approx(began + 7)
        assert await pause(5, news)  # at once: it is set
        await pause(3)
        assert loop.time() == pytest.approx(began + 10)

    run_virtually(test)


@pytest.mark.parametrize("failures", [1, 2, 3, 4, 30, 1_000_000])
def test_backoff_doubles_within_its_bounds(failures: int) -> None:
    """At least half of what it is, never more than the bound, and not the same for all."""
    whole = min(8.0, 2.0 ** min(failures - 1, 64))

    drawn = {BACKOFF.seconds(failures) for _ in range(50)}

    assert len(drawn) > 1
    assert all(whole / 2 <= one <= whole for one in drawn)


def test_loop_outlives_what_its_work_raises_and_tells_it_once() -> None:
    """An outage is a line when it begins and one when it ends; a bug in it is told beside it."""
    engine, bug = ConnectionError, KeyError
    results: list[type[Exception] | None] = [None, engine, engine, engine, bug, bug, None, None]

    async def test(loop: VirtualLoop) -> None:
        stop, at, failures = asyncio.Event(), [], []

        async def work() -> None:
            at.append(loop.time())
            result = results[len(at) - 1]
            if len(at) == len(results):
                stop.set()
            if result is not None:
                raise result("away")

        with capture_logs() as lines:
            await repeat(
                "test",
                work,
                stop,
                every_seconds=0.75,
                backoff=BACKOFF,
                on_failure=lambda: failures.append(loop.time()),
            )

        told = [(line["event"], line["log_level"], line.get("exc_info")) for line in lines]
        assert told[0] == ("loop.failing", "warning", None)
        assert told[1][:2] == ("loop.failing", "error") and isinstance(told[1][2], KeyError)
        assert told[2][:2] == ("loop.recovered", "info") and len(told) == 3
        assert {line["loop"] for line in lines} == {"test"}
        assert len(failures) == 5
        pauses = [late - early for early, late in itertools.pairwise(at)]
        assert pauses[0] == pytest.approx(0.75)
        assert 0.75 <= pauses[1] <= 1 <= pauses[2] <= 2 <= pauses[3] <= 4 <= pauses[4] <= 8
        assert pauses[6] == pytest.approx(0.75)

    run_virtually(test)


def test_stop_ends_a_loop_in_its_pause() -> None:
    """No process waits for a pause that is only a pause."""

    async def test(loop: VirtualLoop) -> None:
        stop, began = asyncio.Event(), loop.time()

        async def fail() -> None:
            raise ConnectionError

        loop.call_later(0.1, stop.set)
        await repeat("test", fail, stop, backoff=Backoff(60, 60))
        assert loop.time() == pytest.approx(began + 0.1)
        await repeat("test", fail, stop)  # stopped before it began: nothing is done

    run_virtually(test)


async def test_task_that_fails_leaves_one_line_with_its_ids() -> None:
    """Nobody awaits it, so nobody else would tell."""
    tasks = Tasks()

    async def fail() -> None:
        raise KeyError("a bug")

    with capture_logs() as lines:
        tasks.start("test", fail(), show="s")
        await tasks.finish()
        await asyncio.sleep(0)

    [line] = lines
    assert (line["event"], line["task"], line["show"]) == ("task.failed", "test", "s")
    assert isinstance(line["exc_info"], KeyError)
    assert len(tasks) == 0


async def test_closed_tasks_have_ended_and_say_nothing() -> None:
    """A cancellation is no fault."""
    tasks = Tasks()
    task = tasks.start("test", asyncio.sleep(60))

    with capture_logs() as lines:
        await tasks.close()

    assert task.cancelled() and len(tasks) == 0
    assert lines == []

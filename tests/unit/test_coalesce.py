"""Coalescing: who arrives together shares a call, and everybody gets their own answer."""

import asyncio
import itertools
from collections.abc import Sequence

import pytest

from live.aio.coalesce import Coalescer
from live.base.errors import Busy
from tests.support.virtual_time import VirtualLoop, run_virtually


class Calls:
    """Doubles numbers; refuses -13; waits for `gate` while it is closed."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def __call__(self, items: Sequence[int]) -> list[int | Exception]:
        self.batches.append(list(items))
        await self.gate.wait()
        return [ValueError("unlucky") if item == -13 else 2 * item for item in items]

    async def begun(self, count: int) -> None:
        while len(self.batches) < count:  # noqa: ASYNC110  # one turn of the loop each
            await asyncio.sleep(0)


async def test_callers_of_one_turn_share_a_call() -> None:
    """Ten callers, one call, ten answers."""
    calls = Calls()
    together: Coalescer[int, int] = Coalescer(calls, batch_max=100, waiting_max=100)

    answers = await asyncio.gather(*(together.ask(n) for n in range(10)))

    assert answers == [2 * n for n in range(10)]
    assert calls.batches == [list(range(10))]


async def test_who_comes_later_is_answered_by_a_later_call() -> None:
    """Nobody gets an answer that is older than their question; the bound splits a crowd."""
    calls = Calls()
    calls.gate.clear()
    together: Coalescer[int, int] = Coalescer(calls, batch_max=512, waiting_max=1_000, shared=True)

    first = asyncio.gather(*(together.ask(n) for n in range(1_000)))
    await calls.begun(1)
    late = asyncio.create_task(together.ask(0))
    await asyncio.sleep(0)
    calls.gate.set()

    assert await first == [2 * n for n in range(1_000)]
    assert await late == 0
    assert [len(batch) for batch in calls.batches] == [512, 489]
    assert calls.batches[1][-1] == 0


async def test_equal_questions_are_one_where_answers_are_shared() -> None:
    """A thousand ask the same: it is asked once, and one who goes away takes no one's answer."""
    calls = Calls()
    shared: Coalescer[int, int] = Coalescer(calls, batch_max=9, waiting_max=9, shared=True)
    crowd = [asyncio.create_task(shared.ask(7)) for _ in range(1_000)]
    await asyncio.sleep(0)
    crowd[0].cancel()

    answers = await asyncio.gather(*crowd, return_exceptions=True)

    assert answers[1:] == [14] * 999
    assert calls.batches == [[7]]
    apart: Coalescer[int, int] = Coalescer(calls, batch_max=9, waiting_max=9)
    assert await asyncio.gather(*(apart.ask(8) for _ in range(2))) == [16, 16]
    assert calls.batches[1:] == [[8, 8]]


async def test_one_refusal_is_one_callers() -> None:
    """An exception for an item reaches its caller alone."""
    together: Coalescer[int, int] = Coalescer(Calls(), batch_max=100, waiting_max=100)

    answers = await asyncio.gather(
        *(together.ask(n) for n in (12, -13, 14)), return_exceptions=True
    )

    assert answers[0] == 24 and answers[2] == 28
    assert isinstance(answers[1], ValueError)


async def test_failed_call_fails_all_its_callers() -> None:
    """Nobody waits for ever when the call breaks, and the next one works."""

    async def work(items: Sequence[int]) -> list[int]:
        if 13 in items:
            raise ConnectionError("gone")
        return list(items)

    together: Coalescer[int, int] = Coalescer(work, batch_max=100, waiting_max=100)

    answers = await asyncio.gather(*(together.ask(n) for n in (1, 13)), return_exceptions=True)

    assert all(isinstance(one, ConnectionError) for one in answers)
    assert await together.ask(2) == 2


async def test_full_queue_is_busy() -> None:
    """Beyond the bound a caller hears at once; at the bound they wait their turn."""
    calls = Calls()
    calls.gate.clear()
    together: Coalescer[int, int] = Coalescer(calls, batch_max=1, waiting_max=3, at_once=2)
    waiting = []
    for number in range(2):
        waiting.append(asyncio.create_task(together.ask(number)))
        await calls.begun(number + 1)
    waiting += [asyncio.create_task(together.ask(10 + n)) for n in range(3)]
    await asyncio.sleep(0)

    with pytest.raises(Busy):
        await together.ask(99)

    calls.gate.set()
    assert await asyncio.gather(*waiting) == [0, 2, 20, 22, 24]


async def test_caller_who_left_harms_nobody() -> None:
    """A cancelled caller's item is left out if its call had not begun."""
    calls = Calls()
    together: Coalescer[int, int] = Coalescer(calls, batch_max=100, waiting_max=100)
    leaving = asyncio.create_task(together.ask(1))
    staying = asyncio.create_task(together.ask(2))
    await asyncio.sleep(0)
    leaving.cancel()

    assert await staying == 4
    assert leaving.cancelled()
    assert calls.batches == [[2]]


async def test_item_that_comes_as_the_last_call_ends_is_not_forgotten() -> None:
    """Between the end of the work and that of its task there is a turn of the loop."""
    calls = Calls()
    together: Coalescer[int, int] = Coalescer(calls, batch_max=1, waiting_max=9)
    answers: list[int] = []

    async def ask_again(answer: "asyncio.Future[int]") -> None:
        answers.append(await answer)
        answers.append(await together.ask(2))

    async with asyncio.timeout(5):
        await ask_again(together.put(1))

    assert answers == [2, 4]
    assert together.idle


def test_calls_have_a_least_distance_where_a_rest_is_asked_for() -> None:
    """What strangers may cause is so many calls a second, whoever asks, and when."""

    async def test(loop: VirtualLoop) -> None:
        at: list[float] = []

        async def work(items: Sequence[int]) -> list[int]:
            at.append(loop.time())
            return list(items)

        together: Coalescer[int, int] = Coalescer(
            work, batch_max=9, waiting_max=9, rest_seconds=0.05
        )
        for number in range(20):
            await together.ask(number)
            await asyncio.sleep(0.01)
        await together.close()
        assert all(late - early > 0.0499 for early, late in itertools.pairwise(at))

    run_virtually(test)


async def test_close_cancels_who_waits() -> None:
    """Nobody is left waiting by a process that ends."""
    calls = Calls()
    calls.gate.clear()
    together: Coalescer[int, int] = Coalescer(calls, batch_max=1, waiting_max=9)
    asking, waiting = (asyncio.create_task(together.ask(n)) for n in range(2))
    await calls.begun(1)

    await together.close()

    both = await asyncio.gather(asking, waiting, return_exceptions=True)
    assert all(isinstance(one, asyncio.CancelledError) for one in both)

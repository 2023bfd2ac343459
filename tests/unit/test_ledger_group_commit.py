"""Group commit: who arrives together shares a flush, and everybody gets his own answer."""

import asyncio
from collections.abc import Sequence

import pytest

from live.base.errors import Busy
from live.ledger.db.group_commit import FLUSHING_MAX, GroupCommit


class Flushes:
    """Doubles numbers; refuses 13; waits for `gate` while it is closed."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def __call__(self, items: Sequence[int]) -> list[int | Exception]:
        self.batches.append(list(items))
        await self.gate.wait()
        return [ValueError("unlucky") if item == 13 else 2 * item for item in items]


async def test_callers_of_one_turn_share_a_flush() -> None:
    """Ten callers, one statement, ten answers."""
    flushes = Flushes()
    commits = GroupCommit(flushes, batch_max=100, queue_max=100)

    answers = await asyncio.gather(*(commits.submit(n) for n in range(10)))

    assert answers == [2 * n for n in range(10)]
    assert flushes.batches == [list(range(10))]


async def test_bound_splits_a_crowd() -> None:
    """No flush is larger than its bound."""
    flushes = Flushes()
    commits = GroupCommit(flushes, batch_max=4, queue_max=100)

    await asyncio.gather(*(commits.submit(n) for n in range(10)))

    assert max(len(batch) for batch in flushes.batches) == 4
    assert sorted(item for batch in flushes.batches for item in batch) == list(range(10))


async def test_one_refusal_is_one_callers() -> None:
    """An exception for an item reaches its caller alone."""
    commits = GroupCommit(Flushes(), batch_max=100, queue_max=100)

    answers = await asyncio.gather(
        *(commits.submit(n) for n in (12, 13, 14)), return_exceptions=True
    )

    assert answers[0] == 24 and answers[2] == 28
    assert isinstance(answers[1], ValueError)


async def test_failed_flush_fails_all_its_callers() -> None:
    """Nobody waits for ever when the statement breaks, and the next one works."""

    async def flush(items: Sequence[int]) -> list[int]:
        if 13 in items:
            raise ConnectionError("gone")
        return list(items)

    commits = GroupCommit(flush, batch_max=100, queue_max=100)

    answers = await asyncio.gather(*(commits.submit(n) for n in (1, 13)), return_exceptions=True)

    assert all(isinstance(one, ConnectionError) for one in answers)
    assert await commits.submit(2) == 2


async def test_full_queue_is_busy() -> None:
    """Beyond the bound a caller hears at once; at the bound he waits his turn."""
    flushes = Flushes()
    flushes.gate.clear()
    commits = GroupCommit(flushes, batch_max=1, queue_max=3)
    waiting = []
    for number in range(FLUSHING_MAX):
        waiting.append(asyncio.create_task(commits.submit(number)))
        while len(flushes.batches) <= number:  # noqa: ASYNC110  # one turn of the loop each
            await asyncio.sleep(0)
    waiting += [asyncio.create_task(commits.submit(10 + n)) for n in range(3)]
    await asyncio.sleep(0)

    with pytest.raises(Busy):
        await commits.submit(99)

    flushes.gate.set()
    assert await asyncio.gather(*waiting) == [0, 2, 20, 22, 24]


async def test_caller_who_left_harms_nobody() -> None:
    """A cancelled caller's item is left out if it was not flushed yet."""
    flushes = Flushes()
    commits = GroupCommit(flushes, batch_max=100, queue_max=100)
    leaving = asyncio.create_task(commits.submit(1))
    staying = asyncio.create_task(commits.submit(2))
    leaving.cancel()

    assert await staying == 4
    assert leaving.cancelled() or leaving.cancelling()
    assert flushes.batches == [[2]]

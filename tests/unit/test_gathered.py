"""Reads that gather while another is in flight."""

import asyncio

import pytest

from live.aio.gathered import GatheredReads
from live.domain.ids import ShowId

SHOW = ShowId("s")


async def test_reads_of_one_moment_go_together_and_later_ones_wait() -> None:
    """A thousand questions at once are two reads; one asked meanwhile is answered by its own."""
    sizes: list[int] = []
    began, go_on = asyncio.Event(), asyncio.Event()

    async def read(show: ShowId, fields: list[str]) -> list[str | None]:
        sizes.append(len(fields))
        began.set()
        await go_on.wait()
        return [f"{show}{field}" for field in fields]

    reads = GatheredReads(read)
    first = asyncio.gather(*(reads.read(SHOW, str(n)) for n in range(1_000)))
    await began.wait()
    late = asyncio.create_task(reads.read(SHOW, "late"))
    await asyncio.sleep(0)
    go_on.set()

    assert await first == [f"s{n}" for n in range(1_000)]
    assert await late == "slate"
    assert sizes == [512, 488, 1]


async def test_error_reaches_everybody_who_asked() -> None:
    """A read that fails fails for all of its questions; the next one is tried again."""
    answers: list[list[str | None] | OSError] = [OSError("away"), ["x"]]

    async def read(show: ShowId, fields: list[str]) -> list[str | None]:
        answer = answers.pop(0)
        if isinstance(answer, OSError):
            raise answer
        return answer

    reads = GatheredReads(read)
    both = await asyncio.gather(
        reads.read(SHOW, "a"), reads.read(SHOW, "b"), return_exceptions=True
    )
    with pytest.raises(OSError, match="away"):
        raise next(error for error in both if isinstance(error, OSError))
    assert [type(error) for error in both] == [OSError, OSError]
    assert await reads.read(SHOW, "a") == "x"

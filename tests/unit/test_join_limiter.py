"""A crowd that joins in the same instant."""

import asyncio

import pytest

from live.connection import limiter as limiter
from live.connection.limiter import INSIDE_MAX, SLICE, JoinLimiter


async def test_few_go_in_at_once_and_everybody_gets_in_in_order() -> None:
    """No more than the bound are inside, a turn of the loop starts one slice, nobody is lost."""
    gate = JoinLimiter()
    started: list[int] = []
    inside = 0

    def come(number: int) -> None:
        def start() -> None:
            nonlocal inside
            gate.entered()
            inside += 1
            started.append(number)

        gate.come(start, lambda: pytest.fail("nobody is refused"))

    crowd = 3 * INSIDE_MAX
    for number in range(crowd):
        come(number)
    assert inside == INSIDE_MAX
    while len(started) < crowd or inside:
        before = len(started)
        leaving, inside = inside, 0
        for _ in range(leaving):
            gate.left()
        await asyncio.sleep(0)
        assert len(started) - before <= SLICE
        assert inside <= INSIDE_MAX
    assert started == list(range(crowd))


async def test_who_waits_too_long_is_told_to_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond their patience a newcomer is refused, and the gate goes on with the next one."""
    monkeypatch.setattr(limiter, "PATIENCE_SECONDS", -1.0)
    gate = JoinLimiter()
    for _ in range(INSIDE_MAX):
        gate.come(gate.entered, lambda: pytest.fail("there is room"))
    refused = asyncio.Event()
    gate.come(lambda: pytest.fail("their time is over"), refused.set)
    gate.left()
    await asyncio.wait_for(refused.wait(), 5)

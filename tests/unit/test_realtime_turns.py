"""Turns of connections that have more to do than one turn of the loop allows."""

import asyncio

from live.transport.fast.turns import Turns


async def test_steps_of_one_turn_are_bounded() -> None:
    """Who came first goes first, so many in one turn of the loop, and others run in between."""
    turns, ran = Turns(steps_max=2), list[int]()
    for number in range(5):
        turns.later(lambda number=number: ran.append(number))  # type: ignore[misc]  # a default
    for _ in range(3):
        await asyncio.sleep(0)
        ran.append(-1)
    assert ran == [0, 1, -1, 2, 3, -1, 4, -1]

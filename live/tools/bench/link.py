"""Orders to the processes of a measurement and their answers: one JSON line each way.

Always: every answer carries the process' own CPU time and resident memory, so that what a phase
cost is the difference of two answers; a child ends with its parent, or when its orders end.
"""

import asyncio
import os
import resource
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Final

import msgspec
import orjson

from live.base.errors import EngineError
from live.tools.children import Child, say, told_lines

ANSWER_SECONDS: Final = 90.0  # the longest phase of the slowest rival, on a busy machine

Figures = dict[str, float]


class Order(msgspec.Struct, frozen=True, omit_defaults=True):
    """`do` names it; the rest means what the one who obeys says."""

    do: str
    number: int = 0
    port: int = 0
    at_once: int = 0
    rate: int = 0


Handler = Callable[[Order], Awaitable[Figures]]


class OrderedChild(Child):
    """A process that obeys; its module calls `obey`."""

    async def ask(
        self, do: str, *, number: int = 0, port: int = 0, at_once: int = 0, rate: int = 0
    ) -> Figures:
        """Raises EngineError for a process that is gone, silent, or could not do it."""
        order = Order(do=do, number=number, port=port, at_once=at_once, rate=rate)
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await self.tell(msgspec.json.encode(order))
                line = await self.hear()
        except TimeoutError as fault:
            raise EngineError(f"{self.name}: no answer to {do}") from fault
        except ConnectionError:
            line = b""
        if not line:
            raise EngineError(f"{self.name} ended during {do}")
        answer: Figures | str = orjson.loads(line)
        if isinstance(answer, str):
            raise EngineError(f"{self.name}: {do}: {answer}")
        return answer


async def obey(handlers: Mapping[str, Handler]) -> None:
    """Carry out the orders on standard input, one after another, until they end."""
    decode = msgspec.json.Decoder(Order).decode
    async for line in told_lines():
        order = decode(line)
        answer: Figures | str
        try:
            answer = await handlers[order.do](order)
            answer |= {"cpu_seconds": time.process_time(), "rss_bytes": float(_resident_bytes())}
        except EngineError as fault:
            answer = str(fault)
        say(orjson.dumps(answer))


def _resident_bytes() -> int:
    statm = Path("/proc/self/statm")
    if statm.exists():
        return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # elsewhere only the peak is known
    return peak if sys.platform == "darwin" else peak * 1024

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
from typing import Final, Self

import msgspec
import orjson

from live.base.errors import EngineError
from live.run.process import PARENT_ENV

ANSWER_SECONDS: Final = 90.0  # the longest phase of the slowest rival, on a busy machine
KILL_SECONDS: Final = 5.0

Figures = dict[str, float]


class Order(msgspec.Struct, frozen=True, omit_defaults=True):
    """`do` names it; the rest means what the one who obeys says."""

    do: str
    number: int = 0
    port: int = 0
    at_once: int = 0
    rate: int = 0


Handler = Callable[[Order], Awaitable[Figures]]


class Child:
    """A process that obeys; its module calls `obey`."""

    def __init__(self, name: str, process: asyncio.subprocess.Process) -> None:
        self.name = name
        self._process = process

    @classmethod
    async def start(cls, module: str, *arguments: str) -> Self:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-W",
            "ignore::RuntimeWarning:runpy",  # its package imports the module before it is run
            "-m",
            module,
            *arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env={**os.environ, PARENT_ENV: str(os.getpid())},
        )
        return cls(f"{module} {arguments[0] if arguments else ''}", process)

    async def ask(
        self, do: str, *, number: int = 0, port: int = 0, at_once: int = 0, rate: int = 0
    ) -> Figures:
        """Raises EngineError for a process that is gone, silent, or could not do it."""
        assert self._process.stdin is not None and self._process.stdout is not None, "both piped"
        order = Order(do=do, number=number, port=port, at_once=at_once, rate=rate)
        self._process.stdin.write(msgspec.json.encode(order) + b"\n")
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                line = await self._process.stdout.readline()
        except TimeoutError as fault:
            raise EngineError(f"{self.name}: no answer to {do}") from fault
        if not line:
            raise EngineError(f"{self.name} ended during {do}")
        answer: Figures | str = orjson.loads(line)
        if isinstance(answer, str):
            raise EngineError(f"{self.name}: {do}: {answer}")
        return answer

    async def stop(self) -> None:
        """End it at once: it has nothing to keep."""
        if self._process.returncode is None:
            self._process.kill()
            async with asyncio.timeout(KILL_SECONDS):
                await self._process.wait()


async def obey(handlers: Mapping[str, Handler]) -> None:
    """Carry out the orders on standard input, one after another, until they end."""
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    decode = msgspec.json.Decoder(Order).decode
    while line := await reader.readline():
        order = decode(line)
        answer: Figures | str
        try:
            answer = await handlers[order.do](order)
            answer |= {"cpu_seconds": time.process_time(), "rss_bytes": float(_resident_bytes())}
        except EngineError as fault:
            answer = str(fault)
        sys.stdout.buffer.write(orjson.dumps(answer) + b"\n")
        sys.stdout.buffer.flush()


def _resident_bytes() -> int:
    statm = Path("/proc/self/statm")
    if statm.exists():
        return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # elsewhere only the peak is known
    return peak if sys.platform == "darwin" else peak * 1024

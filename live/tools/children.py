"""Processes of a tool: modules that are told and heard by lines on their standard pipes.

Always: a child ends with its parent, by the kernel's signal or when its input ends (`follow_parent`
comes first in its `__main__`), and none outlives `kill`.
"""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from typing import Self

from live.run.process import PARENT_ENV

LINE_BYTES_MAX = 1 << 18


class Child:
    """A process, seen from its parent."""

    def __init__(self, name: str, process: asyncio.subprocess.Process) -> None:
        self.name = name
        self._process = process

    @classmethod
    async def start(cls, module: str, *arguments: str) -> Self:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-W", "ignore::RuntimeWarning:runpy"),  # its package imports it, too
            *("-m", module, *arguments),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env={**os.environ, PARENT_ENV: str(os.getpid())},
            limit=LINE_BYTES_MAX,
            start_new_session=True,  # Ctrl-C is the parent's business
        )
        return cls(f"{module} {arguments[0] if arguments else ''}".strip(), process)

    @property
    def exit_code(self) -> int | None:
        """None while it runs."""
        return self._process.returncode

    async def tell(self, *lines: bytes) -> None:
        assert self._process.stdin is not None, "a pipe was asked for"
        self._process.stdin.writelines(line + b"\n" for line in lines)
        await self._process.stdin.drain()

    async def hear(self) -> bytes:
        """The next line that it says; empty when it has ended."""
        assert self._process.stdout is not None, "a pipe was asked for"
        return await self._process.stdout.readline()

    async def kill(self) -> None:
        """End it at once: it has nothing to keep."""
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()


async def told_lines() -> AsyncIterator[bytes]:
    """In a child: what it is told, until its input ends; never blocks the loop."""
    reader = asyncio.StreamReader(limit=LINE_BYTES_MAX)
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        yield line.rstrip(b"\n")


def say(line: bytes) -> None:
    """In a child: tell the parent, who reads all the time, so that a blocking write is short."""
    sys.stdout.buffer.write(line + b"\n")
    sys.stdout.buffer.flush()

"""An example as a process of its own, which takes calls on a port."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import httpx


@dataclass(frozen=True, slots=True)
class Program:
    command: tuple[str, ...]
    environment: dict[str, str]

    @asynccontextmanager
    async def running(self) -> AsyncIterator[asyncio.subprocess.Process]:
        """It takes calls inside the block, and is killed at its end."""
        process = await asyncio.create_subprocess_exec(
            *self.command, env=self.environment, stdout=asyncio.subprocess.PIPE
        )
        try:
            async with asyncio.timeout(30):
                while not await self.listens():  # noqa: ASYNC110 - another process
                    await asyncio.sleep(0.05)
            yield process
        finally:
            process.send_signal(signal.SIGKILL)
            await process.wait()

    async def listens(self) -> bool:
        try:
            await self.call({})
        except httpx.TransportError:
            return False
        return True

    async def call(self, headers: dict[str, str], body: bytes = b"{}") -> int:
        url = f"http://127.0.0.1:{self.environment['PORT']}/"
        async with httpx.AsyncClient(trust_env=False, timeout=10) as http:
            return (await http.post(url, headers=headers, content=body)).status_code

"""A proxy between engine and Redis that can swallow replies: the command runs, nobody hears.

It may also be pointed at another server, as an address is after a failover.
"""

import asyncio
from pathlib import Path


class Proxy:
    def __init__(self, listen: Path, target: Path) -> None:
        self.url = f"unix://{listen}"
        self.swallow = asyncio.Event()  # set: what the server says goes nowhere
        self.swallowed = 0
        self._listen, self._target = listen, target
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        self._server = await asyncio.start_unix_server(self._accept, self._listen)

    def point_to(self, target: Path) -> None:
        """Where new connections go; the old ones last as long as their server."""
        self._target = target

    async def close(self) -> None:
        assert self._server is not None
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        up_reader, up_writer = await asyncio.open_unix_connection(self._target)
        for source, target, is_reply in ((reader, up_writer, False), (up_reader, writer, True)):
            task = asyncio.create_task(self._pump(source, target, is_reply))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pump(
        self, source: asyncio.StreamReader, target: asyncio.StreamWriter, is_reply: bool
    ) -> None:
        try:
            while data := await source.read(65536):
                if is_reply and self.swallow.is_set():
                    self.swallowed += len(data)
                else:
                    target.write(data)
        finally:
            target.close()

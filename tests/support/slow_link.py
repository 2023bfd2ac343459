"""A link of a given length to a server on this machine: each byte takes its time, in order.

It listens on loopback and runs on a thread of its own, so that a busy test does not lengthen it.
While it is cut it takes connections and says nothing, as a network does that drops packets.
"""

import asyncio
import threading
from collections.abc import Coroutine
from pathlib import Path
from typing import Self

READ_BYTES = 65_536


class SlowLink:
    """`one_way_seconds`: half of the round trip that it makes."""

    def __init__(self, target: Path, *, one_way_seconds: float) -> None:
        self.port = 0
        self.questions = 0  # times that a client said something after it had been answered
        self._target = target
        self._one_way = one_way_seconds
        self._cuts = 0
        self._whole = threading.Event()
        self._whole.set()
        self._answered = True
        self._writers: set[asyncio.StreamWriter] = set()
        self._pumps: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)

    def __enter__(self) -> Self:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result()
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def cut(self) -> None:
        """From now on nothing arrives on either side, and nobody is told."""
        self._cuts += 1
        self._whole.clear()

    def heal(self) -> None:
        """New connections work; those that lived through it stay silent, as behind a firewall."""
        self._whole.set()

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _close(self) -> None:
        self._server.close()
        for pump in list(self._pumps):
            pump.cancel()
        await asyncio.gather(*self._pumps, return_exceptions=True)
        for writer in self._writers:
            writer.transport.abort()
        await asyncio.sleep(0)  # the transports tell their protocols

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        if not self._whole.is_set():
            self._start(self._swallow(reader, writer))
            return
        up_reader, up_writer = await asyncio.open_unix_connection(self._target)
        self._writers.add(up_writer)
        self._start(self._pump(reader, up_writer, asks=True))
        self._start(self._pump(up_reader, writer, asks=False))

    def _start(self, pump: Coroutine[object, object, None]) -> None:
        task = asyncio.create_task(pump)
        self._pumps.add(task)
        task.add_done_callback(self._pumps.discard)

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, asks: bool
    ) -> None:
        """Each piece leaves when it is due; many may be under way."""
        cuts = self._cuts
        try:
            while data := await reader.read(READ_BYTES):
                self.questions += asks and self._answered
                self._answered = not asks
                self._loop.call_later(self._one_way, self._deliver, writer, data, cuts)
        except OSError:
            pass  # whoever hung up: the other side is told by the close below
        finally:
            self._loop.call_later(self._one_way, writer.close)

    def _deliver(self, writer: asyncio.StreamWriter, data: bytes, cuts: int) -> None:
        if self._cuts == cuts and not writer.is_closing():
            writer.write(data)

    async def _swallow(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await reader.read(READ_BYTES):
                pass
        except OSError:
            pass
        finally:
            writer.close()

"""`live bench floods`: what a bystander notices while somebody floods the worker that they are on.

Method: one gateway as `live serve` runs it. The bystander asks for the time at a steady pace,
whether or not they were answered, so that a frozen worker shows in full; a process of its own
(flooder.py) sends one kind of rubbish after another. Floods come from loopback, which has no bound
per address: what is measured is what a connection may cost, not how many one may open.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Final

from rich.console import Console
from rich.progress import Progress

from live.base.errors import EngineError
from live.domain.channels import Channel, ChannelKind
from live.domain.events import ChatMessage
from live.domain.ids import AuthorId, ShowId
from live.showlog.log import ShowLog
from live.tools.bench.flooder import floods
from live.tools.bench.gateways import set_stage
from live.tools.bench.link import Figures, OrderedChild
from live.tools.bench.phone import HANDSHAKE, text_frame
from live.tools.bench.report import Goal, make_report, print_report

SECONDS: Final = 4.0  # of each flood
CALM_SECONDS: Final = 1.0  # before it
LINES: Final = 300  # of chat that can be asked for
ASKS_PER_SECOND: Final = 40  # below the pace at which a connection is told to wait
PATIENCE_SECONDS: Final = 30.0  # for the last answer of a worker that was frozen
GOAL_MS: Final = 50.0


async def run(
    redis_url: str, database_url: str, *, seconds: float = SECONDS, calm: float = CALM_SECONDS
) -> dict[str, object]:
    """Measure, print a table to standard error, return the object of `live bench --json`.

    Raises EngineError where it cannot be measured.
    """
    console = Console(stderr=True)
    rows: dict[str, Figures] = {}
    async with AsyncExitStack() as stack:
        stage = await stack.enter_async_context(set_stage(redis_url, database_url))
        await _fill_chat(stage.log, stage.show)
        where = (redis_url, database_url, stage.secret, stage.show)
        server = await OrderedChild.start("live.tools.bench.served", "ours", *where, "1")
        stack.push_async_callback(server.kill)
        flooder = await OrderedChild.start("live.tools.bench.flooder", stage.show)
        stack.push_async_callback(flooder.kill)
        port = int((await server.ask("where"))["port"])
        with Progress(console=console, transient=True) as progress:
            task = progress.add_task("floods", total=len(floods(stage.show)))
            for name in floods(stage.show):
                rows[name] = await _measure(server, flooder, name, port, seconds, calm)
                progress.advance(task)
    goals = [
        Goal(f"floods.bystander_p99_ms_{name}", row["p99_ms"], GOAL_MS, higher=False)
        for name, row in rows.items()
    ]
    columns = ("calm_p99_ms", "p50_ms", "p99_ms", "max_ms", "sent_mb", "close_code", "rss_mb")
    shown = {name: dict[str, float | str](row) for name, row in rows.items()}
    print_report(console, "live bench floods", shown, goals, columns)
    return make_report("floods", shown, goals)


async def _fill_chat(log: ShowLog, show: ShowId) -> None:
    channel = Channel(ChannelKind.CHAT, show)
    for number in range(LINES):
        line = ChatMessage(
            at=time.time_ns() // 1_000_000,
            id=f"{number}-0",
            author=AuthorId(f"viewer-{number}"),
            name="A viewer",
            text=f"line {number} " + "of a long evening " * 20,
        )
        await log.publish(channel, line)


async def _measure(
    server: OrderedChild, flooder: OrderedChild, name: str, port: int, seconds: float, calm: float
) -> Figures:
    async with _bystander(port) as bystander:
        await asyncio.sleep(calm)
        before = await bystander.figures()
        flooded = await flooder.ask(name, number=round(1000 * seconds), port=port)
        during = await bystander.figures()
        looked = await server.ask("look")
    return {
        "calm_p99_ms": before["p99_ms"],
        **during,
        "sent_mb": round(flooded["sent_bytes"] / 1e6, 2),
        "read_mb": round(flooded["read_bytes"] / 1e6, 2),
        "closes": flooded["closes"],
        "close_code": flooded["close_code"],
        "rss_mb": round(looked["rss_bytes"] / 1e6, 1),
    }


class _Bystander:
    """Asks for the time, and keeps how long each answer took."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._asked: dict[int, float] = {}
        self._latencies: list[float] = []
        self._answered = asyncio.Event()

    async def ask_on(self) -> None:
        """Ask at a steady pace until cancelled."""
        number, due = 1, time.perf_counter()
        while True:
            number += 1
            self._asked[number] = time.perf_counter()
            request = b'{"id":%d,"rpc":{"method":"time.now","data":{}}}' % number
            self._writer.write(text_frame(request))
            due += 1 / ASKS_PER_SECOND
            await asyncio.sleep(due - time.perf_counter())

    async def read_on(self) -> None:
        """Take answers until cancelled, or until the server ends it."""
        while True:
            first, length = await self._reader.readexactly(2)
            if length == 126:
                length = int.from_bytes(await self._reader.readexactly(2), "big")
            message = await self._reader.readexactly(length)
            if first == 0x88:
                raise EngineError(f"the bystander was closed: {message!r}")
            self._take(message)

    def _take(self, message: bytes) -> None:
        if message == b"{}":
            self._writer.write(text_frame(b"{}"))
        elif message.startswith(b'{"id":'):
            number = int(message[6 : message.index(b",")])
            asked = self._asked.pop(number, None)
            if asked is not None:
                self._latencies.append(time.perf_counter() - asked)
                self._answered.set()

    async def figures(self) -> Figures:
        """Wait until all that was asked so far is answered; what it took since the last look."""
        last = max(self._asked, default=0)
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                while min(self._asked, default=last + 1) <= last:
                    self._answered.clear()
                    await self._answered.wait()
        except TimeoutError as fault:
            raise EngineError("the bystander is not answered any more") from fault
        found, self._latencies = sorted(self._latencies), []
        if not found:
            raise EngineError("the bystander was not answered at all")
        return {
            "p50_ms": round(1000 * found[len(found) // 2], 2),
            "p99_ms": round(1000 * found[len(found) * 99 // 100], 2),
            "max_ms": round(1000 * found[-1], 2),
        }


@asynccontextmanager
async def _bystander(port: int) -> AsyncIterator[_Bystander]:
    """A connection that asks while the block runs."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(HANDSHAKE % b"")
    await reader.readuntil(b"\r\n\r\n")
    writer.write(text_frame(b'{"id":1,"connect":{}}'))
    found = _Bystander(reader, writer)
    tasks = [asyncio.create_task(found.read_on()), asyncio.create_task(found.ask_on())]
    try:
        yield found
    finally:
        for task in tasks:
            task.cancel()
        with suppress(asyncio.IncompleteReadError, OSError):
            await asyncio.gather(*tasks, return_exceptions=True)
        writer.close()

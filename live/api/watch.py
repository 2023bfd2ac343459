"""What each process keeps an eye on besides its own work, because nobody else would tell.

Owns: the warnings of `/readyz`. A warning is no reason to take a process out of traffic: every
process of the service sees the same, and without any of them nobody could even look on.
Always: looked for on a task of its own, whether or not somebody asks; a line in the log when a
warning begins and when it ends, none in between.
"""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from live.aio.loops import repeat
from live.aio.tasks import Tasks
from live.base.redis_url import NodeUrl
from live.redis.clients import Clients
from live.redis.memory import REFUSED, SHORT, USED_RATIO, MemoryUse

LOOK_SECONDS = 5.0  # several looks a scrape
ANSWER_SECONDS = 1.0
WAITS_SECONDS = 10.0  # far above a settlement and a settler's restart

FULL = "full: what begins something is refused"
NEARLY_FULL = "nearly full"
UNSETTLED = "orders wait: nobody settles, or too slowly"

log = structlog.get_logger()


class Watch:
    """`warnings`: what is wrong, by its source; empty: nothing.

    `oldest_seconds` tells for how many seconds orders have waited for the ledger.
    """

    def __init__(self, redis_url: str, oldest_seconds: Callable[[], Awaitable[float]]) -> None:
        self.warnings: dict[str, str] = {}
        self._clients = Clients(
            redis_url, seconds=ANSWER_SECONDS, connect_seconds=ANSWER_SECONDS, decode=True
        )
        self._oldest_seconds = oldest_seconds
        self._refused = 0.0  # as of the last look
        self._tasks = Tasks()

    async def open(self) -> None:
        """Connect, and begin to look. Raises EngineError or redis' ConnectionError."""
        await self._clients.open()
        for look in (self.look_at_memory, self.look_at_settlement):
            name = look.__name__
            self._tasks.start(name, repeat(name, look, every_seconds=LOOK_SECONDS))

    async def close(self) -> None:
        await self._tasks.close()
        await self._clients.close()

    async def look_at_memory(self) -> None:
        """Of the fullest node. What was refused since the last look counts as full, too: beside
        the limit it may be either at the moment of looking."""
        nodes = sorted(self._clients.nodes.all())
        found = await asyncio.gather(*map(self._memory_of, nodes), return_exceptions=True)
        told = [one for one in found if isinstance(one, MemoryUse)]
        if not told:
            return
        fullest = max(told, key=lambda one: one.ratio)
        USED_RATIO.set(fullest.ratio)
        refused, self._refused = self._refused, _refusals()
        warning = ""
        if fullest.ratio >= 1 or self._refused > refused:
            warning = FULL
        elif fullest.ratio > SHORT:
            warning = NEARLY_FULL
        before = self._tell("redis_memory", warning)
        if warning == before:
            return
        event = {FULL: "redis.memory_full", NEARLY_FULL: "redis.memory_short"}.get(warning)
        say = log.warning if event else log.info
        say(event or "redis.memory_freed", used=fullest.used, maxmemory=fullest.limit)

    async def look_at_settlement(self) -> None:
        oldest_seconds = await self._oldest_seconds()
        warning = UNSETTLED if oldest_seconds > WAITS_SECONDS else ""
        before = self._tell("settlement", warning)
        if warning and not before:
            log.warning("settlement.waits", oldest_seconds=round(oldest_seconds, 1))
        elif before and not warning:
            log.info("settlement.goes_on")

    async def _memory_of(self, node: NodeUrl) -> MemoryUse:
        return MemoryUse.of(await self._clients.at(node).info("memory"))

    def _tell(self, source: str, warning: str) -> str:
        """Note a warning, or "" for none; returns the one before."""
        before = self.warnings.pop(source, "")
        if warning:
            self.warnings[source] = warning
        return before


def _refusals() -> float:
    """What this process was refused."""
    [family] = REFUSED.collect()
    return family.samples[0].value

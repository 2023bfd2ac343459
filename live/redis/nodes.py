"""Which Redis server holds a show: the one of a plain URL, or the cluster node that has its slot.

Owns: the slot table of one client. Always: a plain URL has one node, itself, and no call here does
anything then; a slot goes elsewhere only where two nodes say so (one, if no other answers) or by
MOVED; looks at the cluster are bounded in number and time, and who asks at once shares one.
Runs on: the event loop. Not here: connections to the nodes (clients.py, connection.py), and
whether what a node holds may be believed (each stock call carries the server's run id).
"""

import asyncio
import random
from collections.abc import Callable
from typing import Final

import structlog
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.crc import key_slot
from redis.exceptions import RedisError

from live.aio.tasks import Tasks
from live.base.errors import EngineError
from live.base.keepalive import redis_options
from live.base.redis_url import (
    HASH_SLOTS,
    NodeUrl,
    is_cluster,
    node_named,
    read_hash_slots,
    seeds_of,
)

LOOK_EVERY_SECONDS: Final = 0.1  # a failover takes seconds; ten looks a second are no load
ASK_SECONDS: Final = 0.5  # of silence of one node; the next one knows as much
OPINIONS: Final = 2  # a primary that was cut off or frozen tells the old table when it comes back
LOOK_SECONDS: Final = 1.5  # of one look: three silent nodes, then it ends without an answer
REDIRECTIONS: Final = ("MOVED", "ASK", "TRYAGAIN", "CLUSTERDOWN")
"""First words of refusals that ran nothing: the same command may be sent again."""

log = structlog.get_logger()


class Nodes:
    """`on_change` callbacks run after slots have moved. Raises ValueError for an unreadable URL."""

    def __init__(self, url: str) -> None:
        self.clustered = is_cluster(url)
        self.on_change: list[Callable[[], None]] = []
        self._seeds = seeds_of(url)
        self._table = [self._seeds[0]] * (HASH_SLOTS if self.clustered else 1)
        self._all = frozenset(self._seeds[:1])
        self._tasks = Tasks()
        self._looking: asyncio.Task[bool] | None = None
        self._looked_at = float("-inf")
        self._silent = False

    def of(self, name: str) -> NodeUrl:
        """The node of a show, or of a key or channel with its hash tag."""
        if not self.clustered:
            return self._table[0]
        # Not remembered by show: the digest of a short name costs as much as a bounded memory.
        return self._table[key_slot(name.encode())]

    def all(self) -> frozenset[NodeUrl]:
        """The nodes that have slots."""
        return self._all

    async def open(self) -> None:
        """Find the cluster. Raises EngineError where none of the seeds answers."""
        if self.clustered and not await asyncio.shield(self._look_once()):
            raise EngineError("no node of the Redis cluster answers")

    async def close(self) -> None:
        await self._tasks.close()

    async def look(self) -> None:
        """Ask a node where the slots are now; without an answer the table stays as it is."""
        if self.clustered:
            await asyncio.shield(self._look_once())

    def look_soon(self) -> None:
        """The same, without waiting for it."""
        if self.clustered:
            self._look_once()

    def redirected(self, refusal: str, by: NodeUrl) -> None:
        """Learn from a refusal that begins with one of REDIRECTIONS."""
        kind, *words = refusal.split()
        if kind != "MOVED" or not self.clustered:
            self.look_soon()
            return
        host, _, port = words[1].rpartition(":")
        self.moved(int(words[0]), host, int(port), by)

    def moved(self, slot: int, host: str, port: int, by: NodeUrl) -> None:
        """Take the word of a node (`by`) that this slot is another's."""
        node = node_named(by, host, port)
        if self.clustered and self._table[slot] != node:
            self._table[slot] = node
            self._changed()

    def _look_once(self) -> asyncio.Task[bool]:
        if self._looking is None or self._looking.done():
            self._looking = self._tasks.start("look", self._look())
        return self._looking

    async def _look(self) -> bool:
        clock = asyncio.get_running_loop().time
        await asyncio.sleep(max(0.0, self._looked_at + LOOK_EVERY_SECONDS - clock()))
        self._looked_at = clock()
        candidates = list({*self._all, *self._seeds})
        random.shuffle(candidates)
        told: list[list[NodeUrl]] = []
        for node in candidates:
            if clock() - self._looked_at > LOOK_SECONDS:
                break
            try:
                told.append(self._table_of(list(read_hash_slots(await _ask(node), node))))
            except (RedisError, OSError, TimeoutError):
                continue
            if told[-1] == self._table or len(told) == OPINIONS:
                break
        if not told and not self._silent:  # once, not ten times a second
            log.warning("no node of the redis cluster answers")
        self._silent = not told
        self._take(told)
        return bool(told)

    def _table_of(self, found: list[tuple[int, int, list[NodeUrl]]]) -> list[NodeUrl]:
        table = list(self._table)  # slots that nobody has stay where they were
        for first, last, nodes in found:
            table[first : last + 1] = [nodes[0]] * (last + 1 - first)
        return table

    def _take(self, told: list[list[NodeUrl]]) -> None:
        """Believe what all who were asked say; where they differ nothing changes, until MOVED."""
        table = [
            nodes[0] if len(set(nodes)) == 1 else now
            for now, *nodes in zip(self._table, *told, strict=True)
            if nodes
        ]
        if told and table != self._table:
            self._table = table
            self._changed()

    def _changed(self) -> None:
        self._all = frozenset(self._table)
        log.info("redis slots moved", nodes=len(self._all))
        for callback in self.on_change:
            callback()


async def _ask(node: NodeUrl) -> object:
    """Its slot table; a node far away takes several round trips, none longer than ASK_SECONDS."""
    async with Redis.from_url(
        node,
        retry=Retry(NoBackoff(), 0),
        socket_timeout=ASK_SECONDS,
        socket_connect_timeout=ASK_SECONDS,
        **redis_options(node),
    ) as client:
        # redis-py leaves this method untyped.
        return await client.execute_command("CLUSTER", "SLOTS")  # type: ignore[no-untyped-call]

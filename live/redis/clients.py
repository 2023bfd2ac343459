"""redis-py's clients, one a node, with its own retries off; follows a show to where its slot is.

Owns: the connection pools. Always: a command is sent again only where the server said that it ran
nothing (MOVED, ASK, TRYAGAIN, CLUSTERDOWN), within the time of one command; a command whose reply
was lost is the caller's to judge. Not redis-py's RedisCluster: on every fifth MOVED and on each
CLUSTERDOWN it cuts all connections, with the commands of others on them, and after a failed one it
reads the whole COMMAND table again (docs/decisions.md, 5).
Runs on: the event loop.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeVar, cast

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import (
    AskError,
    ClusterDownError,
    MovedError,
    NoScriptError,
    OutOfMemoryError,
    TryAgainError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from live.aio.tasks import Tasks
from live.base.keepalive import redis_options
from live.base.redis_url import NodeUrl
from live.redis.memory import note_refusal
from live.redis.nodes import Nodes
from live.redis.scripts import Script

T = TypeVar("T")

PAUSE_SECONDS: Final = 0.02  # before a command is sent to a slot that is on its way again
REST_SECONDS: Final = 0.25  # a node that just failed is not asked: its shows must not slow others


class Clients:
    """`seconds` bounds one command; None where replies may take for ever (pub/sub)."""

    def __init__(
        self,
        url: str,
        *,
        seconds: float | None,
        connect_seconds: float,
        nodes: Nodes | None = None,
        decode: bool = False,
    ) -> None:
        self.nodes = nodes or Nodes(url)
        self._seconds = seconds or connect_seconds
        self._socket_seconds = seconds
        self._connect_seconds = connect_seconds
        self._decode = decode
        self._clients: dict[NodeUrl, Redis] = {}
        self._rests: dict[NodeUrl, float] = {}  # until when a node is not asked
        self._closing = Tasks()
        self.nodes.on_change.append(self._let_go)

    def at(self, node: NodeUrl) -> Redis:
        """The client of one node."""
        client = self._clients.get(node)
        if client is None:
            # Retries off: after a lost reply redis-py's own retry would apply a write twice.
            client = self._clients[node] = Redis.from_url(
                node,
                retry=Retry(NoBackoff(), 0),
                socket_timeout=self._socket_seconds,
                socket_connect_timeout=self._connect_seconds,
                decode_responses=self._decode,
                **redis_options(node),
            )
        return client

    async def open(self) -> None:
        """Find the nodes. Raises EngineError or redis' ConnectionError where nobody answers."""
        await self.nodes.open()
        if not self.nodes.clustered:
            await self.at(self.nodes.of("")).ping()

    async def close(self) -> None:
        await self.nodes.close()
        await self._closing.finish()
        for client in self._clients.values():
            await client.aclose()

    async def run(self, name: str, call: Callable[[Redis], Awaitable[T]]) -> T:
        """Run `call` on the node of a show, or of a key or channel with its hash tag.

        Raises what redis-py raises.
        """
        try:
            return await self._run(name, call)
        except OutOfMemoryError:
            note_refusal("OOM")
            raise

    async def _run(self, name: str, call: Callable[[Redis], Awaitable[T]]) -> T:
        if not self.nodes.clustered:
            return await call(self.at(self.nodes.of(name)))
        clock = asyncio.get_running_loop().time
        deadline = clock() + self._seconds
        while True:
            node = self.nodes.of(name)
            if self._rests.get(node, 0.0) > clock():
                raise RedisConnectionError("this node of the cluster did not answer just now")
            try:
                return await call(self.at(node))
            except MovedError as moved:
                self.nodes.moved(moved.slot_id, moved.host, moved.port, node)
                if clock() >= deadline:
                    raise
                if self.nodes.of(name) == node:
                    await asyncio.sleep(PAUSE_SECONDS)
            except (AskError, TryAgainError, ClusterDownError):
                if clock() >= deadline:
                    raise
                self.nodes.look_soon()
                await asyncio.sleep(PAUSE_SECONDS)
            except (RedisConnectionError, RedisTimeoutError, OSError):
                self._rests[node] = clock() + REST_SECONDS
                self.nodes.look_soon()
                raise

    async def run_script(
        self, script: Script, name: str, keys: Sequence[str], args: Sequence[str | int | bytes]
    ) -> object:
        """Run a script on the node of `name`, loading it where that node does not know it."""

        async def call(redis: Redis) -> object:
            try:
                return await run(redis)
            except NoScriptError:
                await redis.script_load(script.text)
                return await run(redis)

        def run(redis: Redis) -> Awaitable[object]:
            sha = script.sha.decode()
            return cast(Awaitable[object], redis.evalsha(sha, len(keys), *keys, *args))

        return await self.run(name, call)

    def _let_go(self) -> None:
        """Close the clients of nodes that have no slots any more."""
        for node in self._clients.keys() - self.nodes.all():
            self._rests.pop(node, None)
            self._closing.start("close", self._clients.pop(node).aclose())

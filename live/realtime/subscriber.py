"""The pub/sub connection of one process: one channel a show, kept alive by its own heartbeat.

A pub/sub connection that is cut in the middle of the network says nothing for ever, so it pings
itself and is given up after three silent beats.
Owns: the connection, its channels, its reconnects. Always: after each reconnect `on_gap` is called
before any later message, because messages of the meantime are lost.
Runs on: one task (`run`) that reads; `want` and `drop` may be called from any task.
"""

import asyncio
import random
from collections.abc import Callable

import structlog
from redis.asyncio import Redis
from redis.asyncio.client import PubSub
from redis.exceptions import RedisError

BEAT_SECONDS = 1.0
SILENT_SECONDS = 3.0  # three beats without an answer
BACKOFF_SECONDS_MAX = 2.0
WANT_SECONDS = 2.0  # until a SSUBSCRIBE is confirmed

log = structlog.get_logger()


class Subscriber:
    """`on_message(channel, data)` runs for every message, `on_gap()` after every reconnect."""

    def __init__(
        self,
        redis: Redis,
        *,
        home: str,
        on_message: Callable[[str, bytes], None],
        on_gap: Callable[[], None],
    ) -> None:
        self._redis = redis
        self._home = home  # a channel that is always subscribed, so that pings are allowed
        self._on_message = on_message
        self._on_gap = on_gap
        self._channels: set[str] = {home}
        self._confirmed: dict[str, asyncio.Future[None]] = {}
        self._pubsub: PubSub | None = None
        self._heard_at = 0.0
        self._opened = False

    @property
    def connected(self) -> bool:
        return self._pubsub is not None

    async def want(self, channel: str) -> None:
        """Listen to a channel; returns once Redis has confirmed it. Raises TimeoutError."""
        if channel in self._channels and channel not in self._confirmed and self._pubsub:
            return
        waiter = self._confirmed.get(channel)
        if waiter is None:
            waiter = self._confirmed[channel] = asyncio.get_running_loop().create_future()
            self._channels.add(channel)
            if self._pubsub is not None:
                await self._pubsub.ssubscribe(channel)
        async with asyncio.timeout(WANT_SECONDS):
            await asyncio.shield(waiter)

    async def drop(self, channel: str) -> None:
        """Stop listening; a connection that is gone has forgotten the channel anyway."""
        self._channels.discard(channel)
        if self._pubsub is not None:
            try:
                await self._pubsub.sunsubscribe(channel)
            except (RedisError, OSError) as fault:
                log.info("unsubscribe failed", channel=channel, fault=str(fault))

    async def run(self) -> None:
        """Read until cancelled; reconnect by itself."""
        tries = 0
        while True:
            try:
                await self._read_one_connection()
            except (RedisError, OSError, TimeoutError) as fault:
                log.warning("pub/sub connection lost", fault=str(fault), tries=tries)
            tries = 0 if self._opened else tries + 1
            self._opened = False
            pause = min(BACKOFF_SECONDS_MAX, 0.05 * 2.0 ** min(tries, 10))
            await asyncio.sleep(random.uniform(pause / 2, pause))

    async def _read_one_connection(self) -> None:
        pubsub = self._redis.pubsub()
        beat: asyncio.Task[None] | None = None
        try:
            known = set(self._channels)
            await pubsub.ssubscribe(*known)
            self._heard_at = asyncio.get_running_loop().time()
            self._pubsub = pubsub
            if wanted_meanwhile := self._channels - known:
                await pubsub.ssubscribe(*wanted_meanwhile)
            beat = asyncio.create_task(self._beat(pubsub))
            await self._read(pubsub, beat)
        finally:
            self._pubsub = None
            if beat is not None:
                beat.cancel()
            await pubsub.aclose()  # type: ignore[no-untyped-call]  # redis-py leaves it untyped

    async def _read(self, pubsub: PubSub, beat: asyncio.Task[None]) -> None:
        loop = asyncio.get_running_loop()
        while not beat.done():
            message = await pubsub.get_message(timeout=BEAT_SECONDS)
            if message is None:
                continue
            self._heard_at = loop.time()
            kind = message["type"]
            if kind == "smessage":
                self._on_message(message["channel"].decode(), message["data"])
            elif kind == "ssubscribe":
                self._take_confirmation(message["channel"].decode())
        beat.result()

    def _take_confirmation(self, channel: str) -> None:
        if channel == self._home:
            self._opened = True
            self._on_gap()
        waiter = self._confirmed.pop(channel, None)
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    async def _beat(self, pubsub: PubSub) -> None:
        """Ping; end with TimeoutError when nothing was heard for too long."""
        loop = asyncio.get_running_loop()
        while loop.time() - self._heard_at < SILENT_SECONDS:
            await pubsub.ping()
            await asyncio.sleep(BEAT_SECONDS)
        raise TimeoutError(f"nothing heard for {SILENT_SECONDS} s")

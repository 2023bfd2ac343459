"""One pub/sub connection to one Redis node, kept alive by its own heartbeat.

A pub/sub connection that is cut in the middle of the network says nothing for ever, so it pings
itself and is given up after three silent beats.
Owns: the connection and its reconnects. Always: a channel is confirmed before any message of it,
and again after each reconnect, because messages of the meantime are lost.
Runs on: one task (`run`) that reads, and one beside it that asks and pings.
Not here: which node carries a channel (subscribers.py).
"""

import asyncio
from typing import Protocol

from redis.asyncio import Redis
from redis.asyncio.client import PubSub
from redis.exceptions import MovedError

from live.aio.loops import Backoff, Trouble, pause

BEAT_SECONDS = 1.0
SILENT_SECONDS = 3.0  # three beats without an answer
BACKOFF = Backoff(0.05, seconds_max=2.0)


class Listener(Protocol):
    """Who is told what happens on the connection."""

    def take_message(self, channel: str, data: bytes) -> None: ...
    def take_confirmation(self, channel: str) -> None: ...
    def take_eviction(self, channel: str) -> None:
        """The node does not carry this channel any more."""

    def take_redirection(self, moved: MovedError) -> None:
        """The node never carried a channel of that slot."""

    async def take_end(self) -> None:
        """The connection is gone; a new one is made after this."""


class Subscriber:
    """Listens to `channels`, a set of the owner's who calls `renew` when it changes."""

    def __init__(self, redis: Redis, channels: set[str], listener: Listener) -> None:
        self._redis = redis
        self._channels = channels
        self._listener = listener
        self._asked: set[str] = set()  # on the connection of now
        self._changed = asyncio.Event()
        self._heard_at = 0.0
        self._trouble = Trouble("pub/sub", BACKOFF)  # until a channel is confirmed

    def renew(self) -> None:
        """Ask for what is new, give up what is gone."""
        self._changed.set()

    async def run(self) -> None:
        """Read until cancelled; reconnect by itself."""
        while True:
            seconds = BACKOFF.first_seconds
            try:
                await self._read_one_connection()
            except Exception as error:  # whatever it was, a process must not go deaf
                seconds = self._trouble.failed(error)
            await self._listener.take_end()
            await asyncio.sleep(seconds)

    async def _read_one_connection(self) -> None:
        pubsub = self._redis.pubsub()
        talk: asyncio.Task[None] | None = None
        try:
            await pubsub.connect()  # type: ignore[no-untyped-call]  # redis-py leaves it untyped
            self._asked = set()
            self._changed.set()
            self._heard_at = asyncio.get_running_loop().time()
            talk = asyncio.create_task(self._talk(pubsub))
            await self._read(pubsub, talk)
        finally:
            if talk is not None:
                talk.cancel()
            await pubsub.aclose()  # type: ignore[no-untyped-call]  # the same

    async def _read(self, pubsub: PubSub, talk: asyncio.Task[None]) -> None:
        loop = asyncio.get_running_loop()
        while not talk.done():
            try:
                message = await pubsub.get_message(timeout=BEAT_SECONDS)
            except MovedError as moved:
                self._listener.take_redirection(moved)
                continue
            if message is None:
                continue
            self._heard_at = loop.time()
            kind = message["type"]
            if kind == "smessage":
                self._listener.take_message(message["channel"].decode(), message["data"])
            elif kind == "ssubscribe":
                self._trouble.over()
                self._listener.take_confirmation(message["channel"].decode())
            elif kind == "sunsubscribe":
                self._take_end_of(message["channel"].decode())
        talk.result()

    def _take_end_of(self, channel: str) -> None:
        """Either we asked for it, or the node has lost the slot."""
        if channel in self._asked and channel in self._channels:
            self._asked.discard(channel)
            self._listener.take_eviction(channel)

    async def _talk(self, pubsub: PubSub) -> None:
        """Ask and ping; end with TimeoutError when nothing was heard for too long."""
        loop = asyncio.get_running_loop()
        ping_at = 0.0
        while loop.time() - self._heard_at < SILENT_SECONDS:
            self._changed.clear()
            await self._ask(pubsub)
            if loop.time() >= ping_at:
                await pubsub.ping()
                ping_at = loop.time() + BEAT_SECONDS
            await pause(ping_at - loop.time(), self._changed)
        raise TimeoutError(f"nothing heard for {SILENT_SECONDS} s")

    async def _ask(self, pubsub: PubSub) -> None:
        # One channel a command: a command must be in one slot, and a node has many.
        for channel in self._channels - self._asked:
            self._asked.add(channel)
            await pubsub.ssubscribe(channel)
        for channel in self._asked - self._channels:
            self._asked.discard(channel)
            await pubsub.sunsubscribe(channel)

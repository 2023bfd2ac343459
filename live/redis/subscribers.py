"""Channels of this process: one pub/sub connection for each Redis node that carries one of them.

Owns: which channel is asked for where. Always: after a channel was out of hearing (a lost
connection, a slot that moved) `on_gap` is called for it before any later message.
Runs on: the event loop; each connection reads in a task of its own, so a silent node delays none of
the channels of the others (redis-py's ClusterPubSub reads its nodes in turn).
"""

import asyncio
from collections.abc import Callable
from typing import Final

from redis.exceptions import MovedError

from live.aio.loops import repeat
from live.aio.tasks import Tasks, cancel_all
from live.base.redis_url import NodeUrl
from live.redis.clients import Clients
from live.redis.subscriber import Subscriber

WANT_SECONDS: Final = 2.0  # until an SSUBSCRIBE is confirmed
LOOK_EVERY_SECONDS: Final = 5.0  # at the slots of a cluster, in case one moved without a word


class Subscribers:
    """`on_message(channel, data)` runs for every message, `on_gap(channel)` as said above."""

    def __init__(
        self,
        clients: Clients,
        *,
        on_message: Callable[[str, bytes], None],
        on_gap: Callable[[str], None],
    ) -> None:
        self.on_message = on_message
        self._clients = clients
        self._on_gap = on_gap
        self._wanted: set[str] = set()
        self._places: dict[str, NodeUrl] = {}  # where they are asked for
        self._heard: set[str] = set()  # confirmed where they are asked for
        self._waiting: dict[str, asyncio.Future[None]] = {}
        self._stations: dict[NodeUrl, _Station] = {}
        self._tasks = Tasks()
        clients.nodes.on_change.append(self._place_all)

    async def run(self) -> None:
        """Look at the slots from time to time, until cancelled."""

        async def look() -> None:
            await self._clients.nodes.look()
            self._place_all()

        await repeat("slots", look, every_seconds=LOOK_EVERY_SECONDS)

    async def close(self) -> None:
        self._wanted.clear()
        await self._tasks.close()

    async def want(self, channel: str, *, seconds: float | None = None) -> None:
        """Listen to a channel; returns once Redis has confirmed it.

        Raises TimeoutError after `seconds`, WANT_SECONDS unless given.
        """
        if channel in self._heard:
            return
        waiter = self._waiting.get(channel)
        if waiter is None:
            waiter = self._waiting[channel] = asyncio.get_running_loop().create_future()
            self._wanted.add(channel)
            self._place(channel)
        async with asyncio.timeout(WANT_SECONDS if seconds is None else seconds):
            await asyncio.shield(waiter)

    def drop(self, channel: str) -> None:
        """Stop listening."""
        self._wanted.discard(channel)
        self._leave(channel)
        self._waiting.pop(channel, None)

    # What the connections tell

    def confirm(self, channel: str, node: NodeUrl) -> None:
        if self._places.get(channel) != node:
            return  # an old place; the new one will say the same
        self._heard.add(channel)
        self._on_gap(channel)
        waiter = self._waiting.pop(channel, None)
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def evict(self, channel: str, node: NodeUrl) -> None:
        if self._places.get(channel) == node:
            self._leave(channel)
            self._tasks.start("place", self._look_and_place(channel), channel=channel)

    def redirect(self, moved: MovedError, node: NodeUrl) -> None:
        self._clients.nodes.moved(moved.slot_id, moved.host, moved.port, node)
        self._place_all()

    async def lose(self, node: NodeUrl) -> None:
        self._heard -= {channel for channel, place in self._places.items() if place == node}
        await self._clients.nodes.look()

    # Places

    def _place_all(self) -> None:
        for channel in self._wanted:
            self._place(channel)

    def _place(self, channel: str) -> None:
        """Ask for a channel at the node that has its slot now."""
        node = self._clients.nodes.of(channel)
        if channel not in self._wanted or self._places.get(channel) == node:
            return
        self._leave(channel)
        self._places[channel] = node
        station = self._stations.get(node)
        if station is None:
            station = self._stations[node] = _Station(self, node, self._clients, self._tasks)
        station.channels.add(channel)
        station.subscriber.renew()

    def _leave(self, channel: str) -> None:
        """Give a channel up where it is; a connection that carries nothing else is closed."""
        self._heard.discard(channel)
        node = self._places.pop(channel, None)
        station = self._stations.get(node) if node is not None else None
        if node is None or station is None:
            return
        station.channels.discard(channel)
        station.subscriber.renew()
        if not station.channels:
            del self._stations[node]
            self._tasks.start("leave", cancel_all([station.task]))

    async def _look_and_place(self, channel: str) -> None:
        # Without an answer it is asked for at the old place, which says MOVED if it knows better.
        await self._clients.nodes.look()
        self._place(channel)


class _Station:
    """One node's connection: what is asked for there, and the task that reads."""

    def __init__(self, owner: Subscribers, node: NodeUrl, clients: Clients, tasks: Tasks) -> None:
        self.channels: set[str] = set()
        self._owner = owner
        self._node = node
        self.subscriber = Subscriber(clients.at(node), self.channels, self)
        self.task = tasks.start("pub/sub", self.subscriber.run())

    def take_message(self, channel: str, data: bytes) -> None:
        self._owner.on_message(channel, data)

    def take_confirmation(self, channel: str) -> None:
        self._owner.confirm(channel, self._node)

    def take_eviction(self, channel: str) -> None:
        self._owner.evict(channel, self._node)

    def take_redirection(self, moved: MovedError) -> None:
        self._owner.redirect(moved, self._node)

    async def take_end(self) -> None:
        await self._owner.lose(self._node)

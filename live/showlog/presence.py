"""Who is on a small channel, told and kept in the order in which it happened.

Owns: one queue of comings and goings, worked off by one task, so a leave never overtakes its join.
Always: a row that nobody refreshes is gone after a minute, so what is lost here heals by itself.
"""

import asyncio
from dataclasses import dataclass

import msgspec
import structlog

from live.aio.loops import repeat
from live.fanout.topic import Topic
from live.protocol.commands import ClientInfo
from live.showlog.store import Store

QUEUED_MAX = 10_000  # beyond it comings and goings are dropped; presence is a courtesy
# Connections of a channel up to which they are listed, and told of each other: N joins told to N
# are 40,000 pushes here, and would be 100 million in an audience of ten thousand.
SMALL_AUDIENCE_MAX = 200

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class _Step:
    topic: Topic
    info: ClientInfo
    came: bool
    tell: bool


def is_small(connections: int) -> bool:
    """Tell whether an audience is one of few, whose names may be told."""
    return connections <= SMALL_AUDIENCE_MAX


class Presence:
    def __init__(self, store: Store) -> None:
        self._store = store
        self._steps: asyncio.Queue[_Step] = asyncio.Queue(QUEUED_MAX)

    def came(self, topic: Topic, info: ClientInfo, *, tell: bool) -> None:
        """Note that a connection listens; `tell` it to the others of a small audience."""
        topic.present[info.client] = msgspec.json.encode(info)
        tell = tell and is_small(len(topic.present))
        self._put(_Step(topic, info, came=True, tell=tell))

    def left(self, topic: Topic, info: ClientInfo, *, tell: bool) -> None:
        tell = tell and is_small(len(topic.present))
        topic.present.pop(info.client, None)
        self._put(_Step(topic, info, came=False, tell=tell))

    def _put(self, step: _Step) -> None:
        try:
            self._steps.put_nowait(step)
        except asyncio.QueueFull:
            log.warning("presence dropped", show=step.topic.show, channel=step.topic.name)

    async def run(self) -> None:
        async def step() -> None:
            await self._do(await self._steps.get())

        await repeat("presence", step)

    async def _do(self, step: _Step) -> None:
        topic, client = step.topic, step.info.client
        info = msgspec.json.encode(step.info)
        if step.came:
            await self._store.put_presence(topic.show, topic.log, {client: info})
        else:
            await self._store.drop_presence(topic.show, topic.log, client)
        if step.tell:
            kind = b"j" if step.came else b"l"
            await self._store.announce(topic.show, b"%s %s\n%s" % (kind, topic.log.encode(), info))

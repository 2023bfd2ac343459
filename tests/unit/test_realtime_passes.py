"""When passes over the connections start: bursts join, figures alone keep to their share."""

import asyncio
from itertools import pairwise
from typing import cast

import pytest
from msgspec import Raw

from live.domain.ids import ShowId
from live.fanout.hub import (
    PASS_GAP_SECONDS,
    PULSE_GAP_MAX_SECONDS,
    PULSE_GAP_SECONDS,
    PULSE_SHARE,
    Hub,
)
from live.fanout.topic import Topic
from live.protocol.codec_json import JSON
from live.protocol.commands import Publication
from live.protocol.session import Session
from live.protocol.shared import Shared
from tests.support.virtual_time import VirtualLoop, run_virtually

SHOW = ShowId("show")
NEARLY = 1e-9  # of virtual seconds, which are floats


class Ear:
    """A session and its port in one; each write takes `cost` seconds of the loop."""

    codec = JSON
    compresses = False

    def __init__(self, loop: VirtualLoop, cost: float = 0.0) -> None:
        self.port = self
        self.written_at: list[float] = []
        self.events = 0
        self._loop = loop
        self._cost = cost

    def buffered(self) -> int:
        return 0

    def write_shared(self, frame: Shared) -> None:
        self.written_at.append(self._loop.time())
        self.events += frame.payload.count(b'"pub"')
        self._loop.spend(self._cost)

    @property
    def gaps(self) -> list[float]:
        return [later - earlier for earlier, later in pairwise(self.written_at)]


def listen(hub: Hub, loop: VirtualLoop, topics: list[Topic], cost: float = 0.0) -> Ear:
    ear = Ear(loop, cost)
    hub.listen(hub.admit(cast(Session, ear), SHOW), frozenset(topics))
    return ear


def publish(hub: Hub, topic: Topic) -> None:
    hub.post(topic, topic.append(Publication(Raw(b"{}"), topic.top + 1 if topic.has_log else 0)))


def test_passes_are_ten_milliseconds_apart() -> None:
    """A thousand events in a second are a hundred passes, each with what came in between."""

    async def check(loop: VirtualLoop) -> None:
        hub, topic = Hub(), Topic(SHOW, "a", "a")
        ear = listen(hub, loop, [topic])
        for _ in range(1_000):
            publish(hub, topic)
            await asyncio.sleep(0.001)
        await asyncio.sleep(PASS_GAP_SECONDS)
        assert ear.events == 1_000
        assert min(ear.gaps) >= PASS_GAP_SECONDS - NEARLY
        assert 95 <= len(ear.written_at) <= 102

    run_virtually(check)


def test_lone_event_waits_for_nothing() -> None:
    """After a gap without a pass it is written at the instant it comes."""

    async def check(loop: VirtualLoop) -> None:
        hub, topic = Hub(), Topic(SHOW, "a", "a")
        ear = listen(hub, loop, [topic])
        for _ in range(5):
            await asyncio.sleep(PASS_GAP_SECONDS)
            came_at = loop.time()
            publish(hub, topic)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert ear.written_at[-1] == came_at

    run_virtually(check)


@pytest.mark.parametrize(
    ("cost", "gap"),
    [
        (0.0, PULSE_GAP_SECONDS),
        (PULSE_GAP_SECONDS / PULSE_SHARE, PULSE_GAP_SECONDS),
        (0.1, 0.1 * PULSE_SHARE),
        (PULSE_GAP_MAX_SECONDS / PULSE_SHARE, PULSE_GAP_MAX_SECONDS),
        (0.4, PULSE_GAP_MAX_SECONDS),
    ],
    ids=["free", "just within", "a quarter", "just at the end", "too dear"],
)
def test_figures_alone_keep_to_a_quarter_of_the_loop(cost: float, gap: float) -> None:
    """Five a second while passes are cheap, one a second at the least; the newest value counts."""

    async def check(loop: VirtualLoop) -> None:
        hub, pulse = Hub(), Topic(SHOW, "pulse", "pulse", has_log=False)
        ear = listen(hub, loop, [pulse], cost)
        for _ in range(400):
            publish(hub, pulse)
            await asyncio.sleep(0.025)
        assert ear.events == len(ear.written_at), "only the latest value goes out"
        # After the first, which follows nothing; a pass may begin as late as a timer is coarse.
        assert all(gap - NEARLY <= found <= gap + 0.05 for found in ear.gaps[1:])

    run_virtually(check)


def test_figures_ride_on_a_pass_that_runs_anyway() -> None:
    """Chat does not wait for the figures' budget, and takes them along."""

    async def check(loop: VirtualLoop) -> None:
        hub = Hub()
        chat, pulse = Topic(SHOW, "chat", "chat"), Topic(SHOW, "pulse", "pulse", has_log=False)
        ear = listen(hub, loop, [chat, pulse], cost=0.2)
        publish(hub, pulse)
        await asyncio.sleep(0.3)
        publish(hub, pulse)  # alone it would wait for another 0.5 s
        publish(hub, chat)
        came_at = loop.time()
        await asyncio.sleep(0.01)
        assert ear.written_at[1:] == [came_at]
        assert ear.events == 3

    run_virtually(check)

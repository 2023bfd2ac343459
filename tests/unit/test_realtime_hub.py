"""Fan-out without sockets: a listener gets each publication after their joining, once, in order."""

import asyncio
import random
from typing import cast

import pytest
from msgspec import Raw

from live.domain.ids import ShowId
from live.fanout import hub as hub_module
from live.fanout.cohort import Member
from live.fanout.hub import Hub
from live.fanout.topic import Topic
from live.protocol import codes
from live.protocol.codec_json import JSON
from live.protocol.codes import Close
from live.protocol.commands import Publication
from live.protocol.session import Session
from live.protocol.shared import Shared

SHOW = ShowId("show")


class Ear:
    """A session and its port in one: decodes offsets by channel."""

    codec = JSON
    compresses = False

    def __init__(self) -> None:
        self.port = self
        self.heard: list[tuple[str, int]] = []

    def buffered(self) -> int:
        return 0

    def write_shared(self, frame: Shared) -> None:
        for line in frame.payload.split(b"\n"):
            _, _, rest = line.partition(b'"channel":"')
            channel, _, rest = rest.partition(b'"')
            _, _, offset = rest.partition(b'"offset":')
            self.heard.append((channel.decode(), int(offset.rstrip(b"}"))))

    def close(self, close: Close) -> None:
        raise AssertionError("nobody is slow here")


class Leaver(Ear):
    """May be closed, and keeps how."""

    closed: Close | None = None

    def close(self, close: Close) -> None:
        self.closed = close


def post(hub: Hub, topic: Topic) -> None:
    hub.post(topic, topic.append(Publication(Raw(b"{}"), topic.top + 1)))


@pytest.mark.parametrize("seed", range(20))
async def test_moves_between_cohorts_lose_and_repeat_nothing(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Members subscribe, unsubscribe and leave while publications wait and passes run."""
    monkeypatch.setattr(hub_module, "SLICE", 2)
    monkeypatch.setattr(hub_module, "PASS_GAP_SECONDS", 0.001)
    chance = random.Random(seed)
    hub = Hub()
    topics = [Topic(SHOW, name, name) for name in ("a", "b", "c")]
    ears: dict[Member, Ear] = {}
    wanted: dict[Member, list[tuple[str, int]]] = {}
    listening: dict[Member, frozenset[Topic]] = {}

    def enter() -> None:
        ear = Ear()
        member = hub.admit(cast(Session, ear), SHOW)
        ears[member], wanted[member], listening[member] = ear, [], frozenset()
        move(member)

    def move(member: Member) -> None:
        chosen = frozenset(topic for topic in topics if chance.random() < 0.6)
        hub.listen(member, chosen)
        listening[member] = chosen

    for _ in range(400):
        step = chance.random()
        present = list(listening)
        if step < 0.1 or not present:
            enter()
        elif step < 0.3:
            move(chance.choice(present))
        elif step < 0.33:
            member = chance.choice(present)
            hub.listen(member, frozenset())  # settles what it is owed, as an unsubscribe does
            hub.remove(member)
            del listening[member]
        elif step < 0.8:
            topic = chance.choice(topics)
            post(hub, topic)
            for member, chosen in listening.items():
                if topic in chosen:
                    wanted[member].append((topic.name, topic.top))
        else:
            await asyncio.sleep(0.001 if step < 0.9 else 0)
    await asyncio.sleep(0.05)

    for member, ear in ears.items():
        for topic in topics:
            heard = [offset for name, offset in ear.heard if name == topic.name]
            assert heard == [offset for name, offset in wanted[member] if name == topic.name]
    assert hub.count(SHOW) == len(listening)


async def test_lone_event_does_not_wait() -> None:
    """On an idle channel it is written in the next turn of the loop."""
    hub, topic, ear = Hub(), Topic(SHOW, "a", "a"), Ear()
    hub.listen(hub.admit(cast(Session, ear), SHOW), frozenset({topic}))
    await asyncio.sleep(0.02)
    post(hub, topic)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert ear.heard == [("a", 1)]


async def test_pass_yields_to_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two slices everything else gets its turn."""
    monkeypatch.setattr(hub_module, "SLICE", 10)
    hub, topic = Hub(), Topic(SHOW, "a", "a")
    ears = [Ear() for _ in range(50)]
    for ear in ears:
        hub.listen(hub.admit(cast(Session, ear), SHOW), frozenset({topic}))
    await asyncio.sleep(0.02)
    post(hub, topic)
    reached: list[int] = []
    while len(reached) < 20 and (not reached or reached[-1] < 50):
        await asyncio.sleep(0)
        reached.append(sum(bool(ear.heard) for ear in ears))
    assert reached[-1] == 50
    assert {10, 20, 30, 40} <= set(reached)


async def test_removed_member_hears_nothing_more() -> None:
    """Not even what was pending when it went."""
    hub, topic, ear, other = Hub(), Topic(SHOW, "a", "a"), Ear(), Ear()
    member = hub.admit(cast(Session, ear), SHOW)
    hub.listen(member, frozenset({topic}))
    hub.listen(hub.admit(cast(Session, other), SHOW), frozenset({topic}))
    post(hub, topic)
    hub.remove(member)
    await asyncio.sleep(0.02)
    assert (ear.heard, other.heard) == ([], [("a", 1)])


async def test_lost_log_closes_in_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten thousand closes would hold up the loop; and who waits for theirs hears nothing new."""
    monkeypatch.setattr(hub_module, "SLICE", 10)
    hub, topic = Hub(), Topic(SHOW, "a", "a")
    ears = [Leaver() for _ in range(25)]
    for ear in ears:
        hub.listen(hub.admit(cast(Session, ear), SHOW), frozenset({topic}))
    await asyncio.sleep(0.02)

    hub.lose(topic)

    late = Ear()
    hub.listen(hub.admit(cast(Session, late), SHOW), frozenset({topic}))
    post(hub, topic)
    closed = [sum(ear.closed is not None for ear in ears)]
    while closed[-1] < 25 and len(closed) < 20:
        await asyncio.sleep(0)
        closed.append(sum(ear.closed is not None for ear in ears))
    assert closed[0] == 10 and closed[-1] == 25 and 20 in closed
    await asyncio.sleep(0.02)
    assert {ear.closed for ear in ears} == {codes.INSUFFICIENT_STATE}
    assert [ear.heard for ear in ears] == [[]] * 25
    assert late.heard == [("a", 1)]


async def test_listener_of_a_lost_direct_topic_hears_nothing_more() -> None:
    """The same for the few who skip the cohorts."""
    hub, topic, ear = Hub(), Topic(SHOW, "me", "#ann", direct=True), Leaver()
    hub.listen_direct(hub.admit(cast(Session, ear), SHOW), topic)
    hub.lose(topic)
    post(hub, topic)
    assert ear.closed == codes.INSUFFICIENT_STATE
    assert ear.heard == []

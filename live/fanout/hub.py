"""Sessions of this process by what they listen to, and how a publication reaches them.

A cohort is all connections of a show with the same channels, codec and compression. A publication
is encoded once per codec, framed and compressed once per cohort, and the same bytes go to every
connection. Passes over the connections are self-clocked: what arrives while one runs goes with the
next, joined into one message, so a burst costs one write per viewer and not one per event.

Owns: who is in which cohort (cohort.py), and when passes run.
Always: a member is in at most one cohort; it gets each publication of its topics after the one it
joined at exactly once, in order; after `remove` it gets nothing.
Runs on: the event loop only; `post` never blocks, a pass yields to the loop between slices.
Not here: logs and recovery (follower.py, topic.py), what a command means (application.py).
"""

import asyncio
import contextlib
import random
from collections.abc import Iterator

from live.domain.ids import ShowId
from live.fanout import metrics
from live.fanout.cohort import Cohort, Member, Work, deliver, take_work
from live.fanout.topic import Entry, Topic
from live.protocol import codes
from live.protocol.codes import Close
from live.protocol.deflate import SharedStream
from live.protocol.session import Session

SLICE = 500  # writes between two yields: 4 ms, so a pass over 10,000 delays nobody else by more
PASS_GAP_SECONDS = 0.010  # between the starts of two passes: bursts join, a lone event never waits
PULSE_GAP_SECONDS = 0.2  # conflated figures alone: five a second ...
PULSE_GAP_MAX_SECONDS = 1.0  # ... down to one, while fan-out takes its share of the loop
PULSE_SHARE = 4  # one part in four of the loop is what figures alone may cost
DRAIN_SPREAD = 0.75  # of a drain; the rest is for the commands of those whose turn comes last


class _Audience:
    """All of one show."""

    __slots__ = ("cohorts", "count")

    def __init__(self) -> None:
        self.cohorts: dict[tuple[str, frozenset[Topic], bool], Cohort] = {}
        self.count = 0


class Hub:
    """One per process. Needs a running loop from the first `post` on."""

    def __init__(self) -> None:
        self._audiences: dict[ShowId, _Audience] = {}
        self._cohorts: dict[Topic, list[Cohort]] = {}  # those that listen to a topic
        self._direct: dict[Topic, dict[Member, None]] = {}  # subscribers of direct topics
        self._dirty: dict[Cohort, None] = {}
        self._sessions: dict[Session, None] = {}
        self._running: list[Work] = []
        self._steps: Iterator[None] | None = None
        self._scheduled: asyncio.Handle | None = None
        self._scheduled_for = 0.0
        self._pass_began = 0.0
        self._pass_busy = 0.0  # seconds of the last pass that were ours, without the yields
        self.draining = False
        self._emptied = asyncio.Event()  # set when a drain has closed the last session

    # Sessions

    def enter(self, session: Session) -> None:
        """Count a connection; from now on a drain closes it."""
        self._sessions[session] = None

    def leave(self, session: Session) -> None:
        self._sessions.pop(session, None)
        if self.draining and not self._sessions:
            self._emptied.set()

    def sessions(self) -> list[Session]:
        return list(self._sessions)

    def count(self, show: ShowId) -> int:
        """Members of a show on this process."""
        audience = self._audiences.get(show)
        return audience.count if audience else 0

    def admit(self, session: Session, show: ShowId) -> Member:
        """Make a connection a member of a show, not yet listening to anything."""
        self._audiences.setdefault(show, _Audience()).count += 1
        return Member(session, show)

    def listen(self, member: Member, topics: frozenset[Topic]) -> None:
        """Move a member to the cohort with these shared topics.

        The member must stand at the top of each topic that is new to it; what it still had to get
        of the topics that it leaves or keeps is written before the move.
        """
        old = member.cohort
        if old is not None:
            if old.topics == topics:
                return
            self._settle(member, old)
            self._take_out(member, old)
        if not topics or member.leaving:
            return
        audience = self._audiences[member.show]
        codec = member.session.codec
        packs = member.session.port.compresses and not any(topic.private for topic in topics)
        key = (codec.name, topics, packs)
        cohort = audience.cohorts.get(key)
        if cohort is None:
            stream = SharedStream() if packs else None
            cohort = audience.cohorts[key] = Cohort(codec, topics, stream)
            for topic in topics:
                self._cohorts.setdefault(topic, []).append(cohort)
        member.cohort = cohort
        if cohort.pending:
            cohort.newcomers[member] = len(cohort.pending)
        else:
            cohort.members[member] = None

    def listen_direct(self, member: Member, topic: Topic) -> None:
        """Let a member hear a direct topic, beside whatever else it listens to."""
        self._direct.setdefault(topic, {})[member] = None

    def leave_direct(self, member: Member, topic: Topic) -> None:
        """Undo `listen_direct`."""
        members = self._direct.get(topic, {})
        members.pop(member, None)
        if not members:
            self._direct.pop(topic, None)

    def hears(self, topic: Topic) -> bool:
        """Whether anybody listens to a direct topic."""
        return topic in self._direct

    def remove(self, member: Member) -> None:
        """Forget a member; it gets nothing from now on."""
        if member.cohort is not None:
            self._take_out(member, member.cohort)
        audience = self._audiences[member.show]
        audience.count -= 1
        if audience.count == 0:
            del self._audiences[member.show]

    def _take_out(self, member: Member, cohort: Cohort) -> None:
        cohort.members.pop(member, None)
        cohort.newcomers.pop(member, None)
        member.cohort = None
        if not cohort.members and not cohort.newcomers:
            self._dirty.pop(cohort, None)
            for topic in cohort.topics:
                self._cohorts[topic].remove(cohort)
                if not self._cohorts[topic]:
                    del self._cohorts[topic]
            del self._audiences[member.show].cohorts[cohort.key]

    def _settle(self, member: Member, cohort: Cohort) -> None:
        """Write what a member would get from a running and from the next pass, now and alone."""
        for work in self._running:
            if work.cohort is cohort and member in work.members[work.done :]:
                work.members.remove(member)  # behind `done`, so the index stays right
                deliver(member.session, work.full, work.lean)
        missed = cohort.pending[cohort.newcomers.get(member, 0) :]
        deliver(member.session, frames := cohort.frames(missed), frames)

    # Publications

    def post(self, topic: Topic, entry: Entry) -> None:
        """Send a publication to all who listen to its topic."""
        if topic.direct:
            for member in list(self._direct.get(topic, ())):
                member.session.push(entry.push(member.session.codec))
            return
        cohorts = self._cohorts.get(topic, ())
        for cohort in cohorts:
            if topic.has_log:
                cohort.pending.append(entry)
            else:
                cohort.latest[topic] = entry
            self._dirty[cohort] = None
        if cohorts:
            self._schedule(urgent=topic.has_log)

    def lose(self, topic: Topic) -> None:
        """Close all who listen to a topic whose log is lost: they come back and start over."""
        members = list(self._direct.pop(topic, ()))
        for cohort in self._cohorts.get(topic, ()):
            members += [*cohort.members, *cohort.newcomers]
        self.send_away(members, codes.INSUFFICIENT_STATE)

    def send_away(self, members: list[Member], close: Close) -> None:
        """Close many: deaf at once, closed in slices, because ten thousand closes take 0.1 s."""
        for member in members:
            member.leaving = True
            if member.cohort is not None:
                self._take_out(member, member.cohort)
        self._close_slice(members, 0, close)

    def _close_slice(self, members: list[Member], start: int, close: Close) -> None:
        end = start + SLICE
        for member in members[start:end]:
            member.session.close(close)
        if end < len(members):
            asyncio.get_running_loop().call_soon(self._close_slice, members, end, close)

    def _schedule(self, *, urgent: bool) -> None:
        """See to it that a pass starts: soon, or for figures alone when the loop has room."""
        if self._steps is not None:
            return  # the end of the running pass looks again
        loop = asyncio.get_running_loop()
        now = loop.time()
        gap = PASS_GAP_SECONDS
        if not urgent:
            budget = self._pass_busy * PULSE_SHARE
            gap = min(max(PULSE_GAP_SECONDS, budget), PULSE_GAP_MAX_SECONDS)
        start = max(now, self._pass_began + gap)
        if self._scheduled is not None:
            if self._scheduled_for <= start:
                return
            self._scheduled.cancel()
        self._scheduled_for = start
        if start <= now:
            self._scheduled = loop.call_soon(self._begin)
        else:
            self._scheduled = loop.call_at(start, self._begin)

    def _begin(self) -> None:
        self._scheduled = None
        self._pass_began = asyncio.get_running_loop().time()
        self._pass_busy = 0.0
        for cohort in self._dirty:
            self._running.extend(take_work(cohort))
        self._dirty.clear()
        self._steps = self._walk()
        self._step()

    def _step(self) -> None:
        """Run one slice of the pass."""
        assert self._steps is not None, "a slice needs a pass"
        loop = asyncio.get_running_loop()
        began = loop.time()
        finished = next(self._steps, _DONE) is _DONE
        self._pass_busy += loop.time() - began
        if not finished:
            loop.call_soon(self._step)
            return
        self._steps = None
        metrics.PASS_SECONDS.observe(self._pass_busy)
        metrics.DELIVERIES.inc(sum(work.done * len(work.full) for work in self._running))
        self._running.clear()
        if self._dirty:
            self._schedule(urgent=any(cohort.pending for cohort in self._dirty))

    def _walk(self) -> Iterator[None]:
        written = 0
        for work in self._running:
            members = work.members
            while work.done < len(members):
                member = members[work.done]
                work.done += 1
                deliver(member.session, work.full, work.lean)
                written += 1
                if written % SLICE == 0:
                    yield

    # The end

    async def drain(self, seconds: float) -> None:
        """Close all connections with "shutdown", spread evenly; their clients come back elsewhere.

        All at once would make every client return in the same half second. Who has a command in
        flight when their turn comes is closed behind its answer, at the latest when the time is up.
        """
        self.draining = True
        loop = asyncio.get_running_loop()
        sessions = self.sessions()
        random.shuffle(sessions)
        began = loop.time()
        for index, session in enumerate(sessions):
            pause = began + DRAIN_SPREAD * seconds * index / len(sessions) - loop.time()
            if pause > 0:
                await asyncio.sleep(pause)
            session.close_when_idle(codes.SHUTDOWN)
        for session in self.sessions():  # who came in meanwhile
            session.close_when_idle(codes.SHUTDOWN)
        if self._sessions:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(began + seconds):
                    await self._emptied.wait()
        for session in self.sessions():
            session.close(codes.SHUTDOWN)


_DONE = object()

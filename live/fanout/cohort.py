"""Connections that get the same bytes, and what one pass owes them.

Owns: joining publications into few messages, framed once for all; the bound of what a slow viewer
may owe. Always: a member of a cohort gets each publication after its joining once, in order.
Runs on: the event loop only; no method awaits. Not here: when a pass runs (hub.py).
"""

from collections.abc import Iterator
from dataclasses import dataclass

from live.domain.ids import ShowId
from live.fanout import metrics
from live.fanout.topic import Entry, Topic
from live.protocol import codes
from live.protocol.codec import Codec
from live.protocol.deflate import SharedStream
from live.protocol.session import Session
from live.protocol.shared import Shared

JOINED_BYTES_MAX = 131_072  # of one message; SDKs refuse messages beyond 1 MiB
BUFFER_SOFT_BYTES = 65_536  # beyond it a viewer gets no conflated figures
BUFFER_HARD_BYTES = 262_144  # beyond it they are closed and come back by offset


@dataclass(slots=True, eq=False)
class Member:
    """A connection among those of its show: `cohort` is None while it listens to direct topics
    only.

    `leaving`: it is about to be closed and hears nothing more of shared topics.
    """

    session: Session
    show: ShowId
    cohort: "Cohort | None" = None
    leaving: bool = False


class Cohort:
    """Connections that get the same bytes; `stream` is None where they are not compressed."""

    __slots__ = ("codec", "latest", "members", "newcomers", "pending", "stream", "topics")

    def __init__(
        self, codec: Codec, topics: frozenset[Topic], stream: SharedStream | None = None
    ) -> None:
        self.codec = codec
        self.topics = topics
        self.stream = stream
        self.members: dict[Member, None] = {}
        # Who joined while publications were pending, with how many of those they have already.
        self.newcomers: dict[Member, int] = {}
        self.pending: list[Entry] = []
        self.latest: dict[Topic, Entry] = {}  # conflated: only the newest counts

    @property
    def key(self) -> tuple[str, frozenset[Topic], bool]:
        """What its members have in common, beside their show."""
        return self.codec.name, self.topics, self.stream is not None

    def frames(self, entries: list[Entry]) -> list[Shared]:
        """Join publications into as few messages as the size bound allows."""
        return [Shared(message, binary=self.codec.binary) for message in self._messages(entries)]

    def packed_frames(self, entries: list[Entry]) -> list[Shared]:
        """The same, in their compressed form as well: the next messages of the stream."""
        stream, binary = self.stream, self.codec.binary
        if stream is None or not self.members:
            return self.frames(entries)
        return [
            Shared(message, binary=binary, packed=stream.pack(message, binary=binary))
            for message in self._messages(entries)
        ]

    def _messages(self, entries: list[Entry]) -> Iterator[bytes]:
        codec = self.codec
        batch: list[bytes] = []
        size = 0
        for entry in entries:
            push = entry.push(codec)
            if batch and size + len(push) > JOINED_BYTES_MAX:
                yield codec.join(batch)
                batch, size = [], 0
            batch.append(push)
            size += len(push)
        if batch:
            yield codec.join(batch)


@dataclass(slots=True)
class Work:
    """What one pass owes one cohort: `done` members have it."""

    cohort: Cohort
    members: list[Member]
    full: list[Shared]
    lean: list[Shared]  # without conflated figures, for those who are behind
    done: int = 0


def take_work(cohort: Cohort) -> list[Work]:
    """Take what is pending of a cohort; its newcomers get only what they do not have."""
    pending, latest = cohort.pending, list(cohort.latest.values())
    cohort.pending, cohort.latest = [], {}
    # Only these are in the stream: who gets others instead reads plain ones for a while.
    full = cohort.packed_frames(pending + latest)
    lean = cohort.frames(pending) if latest else full
    works = [Work(cohort, list(cohort.members), full, lean)]
    late: dict[int, Work] = {}
    for member, known in cohort.newcomers.items():
        work = late.get(known)
        if work is None:
            missed = pending[known:]
            own = cohort.frames(missed + latest)
            work = late[known] = Work(cohort, [], own, cohort.frames(missed) if latest else own)
        work.members.append(member)
        cohort.members[member] = None
    cohort.newcomers.clear()
    return works + list(late.values())


def deliver(session: Session, full: list[Shared], lean: list[Shared]) -> None:
    port = session.port
    owed = port.buffered()
    if owed > BUFFER_SOFT_BYTES:
        if owed > BUFFER_HARD_BYTES:
            # Closed, not awaited: one stalled phone must not delay the offer for the rest.
            metrics.SLOW_CLOSES.inc()
            session.close(codes.SLOW)
            return
        full = lean
    for frame in full:
        port.write_shared(frame)

"""A show that this process follows: its state, latest figures, and where all its logs stand.

Owns: `total` and `tops`, the position on the show's one pub/sub channel; the topics that have
subscribers here. Always: `state` and the top of the show topic change in the same step, so a
snapshot taken at any moment contains every publication up to that top.
Runs on: the event loop only; no method awaits.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import msgspec
from msgspec import Raw

from live.domain.events import Pulse
from live.domain.ids import ShowId
from live.domain.offer import Stock
from live.domain.show import ShowState
from live.fanout.topic import Entry, Topic
from live.protocol.commands import JoinPush, LeavePush, Publication, Push
from live.showlog.store import decode_info, decode_state

BUFFERED_MAX = 10_000  # announcements kept while a gap is closed; then that starts over


@dataclass(frozen=True, slots=True)
class LogMessage:
    """One message of a show's pub/sub channel that moves a log (or the state alone: offset 0)."""

    log: str
    epoch: str
    total: int
    offset: int
    data: bytes
    info: bytes
    state: bytes

    @property
    def publication(self) -> Publication:
        info = decode_info(self.info) if self.info else None
        return Publication(Raw(self.data), self.offset, info)


@dataclass(frozen=True, slots=True)
class Passing:
    """A message that no log keeps: `f` figures that replace the last ones, `j` join, `l` leave.

    `o`: for one person only, `person` in hex.
    """

    kind: str
    log: str
    data: bytes
    person: str = ""


_decode_pulse = msgspec.json.Decoder(Pulse).decode


def parse_message(raw: bytes) -> LogMessage | Passing:
    """Read what publish.lua and `publish_pulse` announce. Raises ValueError."""
    head, _, body = raw.partition(b"\n")
    words = head.decode().split(" ")
    kind = words[0]
    if kind in ("f", "j", "l"):
        return Passing(kind, words[1], body)
    if kind == "o":
        return Passing(kind, words[1], body, words[2])
    if kind != "p":
        raise ValueError(f"unknown kind of announcement {kind!r}")
    _, log, epoch, total, offset, data_len, info_len = words
    data_end = int(data_len)
    info_end = data_end + int(info_len)
    return LogMessage(
        log,
        epoch,
        int(total),
        int(offset),
        body[:data_end],
        body[data_end:info_end],
        body[info_end:],
    )


class FollowedShow:
    """`deliver` sends an entry of a topic to its subscribers; `tap` sees personal events."""

    def __init__(
        self,
        show: ShowId,
        *,
        deliver: Callable[[Topic, Entry], None],
        tap: Callable[[ShowId, LogMessage], None],
    ) -> None:
        self.show = show
        self.epoch = ""
        self.total = 0
        self.tops: dict[str, int] = {}
        self.topics: dict[str, Topic] = {}
        self.state: ShowState | None = None
        self.stock: dict[int, Stock] = {}
        self.pulse: Pulse | None = None
        # Announcements that wait until it is known where the show stands; None while it is.
        self.held: list[LogMessage] | None = []
        self.claimed_at = -math.inf  # when a client last made us look at the log
        self.idle_beats = 0  # seconds without viewers here
        self.on_state: Callable[[ShowState | None, ShowState], None] | None = None
        self.on_alone: Callable[[str, Topic, Entry], None] | None = None
        self._deliver = deliver
        self._tap = tap

    @property
    def ready(self) -> bool:
        return self.held is None

    def hold(self) -> None:
        """Keep announcements back: what is known may have a gap."""
        if self.held is None:
            self.held = []

    def start(self, epoch: str, total: int, tops: dict[str, int], state: ShowState | None) -> None:
        """Take the position that was read from Redis; the topics have been brought up to it."""
        if epoch != self.epoch:
            self.state = None  # of another life; the keeper publishes it again where it is gone
        self.epoch, self.total, self.tops = epoch, total, tops
        if state is not None:
            self.take_state(state)

    def release(self) -> bool:
        """Apply what was kept back; False if that, too, has a gap."""
        held, self.held = self.held, None
        for announcement in held or ():
            if not self.apply(announcement):
                return False
        return True

    def apply(self, announcement: LogMessage) -> bool:
        """Take one announcement. False: something before it is missing, which has to be read."""
        if self.held is not None:
            self.held.append(announcement)
            return len(self.held) < BUFFERED_MAX
        if announcement.epoch != self.epoch:
            return False
        if announcement.total <= self.total:
            return True  # it was read from the log meanwhile
        if announcement.total != self.total + 1:
            return False
        self.total = announcement.total
        # The state first: who joins now gets a snapshot that contains this event.
        if announcement.state:
            self.take_state(decode_state(announcement.state))
        return announcement.offset == 0 or self._advance(announcement)

    def _advance(self, announcement: LogMessage) -> bool:
        self.tops[announcement.log] = max(self.tops.get(announcement.log, 0), announcement.offset)
        topic = self.topics.get(announcement.log)
        if topic is not None and announcement.offset > topic.top:
            if announcement.offset != topic.top + 1:
                return False
            self.publish(topic, announcement.publication)
        if announcement.log.startswith("me:"):
            self._tap(self.show, announcement)
        return True

    def publish(self, topic: Topic, publication: Publication) -> None:
        """Append the next publication of a topic and send it out."""
        self._deliver(topic, topic.append(publication))

    def pass_on(self, message: Passing) -> None:
        """Send out what no log keeps."""
        if message.kind == "f" and message.log == "pulse":
            self._take_pulse(_decode_pulse(message.data))
        topic = self.topics.get(message.log)
        if topic is None:
            return
        if message.kind == "o":
            if self.on_alone is not None:
                # Without an offset: it has no place in the log, and what comes next has one.
                entry = Entry(topic.name, Publication(Raw(message.data)))
                self.on_alone(message.person, topic, entry)
            return
        if message.kind == "f":
            body: Publication | Push = Publication(Raw(message.data))
        else:
            info = decode_info(message.data)
            body = JoinPush(info) if message.kind == "j" else LeavePush(info)
        self._deliver(topic, Entry(topic.name, body))

    def take_state(self, state: ShowState) -> None:
        """Keep the newest state, whatever the order of arrival."""
        if self.state is None or state.version > self.state.version:
            before, self.state = self.state, state
            if self.on_state is not None:
                self.on_state(before, state)

    def _take_pulse(self, pulse: Pulse) -> None:
        self.pulse = pulse
        if self.state is None:
            return
        figures = {offer.id: offer for offer in pulse.offers}
        for terms in self.state.offers:
            offer = figures.get(terms.id)
            if offer is not None:
                self.stock[terms.slot] = Stock(offer.left, offer.held, offer.sold)

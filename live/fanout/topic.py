"""One channel as this process sees it: where its log stands and its latest publications.

Owns: the end of the log in memory, so that a viewer who comes back is caught up without Redis.
Always: `recent` holds every publication with floor < offset <= top, in order, without a gap; none
of them is one that was deleted.
Runs on: the event loop only; no method awaits.
"""

from __future__ import annotations

from collections import deque

from live.domain.channels import ChannelKind
from live.domain.ids import ShowId
from live.fanout.retract import is_taken_back, takes_back
from live.protocol.codec import Codec
from live.protocol.commands import Publication, Push, SubscribeRequest, SubscribeResult

RECOVERY_MAX = 300  # publications in one recovery; the reference server's limit
DESK_LOGS = (ChannelKind.DESK.value, ChannelKind.STAFF.value)


class Entry:
    """A publication or another push on its way to many; encoded once per codec, on first use."""

    __slots__ = ("_encoded", "body", "channel")

    def __init__(self, channel: str, body: Publication | Push) -> None:
        self.channel = channel
        self.body = body
        self._encoded: dict[str, bytes] = {}

    def push(self, codec: Codec) -> bytes:
        encoded = self._encoded.get(codec.name)
        if encoded is None:
            encoded = self._encode(codec)
            self._encoded[codec.name] = encoded
        return encoded

    def _encode(self, codec: Codec) -> bytes:
        if isinstance(self.body, Publication):
            return codec.publication(self.channel, self.body)
        return codec.push(self.channel, self.body)


class Topic:
    """`direct`: few listeners, who skip the cohorts; `keep`: how far a recovery reaches.

    `claims`: those who are about to listen. A direct topic that nobody listens to goes, unless
    somebody has claimed it: they were told where it stands, so it must not start over under them.
    """

    __slots__ = (
        "claims",
        "direct",
        "epoch",
        "floor",
        "has_log",
        "keep",
        "log",
        "name",
        "present",
        "recent",
        "show",
        "top",
    )

    def __init__(
        self,
        show: ShowId,
        log: str,
        name: str,
        *,
        direct: bool = False,
        has_log: bool = True,
        keep: int = RECOVERY_MAX,
    ) -> None:
        self.show = show
        self.log = log
        self.name = name
        self.claims = 0
        self.direct = direct
        self.has_log = has_log
        self.keep = min(keep, RECOVERY_MAX)
        self.epoch = ""
        self.top = 0
        self.floor = 0
        self.recent: deque[Publication] = deque()
        self.present: dict[str, bytes] = {}  # client -> its public info, where presence is kept

    @property
    def private(self) -> bool:
        """What only some may read must not be compressed together with what anybody may write.

        The length of a frame would then tell whether a guess was right.
        """
        return self.log in DESK_LOGS

    def start(self, epoch: str, top: int) -> None:
        """Stand at this position, with nothing before it in memory."""
        self.epoch = epoch
        self.top = self.floor = top
        self.recent.clear()

    def append(self, publication: Publication) -> Entry:
        """Take the next publication of the log. The caller has checked that it is the next."""
        entry = Entry(self.name, publication)
        if self.has_log:
            assert publication.offset == self.top + 1, "publications must be contiguous"
            self.top = publication.offset
            self._take_back(publication)
            self.recent.append(publication)
            if len(self.recent) > self.keep:
                self.recent.popleft()
                self.floor += 1
        return entry

    def prepend(self, publications: list[Publication]) -> None:
        """Take older publications from the log, given in order; stops at the first gap."""
        for publication in reversed(publications):
            if publication.offset > self.floor:
                continue
            if publication.offset < self.floor:
                break
            self.recent.appendleft(publication)
            self.floor -= 1
        # They may have been read before something of them was taken back.
        for publication in list(self.recent):
            self._take_back(publication)

    def _take_back(self, event: Publication) -> None:
        """Forget what this publication says is gone; it stands in the place of that from now on."""
        if self.log != ChannelKind.CHAT.value:
            return
        needle = takes_back(bytes(event.data))
        if needle is None:
            return
        for index, old in enumerate(self.recent):
            if is_taken_back(bytes(old.data), needle):
                self.recent[index] = Publication(event.data, old.offset)

    def after(self, offset: int) -> list[Publication]:
        """All publications after this offset. The caller has checked `reaches`."""
        assert offset >= self.floor, "the memory does not reach back so far"
        if offset >= self.top:
            return []
        return [publication for publication in self.recent if publication.offset > offset]

    def reaches(self, offset: int) -> bool:
        """Tell whether memory alone can decide a recovery from this offset.

        Too far back is decided, too: the answer is "not recovered".
        """
        return offset >= self.floor or self.top - offset > self.keep

    def recover(self, request: SubscribeRequest) -> SubscribeResult:
        """Answer a subscription. The caller has seen to it that memory reaches back far enough."""
        if not self.has_log:
            return SubscribeResult()
        if not request.recover:
            return self.position()
        known = request.epoch in ("", self.epoch)
        within = self.floor <= request.offset <= self.top
        if not known or not within or self.top - request.offset > self.keep:
            return self.position(was_recovering=True)
        # The requested offset, not the top: the SDK advances as it delivers each publication.
        return SubscribeResult(
            recoverable=True,
            positioned=True,
            epoch=self.epoch,
            offset=request.offset,
            was_recovering=True,
            recovered=True,
            publications=tuple(self.after(request.offset)),
        )

    def position(self, *, at: int | None = None, was_recovering: bool = False) -> SubscribeResult:
        """Say where the log stands, or stood a moment ago, without publications."""
        if not self.has_log:
            return SubscribeResult()
        return SubscribeResult(
            recoverable=True,
            positioned=True,
            epoch=self.epoch,
            offset=self.top if at is None else at,
            was_recovering=was_recovering,
        )

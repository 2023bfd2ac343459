"""What a client is told, as values and as errors.

ClientError
├── CallFailed      the server answered with an error: `code` is stable, `temporary` says "repeat"
└── NoAnswer        the outcome is unknown: repeat the call with the same key
    └── Gone        and this client will not come back by itself
"""

from dataclasses import dataclass

from live.base.errors import LiveError
from live.protocol.codes import Failure
from live.protocol.commands import ConnectResult, Publication, Result, SubscribeResult


class ClientError(LiveError):
    """Base of what calls of a client raise."""


class CallFailed(ClientError):
    """The server answered a call with an error."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(f"{failure.code} {failure.message}")
        self.code = failure.code
        self.temporary = failure.temporary


class NoAnswer(ClientError):
    """The outcome is unknown: a time-out or a lost connection. Repeat with the same key."""


class Gone(NoAnswer):
    """The connection ended for good: the server said so, or we left."""


@dataclass(frozen=True, slots=True)
class Connected:
    """The server accepted the connection. What was missed follows as `Published`, in order."""

    result: ConnectResult

    @property
    def data(self) -> bytes:
        """What the server tells who joins, as JSON: `{"show", "me", "time"}` for a show."""
        return bytes(self.result.data) if self.result.data else b"null"

    @property
    def recovered(self) -> bool | None:
        """Whether everything missed follows; False: only `data` is right. None: the first time."""
        came_back = [sub.recovered for sub in self.result.subs.values() if sub.was_recovering]
        return all(came_back) if came_back else None


@dataclass(frozen=True, slots=True)
class Published:
    """A publication of a channel; each is told once and in the order of its channel."""

    channel: str
    publication: Publication
    at: float | None
    """When it arrived, as the shell's clock has it; None for one that was recovered."""

    @property
    def data(self) -> bytes:
        """What was published, as JSON."""
        return bytes(self.publication.data)

    @property
    def offset(self) -> int:
        """Its place in the channel's log; 0 on a channel without one."""
        return self.publication.offset


@dataclass(frozen=True, slots=True)
class Answered:
    """The answer to the command of this number."""

    number: int
    result: Result


@dataclass(frozen=True, slots=True)
class Failed:
    """The error that answers the command of this number."""

    number: int
    failure: Failure


@dataclass(frozen=True, slots=True)
class Subscribed:
    """A subscription of its own began, or began again; what was missed follows as `Published`."""

    channel: str
    result: SubscribeResult


@dataclass(frozen=True, slots=True)
class SubscriptionEnded:
    """The server ended a subscription, and it is not to be asked for again."""

    channel: str
    code: int
    reason: str


@dataclass(frozen=True, slots=True)
class Disconnected:
    """A connection ended, or none came about; commands without an answer will get none."""

    code: int
    """Of the WebSocket's close, 1006 without one; of the error where `refused`."""
    reason: str
    refused: bool
    """The server answered the connect command with an error."""
    was_connected: bool
    retry_seconds: float | None
    """How long to stay away; None: for good."""
    token_expired: bool = False
    """The next attempt needs another token."""


News = Connected | Published | Subscribed | SubscriptionEnded | Disconnected
"""What the owner of a client hears; answers go to who asked."""
Event = News | Answered | Failed

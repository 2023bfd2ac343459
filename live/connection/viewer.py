"""Who is behind a session, and what they listen to."""

from dataclasses import dataclass, field

from live.base.faults import tell_fault
from live.connection.policy import Asking, Grant
from live.domain.caller import Caller
from live.domain.ids import ShowId
from live.fanout.cohort import Member
from live.fanout.topic import Topic
from live.protocol import codes
from live.protocol.commands import ClientInfo
from live.protocol.session import Session


@dataclass(frozen=True, slots=True)
class Subscription:
    grant: Grant
    topic: Topic


@dataclass(frozen=True, slots=True)
class Mark:
    """Where a topic stood when a join began."""

    sub: Subscription
    epoch: str
    offset: int


@dataclass(slots=True, eq=False)
class Viewer:
    """`show` is what connect named; `member` is None until they listen to something."""

    session: Session
    caller: Caller
    show: ShowId | None
    entering: ShowId | None = None  # a show that they did not name, but are about to listen to
    member: Member | None = None
    subs: dict[str, Subscription] = field(default_factory=dict)

    @property
    def here(self) -> ShowId | None:
        """The show that they are in, or on their way into."""
        return self.member.show if self.member is not None else self.show or self.entering

    @property
    def log_ids(self) -> dict[str, str | None]:
        return {"connection": self.session.client, "show": self.here}

    @property
    def info(self) -> ClientInfo:
        return ClientInfo(self.caller.sub, self.session.client)

    @property
    def asking(self) -> Asking:
        return Asking(self.caller, self.show, self.info)


def viewer_of(session: Session) -> Viewer:
    """Return the viewer of a session that has been connected."""
    viewer = session.attachment
    assert isinstance(viewer, Viewer), "an open session has a viewer"
    return viewer


def take(session: Session, frame: bytes) -> None:
    """Give a session what its peer sent; a bug in that ends this connection alone, and is seen."""
    try:
        session.receive(frame)
    except Exception as error:
        viewer = session.attachment
        show = viewer.here if isinstance(viewer, Viewer) else None
        tell_fault("session.failed", error, connection=session.client, show=show)
        session.close(codes.SERVER_ERROR)

"""One connection's state machine with a port and an application that remember."""

import json
from dataclasses import dataclass, field
from typing import ClassVar

from live.protocol import codes
from live.protocol.codec import Codec
from live.protocol.codec_json import JSON
from live.protocol.codes import Close
from live.protocol.commands import Command, ConnectRequest, ConnectResult
from live.protocol.limits import Limits
from live.protocol.session import Session
from live.protocol.shared import Shared
from tests.support.answers import Json

CONNECT = b'{"id":1,"connect":{}}'


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Peer:
    """A port that remembers; `closed` is what the connection ended with."""

    compresses: ClassVar[bool] = False

    sent: list[bytes] = field(default_factory=list)
    closed: Close | None = None

    def write(self, data: bytes) -> None:
        assert self.closed is None, "nothing may be written after the close"
        self.sent.append(data)

    def write_shared(self, frame: Shared) -> None:
        self.write(frame.payload)

    def close(self, close: Close) -> None:
        assert self.closed is None, "a connection is closed once"
        self.closed = close

    def buffered(self) -> int:
        return 0

    def replies(self) -> list[Json]:
        return [json.loads(line) for message in self.sent for line in message.split(b"\n")]


class Application:
    """Accepts connects unless told to wait; keeps what it was asked."""

    def __init__(self, *, accepts: bool = True) -> None:
        self.accepts = accepts
        self.asked: list[Command] = []
        self.lost: list[Session] = []

    def connect(self, session: Session, command: int, request: ConnectRequest) -> None:
        if request.token == "bad":
            session.close(codes.INVALID_TOKEN)
        elif self.accepts:
            session.accept(command, ConnectResult(client=session.client, ping=25, pong=True))

    def ordered(self, session: Session, command: Command) -> None:
        self.asked.append(command)

    def call(self, session: Session, command: Command) -> None:
        self.asked.append(command)

    def gone(self, session: Session) -> None:
        self.lost.append(session)


@dataclass
class Line:
    session: Session
    peer: Peer
    app: Application
    clock: Clock


def make(
    *, app: Application | None = None, codec: Codec = JSON, limits: Limits | None = None
) -> Line:
    peer, clock, app = Peer(), Clock(), app or Application()
    session = Session(peer, codec, app, clock=clock, limits=limits or Limits())
    return Line(session, peer, app, clock)


def connected(*, limits: Limits | None = None) -> Line:
    line = make(limits=limits)
    line.session.receive(CONNECT)
    line.peer.sent.clear()
    return line


def rpc(number: int) -> bytes:
    return b'{"id":%d,"rpc":{"method":"m","data":{}}}' % number

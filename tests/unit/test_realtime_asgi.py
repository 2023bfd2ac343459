"""The plain route on a made-up server: how its connections end, and what the log hears of it."""

import asyncio
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import pytest
from starlette.types import Message
from structlog.testing import capture_logs

from live.connection.application import Gateway
from live.protocol import codes
from live.protocol.codec import Codec
from live.protocol.limits import Limits
from live.protocol.port import Port
from live.protocol.session import Session
from live.transport import asgi
from live.transport.asgi import WebSocketEndpoint
from tests.support.session_kit import CONNECT, Application, Clock

SCOPE = {
    "type": "websocket",
    "scheme": "ws",
    "path": asgi.PATH,
    "query_string": b"",
    "headers": [(b"host", b"127.0.0.1")],
    "server": ("127.0.0.1", 80),
    "client": ("127.0.0.1", 1),
    "subprotocols": [],
}
ASKS = {"type": "websocket.receive", "text": CONNECT.decode()}
LEAVES = {"type": "websocket.disconnect", "code": 1000}
TORN = {"type": "websocket.receive"}  # with no data at all: reading it is a bug


@dataclass
class Server:
    """Gives the application events, then silence; `fault` is what it raises for a reply."""

    events: list[Message]
    fault: BaseException | None = None
    stuck: bool = False
    sent: list[Message] = field(default_factory=list)

    async def receive(self) -> Message:
        if self.events:
            return self.events.pop(0)
        await asyncio.Event().wait()
        raise AssertionError("cancelled before")

    async def send(self, message: Message) -> None:
        if message["type"] == "websocket.send":
            if self.stuck:
                await asyncio.Event().wait()
            if self.fault is not None:
                raise self.fault
        self.sent.append(message)


async def serve(server: Server) -> tuple[Session, list[Any]]:
    """The connection's session when it is over, and the lines of the log."""
    made: list[Session] = []

    def session(port: Port, codec: Codec, *, address: str | None) -> Session:
        made.append(Session(port, codec, Application(), clock=Clock(), limits=Limits()))
        return made[0]

    admission = SimpleNamespace(refusal=lambda _: None, opened=str, closed=lambda _: None)
    gateway = SimpleNamespace(
        hub=SimpleNamespace(draining=False), admission=admission, session=session
    )
    endpoint = WebSocketEndpoint(cast(Gateway, gateway))
    first: Message = {"type": "websocket.connect"}
    server.events.insert(0, first)
    with capture_logs() as lines:
        async with asyncio.timeout(5):
            await endpoint(dict(SCOPE), server.receive, server.send)
    return made[0], list(lines)


async def test_bug_of_the_reader_closes_its_connection_and_is_told() -> None:
    """The peer hears a reason after which SDKs come back; the log has connection and traceback."""
    server = Server([ASKS, TORN])

    session, [line] = await serve(server)

    assert session.closed
    assert [one["type"] for one in server.sent[1:]] == ["websocket.send", "websocket.close"]
    assert server.sent[-1]["code"] == codes.SERVER_ERROR.code
    assert (line["event"], line["connection"]) == ("session.failed", session.client)
    assert isinstance(line["exc_info"], KeyError)


async def test_bug_of_the_writer_ends_its_connection_and_is_told() -> None:
    """Nothing more can be said to the peer: the server hangs up."""
    server = Server([ASKS], fault=KeyError("a bug"))

    session, [line] = await serve(server)

    assert session.closed
    assert (line["event"], line["connection"]) == ("session.failed", session.client)
    assert line["exc_info"] is server.fault


@pytest.mark.parametrize(
    "server",
    [
        Server([ASKS, LEAVES]),
        Server([LEAVES]),
        Server([ASKS], fault=ConnectionResetError("as uvicorn says that the client has gone")),
        Server([ASKS, LEAVES], fault=ConnectionResetError("both halves hear of it")),
    ],
    ids=["leaves", "leaves at once", "gone while sent to", "gone for both"],
)
async def test_peer_that_leaves_is_no_news(server: Server) -> None:
    """Whichever half of the connection sees it first."""
    session, lines = await serve(server)

    assert session.closed and lines == []


async def test_peer_that_does_not_read_is_no_news(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are closed without being told, after a bounded wait."""
    monkeypatch.setattr(asgi, "FLUSH_SECONDS", 0.01)
    wrong = {"type": "websocket.receive", "bytes": b"", "text": None}

    session, lines = await serve(Server([ASKS, wrong], stuck=True))

    assert session.closed and lines == []

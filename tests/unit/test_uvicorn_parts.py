"""What we use of uvicorn's and websockets' inside. An upgrade that moves it fails here, by name."""

import inspect

import httptools
import pytest
import uvicorn
from uvicorn.config import Config
from uvicorn.protocols.http import httptools_impl
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.server import ServerState
from websockets import protocol, speedups
from websockets.frames import Frame, Opcode

UVICORN = "0.54.0"


def test_uvicorn_is_the_version_that_was_read() -> None:
    """Read http_guard.py and handshake.py against the new version before this line changes."""
    assert uvicorn.__version__ == UVICORN


def test_uvicorn_calls_its_http_class_as_we_expect() -> None:
    """The front door stands in for the class: same keywords."""
    names = list(inspect.signature(HttpToolsProtocol.__init__).parameters)
    assert names == ["self", "config", "server_state", "app_state", "_loop"]
    source = inspect.getsource(uvicorn.Server.startup)
    for keyword in ("config=config", "server_state=self.server_state", "_loop=_loop"):
        assert keyword in source


@pytest.mark.parametrize(
    "name",
    [
        "connection_made",
        "connection_lost",
        "data_received",
        "handle_websocket_upgrade",
        "on_message_begin",
        "on_url",
        "on_header",
        "on_headers_complete",
        "on_body",
        "on_message_complete",
        "on_response_complete",
        "pause_writing",
        "resume_writing",
        "send_400_response",
        "_get_upgrade",
        "_start_asgi_task",
    ],
)
def test_guard_overrides_what_exists(name: str) -> None:
    """Every method that the exchange or the guard extends is still there."""
    assert callable(getattr(HttpToolsProtocol, name))


def test_guard_finds_the_fields_it_reads() -> None:
    """They hold the request's head, the answer under way, and what decides about reading."""
    source = inspect.getsource(HttpToolsProtocol)
    head = ("self.url", "self.headers", "self.parser", "self.loop", "self.transport")
    for name in (*head, "self.cycle", "self.scope", "self.flow"):
        assert f"{name} = " in source or f"{name}: " in source


def test_plain_socket_finds_what_it_uses() -> None:
    """plain.py parses in passes; these tell it when, and what uvicorn has done."""
    source = inspect.getsource(WebSocketsSansIOProtocol)
    for name in (
        "self.queue",
        "self.conn",
        "self.config",
        "self.writable",
        "self.read_paused",
        "self.close_sent",
        "self.disconnected",
        "self.handshake_initiated",
        "self.handshake_complete",
    ):
        assert f"{name} = " in source or f"{name}: " in source
    for method in ("handle_events", "handle_parser_exception", "on_task_complete", "receive"):
        assert callable(getattr(WebSocketsSansIOProtocol, method))


@pytest.mark.parametrize("name", ["parser", "parser_exc", "handshake_exc", "events"])
def test_core_has_what_is_let_go_of(name: str) -> None:
    """core.py breaks the cycles of websockets' protocol by these."""
    core = protocol.Protocol(protocol.SERVER)
    assert hasattr(core, name)


def test_answer_under_way_tells_how_far_it_is() -> None:
    """And whose it is, and that there is nobody to be told: a cycle's own fields."""
    source = inspect.getsource(RequestResponseCycle.__init__)
    fields = ("response_started", "response_complete", "keep_alive", "disconnected")
    for name in (*fields, "scope", "transport"):
        assert f"self.{name} = " in source


def test_reading_is_paused_by_the_flow_alone() -> None:
    """exchange.py takes its place, with a reason of its own not to read."""
    source = inspect.getsource(httptools_impl)
    assert "transport.pause_reading" not in source and "transport.resume_reading" not in source
    for method in ("pause_reading", "resume_reading"):
        assert callable(getattr(FlowControl, method))


REQUESTS = [
    b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    b"POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\n",
    b"POST / HTTP/1.1\r\nContent-Length: 5 \r\n\r\nhello",
    b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\ntrailer: x\r\n\r\n",
]


@pytest.mark.parametrize("request_", REQUESTS)
def test_parser_ends_a_request_at_its_last_byte(request_: bytes) -> None:
    """exchange.py gives it no byte more, and waits for the answer only when it has said so."""
    ended: list[int] = []
    at = 0

    class Seen:
        def on_message_complete(self) -> None:
            ended.append(at)

    parser = httptools.HttpRequestParser(Seen())
    for at in range(len(request_)):
        parser.feed_data(request_[at : at + 1])
    assert ended == [len(request_) - 1]


@pytest.mark.parametrize("body", [b"", b"Content-Length: 5\r\n"])
def test_parser_stops_behind_the_head_of_an_upgrade(body: bytes) -> None:
    """With a body or without one: exchange.py hands over, or counts, what comes then."""
    head = b"GET / HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: x\r\n" + body + b"\r\n"
    parser = httptools.HttpRequestParser(object())
    with pytest.raises(httptools.HttpParserUpgrade) as stopped:
        parser.feed_data(head + b"hello")
    assert stopped.value.args == (len(head),)
    assert parser.should_upgrade()


def test_server_state_keeps_connections_for_shutdown() -> None:
    """uvicorn calls `shutdown` on each and waits until the set is empty."""
    assert isinstance(ServerState().connections, set)
    assert "connection.shutdown()" in inspect.getsource(uvicorn.Server.shutdown)


def test_config_takes_a_callable_as_http() -> None:
    """Anything that is no string is called as it is."""

    def make(**_: object) -> None: ...

    config = Config(app=lambda: None, http=make)  # type: ignore[arg-type]  # wants a class
    config.load()
    called: object = config.http_protocol_class
    assert called is make


def test_sansio_route_exists_for_odd_handshakes() -> None:
    """`ws="websockets-sansio"` is the path of what the front door does not take."""
    config = Config(app=lambda: None, ws="websockets-sansio")
    config.load()
    assert config.ws_protocol_class is WebSocketsSansIOProtocol


def test_websockets_core_can_start_open() -> None:
    """A connection is promoted in the middle of its life; masks come from the C extension."""
    core = protocol.Protocol(protocol.SERVER, state=protocol.State.OPEN, max_size=10)
    core.receive_data(Frame(Opcode.TEXT, b"hi").serialize(mask=True))
    (event,) = core.events_received()
    assert isinstance(event, Frame) and bytes(event.data) == b"hi"
    before = core.close_rcvd
    core.receive_data(Frame(Opcode.CLOSE, b"").serialize(mask=True))
    assert before is None and core.close_rcvd is not None
    assert speedups.apply_mask(b"\x01\x02", b"\x01\x01\x01\x01") == b"\x00\x03"

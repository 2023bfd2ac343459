"""uvicorn's HTTP protocol with the bounds that it lacks: time and size of everything a peer sends.

Without them a half handshake stays open for ever, as does a body that never ends, an upgrade with
a body, a connection that sends a line break now and then; one with too many headers is never
answered. Always: a connection is in one phase (head, body, answer, idle), and every phase that the
peer could prolong has a deadline of its own; the connection is in a Headcount until it is closed or
has become a WebSocket.
Only this file, exchange.py, plain.py and handshake.py know the inside of uvicorn;
tests/unit/test_uvicorn_parts.py fails clearly when an upgrade changes what they use.
"""

import asyncio
import socket
import sys
from asyncio import Transport
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import Any

from uvicorn.config import Config
from uvicorn.server import ServerState

from live.base.seldom import Seldom
from live.connection.addresses import Proxies
from live.connection.headcount import Headcount, Place
from live.fanout import metrics
from live.transport.exchange import Exchange
from live.transport.hosts import Hosts

HEAD_SECONDS = 5.0  # for a whole request head, counted from its first byte or from the connect
HEAD_BYTES_MAX = 16_384
HEADER_BYTES_MAX = 8_192  # of one line; websockets' own parser stops there
HEADERS_MAX = 64
URL_BYTES_MAX = 8_192
SEND_BUFFER_BYTES = 65_536  # of the kernel: a phone that stops reading must not hide 3 MB there
USER_TIMEOUT_MS = 6_000  # unacknowledged data for so long ends the connection

# Of a port for balancers, Prometheus and our own processes.
OPS_CONNECTIONS_MAX = 512
OPS_PER_ADDRESS_MAX = 64

HEALTH_PATHS = (b"/healthz", b"/readyz")  # of a balancer that knows us by address, or by HTTP/1.0

_BODY_HEADERS = (b"content-length", b"transfer-encoding")
_WRONG_HOST = "this server does not go by that Host: name it in LIVE_ALLOWED_HOSTS"
_BODY_OF_UPGRADE = "an upgrade has no body"

_refused_host = Seldom("host_refused")
_turned_away = Seldom("connections_turned_away")


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpLimits:
    """How long a peer may take, in seconds."""

    head_seconds: float = HEAD_SECONDS
    body_seconds: float = 8.0  # from the head's end; calls that read a body give up before
    idle_seconds: float = 5.0  # between an answer and the next request
    life_seconds: float = 300.0  # of a connection; the answer after it asks for another one
    unread_seconds: float = 20.0  # that an answer waits for a peer who does not read
    early_seconds: float = 10.0  # that bytes behind a request wait while its answer goes on and on


LIMITS = HttpLimits()


def bound_socket(transport: Transport) -> None:
    """Bound what the kernel keeps for a peer that does not read, and for how long."""
    accepted = transport.get_extra_info("socket")
    if accepted is None or accepted.family not in (socket.AF_INET, socket.AF_INET6):
        return
    accepted.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
    accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if sys.platform == "linux":
        accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, USER_TIMEOUT_MS)


def local_address(transport: Transport) -> str | None:
    """The address that a connection came in on; None for a unix socket."""
    name = transport.get_extra_info("sockname")
    return str(name[0]) if isinstance(name, tuple) else None


def peer_address(transport: Transport) -> str | None:
    """The address at the other end; None for a unix socket."""
    name = transport.get_extra_info("peername")
    return str(name[0]) if isinstance(name, tuple) else None


def take_place(transport: Transport, headcount: Headcount, proxies: Proxies) -> Place | None:
    """Count a new connection; None where it was turned away, with an answer that says so.

    A proxy's connections are bounded in all only: which client is behind one is in its requests.
    """
    peer = peer_address(transport)
    address = None if peer is not None and proxies.trusts(peer) else peer
    status = headcount.refusal(address)
    if status is None:
        return headcount.enter(address)
    _turned_away.warn(status=status.value, address=address, open=headcount.in_all)
    metrics.refused(status)
    transport.write(refusal(status))
    transport.close()
    return None


class GuardedHttp(Exchange):
    """Refuses what is too slow (408), too long (414), too much (431), too many (429, 503), for
    another Host or an upgrade with a body (400)."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        # Any: uvicorn's own type for what the lifespan left there.
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        hosts: Hosts,
        headcount: Headcount,
        proxies: Proxies | None = None,
        limits: HttpLimits = LIMITS,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._hosts = hosts
        self._headcount = headcount
        self._proxies = proxies or Proxies()
        self._limits = limits
        self.place: Place | None = None  # set where the front door has counted the connection
        self.head_due: float | None = None  # end of the first head's time, where it began before us
        self._begun = self.loop.time()
        self._deadline: asyncio.TimerHandle | None = None
        self._unread: asyncio.TimerHandle | None = None
        self._in_head = True
        self._in_body = False
        self._head_bytes = 0  # read since the head began; an endless line never gets to `on_header`
        self._header_bytes = 0  # of complete headers
        self._refused: HTTPStatus | None = None
        self._reason = ""  # what the refusal says beside its status

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]  # as uvicorn
        super().connection_made(transport)
        bound_socket(transport)
        if self.place is None:
            self.place = take_place(transport, self._headcount, self._proxies)
        if self.place is not None:
            self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._leave()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._refused is None and not self.transport.is_closing():
            super().data_received(data)

    def handle_websocket_upgrade(self) -> None:
        if self._refused is None:
            self._leave()
            super().handle_websocket_upgrade()

    def send_400_response(self, msg: str) -> None:
        """What is no HTTP at all; uvicorn calls this."""
        self._refuse(HTTPStatus.BAD_REQUEST)

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._unread is None:
            self._unread = self.loop.call_later(self._limits.unread_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._read_again()

    # Passes

    def _may_parse(self) -> bool:
        return self._refused is None and super()._may_parse()

    def _parse(self, piece: bytes) -> None:
        if self._in_head:
            self._head_bytes += len(piece)
        super()._parse(piece)
        if self._in_head and self._head_bytes > HEAD_BYTES_MAX:
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        self._answer_refusal()

    def _hold(self) -> None:
        super()._hold()
        if self._deadline is None and self._unparsed() and self._behind_answer():
            self._wait(self._limits.early_seconds, self._too_early)

    # Parser callbacks

    def on_message_begin(self) -> None:
        super().on_message_begin()
        if not self._in_head:  # the next request of a kept-alive connection
            self._in_head = True
            self._expect_head()

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        if len(self.url) > URL_BYTES_MAX:
            self._refuse(HTTPStatus.REQUEST_URI_TOO_LONG)

    def on_header(self, name: bytes, value: bytes) -> None:
        super().on_header(name, value)
        size = len(name) + len(value)
        self._header_bytes += size
        too_much = len(self.headers) > HEADERS_MAX or self._header_bytes > HEAD_BYTES_MAX
        if too_much or size > HEADER_BYTES_MAX:
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)

    def on_headers_complete(self) -> None:
        self._head_done()
        self._in_body = True
        self._wait(self._limits.body_seconds, self._too_slow)
        self._check_host()
        self._check_upgrade()
        if self._refused is None:
            super().on_headers_complete()
            if (
                self.cycle is not None
                and self.loop.time() > self._begun + self._limits.life_seconds
            ):
                self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        if self._refused is None:
            super().on_body(body)

    def _request_complete(self) -> None:
        self._in_body = False
        self._stop_waiting()
        if self._refused is None:
            super()._request_complete()
            if not self._answering():
                self._rest()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if not (self._in_head or self._in_body or self._answering()):
            self._rest()

    # Checks of a head

    def _check_host(self) -> None:
        if self.url.partition(b"?")[0] in HEALTH_PATHS:
            return
        local = local_address(self.transport)
        if local is None:  # a unix socket: no name in a page's DNS leads to one
            return
        hosts = [value.decode("latin-1") for name, value in self.headers if name == b"host"]
        if len(hosts) != 1 or not self._hosts.admits(hosts[0], local):
            _refused_host.warn(host=hosts[:2], address=peer_address(self.transport))
            self._refuse(HTTPStatus.BAD_REQUEST, _WRONG_HOST)

    def _check_upgrade(self) -> None:
        """The parser stops at the head of an upgrade, so a body behind it must be counted."""
        sent = {name: value for name, value in self.headers if name in _BODY_HEADERS}
        if not sent or sent == {b"content-length": b"0"} or not self.parser.should_upgrade():
            return
        if self._get_upgrade() == b"websocket":
            self._refuse(HTTPStatus.BAD_REQUEST, _BODY_OF_UPGRADE)
        elif b"transfer-encoding" in sent:
            self._refuse(HTTPStatus.LENGTH_REQUIRED)

    # Phases

    def _expect_head(self) -> None:
        self._head_bytes = self._header_bytes = 0
        due, self.head_due = self.head_due, None
        if due is None:
            due = self.loop.time() + self._limits.head_seconds
        self._stop_waiting()
        self._deadline = self.loop.call_at(due, self._too_slow)

    def _head_done(self) -> None:
        self._in_head = False
        self._stop_waiting()

    def _rest(self) -> None:
        """Wait for the next request. uvicorn's own time-out is put off by any byte."""
        self._wait(self._limits.idle_seconds, self._close)

    def _wait(self, seconds: float, then: Callable[[], object]) -> None:
        self._stop_waiting()
        self._deadline = self.loop.call_later(seconds, then)

    def _stop_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _too_slow(self) -> None:
        self._refuse(HTTPStatus.REQUEST_TIMEOUT)
        self._answer_refusal()

    def _too_early(self) -> None:
        """A stream of events never ends, and a long answer ends by itself or is not read."""
        if self._answer_began():
            self._close()
        else:
            self._wait(self._limits.early_seconds, self._too_early)

    def _answer_began(self) -> bool:
        """Whether the request that was read last has an answer."""
        cycle = self.cycle
        return cycle is not None and cycle.scope is self.scope and cycle.response_started

    def _read_again(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    def _leave(self) -> None:
        """This connection is closed, or HTTP no longer."""
        self._stop_waiting()
        self._read_again()
        if self.place is not None:
            self.place.leave()

    def _close(self) -> None:
        if not self.transport.is_closing():
            self.transport.close()

    # Refusals

    def _refuse(self, status: HTTPStatus, reason: str = "") -> None:
        """Note the first fault; it is answered when the parser has let go."""
        if self._refused is None:
            self._refused, self._reason = status, reason

    def _answer_refusal(self) -> None:
        """End the connection if something of it was refused."""
        status = self._refused
        if status is None:
            return
        answered = self._in_body and self._answer_began()
        self._head_done()
        self._in_body = False
        if not self.transport.is_closing():
            metrics.refused(status)
            if not answered:  # else it was without its body, or is being
                self.transport.write(refusal(status, self._reason))
            self.transport.close()


def guarded(hosts: Hosts) -> Callable[..., asyncio.Protocol]:
    """Make what uvicorn calls for each connection of a port beside the gateways'."""
    headcount = Headcount(in_all_max=OPS_CONNECTIONS_MAX, per_address_max=OPS_PER_ADDRESS_MAX)
    return partial(GuardedHttp, hosts=hosts, headcount=headcount)


def refusal(status: HTTPStatus, reason: str = "") -> bytes:
    """Write a whole HTTP answer that ends the connection."""
    body = f"{reason or status.phrase}\n".encode()
    retry = "retry-after: 1\r\n" if status in (429, 503) else ""
    head = (
        f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-type: text/plain; charset=utf-8\r\n"
        f"content-length: {len(body)}\r\nconnection: close\r\n{retry}\r\n"
    )
    return head.encode() + body

"""uvicorn's HTTP protocol with the bounds that it lacks: time and size of a request's head.

Without them a half handshake stays open for ever; one with too many headers is never answered.
Only this file and front.py know the inside of uvicorn; tests/unit/test_uvicorn_parts.py
fails clearly when an upgrade changes what they use.
"""

import asyncio
import socket
import sys
from asyncio import Transport
from http import HTTPStatus
from typing import Any

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from live.realtime.hosts import Hosts

HEAD_SECONDS = 5.0  # for a whole request head, counted from its first byte or from the connect
HEAD_BYTES_MAX = 16_384
HEADER_BYTES_MAX = 8_192  # of one line; websockets' own parser stops there
HEADERS_MAX = 64
URL_BYTES_MAX = 8_192
SEND_BUFFER_BYTES = 65_536  # of the kernel: a phone that stops reading must not hide 3 MB there
USER_TIMEOUT_MS = 6_000  # unacknowledged data for so long ends the connection


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


class GuardedHttp(HttpToolsProtocol):
    """Refuses what is too slow (408), too long (414), too much (431) or for another Host (400)."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        # Any: uvicorn's own type for what the lifespan left there.
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        hosts: Hosts,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._hosts = hosts
        self.head_due: float | None = None  # end of the first head's time, where it began before us
        self._deadline: asyncio.TimerHandle | None = None
        self._in_head = True
        self._head_bytes = 0  # read since the head began; an endless line never gets to `on_header`
        self._header_bytes = 0  # of complete headers
        self._refused: HTTPStatus | None = None

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]  # as uvicorn
        super().connection_made(transport)
        bound_socket(transport)
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_done()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._refused is not None:
            return
        if self._in_head:
            self._head_bytes += len(data)
        super().data_received(data)
        if self._in_head and self._head_bytes > HEAD_BYTES_MAX:
            self._refused = self._refused or HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
        if self._refused is not None:
            self._answer(self._refused)

    def handle_websocket_upgrade(self) -> None:
        if self._refused is None:
            self._head_done()
            super().handle_websocket_upgrade()

    # Parser callbacks

    def on_message_begin(self) -> None:
        super().on_message_begin()
        if not self._in_head:  # the next request of a kept-alive connection
            self._in_head = True
            self._expect_head()

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        if len(self.url) > URL_BYTES_MAX:
            self._refused = HTTPStatus.REQUEST_URI_TOO_LONG

    def on_header(self, name: bytes, value: bytes) -> None:
        super().on_header(name, value)
        size = len(name) + len(value)
        self._header_bytes += size
        too_much = len(self.headers) > HEADERS_MAX or self._header_bytes > HEAD_BYTES_MAX
        if too_much or size > HEADER_BYTES_MAX:
            self._refused = self._refused or HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE

    def on_headers_complete(self) -> None:
        self._head_done()
        hosts = [value.decode("latin-1") for name, value in self.headers if name == b"host"]
        if len(hosts) != 1 or not self._hosts.admits(hosts[0], local_address(self.transport)):
            self._refused = self._refused or HTTPStatus.BAD_REQUEST
        if self._refused is None:
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        if self._refused is None:
            super().on_body(body)

    def on_message_complete(self) -> None:
        if self._refused is None:
            super().on_message_complete()

    # Head

    def _expect_head(self) -> None:
        self._head_bytes = self._header_bytes = 0
        due, self.head_due = self.head_due, None
        if due is None:
            due = self.loop.time() + HEAD_SECONDS
        self._deadline = self.loop.call_at(due, self._too_slow)

    def _head_done(self) -> None:
        self._in_head = False
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _too_slow(self) -> None:
        if not self.transport.is_closing():
            self._refused = HTTPStatus.REQUEST_TIMEOUT
            self._answer(HTTPStatus.REQUEST_TIMEOUT)

    def _answer(self, status: HTTPStatus) -> None:
        self._head_done()
        if not self.transport.is_closing():
            self.transport.write(refusal(status))
            self.transport.close()


def refusal(status: HTTPStatus) -> bytes:
    """Write a whole HTTP answer that ends the connection."""
    body = f"{status.phrase}\n".encode()
    retry = "retry-after: 1\r\n" if status in (429, 503) else ""
    head = (
        f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-type: text/plain; charset=utf-8\r\n"
        f"content-length: {len(body)}\r\nconnection: close\r\n{retry}\r\n"
    )
    return head.encode() + body

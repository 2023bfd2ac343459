"""The front door: the usual WebSocket handshake answered at once, everything else left to uvicorn.

`uvicorn.Config(http=FrontDoor(...).protocol)`. A connection whose first read is one complete,
ordinary upgrade of `/connection/websocket` becomes a LightConnection. Other paths, odd or split
heads, refused origins and TLS go unchanged to uvicorn's HTTP protocol (http_guard.py), so
Starlette's routes, its errors and its slow WebSocket path live on the same port.

Owns: what counts as an ordinary handshake. Not here: bounds on connections (admission.py).
"""

import asyncio
import base64
import binascii
import hashlib
from asyncio import Transport
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import httptools
from uvicorn.config import Config
from uvicorn.server import ServerState

from live.connection.addresses import FORWARDED_FOR, FORWARDED_PROTO, Proxies
from live.connection.application import Gateway
from live.connection.headcount import Place
from live.fanout import metrics
from live.protocol.codec import Codec
from live.protocol.deflate import answer_offer
from live.transport.asgi import PATH, PROTOBUF_NAME, choose_codec
from live.transport.fast.deflated import DeflatedConnection
from live.transport.fast.light import LightConnection
from live.transport.fast.line import UpgradedLine
from live.transport.hosts import Hosts
from live.transport.http_guard import (
    HEAD_BYTES_MAX,
    HEADER_BYTES_MAX,
    HEADERS_MAX,
    LIMITS,
    URL_BYTES_MAX,
    GuardedHttp,
    HttpLimits,
    bound_socket,
    local_address,
    peer_address,
    refusal,
    take_place,
)
from live.transport.origin import origin_allowed
from live.transport.plain import PlainHttp

WEBSOCKET_PATH = PATH.encode()

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, 1.3
_SWITCH = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: %s\r\n%s\r\n"
)
_HEAD_END = b"\r\n\r\n"
_CHOSEN = b"Sec-WebSocket-Protocol: " + PROTOBUF_NAME.encode() + b"\r\n"
# Each of these changes what the request means, so their like is left to the full parser.
_BODY_HEADERS = (b"content-length", b"transfer-encoding", b"expect")


@dataclass(frozen=True, slots=True)
class Upgrade:
    """What of an ordinary handshake matters here."""

    accept: bytes
    origin: str | None
    host: str
    forwarded: str  # X-Forwarded-For, "" where there is none
    proto: str  # X-Forwarded-Proto, likewise
    codec: Codec
    subprotocol: bool
    extensions: bytes


class _Head:
    """Collects what httptools finds; `headers` is None once a name was repeated."""

    __slots__ = ("headers", "repeated", "url")

    def __init__(self) -> None:
        self.url = b""
        self.headers: dict[bytes, bytes] = {}
        self.repeated = False

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        if name in self.headers or len(name) + len(value) > HEADER_BYTES_MAX:
            self.repeated = True
        self.headers[name] = value.strip(b" \t")  # the parser keeps tabs


def read_upgrade(data: bytes) -> Upgrade | None:
    """Read the whole head of an ordinary handshake; None for what somebody else should look at."""
    if len(data) > HEAD_BYTES_MAX or data.find(b"\r\n\r\n") != len(data) - 4:
        return None
    head = _Head()
    parser = httptools.HttpRequestParser(head)
    try:
        parser.feed_data(data)
    except httptools.HttpParserUpgrade:
        pass
    except httptools.HttpParserError:
        return None
    else:
        return None
    if parser.get_method() != b"GET" or parser.get_http_version() != "1.1" or head.repeated:
        return None
    path, _, query = head.url.partition(b"?")
    if path != WEBSOCKET_PATH or len(head.url) > URL_BYTES_MAX:
        return None
    return _check(head.headers, query)


def _check(headers: dict[bytes, bytes], query: bytes) -> Upgrade | None:
    key = headers.get(b"sec-websocket-key", b"")
    host = headers.get(b"host", b"")
    ordinary = (
        len(headers) <= HEADERS_MAX
        and bool(host)
        and headers.get(b"upgrade", b"").lower() == b"websocket"
        and b"upgrade" in (part.strip() for part in headers[b"connection"].lower().split(b","))
        and headers.get(b"sec-websocket-version") == b"13"
        and _is_key(key)
        and not any(name in headers for name in _BODY_HEADERS)
    )
    if not ordinary:
        return None
    try:
        origin = headers[b"origin"].decode("ascii") if b"origin" in headers else None
        offered = headers.get(b"sec-websocket-protocol", b"").decode("ascii")
        names = [name.strip() for name in offered.split(",")]
        digest = hashlib.sha1(key + _GUID, usedforsecurity=False).digest()
        return Upgrade(
            base64.b64encode(digest),
            origin,
            host.decode("ascii"),
            headers.get(FORWARDED_FOR, b"").decode("ascii"),
            headers.get(FORWARDED_PROTO, b"").decode("ascii"),
            choose_codec(names, query.decode("ascii")),
            PROTOBUF_NAME in names,
            headers.get(b"sec-websocket-extensions", b""),
        )
    except UnicodeDecodeError:
        return None


def _is_key(key: bytes) -> bool:
    try:
        return len(key) == 24 and len(base64.b64decode(key, validate=True)) == 16
    except binascii.Error:
        return False


class Registry:
    """Open light connections, known to uvicorn as well: it waits for them when it stops."""

    __slots__ = ("_door", "_state")

    def __init__(self, door: "FrontDoor", state: ServerState) -> None:
        self._door = door
        self._state = state

    def started(self, connection: UpgradedLine, address: str | None) -> None:
        self._door.connections.add(connection)
        connection.counted_as = self._door.gateway.admission.opened(address)
        self._state.connections.add(connection)  # type: ignore[arg-type]  # wants `shutdown` only

    def ended(self, connection: UpgradedLine) -> None:
        self._door.connections.discard(connection)
        assert connection.counted_as is not None, "it was counted when it started"
        self._door.gateway.admission.closed(connection.counted_as)
        self._state.connections.discard(connection)


class FrontDoor:
    """One per process; `protocol` is what uvicorn calls for each accepted socket."""

    def __init__(
        self,
        gateway: Gateway,
        *,
        hosts: Hosts,
        allowed_origins: tuple[str, ...] = (),
        proxies: Proxies | None = None,
        compression: bool = False,
        limits: HttpLimits = LIMITS,
    ) -> None:
        self.gateway = gateway
        self.compression = compression
        self.limits = limits
        self._hosts = hosts
        self.proxies = proxies or Proxies()
        self._allowed_origins = allowed_origins
        self.connections: set[UpgradedLine] = set()
        self._registry: Registry | None = None  # made by the first connection

    def protocol(
        self,
        config: Config,
        server_state: ServerState,
        # Any: uvicorn's own type for what the lifespan left there.
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> asyncio.Protocol:
        """Make the protocol of a new connection, as uvicorn calls its protocol class."""

        def plain() -> GuardedHttp:
            return PlainHttp(
                config,
                server_state,
                app_state,
                _loop,
                hosts=self._hosts,
                headcount=self.gateway.admission.http,
                proxies=self.proxies,
                limits=self.limits,
            )

        if config.is_ssl:
            return plain()
        return _Waiting(self, plain, server_state)

    def registry(self, state: ServerState) -> "Registry":
        """Return the one list of connections of this door and of the uvicorn server behind it."""
        if self._registry is None:
            self._registry = Registry(self, state)
        return self._registry

    def allows(self, upgrade: Upgrade, transport: Transport) -> bool:
        secure = self.proxies.secure(peer_address(transport), upgrade.proto)
        return (
            not self.gateway.hub.draining
            and self._hosts.admits(upgrade.host, local_address(transport))
            and origin_allowed(upgrade.origin, upgrade.host, self._allowed_origins, secure=secure)
        )

    def address(self, transport: Transport, upgrade: Upgrade) -> str | None:
        """The client's address; None for a unix socket."""
        return self.proxies.client(peer_address(transport), upgrade.forwarded)


class _Waiting(asyncio.Protocol):
    """An accepted socket until its first bytes tell what it is."""

    __slots__ = ("_deadline", "_door", "_place", "_plain", "_state", "_transport")

    def __init__(
        self, door: FrontDoor, plain: Callable[[], GuardedHttp], state: ServerState
    ) -> None:
        self._door = door
        self._plain = plain
        self._state = state
        self._transport: Transport | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._place: Place | None = None  # None before the connect and where it was turned away

    # uvloop's transports have the methods of Transport but are no subclass of it.
    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        self._transport = transport
        door = self._door
        self._place = take_place(transport, door.gateway.admission.http, door.proxies)
        if self._place is None:
            return
        self._state.connections.add(self)  # type: ignore[arg-type]  # wants `shutdown` only
        loop = asyncio.get_running_loop()
        self._deadline = loop.call_later(
            door.limits.head_seconds, self._refuse, HTTPStatus.REQUEST_TIMEOUT
        )

    def data_received(self, data: bytes) -> None:
        if self._place is None:  # turned away
            return
        transport = self._stop_waiting()
        head, end, behind = data.partition(_HEAD_END)
        ordinary = bool(end) and data.startswith(b"GET " + WEBSOCKET_PATH)
        upgrade = read_upgrade(head + end) if ordinary else None
        if upgrade is None or not self._door.allows(upgrade, transport):
            self._hand_over(transport, data)
            return
        address = self._door.address(transport, upgrade)
        status = self._door.gateway.admission.refusal(address)
        if status is not None:
            transport.write(refusal(status))
            transport.close()
        else:
            self._leave_count()
            connection = self._accept(transport, upgrade, address)
            if behind:  # frames of one who did not wait for the answer
                connection.data_received(behind)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        self._leave_count()

    def shutdown(self) -> None:
        """Called by uvicorn when it stops."""
        self._stop_waiting().close()

    def _leave_count(self) -> None:
        if self._place is not None:
            self._place.leave()

    def _stop_waiting(self) -> Transport:
        if self._deadline is not None:
            self._deadline.cancel()
        self._state.connections.discard(self)
        assert self._transport is not None, "a connection has been made"
        return self._transport

    def _refuse(self, status: HTTPStatus) -> None:
        transport = self._stop_waiting()
        metrics.refused(status)
        transport.write(refusal(status))
        transport.close()

    def _hand_over(self, transport: Transport, data: bytes) -> None:
        plain = self._plain()
        assert self._deadline is not None, "a connection has been made"
        plain.place = self._place
        plain.head_due = self._deadline.when()
        transport.set_protocol(plain)
        plain.connection_made(transport)
        plain.data_received(data)

    def _accept(
        self, transport: Transport, upgrade: Upgrade, address: str | None
    ) -> LightConnection:
        bound_socket(transport)
        registry = self._door.registry(self._state)
        taken = answer_offer(upgrade.extensions) if self._door.compression else None
        kind = LightConnection if taken is None else DeflatedConnection
        connection = kind(transport, upgrade.codec, registry)
        transport.set_protocol(connection)
        registry.started(connection, address)
        chosen = _CHOSEN if upgrade.subprotocol else b""
        if taken is not None:
            chosen += b"Sec-WebSocket-Extensions: %s\r\n" % taken
        transport.write(_SWITCH % (upgrade.accept, chosen))
        connection.session = self._door.gateway.session(connection, upgrade.codec, address=address)
        return connection

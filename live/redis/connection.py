"""One raw connection to Redis: commands out, replies back in order, no retries of its own.

Owns: a socket, hiredis' parser and the callbacks that wait for replies.
Always: each callback is called once, with a reply, a `hiredis.ReplyError`, or `LOST`; after `LOST`
the command may or may not have run, and only the caller knows whether a repeat is harmless.
Runs on: the event loop. redis-py's connections cost a task switch per command and retry by
themselves, which would apply a write twice (docs/decisions.md, 6).
"""

import asyncio
import ssl
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

import hiredis
from redis.asyncio.connection import SSLConnection, parse_url

from live.base.errors import EngineError, EngineLoading
from live.base.keepalive import watch_link
from live.base.redis_url import PORT, NodeUrl, is_loading
from live.redis.scripts import Script

CONNECT_SECONDS = 4.0  # for TCP and TLS: a lost SYN is sent again after one second, then after two
SILENCE_SECONDS = 2.0  # before each reply of the greeting; how far away Redis is does not count


class Lost:
    """The reply will never come: the connection went away."""


LOST: Final = Lost()
_MORE: Final = object()

Reply = object  # bytes, int, None, a list of replies, a hiredis.ReplyError, or LOST


class Wire(asyncio.Protocol):
    def __init__(self, on_lost: Callable[["Wire"], None]) -> None:
        self.run_id = b""  # set once the server told it, before anybody else sees this wire
        self.node = NodeUrl("")  # the same
        self._reader = hiredis.Reader(notEnoughData=_MORE)
        self._waiting: deque[Callable[[Reply], None]] = deque()
        self._on_lost = on_lost
        self._transport: asyncio.Transport | None = None

    @property
    def alive(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def send(self, command: bytes, done: Callable[[Reply], None]) -> None:
        """Write one packed command; `done` gets its reply."""
        transport = self._transport
        if transport is None or transport.is_closing():
            done(LOST)
            return
        self._waiting.append(done)
        transport.write(command)

    async def call(self, *parts: bytes) -> Reply:
        """Send one command and wait for its reply; the caller sets the deadline."""
        return await self.ask(*parts)

    def ask(self, *parts: bytes) -> asyncio.Future[Reply]:
        """Send one command now; its reply comes by the future."""
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self.send(pack_command(*parts), lambda reply: _settle(future, reply))
        return future

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # A cast: uvloop's transports do all that a Transport does but are no subclass of it.
        self._transport = cast(asyncio.Transport, transport)
        watch_link(transport)

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        try:
            while (reply := self._reader.gets()) is not _MORE:
                self._waiting.popleft()(reply)
        except hiredis.ProtocolError:  # not Redis, or out of step: nothing more can be trusted
            self.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        waiting, self._waiting = self._waiting, deque()
        for done in waiting:
            done(LOST)
        self._on_lost(self)


def _settle(future: asyncio.Future[Reply], reply: Reply) -> None:
    if not future.done():  # the caller's deadline may have come first
        future.set_result(reply)


def pack_command(*parts: bytes) -> bytes:
    """Encode a command the way Redis reads it."""
    packed = [b"*%d\r\n" % len(parts)]
    packed += [b"$%d\r\n%b\r\n" % (len(part), part) for part in parts]
    return b"".join(packed)


@dataclass(frozen=True, slots=True)
class Address:
    """Where Redis is and how to log in, from a redis://, rediss:// or unix:// URL.

    `scripts` are those that the server shall know once it is connected to.
    """

    url: NodeUrl
    scripts: Sequence[Script] = ()

    async def connect(self, on_lost: Callable[[Wire], None]) -> Wire:
        """Open a connection, learn the server's run id, see that it knows the scripts.

        Raises OSError, TimeoutError or EngineError (EngineLoading while the server reads its data
        back); the wire is closed then.
        """
        options = dict(parse_url(self.url))
        wire: Wire | None = None
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                wire = await self._open(options, on_lost)
            await _greet(wire, options, self.scripts)
            wire.node = self.url
        except BaseException:  # also a cancellation: a half-greeted wire must not stay open
            if wire is not None:
                wire.abort()
            raise
        return wire

    async def _open(self, options: dict[str, object], on_lost: Callable[[Wire], None]) -> Wire:
        loop = asyncio.get_running_loop()
        path = options.get("path")
        if path:
            _, wire = await loop.create_unix_connection(lambda: Wire(on_lost), str(path))
        else:
            _, wire = await loop.create_connection(
                lambda: Wire(on_lost),
                str(options.get("host", "localhost")),
                cast(int, options.get("port", PORT)),
                ssl=_tls(options) if self.url.startswith("rediss:") else None,
            )
        return wire


def _tls(options: dict[str, object]) -> ssl.SSLContext:
    """What the URL says of TLS, read by redis-py, so that both clients trust the same servers."""
    own = {name: value for name, value in options.items() if name.startswith("ssl_")}
    # A cast: redis-py leaves the parameters untyped.
    return SSLConnection(**cast(dict[str, Any], own)).ssl_context.get()


async def _greet(wire: Wire, options: dict[str, object], scripts: Sequence[Script]) -> None:
    """One round trip where the server knows the scripts, two where it does not.

    Asked first: stock's are a quarter of a megabyte, and a crowd of gateways that comes back to a
    Redis would send them again on each connection.
    """
    login = _login(options)
    looks = [(b"SCRIPT", b"EXISTS", one.sha) for one in scripts]
    replies = await _ask_all(wire, [*login, (b"INFO", b"server"), *looks])
    info, *known = replies[len(login) :]
    assert isinstance(info, bytes)
    found = [line[7:] for line in info.split(b"\r\n") if line.startswith(b"run_id:")]
    if not found:
        raise EngineError("the server at the Redis URL does not tell its run_id")
    missing = [one for one, there in zip(scripts, known, strict=True) if there == [0]]
    loaded = await _ask_all(wire, [(b"SCRIPT", b"LOAD", one.text) for one in missing])
    for one, sha in zip(missing, loaded, strict=True):
        if sha != one.sha:
            raise EngineError(f"Redis knows the script {one.name} by another digest")
    wire.run_id = found[0]


def _login(options: dict[str, object]) -> list[tuple[bytes, ...]]:
    said: list[tuple[bytes, ...]] = []
    if options.get("password"):
        names = [name for name in ("username", "password") if options.get(name)]
        said.append((b"AUTH", *(str(options[name]).encode() for name in names)))
    if options.get("db"):
        said.append((b"SELECT", str(options["db"]).encode()))
    return said


async def _ask_all(wire: Wire, commands: Sequence[tuple[bytes, ...]]) -> list[Reply]:
    """Send all, then wait for the replies; the limit begins anew with each. Raises like connect."""
    asked = [wire.ask(*command) for command in commands]
    replies: list[Reply] = []
    for command, future in zip(commands, asked, strict=True):
        async with asyncio.timeout(SILENCE_SECONDS):
            reply = await future
        if isinstance(reply, Lost):
            raise ConnectionResetError("Redis closed the connection during the greeting")
        if isinstance(reply, hiredis.ReplyError):
            text = f"Redis refused {command[0].decode()}: {reply}"
            raise EngineLoading(text) if is_loading(str(reply)) else EngineError(text)
        replies.append(reply)
    return replies

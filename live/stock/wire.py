"""One raw connection to Redis: commands out, replies back in order, no retries of its own.

Owns: a socket, hiredis' parser and the callbacks that wait for replies.
Always: each callback is called once, with a reply, a `hiredis.ReplyError`, or `LOST`; after `LOST`
the command may or may not have run, and only the caller knows whether a repeat is harmless.
Runs on: the event loop. redis-py's connections cost a task switch per command and retry by
themselves, which would apply a write twice (ARCHITECTURE.md, "Decided against").
"""

import asyncio
import ssl
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, cast

import hiredis
from redis.asyncio.connection import parse_url

from live.errors import EngineError
from live.links import watch_link
from live.redis_url import NodeUrl
from live.stock.scripts import NAMES, script

CONNECT_SECONDS = 1.0  # a healthy server answers INFO and the loading of the scripts in 10 ms


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
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self.send(pack_command(*parts), lambda reply: _settle(future, reply))
        return await future

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
    """Where Redis is and how to log in, from a redis://, rediss:// or unix:// URL."""

    url: NodeUrl

    async def connect(self, on_lost: Callable[[Wire], None]) -> Wire:
        """Open a connection, learn the server's run id, load the scripts.

        Raises OSError, TimeoutError or EngineError; the wire is closed then.
        """
        loop = asyncio.get_running_loop()
        options = parse_url(self.url)
        wire: Wire | None = None
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                if options.get("path"):
                    _, wire = await loop.create_unix_connection(
                        lambda: Wire(on_lost), options["path"]
                    )
                else:
                    _, wire = await loop.create_connection(
                        lambda: Wire(on_lost),
                        options.get("host", "localhost"),
                        options.get("port", 6379),
                        ssl=ssl.create_default_context() if self.url.startswith("rediss") else None,
                    )
                await _greet(wire, dict(options))
                wire.node = self.url
        except BaseException:  # also a cancellation: a half-greeted wire must not stay open
            if wire is not None:
                wire.abort()
            raise
        return wire


async def _greet(wire: Wire, options: dict[str, object]) -> None:
    if options.get("password"):
        login = [
            str(options[name]).encode() for name in ("username", "password") if options.get(name)
        ]
        await _ask(wire, b"AUTH", *login)
    if options.get("db"):
        await _ask(wire, b"SELECT", str(options["db"]).encode())
    info = await _ask(wire, b"INFO", b"server")
    found = [line[7:] for line in info.split(b"\r\n") if line.startswith(b"run_id:")]
    if not found:
        raise EngineError("the server at the Redis URL does not tell its run_id")
    for name in NAMES:
        loaded = script(name)
        if await _ask(wire, b"SCRIPT", b"LOAD", loaded.text) != loaded.sha:
            raise EngineError(f"Redis knows the script {name} by another digest")
    wire.run_id = found[0]


async def _ask(wire: Wire, *parts: bytes) -> bytes:
    reply = await wire.call(*parts)
    if isinstance(reply, hiredis.ReplyError):
        raise EngineError(f"Redis refused {parts[0].decode()}: {reply}")
    if not isinstance(reply, bytes):
        raise ConnectionResetError("Redis closed the connection during the greeting")
    return reply

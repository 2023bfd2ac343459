"""Runs one ASGI application on an inherited or bound socket, and drains it on SIGTERM.

Always: from the signal on `/readyz` says 503, then `drain` sends viewers elsewhere, and only then
the server stops taking and finishing requests. What a settler serves beside its work has nobody
to drain.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator
from socket import socket

import uvicorn
from starlette.applications import Starlette

from live.run.process import stop_on_signals

MESSAGE_BYTES_MAX = 65_536
HTTP_GRACE_SECONDS = 5
BACKLOG = 4096


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: it would close every socket before we could drain."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def serve_beside(
    app: Starlette, listener: socket, stop: asyncio.Event, *, http: Callable[..., asyncio.Protocol]
) -> None:
    """Serve plain HTTP until `stop`, on the loop of something more important."""
    config = uvicorn.Config(
        app,
        http=http,  # type: ignore[arg-type]  # the hint asks for a class; it is only called
        ws="none",
        lifespan="off",
        timeout_graceful_shutdown=HTTP_GRACE_SECONDS,
        proxy_headers=False,
        server_header=False,
        access_log=False,
        log_config=None,
    )
    server = _Server(config)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait((serving, stopping), return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopping.cancel()
        server.should_exit = True
        await serving


async def serve_until_stopped(
    app: Starlette,
    listener: socket,
    *,
    http: Callable[..., asyncio.Protocol],
    ws: type[asyncio.Protocol],
    drain: Callable[[], Awaitable[None]],
) -> None:
    """Serve until SIGTERM or SIGINT; `drain` runs between the signal and the end."""
    config = uvicorn.Config(
        app,
        http=http,  # type: ignore[arg-type]  # the hint asks for a class; it is only called
        ws=ws,
        ws_max_size=MESSAGE_BYTES_MAX,
        ws_ping_interval=None,  # the client protocol has pings of its own
        ws_per_message_deflate=False,  # 6 times the CPU and 35 KB more per connection
        backlog=BACKLOG,
        timeout_graceful_shutdown=HTTP_GRACE_SECONDS,
        limit_concurrency=None,  # it would answer 503 to health checks, not to sockets
        proxy_headers=False,  # connection/addresses.py: uvicorn believes loopback untold
        server_header=False,
        access_log=False,
        log_config=None,
    )
    server = _Server(config)
    with stop_on_signals(patient=True) as stop:
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait((serving, stopping), return_when=asyncio.FIRST_COMPLETED)
        if stop.is_set():
            await drain()
        stopping.cancel()
        server.should_exit = True
        await serving

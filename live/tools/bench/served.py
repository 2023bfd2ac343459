"""The servers that `live bench fanout` and `purchase` compare, each in a process of its own.

`python -m live.tools.bench.served KIND REDIS_URL DATABASE_URL SECRET SHOW HOLDERS`. Kind `ours` is
the whole gateway as `live serve` runs it, `packed` the same with compression, and `naive` what
everybody writes first on the same libraries (naive.py). All obey the same orders, so all are
measured in the same way.
"""

import asyncio
import gc
import socket
import sys
from collections.abc import Awaitable

import uvicorn
import uvloop
from prometheus_client import REGISTRY

from live.base.settings import Settings
from live.base.telemetry import set_up_logs
from live.run.process import follow_parent
from live.run.serving import BACKLOG, serve_until_stopped
from live.tools.bench.link import Figures, Order, obey
from live.tools.bench.naive import build_naive
from live.wiring.gateway import build_gateway

LAG_STEP_SECONDS = 0.005


class LoopWatch:
    """How late the loop is: what everybody else waits while a pass or a storm goes on."""

    def __init__(self) -> None:
        self._lags: list[float] = []

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + LAG_STEP_SECONDS
            await asyncio.sleep(LAG_STEP_SECONDS)
            self._lags.append(loop.time() - due)

    async def look(self, order: Order) -> Figures:
        """What the loop's lag was since the last look, and what passes have written so far."""
        lags, self._lags = sorted(self._lags), []
        writes = REGISTRY.get_sample_value("live_realtime_deliveries_total") or 0.0
        if not lags:
            return {"lag_p99_ms": 0.0, "lag_max_ms": 0.0, "writes": writes}
        p99 = lags[len(lags) * 99 // 100]
        return {"lag_p99_ms": 1000 * p99, "lag_max_ms": 1000 * lags[-1], "writes": writes}


async def settle(order: Order) -> Figures:
    """Let garbage go, so that memory is what is really needed."""
    gc.collect()
    return {}


def ours(
    listener: socket.socket, redis_url: str, database_url: str, secret: str, compression: str
) -> Awaitable[None]:
    gateway = build_gateway(
        Settings.from_env(
            {
                "LIVE_REDIS_URL": redis_url,
                "LIVE_DATABASE_URL": database_url,
                "LIVE_SECRET": secret,
                "LIVE_COMPRESSION": compression,
            }
        )
    )
    return serve_until_stopped(
        gateway.asgi, listener, http=gateway.http, ws=gateway.ws, drain=gateway.drain
    )


def naive(
    listener: socket.socket, redis_url: str, secret: str, show: str, holders: int
) -> Awaitable[None]:
    app = build_naive(redis_url, secret, show, holders)
    config = uvicorn.Config(
        app,
        ws="websockets-sansio",
        ws_ping_interval=None,  # ours has none of these either
        backlog=BACKLOG,
        log_config=None,
        access_log=False,
    )
    return uvicorn.Server(config).serve(sockets=[listener])


async def main(
    kind: str, redis_url: str, database_url: str, secret: str, show: str, holders: str
) -> None:
    set_up_logs(role="bench", quiet=True)
    listener = socket.create_server(("127.0.0.1", 0), backlog=BACKLOG)
    port = float(listener.getsockname()[1])
    if kind == "naive":
        work = naive(listener, redis_url, secret, show, int(holders))
    else:
        compression = "shared" if kind == "packed" else "off"
        work = ours(listener, redis_url, database_url, secret, compression)
    serving = asyncio.ensure_future(work)
    watch = LoopWatch()
    watching = asyncio.create_task(watch.run())

    async def where(order: Order) -> Figures:
        return {"port": port}

    await obey({"where": where, "look": watch.look, "settle": settle})
    for task in (watching, serving):
        task.cancel()
    await asyncio.gather(watching, serving, return_exceptions=True)


if __name__ == "__main__":
    follow_parent()
    uvloop.run(main(*sys.argv[1:]))

"""One settler; started by the supervisor."""

import asyncio
from contextlib import AsyncExitStack
from socket import socket

import uvloop
from starlette.applications import Starlette

from live.api.ops import Probe, ops_routes
from live.api.watch import Watch
from live.base.settings import Settings
from live.base.telemetry import set_up_logs
from live.ledger.db.pool import make_pool
from live.ledger.settle.waiting import OutboxAge
from live.run.commands.loading import wait_loaded
from live.run.commands.places import hosts_of
from live.run.process import stop_on_signals
from live.run.serving import serve_beside
from live.stock.engine import StockEngine
from live.transport.http_guard import guarded
from live.wiring.settler import run_settler as settle
from live.wiring.shared import open_part


def run_settler(settings: Settings, *, fd: int | None) -> None:
    """One settler with the payment worker, the notice sender and the keeper.

    `fd`: the inherited socket on which it serves health, readiness and metrics.
    """
    set_up_logs(role="settler")
    wait_loaded(settings)

    async def run() -> None:
        with stop_on_signals(patient=True) as stop:

            async def tell(stock: StockEngine, waiting: OutboxAge) -> None:
                assert fd is not None
                await _serve_ops(settings, stock, waiting, socket(fileno=fd), stop)

            await settle(settings, stop, beside=tell if fd is not None else None)

    uvloop.run(run())


async def _serve_ops(
    settings: Settings,
    stock: StockEngine,
    waiting: OutboxAge,
    listener: socket,
    stop: asyncio.Event,
) -> None:
    assert settings.redis_url and settings.database_url, "engines come first"

    async def oldest_seconds() -> float:
        return waiting.oldest_seconds  # which its own task looks for

    # A pool of its own: the probe must not wait for a connection behind the settler's work.
    async with AsyncExitStack() as stack:
        pool = await stack.enter_async_context(make_pool(settings.database_url, size=1))
        watch = Watch(settings.redis_url, oldest_seconds)
        await open_part(stack, watch)
        probe = Probe(pool, stock, warnings=watch.warnings)
        routes = ops_routes(probe, metrics_token=settings.metrics_token)
        app = Starlette(routes=routes)
        await serve_beside(app, listener, stop, http=guarded(hosts_of(settings)))

"""One gateway worker; started by the supervisor."""

from socket import socket

import uvloop

from live.base.settings import Settings
from live.base.telemetry import set_up_logs
from live.run.commands.loading import wait_loaded
from live.run.serving import serve_until_stopped
from live.transport.descriptors import raise_limit
from live.wiring.gateway import build_gateway


def run_gateway(settings: Settings, *, fd: int) -> None:
    """One gateway worker on an inherited socket."""
    set_up_logs(role="gateway")
    raise_limit()

    wait_loaded(settings)

    async def run() -> None:
        app = build_gateway(settings)
        await serve_until_stopped(
            app.asgi, socket(fileno=fd), http=app.http, ws=app.ws, drain=app.drain
        )

    uvloop.run(run())

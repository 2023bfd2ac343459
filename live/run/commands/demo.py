"""`live demo`: the simulated sale on a service of its own."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import orjson

from live.base.settings import Guests, Settings
from live.base.telemetry import set_up_logs
from live.commerce.imports import read_google
from live.domain.caller import Role
from live.ledger.audit.run import EVERYTHING
from live.run.commands.engines import engine_faults, engines_of, prepare
from live.run.commands.serve import attend
from live.run.commands.token import authenticator_of
from live.run.process import stop_on_signals
from live.run.supervisor import Supervisor
from live.tools.demo.run import perform
from live.tools.demo.service import DemoOptions
from live.tools.engines.embedded import Engines
from live.wiring.settler import auditor


def demo(
    settings: Settings,
    *,
    viewers: int,
    seconds: int,
    once: bool,
    as_json: bool,
    next_free_port: bool,
) -> int:
    """Run the simulated sale on a service of its own; then serve on, unless `once`."""
    set_up_logs(role="demo", quiet=True)
    # Everything that can be shown without anybody's money.
    settings = replace(settings, guests=Guests.BUY, providers=("sandbox", "invoice"))
    options = DemoOptions(
        read_feed=read_google,
        viewers=viewers,
        seconds=seconds,
        json=as_json,
        serves_on=not once,
    )
    with engines_of(settings) as (engines, ready):
        with engine_faults():
            asyncio.run(prepare(ready, migrates=True))
        return asyncio.run(_demo(engines, ready, options, next_free_port=next_free_port))


async def _demo(
    engines: Engines, settings: Settings, options: DemoOptions, *, next_free_port: bool
) -> int:
    supervisor = Supervisor(
        settings, gateways=settings.workers, settlers=1, sandbox=True, quiet=True
    )
    with stop_on_signals() as stop:
        try:
            await supervisor.start(next_free_port=next_free_port)
            selling = asyncio.create_task(perform(_DemoService(supervisor), options))
            attending = asyncio.create_task(attend(engines, supervisor, stop))
            await asyncio.wait({selling, attending}, return_when=asyncio.FIRST_COMPLETED)
            if not selling.done():
                selling.cancel()
                await asyncio.wait({selling})
                return await attending or 130
            verdict = selling.result()
            if not options.serves_on:
                stop.set()
            return await attending or verdict
        finally:
            await supervisor.stop()


class _DemoService:
    """The running service as the demo sees it; see `live.tools.demo.service.Service`."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor
        self._auth = authenticator_of(supervisor.settings)

    @property
    def base_url(self) -> str:
        return self._supervisor.base_url

    def token(self, role: Role, sub: str, *, shows: Sequence[str], ttl_seconds: int) -> str:
        return self._auth.mint(role=role, sub=sub, shows=shows, ttl=ttl_seconds)

    async def audit(self) -> bytes:
        async with auditor(self._supervisor.settings) as run:
            return orjson.dumps(await run(EVERYTHING))

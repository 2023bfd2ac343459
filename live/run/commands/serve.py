"""`live serve`: processes, engines, and the watch over both."""

import asyncio

import structlog

from live.base.errors import EngineError
from live.base.settings import Settings
from live.base.telemetry import set_up_logs
from live.run.commands.engines import engine_faults, engines_of, prepare
from live.run.doctor import Diagnosis, examine_engines, examine_settings
from live.run.process import stop_on_signals
from live.run.supervisor import Supervisor
from live.tools.engines.embedded import Engines

ENGINE_CHECK_SECONDS = 0.5
ENGINE_TRIES_MAX = 5  # starts of an engine that fail in a row
log = structlog.get_logger()


def serve(settings: Settings, *, role: str) -> int:
    """Run until SIGTERM or Ctrl-C. 1: a part could not be kept alive.

    Roles on embedded engines share them: the first command starts engines and sandbox, another one
    on the same data directory adopts the engines, and its sandbox waits for the first one's books.
    """
    set_up_logs(role="supervisor")
    gateways = settings.workers if role in ("all", "gateway") else 0
    settlers = 1 if role in ("all", "settler") else 0
    configured = settings.redis_url is not None and settings.database_url is not None
    with engines_of(settings) as (engines, ready):
        with engine_faults():
            asyncio.run(prepare(ready, migrates=settings.database_url is None))
        for finding in examine_settings(settings):
            _warn("setting", finding)
        for finding in examine_engines(settings):  # what has no fault that stops it was seen above
            _warn("engine", finding)
        return asyncio.run(
            _serve(engines, ready, gateways=gateways, settlers=settlers, sandbox=not configured)
        )


def _warn(event: str, finding: Diagnosis) -> None:
    if not finding.ok:
        log.warning(event, what=finding.name, found=finding.detail, mend=finding.fix)


async def _serve(
    engines: Engines, settings: Settings, *, gateways: int, settlers: int, sandbox: bool
) -> int:
    supervisor = Supervisor(
        settings, gateways=gateways, settlers=settlers, sandbox=sandbox, ops=True
    )
    with stop_on_signals() as stop:
        try:
            await supervisor.start()
            log.info("serving", url=supervisor.base_url)
            return await attend(engines, supervisor, stop)
        finally:
            await supervisor.stop()


async def attend(engines: Engines, supervisor: Supervisor, stop: asyncio.Event) -> int:
    """Watch over engines and children until the end; the exit code."""
    stopping = asyncio.ensure_future(stop.wait())
    failures = 0
    try:
        while not stop.is_set():
            await asyncio.wait(
                (stopping, supervisor.failed),
                timeout=ENGINE_CHECK_SECONDS,
                return_when=asyncio.FIRST_COMPLETED,
            )
            if supervisor.failed.done():
                log.error("giving_up", reason=supervisor.failed.result())
                return 1
            failures = _mend(engines, failures)
        return 0
    finally:
        stopping.cancel()


def _mend(engines: Engines, failures: int) -> int:
    """Start engines that died; how often in a row that failed. Raises EngineError in the end.

    On the caller's thread: the kernel ties a server to the thread that starts it.
    """
    try:
        for name in engines.mend():
            log.warning("engine_restarted", engine=name)
    except EngineError as error:
        # What ended it may end it again while it recovers; that is no reason to end as well.
        if failures + 1 >= ENGINE_TRIES_MAX:
            raise
        log.warning("engine_not_restarted", error=str(error))
        return failures + 1
    return 0

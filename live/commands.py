"""What each command of the CLI does: engines first, then processes or one call, then the end.

Always: engines that a command started end with it; engines that another command runs are used and
left alone.
"""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from socket import socket
from tempfile import TemporaryDirectory
from typing import TypeVar

import orjson
import structlog
import uvloop
from redis.exceptions import RedisError
from rich.console import Console
from rich.table import Table
from starlette.applications import Starlette

from live.app import build_gateway
from live.back import auditor, prepare_stock, repair_ledger
from live.back import run_settler as settle
from live.bench import BENCHES
from live.demo.run import perform
from live.demo.service import DemoOptions
from live.doctor import Finding, examine, examine_engines
from live.domain.caller import ALL_SHOWS, Role
from live.domain.ids import ShowId
from live.engines.embedded import Engines
from live.engines.postgres_check import check_postgres
from live.engines.redis_check import check_redis
from live.engines.waiting import once_loaded
from live.errors import EngineError, NotFound, SettingsError, reason_of
from live.ledger.audit import EVERYTHING, AuditReport, Extent
from live.ledger.audit_books import made_with
from live.ledger.catalogue import Catalogue
from live.ledger.fitness import check_ledger, grant
from live.ledger.migrate import migrate as apply_migrations
from live.ledger.pool import DATABASE_ERRORS, Pool, make_pool
from live.payments import sandbox_server
from live.payments.sandbox import Sandbox
from live.process import stop_on_signals
from live.realtime.descriptors import raise_limit
from live.realtime.guard import guarded
from live.realtime.hosts import Hosts
from live.serving import serve_beside, serve_until_stopped
from live.settings import Guests, Settings, resolve_secret
from live.shows.feed import import_feed as read_and_import
from live.shows.feed import read_google
from live.stock.engine import StockEngine
from live.supervisor import Supervisor
from live.telemetry import set_up_logs
from live.web.auth import Authenticator
from live.web.ops import Probe, ops_routes

ENGINE_CHECK_S = 0.5
ENGINE_TRIES_MAX = 5  # starts of an engine that fail in a row
T = TypeVar("T")
log = structlog.get_logger()


@contextmanager
def engines_of(settings: Settings) -> Iterator[tuple[Engines, Settings]]:
    """Start or find the engines; yields settings that name them."""
    secret = resolve_secret(settings)  # before URLs are filled in: embedded engines need none set
    engines = Engines.start(settings)
    try:
        yield (
            engines,
            replace(
                settings,
                secret=secret,
                redis_url=engines.redis_url,
                database_url=engines.database_url,
            ),
        )
    finally:
        engines.stop()


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
            asyncio.run(_prepare(ready, migrates=settings.database_url is None))
        for finding in examine_engines(settings):  # what has no fault that stops it was seen above
            if not finding.ok:
                log.warning("engine", what=finding.name, found=finding.detail, mend=finding.fix)
        return asyncio.run(
            _serve(engines, ready, gateways=gateways, settlers=settlers, sandbox=not configured)
        )


async def _prepare(settings: Settings, *, migrates: bool) -> None:
    """Make engines fit for traffic: schema, then stock. Raises EngineError.

    A configured ledger is not ours to change: `live migrate` does that, by an account of its own.
    """
    if migrates:
        await apply_migrations(settings.database_url or "")
    await check_ledger(settings.database_url or "")
    await prepare_stock(settings)


@contextmanager
def engine_faults() -> Iterator[None]:
    """Say in one line, as an EngineError, what an engine failed with."""
    try:
        yield
    except RedisError as error:
        raise EngineError(f"Redis: {reason_of(error)}") from error
    except DATABASE_ERRORS as error:
        raise EngineError(f"Postgres: {reason_of(error)}") from error


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
            if not supervisor.settings.ways_to_pay:
                mend = "set LIVE_PROVIDERS, LIVE_STRIPE_KEY or LIVE_SANDBOX_URL"
                log.warning("nothing_can_be_paid", mend=mend)
            return await _attend(engines, supervisor, stop)
        finally:
            await supervisor.stop()


async def _attend(engines: Engines, supervisor: Supervisor, stop: asyncio.Event) -> int:
    """Watch over engines and children until the end; the exit code."""
    stopping = asyncio.ensure_future(stop.wait())
    failures = 0
    try:
        while not stop.is_set():
            await asyncio.wait(
                (stopping, supervisor.failed),
                timeout=ENGINE_CHECK_S,
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
            asyncio.run(_prepare(ready, migrates=True))
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
            attending = asyncio.create_task(_attend(engines, supervisor, stop))
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
    """The running service as the demo sees it; see `live.demo.service.Service`."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor
        self._auth = _authenticator(supervisor.settings)

    @property
    def base_url(self) -> str:
        return self._supervisor.base_url

    def token(self, role: Role, sub: str, *, shows: Sequence[str], ttl_seconds: int) -> str:
        return self._auth.mint(role=role, sub=sub, shows=shows, ttl=ttl_seconds)

    async def audit(self) -> bytes:
        async with auditor(self._supervisor.settings) as run:
            return orjson.dumps(await run(EVERYTHING))


def migrate(settings: Settings, *, grantee: str) -> list[str]:
    """Apply what is missing; the names of what was applied.

    `grantee`: a role that gets what serving needs, and no more; "": nobody.
    """
    set_up_logs(role="migrate", quiet=True)

    async def work(url: str) -> list[str]:
        applied = await apply_migrations(url)
        if grantee:
            await grant(url, grantee)
        return applied

    with engines_of(settings) as (_, ready), engine_faults():
        return asyncio.run(work(ready.database_url or ""))


def doctor(environ: Mapping[str, str]) -> list[Finding]:
    """Look at everything, also where the environment itself has faults."""
    return examine(*Settings.read(environ))


def token(settings: Settings, *, role: Role, sub: str, shows: Sequence[str], ttl_s: int) -> str:
    """Mint a token; no engine is needed. Raises SettingsError for an impossible name."""
    try:
        auth = _authenticator(replace(settings, secret=resolve_secret(settings)))
        return auth.mint(role=role, sub=sub, shows=shows or [ALL_SHOWS], ttl=ttl_s)
    except ValueError as error:
        raise SettingsError(str(error)) from error


def import_feed(settings: Settings, path: Path, *, kind: str, currency: str) -> int:
    """Bring a product feed into the catalogue; the number of products."""
    set_up_logs(role="import", quiet=True)

    async def work(pool: Pool) -> int:
        return await read_and_import(Catalogue(pool), path, kind, currency=currency)

    return _with_pool(settings, work)


def audit(settings: Settings, *, mend: bool, full: bool, show: str | None) -> AuditReport:
    """Prove the invariants; the sandbox provider is started where nobody runs it.

    `mend`: repair first, and tell on standard error what was done. Without `full` or `show` only
    what changed since the settlers' audit proved it. Raises EngineError where there is no ledger.
    """
    set_up_logs(role="audit", quiet=True)
    extent = Extent(changed=not full and show is None, show=None if show is None else ShowId(show))
    with engines_of(settings) as (_, ready), engine_faults():
        embedded = settings.database_url is None
        return asyncio.run(_audit(ready, extent, embedded=embedded, mend=mend))


def print_audit(report: AuditReport) -> None:
    """Show the report to a person."""
    table = Table(title="audit", title_justify="left")
    table.add_column("offer")
    for name in ("allotted", "left", "held", "sold", "orders", "oversold"):
        table.add_column(name, justify="right")
    for offer in report.offers:
        figures = (offer.allotted, offer.left, offer.held, offer.sold, offer.orders)
        table.add_row(offer.offer, *map(str, figures), str(offer.oversold))
    console = Console()
    console.print(table)
    money = report.payments
    console.print(
        f"payments: {money.captured} captured, {money.refunded} refunded, "
        f"{money.unmatched} without an order"
    )
    for line in report.in_flight:
        console.print(f"in flight: {line}", markup=False)
    for finding in report.mend:
        console.print(f"FINDING {finding.code}: {finding.line}", style="red", markup=False)
        console.print(f"  {finding.who}: {finding.how}", markup=False)
    console.print(
        f"{report.shows.proven} shows proven, {report.shows.unchanged} unchanged since they were"
    )
    console.print("every promise holds" if report.ok else "promises are broken", style="bold")


async def _audit(settings: Settings, extent: Extent, *, embedded: bool, mend: bool) -> AuditReport:
    await check_ledger(settings.database_url or "", used=True)
    sandbox = embedded or await _sold_with_own_sandbox(settings)
    supervisor = Supervisor(settings, gateways=0, settlers=0, sandbox=sandbox, quiet=True)
    try:
        await supervisor.start()
        if mend:
            for line in await repair_ledger(supervisor.settings, extent):
                sys.stderr.write(f"repaired: {line}\n")
        async with auditor(supervisor.settings) as run:
            return await run(extent)
    except NotFound as error:
        raise EngineError(str(error)) from error
    finally:
        await supervisor.stop()


async def _sold_with_own_sandbox(settings: Settings) -> bool:
    """Whether `live demo` sold on a configured ledger: its sandbox' books are in our directory."""
    if not _sandbox_books(settings).exists():
        return False
    async with make_pool(settings.database_url or "") as pool:
        return bool(await made_with(pool, [Sandbox.name]))


def bench(settings: Settings, name: str) -> dict[str, object]:
    """Run a measurement on fresh engines, so that no service is disturbed and none disturbs it.

    Raises EngineError where it cannot be measured.
    """
    set_up_logs(role="bench", quiet=True)
    measure = BENCHES[name]
    with TemporaryDirectory(prefix="live-bench-") as directory:
        own = replace(settings, redis_url=None, database_url=None, data_dir=Path(directory))
        with engines_of(own) as (_, ready):
            assert ready.redis_url and ready.database_url, "engines_of names both"
            return uvloop.run(measure(ready.redis_url, ready.database_url))


def run_gateway(settings: Settings, *, fd: int) -> None:
    """One gateway worker on an inherited socket."""
    set_up_logs(role="gateway")
    raise_limit()

    _wait_loaded(settings)

    async def run() -> None:
        app = build_gateway(settings)
        await serve_until_stopped(
            app.asgi, socket(fileno=fd), http=app.http, ws=app.ws, drain=app.drain
        )

    uvloop.run(run())


def run_settler(settings: Settings, *, fd: int | None) -> None:
    """One settler with the payment worker, the notice sender and the keeper.

    `fd`: the inherited socket on which it serves health, readiness and metrics.
    """
    set_up_logs(role="settler")
    _wait_loaded(settings)

    async def run() -> None:
        with stop_on_signals(patient=True) as stop:

            async def tell(stock: StockEngine) -> None:
                assert fd is not None
                await _serve_ops(settings, stock, socket(fileno=fd), stop)

            await settle(settings, stop, beside=tell if fd is not None else None)

    uvloop.run(run())


def _wait_loaded(settings: Settings) -> None:
    """A process that is started again beside an engine that is, too, waits for its data.

    Else it would end at once, as often as the supervisor lets it. Any other fault is found by use.
    """
    redis_url, database_url = settings.redis_url or "", settings.database_url or ""
    with suppress(EngineError):
        once_loaded(lambda: check_redis(redis_url))
    with suppress(EngineError):
        once_loaded(lambda: check_postgres(database_url))


async def _serve_ops(
    settings: Settings, stock: StockEngine, listener: socket, stop: asyncio.Event
) -> None:
    assert settings.database_url, "engines come first"
    # A pool of its own: the probe must not wait for a connection behind the settler's work.
    async with make_pool(settings.database_url, size=1) as pool:
        routes = ops_routes(Probe(pool, stock), metrics_token=settings.metrics_token)
        app = Starlette(routes=routes)
        await serve_beside(app, listener, stop, http=guarded(_hosts(settings)))


def run_sandbox(settings: Settings, *, uds: str, webhook_url: str) -> None:
    set_up_logs(role="sandbox")
    sandbox_server.main(
        uds=uds,
        data_dir=_sandbox_books(settings),
        key=settings.sandbox_key,
        webhook_url=webhook_url or None,
        http=guarded(_hosts(settings)),
    )


def _sandbox_books(settings: Settings) -> Path:
    """Where a sandbox that we start keeps its books."""
    return settings.data_dir / "sandbox"


def _hosts(settings: Settings) -> Hosts:
    return Hosts(settings.host, settings.allowed_hosts)


def _authenticator(settings: Settings) -> Authenticator:
    return Authenticator(settings.secret or "", guests=settings.guests)


def _with_pool(settings: Settings, work: Callable[[Pool], Awaitable[T]]) -> T:
    async def run(url: str) -> T:
        await check_ledger(url)
        async with make_pool(url) as pool:
            return await work(pool)

    with engines_of(settings) as (_, ready), engine_faults():
        return asyncio.run(run(ready.database_url or ""))

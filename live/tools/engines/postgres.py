"""The embedded Postgres: which program, on which cluster, with which promises, as which user.

Always: every commit is on disk before it is answered; no TCP port; a socket directory that only we
(as root: only `nobody`) may enter. A cluster appears complete, by rename, or not at all.

As root the server runs as `nobody`. Its cluster stays in our data directory even where a directory
above is closed to them: we open the cluster, the server inherits the descriptor and knows it as
/proc/self/fd/N, which needs no right on the directories above. (/proc/self/cwd would do as well
from Postgres 16 on; older ones leave their working directory while they start.)
"""

import asyncio
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import asyncpg

from live.aio.apart import run_apart
from live.base.errors import EngineError, EngineLoading, reason_of
from live.base.settings import Settings
from live.run.checks.postgres import POSTGRES_MIN
from live.run.checks.waiting import once_loaded
from live.run.sockets import User, may_enter
from live.tools.engines import process
from live.tools.engines.copies import reachable
from live.tools.engines.home import Home, read_record, server_user
from live.tools.engines.locate import Binary, choose, postgres_candidates
from live.tools.engines.process import Launch, Server

READY_SECONDS = 60  # until it answers at all; it does so before it has recovered
INITDB_SECONDS = 120
CONNECT_SECONDS = 5
POLL_SECONDS = 0.02
PORT = 5432  # names the socket: .s.PGSQL.5432
NAME = "live"  # of the database and of its owner
DESCRIPTORS = Path("/proc/self/fd")

FIXES = (
    "install the extra `engines` of this package, or Postgres 14 or later on PATH, "
    "or set LIVE_POSTGRES_BIN_DIR, or set LIVE_DATABASE_URL"
)
PROMISES = (
    "listen_addresses=",
    f"port={PORT}",
    "unix_socket_permissions=0700",
    "fsync=on",
    "synchronous_commit=on",
    "full_page_writes=on",
)


def start(home: Home, settings: Settings) -> tuple[Server, str]:
    """Start Postgres on this directory's cluster, made when missing; returns the URL of `live`."""
    user = server_user()
    binary = choose_binary(home.root, settings, user)
    directory = home.part("postgres")
    if not (directory / "data").exists():
        _make_cluster(binary, directory, user)
    sockets = home.sockets(user)
    options = (*PROMISES, f"unix_socket_directories={sockets}")
    with _named(directory / "data", user) as (cluster, inherit):
        server = process.start(
            Launch(
                name="Postgres",
                command=(str(binary.path), "-D", cluster, *(f"--{option}" for option in options)),
                directory=Path("/"),  # it enters its cluster itself
                log=directory / "log",
                lock=directory / "server.lock",
                stop_signal=signal.SIGINT,  # "fast": ends sessions, writes a checkpoint
                force_signal=signal.SIGQUIT,
                user=user,
                inherit=inherit,
            )
        )
    url = _url("postgres", sockets)
    try:
        once_loaded(lambda: run_apart(_first_answer(server, url)), alive=server.must_run)
        run_apart(_make_database(url))
        home.note("postgres", binary)
    except BaseException:  # whatever it was, Ctrl-C included: leave no server behind
        server.stop()
        raise
    return server, _url(NAME, sockets)


def choose_binary(root: Path, settings: Settings, user: User | None) -> Binary:
    """Return the program to run. Raises EngineError that names the fixes."""
    wrote = read_record(root).postgres
    explicit = settings.postgres_bin_dir
    version = root / "postgres" / "data" / "PG_VERSION"
    major = int(version.read_text()) if version.exists() else None
    try:
        return choose(
            explicit=explicit / "postgres" if explicit else None,
            recorded=Path(wrote.binary) if wrote else None,
            candidates=postgres_candidates(),
            prepare=lambda path: reachable(path, user),
            objection=lambda binary: _objection(binary, major),
        )
    except EngineError as error:
        fixes = f"use another LIVE_DATA_DIR, or {FIXES}" if major else FIXES
        raise EngineError(f"no Postgres can be started for {root}: {error}. {fixes}") from error


def _objection(binary: Binary, major: int | None) -> str | None:
    if binary.family != "postgres":
        return "is not Postgres"
    if binary.version < POSTGRES_MIN:
        return "is too old, 14 or later is needed"
    if major is None and not binary.path.with_name("initdb").exists():
        return "has no initdb beside it"
    if major is not None and binary.version[0] != major:
        return f"the data was written by Postgres {major}; another major cannot read it"
    return None


@contextmanager
def _named(cluster: Path, user: User | None) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield a name by which a server of `user` reaches its cluster, and what it must inherit."""
    if user is None:
        yield str(cluster), ()
    elif DESCRIPTORS.exists():  # Linux
        descriptor = os.open(cluster, os.O_RDONLY | os.O_DIRECTORY)
        try:
            yield str(DESCRIPTORS / str(descriptor)), (descriptor,)
        finally:
            os.close(descriptor)
    elif may_enter(cluster, user):
        yield str(cluster), ()
    else:
        raise EngineError(
            f"Postgres runs as `nobody` where this runs as root, and {cluster} is closed to them; "
            f"run this as an ordinary user, or set LIVE_DATABASE_URL"
        )


def _make_cluster(binary: Binary, directory: Path, user: User | None) -> None:
    scratch = directory / "data.new"
    # The lock goes to initdb: if we are killed meanwhile, the next start waits for it to end.
    lock = process.take_lock(directory / "server.lock", name="Postgres")
    try:
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(mode=0o700)
        if user is not None:
            os.chown(scratch, user.uid, user.gid)
        with _named(scratch, user) as (cluster, inherit):
            _run_initdb(binary, cluster, user, (lock, *inherit))
        scratch.rename(directory / "data")
    finally:
        os.close(lock)


def _run_initdb(binary: Binary, cluster: str, user: User | None, inherit: tuple[int, ...]) -> None:
    # The socket's directory is the guard: who may enter it may connect, hence "trust".
    options = ("-U", NAME, "-A", "trust", "--encoding=UTF8", "--locale=C")
    try:
        done = subprocess.run(
            [binary.path.with_name("initdb"), "-D", cluster, *options],
            user=user.uid if user else None,
            group=user.gid if user else None,
            extra_groups=[] if user else None,
            cwd="/",
            env=process.environment(),
            pass_fds=inherit,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=INITDB_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise EngineError(f"initdb took more than {INITDB_SECONDS} s") from error
    if done.returncode != 0:
        raise EngineError(f"initdb failed: {done.stderr.strip()}")


async def _first_answer(server: Server, url: str) -> None:
    """Ask until it answers, if only that it is starting up. Raises EngineError, EngineLoading."""
    deadline = time.monotonic() + READY_SECONDS
    while True:
        server.must_run()
        try:
            connection = await asyncpg.connect(url, timeout=CONNECT_SECONDS)
            await connection.close(timeout=CONNECT_SECONDS)
            return
        except asyncpg.CannotConnectNowError as error:
            raise EngineLoading(f"Postgres: {error}") from error
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError) as error:
            if time.monotonic() > deadline:
                raise EngineError(
                    f"Postgres did not answer in {READY_SECONDS} s: {reason_of(error)}; its log "
                    f"ends with: {process.tail(server.launch.log)}"
                ) from error
        await asyncio.sleep(POLL_SECONDS)


async def _make_database(url: str) -> None:
    """See that the database `live` exists."""
    connection = await asyncpg.connect(url, timeout=CONNECT_SECONDS)
    try:
        if not await connection.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", NAME):
            await connection.execute(f'CREATE DATABASE "{NAME}"')
    finally:
        await connection.close(timeout=CONNECT_SECONDS)


def _url(database: str, sockets: Path) -> str:
    """Names all that clients would else take from their environment or from a default."""
    return f"postgresql://{NAME}@/{database}?host={quote(str(sockets))}&port={PORT}"

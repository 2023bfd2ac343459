"""One child process that is a server: started through the shim, signalled, waited for.

Always: it is a direct child in a session of its own, so Ctrl-C reaches us and not it, and it gets
its shutdown signal when this process dies, however that happens. Must be started from the main
thread: the kernel ties a death signal to the thread that forked.
"""

import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from live.base.errors import EngineError
from live.run.sockets import User

STOP_SECONDS = 10  # a clean shutdown takes well under one second; then it is forced
FORCE_SECONDS = 5
ORPHAN_SECONDS = 15  # how long a server of a killed parent may take to shut down
POLL_SECONDS = 0.02
LOG_BYTES_MAX = 4 * 1024 * 1024  # a log beyond this starts over with the next start
FREE_BYTES_MIN = 1024 * 1024  # no server starts with less: its own first writes are larger
LOG_TAIL_BYTES = 2_000  # what an error quotes

_SHIM = Path(__file__).with_name("shim.py")


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """What to start. `lock` is a file that the server holds locked as long as it lives; `inherit`
    names other descriptors that it keeps open.
    """

    name: str
    command: tuple[str, ...]
    directory: Path
    log: Path
    lock: Path
    stop_signal: signal.Signals
    force_signal: signal.Signals
    user: User | None = None
    inherit: tuple[int, ...] = ()


class Server:
    """A started server. `pipe` is our end of the watcher's pipe where there is no death signal."""

    def __init__(self, launch: Launch, child: "subprocess.Popen[bytes]", pipe: int | None) -> None:
        self.launch = launch
        self.child = child
        self._pipe = pipe

    @property
    def running(self) -> bool:
        return self.child.poll() is None

    def ask_to_stop(self) -> None:
        if self.running:
            self.child.send_signal(self.launch.stop_signal)

    def stop(self) -> None:
        """Shut down cleanly; after STOP_SECONDS by force."""
        self.ask_to_stop()
        try:
            self.child.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.child.send_signal(self.launch.force_signal)
            self.child.wait(FORCE_SECONDS)
        if self._pipe is not None:
            os.close(self._pipe)
            self._pipe = None

    def must_run(self) -> None:
        """Raise EngineError, with the end of its log, if the server has ended."""
        if not self.running:
            directory = self.launch.directory
            why = f"the disk of {directory} is full: " if is_full(directory) else ""
            raise EngineError(
                f"{why}{self.launch.name} ended with status {self.child.returncode} while it was "
                f"started; its log {self.launch.log} ends with: {tail(self.launch.log)}"
            )


def start(launch: Launch, *, watch: bool = sys.platform != "linux") -> Server:
    """Start a server; returns before it answers. Raises EngineError if an old one will not go."""
    if threading.current_thread() is not threading.main_thread():
        raise EngineError("engines are started from the main thread only")
    lock = take_lock(launch.lock, name=launch.name)
    reader, writer = os.pipe() if watch else (None, None)
    command = [sys.executable, "-I", "-S", str(_SHIM), f"--parent={os.getpid()}"]
    command += [f"--signal={int(launch.stop_signal)}", f"--directory={launch.directory}"]
    command += [f"--lock={lock}"]
    if launch.user is not None:
        command += [f"--user={launch.user.uid}", f"--group={launch.user.gid}"]
    if reader is not None:
        command.append(f"--watch={reader}")
    try:
        with _open_log(launch.log) as log:
            child = subprocess.Popen(
                [*command, "--", *launch.command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment(),
                pass_fds=[fd for fd in (lock, reader, *launch.inherit) if fd is not None],
                start_new_session=True,
            )
    finally:
        os.close(lock)  # the server holds it now
        if reader is not None:
            os.close(reader)
    return Server(launch, child, writer)


def take_lock(path: Path, *, name: str) -> int:
    """Open and lock a server's lock file, once its former holder has shut down."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    deadline = time.monotonic() + ORPHAN_SECONDS
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(descriptor, 0)  # its former holder has gone
            return descriptor
        except BlockingIOError:
            if time.monotonic() < deadline:
                time.sleep(POLL_SECONDS)
                continue
        holder = os.pread(descriptor, 20, 0).decode(errors="replace") or "(unknown)"
        os.close(descriptor)
        raise EngineError(
            f"a {name} of an earlier run still uses {path.parent} and has not shut down within "
            f"{ORPHAN_SECONDS} s; end it with: kill {holder}"
        )


def environment() -> dict[str, str]:
    """What servers see of our environment: nothing, so that no PG* variable changes them."""
    return {"PATH": os.defpath, "LC_ALL": "C"}


def forget_libpq() -> None:
    """Drop what libpq and asyncpg would read of another Postgres: PGPORT, PGSERVICE and their like.

    For this process and its children: none of it is said of the Postgres that we start.
    """
    for name in [name for name in os.environ if name.startswith("PG")]:
        del os.environ[name]


def is_full(directory: Path) -> bool:
    """Whether a server has no space to write there."""
    space = os.statvfs(directory)
    return space.f_bavail * space.f_frsize < FREE_BYTES_MIN


def tail(log: Path) -> str:
    """Return the end of a log, for an error's text."""
    try:
        return log.read_bytes()[-LOG_TAIL_BYTES:].decode(errors="replace").strip() or "(empty)"
    except OSError as error:
        return f"(unreadable: {error})"


def _open_log(path: Path) -> BinaryIO:
    long = path.exists() and path.stat().st_size > LOG_BYTES_MAX
    return path.open("wb" if long else "ab")

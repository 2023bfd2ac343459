"""A copy of the wheel's Postgres outside a closed directory, for the user that root runs it as.

Always: a copy is complete (it appears by rename), belongs to us, can be written by nobody else, and
is used again by every later start. The original's directories keep their permissions.
"""

import fcntl
import hashlib
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from live.run.sockets import User
from live.tools.engines.locate import Binary, Unusable, probe, wheel_folders

FOLDER = "live-engines"


def reachable(postgres: Path, user: User | None) -> Binary:
    """Return a Postgres that `user` can run: this one, or a copy. Raises Unusable."""
    try:
        return probe(postgres, user=user)
    except Unusable as error:
        folders = wheel_folders(postgres)
        if user is None or not folders:
            raise
        faults = [str(error)]
    original = probe(postgres)
    for place in _places():
        try:
            copy = _copy(postgres, folders, place, user)
            return Binary(copy, postgres, original.family, original.version)
        except (OSError, Unusable) as error:
            faults.append(f"{place}: {error}")
    raise Unusable("; ".join(faults))


def _places() -> Iterator[Path]:
    """Directories that outlive a boot come first: the copy need not be made again."""
    for parent in ("/var/lib", "/var/tmp", tempfile.gettempdir()):
        if Path(parent).is_dir():
            yield Path(parent) / FOLDER


def _copy(postgres: Path, folders: list[Path], place: Path, user: User) -> Path:
    """Return the program's path within a complete copy below `place`, which `user` can run."""
    place.mkdir(mode=0o755, exist_ok=True)
    found = place.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o022:
        raise Unusable("is not a directory that only we may write")
    place.chmod(0o755)  # ours by the check above; a strict umask must not close it
    top = folders[0].parent.parent
    target = place / _fingerprint(postgres)
    program = target / postgres.relative_to(top)
    with (place / "lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # one command copies, others wait for it (0.5 s)
        if not _runs(program, user):
            shutil.rmtree(target, ignore_errors=True)
            scratch = target.with_suffix(".part")
            shutil.rmtree(scratch, ignore_errors=True)
            for folder in folders:
                # Follows links: some installers link files out of a cache that is closed, too.
                shutil.copytree(folder, scratch / folder.relative_to(top))
            _open_for_reading(scratch)
            scratch.rename(target)
            probe(program, user=user)
    return program


def _runs(program: Path, user: User) -> bool:
    try:
        probe(program, user=user)
    except Unusable:
        return False
    return True


def _fingerprint(postgres: Path) -> str:
    """Name a copy by what it is a copy of, so that another build never meets an old copy."""
    with postgres.open("rb") as file:
        return f"postgres-{hashlib.file_digest(file, 'sha256').hexdigest()[:16]}"


def _open_for_reading(directory: Path) -> None:
    """Let others read and run our copy, whatever mode the original was installed with."""
    for folder, _, files in os.walk(directory):
        os.chmod(folder, 0o755)
        for name in files:
            path = Path(folder, name)
            path.chmod(0o755 if path.stat().st_mode & 0o100 else 0o644)

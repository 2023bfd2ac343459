"""What `live doctor` finds out: is this machine fit, and if not, what would mend it.

Starts nothing, changes nothing, makes no directory. Called outside any event loop.
"""

import os
import resource
import sys
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from live.engines import postgres, valkey
from live.engines.check import POLICY, PostgresFacts, RedisFacts, check_postgres, check_redis
from live.engines.home import fits_socket, server_user, socket_places
from live.errors import EngineError
from live.redis_url import is_cluster
from live.settings import SECRET_BYTES_MIN, Settings

PYTHON_MIN = (3, 11)
# A viewer is a descriptor in a gateway; 10,000 of them and as many again for the audience of
# `live demo` and `live bench` on the same machine, with room for logs, Redis and Postgres.
FILES_WANTED = 10_240


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at. `fix` is "" where there is nothing to do."""

    name: str
    ok: bool
    detail: str
    fix: str = ""


def examine(settings: Settings) -> list[Finding]:
    """Look at everything, whatever is found first; the order is the order of start-up."""
    findings = [_python(), _files(), _data_dir(settings), _secret(settings)]
    if settings.redis_url is not None:
        findings += _configured_redis(settings.redis_url, settings)
    else:
        findings.append(_embedded_valkey(settings))
    if settings.database_url is not None:
        findings.append(_configured_postgres(settings.database_url))
    else:
        findings.append(_embedded_postgres(settings))
    if settings.redis_url is None or settings.database_url is None:
        findings.append(_sockets(settings))
    return findings


def _python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    ok = sys.version_info[:2] >= PYTHON_MIN
    return Finding("python", ok, version, "" if ok else "install Python 3.11 or later")


def _files() -> Finding:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    ok = soft == resource.RLIM_INFINITY or soft >= FILES_WANTED
    fix = f"raise it before the start: ulimit -n {FILES_WANTED}"
    if hard != resource.RLIM_INFINITY and hard < FILES_WANTED:
        fix += " (as root: the hard limit is lower)"
    return Finding("open files", ok, f"{soft} (hard limit {hard})", "" if ok else fix)


def _data_dir(settings: Settings) -> Finding:
    path = settings.data_dir
    if not path.exists():
        above = next(parent for parent in path.absolute().parents if parent.exists())
        ok = os.access(above, os.W_OK | os.X_OK)
        fix = f"make {above} writable, or set LIVE_DATA_DIR"
        return Finding("data directory", ok, f"{path} (not made yet)", "" if ok else fix)
    found = path.stat()
    if found.st_uid != os.geteuid():
        detail = f"{path} belongs to user id {found.st_uid}, this runs as {os.geteuid()}"
        return Finding("data directory", False, detail, "run as that user, or set LIVE_DATA_DIR")
    if found.st_mode & 0o022:
        detail = f"{path} can be written by others (mode {found.st_mode & 0o777:o})"
        return Finding("data directory", False, detail, f"chmod go-w {path}")
    return Finding("data directory", True, f"{path} (mode {found.st_mode & 0o777:o})")


def _secret(settings: Settings) -> Finding:
    if settings.secret is not None:  # its length was checked when the settings were read
        return Finding("secret", True, "set by LIVE_SECRET")
    if settings.database_url is not None:
        return Finding("secret", False, "not set", "set LIVE_SECRET, as a database is configured")
    return _secret_file(settings.data_dir / "secret")


def _secret_file(path: Path) -> Finding:
    try:
        found = path.stat()
    except FileNotFoundError:
        return Finding("secret", True, f"{path} will be made at the first start")
    except OSError as error:
        return Finding("secret", False, f"{path}: {error.strerror}", "run as the owner of it")
    if found.st_mode & 0o077:
        return Finding("secret", False, f"{path} can be read by others", f"chmod 600 {path}")
    if found.st_size < SECRET_BYTES_MIN:
        fix = f"remove {path}: the next start makes a new one (old tokens end)"
        return Finding("secret", False, f"{path} is too short", fix)
    return Finding("secret", True, str(path))


def _configured_redis(url: str, settings: Settings) -> list[Finding]:
    try:
        servers = check_redis(url)
    except EngineError as error:
        return [Finding("redis", False, str(error), "start it, or mend LIVE_REDIS_URL")]
    if not is_cluster(url):
        return [_answers("", servers[0]), _durability("", servers[0], settings)]
    findings = [Finding("redis", True, f"a cluster of {len(servers)} nodes, all slots covered")]
    for facts in servers:
        node = f" {urlsplit(facts.url).netloc.rpartition('@')[2]}"
        findings += [_answers(node, facts), _durability(node, facts, settings)]
    return findings


def _answers(node: str, facts: RedisFacts) -> Finding:
    return Finding(f"redis{node}", True, f"{facts.family} {facts.version}, {POLICY}")


def _durability(node: str, facts: RedisFacts, settings: Settings) -> Finding:
    name = f"redis durability{node}"
    wanted = settings.appendfsync.value
    if facts.appendfsync == "":
        detail = "the server does not tell; ask its operator what an answered hold survives"
        return Finding(name, True, detail)
    if facts.appendfsync == "off":
        fix = f"set appendonly yes and appendfsync {wanted}"
        return Finding(name, False, "append-only is off", fix)
    ok = facts.appendfsync in ("always", wanted)
    fix = "" if ok else f"set appendfsync {wanted}, or LIVE_APPENDFSYNC={facts.appendfsync}"
    return Finding(name, ok, f"appendfsync {facts.appendfsync}", fix)


def _configured_postgres(url: str) -> Finding:
    try:
        facts: PostgresFacts = check_postgres(url)
    except EngineError as error:
        return Finding("postgres", False, str(error), "start it, or mend LIVE_DATABASE_URL")
    return Finding("postgres", True, facts.version)


def _embedded_valkey(settings: Settings) -> Finding:
    try:
        binary = valkey.choose_binary(settings.data_dir, settings)
    except EngineError as error:
        return Finding("valkey", False, str(error), valkey.FIXES)
    return Finding("valkey", True, str(binary))


def _embedded_postgres(settings: Settings) -> Finding:
    try:
        server_user()  # as root there must be somebody for it to run as
        # As ourselves, not as that user: for him a copy might have to be made.
        binary = postgres.choose_binary(settings.data_dir, settings, None)
    except EngineError as error:
        return Finding("postgres", False, str(error), postgres.FIXES)
    return Finding("postgres", True, str(binary))


def _sockets(settings: Settings) -> Finding:
    places = socket_places(settings.data_dir, uid=os.geteuid(), runtime_dir=settings.runtime_dir)
    short = [place for place in places if fits_socket(place) and place.parent.is_dir()]
    if not short:
        detail = f"too long or missing: {', '.join(map(str, places))}"
        return Finding("sockets", False, detail, "set TMPDIR to a short path")
    return Finding("sockets", True, str(short[0]))

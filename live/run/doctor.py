"""What `live doctor` finds out: is this machine fit, and if not, what would mend it.

Starts nothing, changes nothing, makes no directory. Called outside any event loop.
Always: it asks engines and ledger by the checks that `live serve` itself begins with, so that what
it calls good is started on, and a FIX is what would keep the service from starting; a WARN is what
`serve` says, too, and goes on.
"""

import asyncio
import os
import resource
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from urllib.parse import urlsplit

from live.base.errors import EngineError, reason_of
from live.base.redis_url import is_cluster
from live.base.settings import REDIS_SCHEMES, SECRET_BYTES_MIN, Settings
from live.ledger.db.fitness import check_ledger, more_than_needed
from live.ledger.db.pool import DATABASE_ERRORS, make_pool
from live.ledger.settle.waiting import OutboxAge, unsettled_shows
from live.redis.memory import SHORT
from live.run.checks.postgres import PostgresFacts, check_postgres
from live.run.checks.redis import POLICY, RedisFacts, check_redis
from live.run.checks.shop import check_checkout, check_provider
from live.run.sockets import fits_socket, socket_places
from live.stock.outbox import Outbox
from live.tools.engines import postgres, valkey
from live.tools.engines.home import server_user
from live.tools.engines.locate import Binary, carried_since
from live.transport import descriptors

PYTHON_MIN = (3, 11)
SKEW_MS_MAX = 500  # between Redis and Postgres: so much too early or too late does an offer open
OWN_SKEW_MS_MAX = 5_000  # of this machine: it stamps events and checks tokens
WAITS_SECONDS = 10.0  # far above a settlement and the restart of a settler
SHOWS_ASKED_MAX = 2_000  # three small calls each
SPARE_TOLD_MAX = 4  # tables, in one line
AGE_DAYS_MAX = 180  # of an embedded engine: its project mends security faults each quarter

_ASKED = ("redis", "postgres", "ledger")  # without these nobody can be asked what waits


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """One thing looked at. `fix` is "" where there is nothing to do.

    `stops`: not ok, and the service does not start, or sells nothing.
    """

    name: str
    ok: bool
    detail: str
    fix: str = ""
    stops: bool = True


def examine(settings: Settings, faults: tuple[str, ...] = ()) -> list[Diagnosis]:
    """Look at everything, whatever is found first; the order is the order of start-up.

    `faults` of the environment were found when the settings were read.
    """
    findings = [Diagnosis("settings", False, one, "mend that variable") for one in faults]
    findings += [_python(), _files(), _data_dir(settings), _secret(settings)]
    findings += examine_settings(settings)
    findings += examine_shop(settings)
    if settings.redis_url is None:
        findings += _embedded_valkey(settings)
    if settings.database_url is None:
        findings += _embedded_postgres(settings)
    findings += examine_engines(settings)
    if settings.redis_url is None or settings.database_url is None:
        findings.append(_sockets(settings))
    elif all(one.ok or not one.stops for one in findings if one.name in _ASKED):
        findings.append(_settlement(settings.redis_url, settings.database_url))
    return findings


def examine_engines(settings: Settings) -> list[Diagnosis]:
    """Of those engines that have a URL: what they are, and what of it is worth a word."""
    findings: list[Diagnosis] = []
    servers: list[RedisFacts] = []
    database: PostgresFacts | None = None
    if settings.redis_url is not None:
        found, servers = _redis(settings.redis_url, settings)
        findings += found
    if settings.database_url is not None:
        found, database = _postgres(settings.database_url, settings)
        findings += found
    if servers or database:
        findings.append(_clocks(servers, database))
    return findings


def _python() -> Diagnosis:
    version = ".".join(map(str, sys.version_info[:3]))
    ok = sys.version_info[:2] >= PYTHON_MIN
    return Diagnosis("python", ok, version, "" if ok else "install Python 3.11 or later")


def _files() -> Diagnosis:
    """By the rule of the gateways, which raise the soft limit themselves."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = descriptors.reachable(soft, hard)
    ok = not descriptors.few(limit)
    fix = f"raise the hard limit to {descriptors.WANTED}, else fewer connections are let in: "
    fix += f"LimitNOFILE={descriptors.WANTED}, or as root ulimit -n {descriptors.WANTED}"
    detail = "unlimited" if limit == descriptors.UNLIMITED else f"up to {limit} for each process"
    return Diagnosis("open files", ok, detail, "" if ok else fix, stops=False)


def examine_settings(settings: Settings) -> list[Diagnosis]:
    """What of the settings is worth a word, and stops nothing."""
    findings = [_payments(settings), _quotes(settings)]
    if settings.webhook_development:
        findings.append(
            Diagnosis(
                "webhooks",
                False,
                "LIVE_WEBHOOK_DEVELOPMENT is on: they may go to this machine, and by http",
                "leave it off where others may make endpoints",
                stops=False,
            )
        )
    for name, nearest in settings.unknown:
        fix = f"did you mean {nearest}? " if nearest else ""
        fix += "nothing here reads this variable"
        findings.append(Diagnosis("settings", False, f"{name} is unknown", fix, stops=False))
    return findings


def _payments(settings: Settings) -> Diagnosis:
    ways = settings.ways_to_pay
    if not ways and (settings.redis_url is None or settings.database_url is None):
        ways = ("sandbox",)  # which `live serve` starts beside embedded engines
    needed = "LIVE_PROVIDERS, LIVE_STRIPE_KEY, LIVE_CHECKOUT_URL, LIVE_PROVIDER_URL"
    fix = "" if ways else f"set one of {needed}, LIVE_SANDBOX_URL"
    detail = ", ".join(ways) or "none: nothing can be paid"
    return Diagnosis("ways to pay", bool(ways), detail, fix, stops=False)


def examine_shop(settings: Settings) -> list[Diagnosis]:
    """The shop's own checkout and payment service, where there are any: whether they answer."""
    findings = []
    if settings.checkout_url is not None:
        findings.append(_checkout(settings.checkout_url))
    if settings.provider_url is not None and settings.provider_secrets:
        findings.append(_provider(settings.provider_url, settings.provider_secrets))
    return findings


def _checkout(url: str) -> Diagnosis:
    try:
        return Diagnosis("own checkout", True, check_checkout(url))
    except EngineError as error:
        return _failed("own checkout", error, stops=False)


def _provider(url: str, secrets: tuple[str, ...]) -> Diagnosis:
    try:
        asyncio.run(check_provider(url, secrets))
    except EngineError as error:
        return _failed("own payments", error, stops=False)
    return Diagnosis("own payments", True, url)


def _quotes(settings: Settings) -> Diagnosis:
    """Whether the pair is whole is a fault of the environment, which is told before."""
    url = settings.quote_url
    detail = "the prices: tax included, shipping free" if url is None else f"asked at {url}"
    return Diagnosis("shipping and tax", True, detail, stops=False)


def _data_dir(settings: Settings) -> Diagnosis:
    path = settings.data_dir
    if not path.exists():
        above = next(parent for parent in path.absolute().parents if parent.exists())
        ok = os.access(above, os.W_OK | os.X_OK)
        fix = f"make {above} writable, or set LIVE_DATA_DIR"
        return Diagnosis("data directory", ok, f"{path} (not made yet)", "" if ok else fix)
    found = path.stat()
    if found.st_uid != os.geteuid():
        detail = f"{path} belongs to user id {found.st_uid}, this runs as {os.geteuid()}"
        return Diagnosis("data directory", False, detail, "run as that user, or set LIVE_DATA_DIR")
    if found.st_mode & 0o022:
        detail = f"{path} can be written by others (mode {found.st_mode & 0o777:o})"
        return Diagnosis("data directory", False, detail, f"chmod go-w {path}")
    return Diagnosis("data directory", True, f"{path} (mode {found.st_mode & 0o777:o})")


def _secret(settings: Settings) -> Diagnosis:
    if settings.secret is not None:
        short = len(settings.secret.encode()) < SECRET_BYTES_MIN
        detail = f"LIVE_SECRET is shorter than {SECRET_BYTES_MIN} bytes"
        fix = "set it to the output of: openssl rand -base64 36"
        return (
            Diagnosis("secret", False, detail, fix) if short else Diagnosis("secret", True, "set")
        )
    if settings.database_url is not None:
        return Diagnosis("secret", False, "not set", "set LIVE_SECRET, as a database is configured")
    return _secret_file(settings.data_dir / "secret")


def _secret_file(path: Path) -> Diagnosis:
    try:
        found = path.stat()
    except FileNotFoundError:
        return Diagnosis("secret", True, f"{path} will be made at the first start")
    except OSError as error:
        return Diagnosis("secret", False, f"{path}: {error.strerror}", "run as the owner of it")
    if found.st_mode & 0o077:
        return Diagnosis("secret", False, f"{path} can be read by others", f"chmod 600 {path}")
    if found.st_size < SECRET_BYTES_MIN:
        fix = f"remove {path}: the next start makes a new one (old tokens end)"
        return Diagnosis("secret", False, f"{path} is too short", fix)
    return Diagnosis("secret", True, str(path))


def _failed(name: str, error: EngineError, *, stops: bool = True) -> Diagnosis:
    return Diagnosis(name, False, error.fault, error.fix or "see what it says", stops=stops)


def _redis(url: str, settings: Settings) -> tuple[list[Diagnosis], list[RedisFacts]]:
    if urlsplit(url).scheme not in REDIS_SCHEMES:
        return [], []  # a fault of the settings, and told as one
    try:
        servers = check_redis(url)
    except EngineError as error:
        return [_failed("redis", error)], []
    if not is_cluster(url):
        return _about("", servers[0], settings), servers
    findings = [Diagnosis("redis", True, f"a cluster of {len(servers)} nodes, all slots covered")]
    for facts in servers:
        node = f" {urlsplit(facts.url).netloc.rpartition('@')[2]}"
        findings += _about(node, facts, settings)
    return findings, servers


def _about(node: str, facts: RedisFacts, settings: Settings) -> list[Diagnosis]:
    return [_answers(node, facts), _durability(node, facts, settings), _memory(node, facts)]


def _answers(node: str, facts: RedisFacts) -> Diagnosis:
    return Diagnosis(f"redis{node}", True, f"{facts.family} {facts.version}, {POLICY}")


def _durability(node: str, facts: RedisFacts, settings: Settings) -> Diagnosis:
    name = f"redis durability{node}"
    wanted = settings.appendfsync.value
    if facts.appendfsync == "":
        detail = "the server does not tell; ask its operator what an answered hold survives"
        return Diagnosis(name, True, detail)
    if facts.appendfsync == "off":
        fix = f"set appendonly yes and appendfsync {wanted}"
        detail = "append-only is off: what was answered is lost with the process"
        return Diagnosis(name, False, detail, fix, stops=False)
    ok = facts.appendfsync in ("always", wanted)
    fix = "" if ok else f"set appendfsync {wanted}, or LIVE_APPENDFSYNC={facts.appendfsync}"
    return Diagnosis(name, ok, f"appendfsync {facts.appendfsync}", fix, stops=False)


def _memory(node: str, facts: RedisFacts) -> Diagnosis:
    """Full: the service would start, and nobody could buy; that is no better than a fault."""
    used, limit, ratio = facts.memory.used, facts.memory.limit, facts.memory.ratio
    detail = f"{_mb(used)} MB used, " + (f"{ratio:.0%} of {_mb(limit)} MB" if limit else "no limit")
    if ratio >= 1:
        detail = f"full, nothing new is held: {detail}"
    fix = "" if ratio <= SHORT else "raise maxmemory, or give the server more of it"
    return Diagnosis(f"redis memory{node}", not fix, detail, fix, stops=ratio >= 1)


def _mb(size: int) -> str:
    return f"{size / 1e6:,.1f}"


def _settlement(redis_url: str, database_url: str) -> Diagnosis:
    try:
        oldest_seconds = asyncio.run(_oldest_seconds(redis_url, database_url))
    except (EngineError, *DATABASE_ERRORS) as error:
        return Diagnosis("settlement", False, f"cannot be asked: {reason_of(error)}", stops=False)
    if oldest_seconds <= WAITS_SECONDS:
        return Diagnosis("settlement", True, "nothing waits for the ledger")
    detail = f"orders have waited {oldest_seconds:,.0f} s for the ledger"
    fix = "start a settler (live serve --role settler), or see in its log why it does not settle"
    return Diagnosis("settlement", False, detail, fix, stops=False)


async def _oldest_seconds(redis_url: str, database_url: str) -> float:
    outbox = Outbox(redis_url)
    try:
        await outbox.open()
        async with make_pool(database_url, size=1) as pool:
            shows = unsettled_shows(pool)
            return await OutboxAge(outbox, shows, shows_a_look=SHOWS_ASKED_MAX).look()
    finally:
        await outbox.close()


def _postgres(url: str, settings: Settings) -> tuple[list[Diagnosis], PostgresFacts | None]:
    try:
        facts = check_postgres(url)
    except EngineError as error:
        return [_failed("postgres", error)], None
    findings = [Diagnosis("postgres", True, facts.version), _connections(facts, settings)]
    try:
        asyncio.run(check_ledger(url))
    except EngineError as error:
        findings.append(_failed("ledger", error))
    else:
        findings.append(Diagnosis("ledger", True, "all migrations, and the rights that it takes"))
        findings += _spare_rights(url)
    return findings, facts


def _spare_rights(url: str) -> list[Diagnosis]:
    """Of a lesser account: what it could do to the ledger that the service never does."""
    role, spare = asyncio.run(more_than_needed(url))
    if not spare:
        return []
    detail = f"{role} may also {', '.join(spare[:SPARE_TOLD_MAX])}"
    if len(spare) > SPARE_TOLD_MAX:
        detail += f" and {len(spare) - SPARE_TOLD_MAX} more"
    fix = f"run `live migrate --grant {role}` as the role that owns the tables; what stays comes by"
    fix += " another role or PUBLIC"
    return [Diagnosis("postgres rights", False, detail, fix, stops=False)]


def connections_wanted(settings: Settings) -> int:
    """What one machine with gateways, a settler and an audit beside them may take at once."""
    return settings.database_pool * (settings.workers + 2) + 1


def _connections(facts: PostgresFacts, settings: Settings) -> Diagnosis:
    wanted = connections_wanted(settings)
    detail = f"{facts.connections} for this role; this machine may take {wanted}"
    fix = "raise max_connections or the role's limit, or lower LIVE_DATABASE_POOL or LIVE_WORKERS"
    ok = facts.connections >= wanted
    return Diagnosis("postgres connections", ok, detail, "" if ok else fix, stops=False)


def _clocks(servers: list[RedisFacts], database: PostgresFacts | None) -> Diagnosis:
    """Of all engines against each other, as seen from here."""
    ahead = {
        f"Redis {urlsplit(one.url).netloc.rpartition('@')[2]}": one.ahead_ms for one in servers
    }
    if database is not None:
        ahead["Postgres"] = database.ahead_ms
    apart = max(ahead.values()) - min(ahead.values())
    off = max(map(abs, ahead.values()))
    detail = ", ".join(f"{name.strip()} {ms:+} ms" for name, ms in ahead.items())
    ok = apart <= SKEW_MS_MAX and off <= OWN_SKEW_MS_MAX
    fix = "let one time service (NTP) keep all machines: offers open and close by these clocks"
    return Diagnosis("clocks", ok, f"{detail} against here", "" if ok else fix, stops=False)


def _embedded_valkey(settings: Settings) -> list[Diagnosis]:
    return _embedded(
        "valkey", lambda: valkey.choose_binary(settings.data_dir, settings), valkey.FIXES
    )


def _embedded_postgres(settings: Settings) -> list[Diagnosis]:
    def choose() -> Binary:
        server_user()  # as root there must be somebody for it to run as
        # As ourselves, not as that user: for them a copy might have to be made.
        return postgres.choose_binary(settings.data_dir, settings, None)

    return _embedded("postgres", choose, postgres.FIXES)


def _embedded(name: str, choose: Callable[[], Binary], fixes: str) -> list[Diagnosis]:
    try:
        binary = choose()
    except EngineError as error:
        return [Diagnosis(name, False, str(error), fixes)]
    findings = [Diagnosis(name, True, str(binary))]
    since = carried_since(binary)
    if since is not None:
        findings.append(age(name, binary, since, today=datetime.now(UTC).date()))
    return findings


def age(name: str, binary: Binary, since: date, *, today: date) -> Diagnosis:
    detail = f"{binary.numbers} was packed on {since}"
    ok = (today - since).days <= AGE_DAYS_MAX
    fix = "take a newer package, or an engine of your own that is kept up to date"
    return Diagnosis(f"{name} age", ok, detail, "" if ok else fix, stops=False)


def _sockets(settings: Settings) -> Diagnosis:
    places = socket_places(settings.data_dir, uid=os.geteuid(), runtime_dir=settings.runtime_dir)
    short = [place for place in places if fits_socket(place) and place.parent.is_dir()]
    if not short:
        detail = f"too long or missing: {', '.join(map(str, places))}"
        return Diagnosis("sockets", False, detail, "set TMPDIR to a short path")
    return Diagnosis("sockets", True, str(short[0]))

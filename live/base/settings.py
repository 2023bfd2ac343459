"""Settings: the only reader of what a user sets in the environment.

Always: a `Settings` value is consistent; every fault of an environment is reported at once, with
the key and the value that is wrong (never the value of a secret).
"""

import os
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from enum import StrEnum
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

from live.base.errors import SettingsError
from live.base.redis_url import seeds_of
from live.base.shop_urls import checkout_faults, is_signing_secret, service_faults

PREFIX = "LIVE_"
SECRET_BYTES_MIN = 32  # RFC 7518 section 3.2: HS256 needs a key as long as its hash
SECRETS_MAX = 2  # the one that signs, and the one before it
PORT_MAX = 65_535
WORKERS_MAX = 64
CONNECTIONS_MAX = 1_000_000
DATABASE_POOL = 8  # connections to Postgres a process, at most
DATABASE_POOL_MIN = 4  # a settler keeps some for its watches; fewer would make it wait for itself
STRIPE_API_BASE = "https://api.stripe.com"
PROVIDERS = ("stripe", "external", "http", "sandbox", "invoice")  # that LIVE_PROVIDERS may name
SIGNING_SECRETS_MAX = 2  # the one that signs, and the one before it or after it

WITHDRAWAL_DAYS = 14  # Directive 2011/83/EU, article 9 (1); a shop may give more, never less

Network = IPv4Network | IPv6Network


class Guests(StrEnum):
    """What a viewer without a token of the shop may do."""

    OFF = "off"
    WATCH = "watch"
    BUY = "buy"


class Fsync(StrEnum):
    """Valkey's `appendfsync`: what an answered hold survives (docs/concepts/purchase.md)."""

    ALWAYS = "always"
    EVERYSEC = "everysec"


class Switch(StrEnum):
    OFF = "off"
    ON = "on"


class Compression(StrEnum):
    """Of what gateways send to clients that offer permessage-deflate."""

    OFF = "off"
    SHARED = "shared"  # once for all who get the same (live/protocol/deflate.py)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    redis_url: str | None  # None: start the embedded Valkey
    database_url: str | None  # None: start the embedded Postgres
    database_pool: int = DATABASE_POOL
    secret: str | None = field(repr=False)  # None: `$data_dir/secret`, see `resolve_secret`
    digest_key: str | None = field(default=None, repr=False)  # None: the last of the secrets
    jwks_url: str | None = None
    issuer: str | None = None  # `iss` of the key set's tokens; None: not looked at
    data_dir: Path = Path(".live")
    host: str = "127.0.0.1"
    port: int = 8000
    ops_port: int = 8001  # of settlers that run alone: health, readiness, metrics
    workers: int = 1
    allowed_origins: tuple[str, ...] = ()  # empty: the page's own origin only
    allowed_hosts: tuple[str, ...] = ()  # empty: transport/hosts.py says which then
    trusted_proxies: tuple[Network, ...] = ()  # empty: no forwarded header is believed
    connections_per_address: int = 2_000  # to one worker; connection/admission.py says why so many
    metrics_token: str | None = field(default=None, repr=False)  # None: /metrics wants none
    guests: Guests = Guests.WATCH
    login_url: str = ""  # where the viewer page's "Sign in to buy" leads; "": it leads nowhere
    compression: Compression = Compression.OFF
    appendfsync: Fsync = Fsync.ALWAYS
    valkey_binary: Path | None = None
    postgres_bin_dir: Path | None = None
    runtime_dir: Path | None = None  # the user's XDG_RUNTIME_DIR: sockets of embedded engines
    sandbox_url: str | None = None  # None: the supervisor starts one beside embedded engines
    sandbox_key: str = field(default="", repr=False)  # signs its webhooks, authorises our calls
    stripe_key: str | None = field(default=None, repr=False)  # None: no provider `stripe`
    stripe_webhook_secrets: tuple[str, ...] = field(default=(), repr=False)
    stripe_api_base: str = STRIPE_API_BASE
    checkout_url: str | None = None  # None: no provider `external`; {hold} and {show} in it
    provider_url: str | None = None  # None: no provider `http`
    provider_secrets: tuple[str, ...] = field(default=(), repr=False)  # each `whsec_` and base64
    withdrawal_days: int = WITHDRAWAL_DAYS  # after delivery, in which a buyer may withdraw
    quote_url: str | None = None  # None: no quote hook; prices are what buyers pay
    quote_secrets: tuple[str, ...] = field(default=(), repr=False)  # each `whsec_` and base64
    providers: tuple[str, ...] = ()  # ways to pay, as named; empty: see `ways_to_pay`
    webhook_development: bool = False  # webhooks may go to this machine, and by http
    unknown: tuple[tuple[str, str], ...] = ()  # LIVE_* that nobody reads, the nearest that one does

    @property
    def ways_to_pay(self) -> tuple[str, ...]:
        """Providers that buyers may choose, in the order in which they are offered.

        Without a word from the shop: what is configured, and the sandbox only where nothing else
        is, because its cards cost nobody anything. Never invoices, which nobody need ever pay.
        """
        if self.providers:
            return self.providers
        real = {
            "stripe": self.stripe_key,
            "external": self.checkout_url,
            "http": self.provider_url,
        }
        configured = tuple(name for name, given in real.items() if given is not None)
        return configured or (("sandbox",) if self.sandbox_url is not None else ())

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Self:
        """Read every LIVE_* variable. Raises SettingsError that lists all faults at once."""
        settings, faults = cls.read(environ)
        if faults:
            raise SettingsError("; ".join(faults))
        return settings

    @classmethod
    def read(cls, environ: Mapping[str, str]) -> tuple[Self, tuple[str, ...]]:
        """The same, for who looks at the rest, too: with the faults, and defaults for some."""
        reader = _Reader(environ)
        values = reader.read() | {"unknown": unknown_variables(environ)}
        return cls(**values), tuple(reader.faults)  # type: ignore[arg-type]  # the reader checks


# Read by others than `_Reader`: the processes among themselves, tests, load tests, compose.
ELSEWHERE = frozenset(
    {
        *("LIVE_FAILPOINT", "LIVE_PARENT_PID", "LIVE_QUIET", "LIVE_AUTOBAHN"),
        *("LIVE_LOADTEST_ALLOW_HOST", "LIVE_LOADTEST_PROVIDER", "LIVE_SHOW"),
        *("LIVE_DATABASE_PASSWORD", "LIVE_ACL", "LIVE_RUN", "LIVE_PORTS"),
    }
)


def unknown_variables(environ: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """Each LIVE_* variable that nothing reads, with the nearest name that is read, or "".

    No fault: others may use the prefix, too.
    """
    known = sorted(known_variables())
    unknown = sorted(name for name in environ if name.startswith(PREFIX) and name not in known)
    return tuple((name, "".join(get_close_matches(name, known, n=1))) for name in unknown)


def known_variables() -> frozenset[str]:
    """Every LIVE_* variable that something reads."""
    asked = _Asked()
    _Reader(asked).read()
    return ELSEWHERE | {name for name in asked.names if name.startswith(PREFIX)}


class _Asked(dict[str, str]):
    """An empty environment that notes what it is asked for, so that there is no list to keep."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def get(self, key: str, default: Any = None) -> Any:
        self.names.add(key)
        return default


class _Reader:
    """Collects faults while it reads, so the user mends them in one go."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.environ = environ
        self.faults: list[str] = []

    def read(self) -> dict[str, object]:
        values: dict[str, object] = {
            "redis_url": self.redis_url(),
            "database_url": self.url("LIVE_DATABASE_URL", "DATABASE_URL", schemes=_PG_SCHEMES),
            "database_pool": self.number(
                "LIVE_DATABASE_POOL", DATABASE_POOL, low=DATABASE_POOL_MIN, high=100
            ),
            "secret": self.secret(),
            "digest_key": self.digest_key(),
            "jwks_url": self.jwks_url(),
            "issuer": self.issuer(),
            "data_dir": Path(self.text("LIVE_DATA_DIR", ".live")).absolute(),
            "host": self.text("LIVE_HOST", "127.0.0.1"),
            "port": self.number("LIVE_PORT", 8000, low=0, high=PORT_MAX),
            "ops_port": self.number("LIVE_OPS_PORT", 8001, low=0, high=PORT_MAX),
            "workers": self.number("LIVE_WORKERS", 1, low=1, high=WORKERS_MAX),
            "allowed_origins": self.origins(),
            "allowed_hosts": self.hosts("LIVE_ALLOWED_HOSTS"),
            "trusted_proxies": self.networks("LIVE_TRUSTED_PROXIES"),
            "connections_per_address": self.number(
                "LIVE_CONNECTIONS_PER_ADDRESS", 2_000, low=1, high=CONNECTIONS_MAX
            ),
            "metrics_token": self.environ.get("LIVE_METRICS_TOKEN", "").strip() or None,
            "guests": self.choice("LIVE_GUESTS", Guests, Guests.WATCH),
            "login_url": self.login_url(),
            "compression": self.choice("LIVE_COMPRESSION", Compression, Compression.OFF),
            "appendfsync": self.choice("LIVE_APPENDFSYNC", Fsync, Fsync.ALWAYS),
            "valkey_binary": self.path("LIVE_VALKEY_BINARY"),
            "postgres_bin_dir": self.path("LIVE_POSTGRES_BIN_DIR"),
            "runtime_dir": self.path("XDG_RUNTIME_DIR"),
            "sandbox_url": self.url("LIVE_SANDBOX_URL", schemes=("http", "https", "unix")),
            "sandbox_key": self.text("LIVE_SANDBOX_KEY", ""),
            "stripe_key": self.environ.get("LIVE_STRIPE_KEY", "").strip() or None,
            "stripe_webhook_secrets": self.stripe_secrets(),
            "stripe_api_base": self.url("LIVE_STRIPE_API_BASE", schemes=("https", "http"))
            or STRIPE_API_BASE,
            "checkout_url": self.checkout_url(),
            "provider_url": self.provider_url(),
            "provider_secrets": self.signing_secrets(
                "LIVE_PROVIDER_SECRET", of="LIVE_PROVIDER_URL"
            ),
            "withdrawal_days": self.number(
                "LIVE_WITHDRAWAL_DAYS", WITHDRAWAL_DAYS, low=WITHDRAWAL_DAYS, high=365
            ),
            "quote_url": self.quote_url(),
            "quote_secrets": self.signing_secrets("LIVE_QUOTE_SECRET", of="LIVE_QUOTE_URL"),
            "providers": self.providers(),
            "webhook_development": self.choice("LIVE_WEBHOOK_DEVELOPMENT", Switch, Switch.OFF)
            is Switch.ON,
        }
        return values

    def text(self, key: str, default: str) -> str:
        return self.environ.get(key, "").strip() or default

    def path(self, key: str) -> Path | None:
        value = self.environ.get(key, "").strip()
        return Path(value) if value else None

    def url(self, *keys: str, schemes: tuple[str, ...]) -> str | None:
        for key in keys:
            value = self.environ.get(key, "").strip()
            if value:
                if urlsplit(value).scheme not in schemes:
                    self.faults.append(f"{key} must start with {' or '.join(schemes)}://")
                return value
        return None

    def login_url(self) -> str:
        value = self.text("LIVE_LOGIN_URL", "")
        if value and not re.fullmatch(r"(https?://[^\s/]|/(?!/))[^\s\\]*", value):
            self.faults.append("LIVE_LOGIN_URL must start with https://, http:// or a single /")
        return value

    def redis_url(self) -> str | None:
        value = self.url("LIVE_REDIS_URL", "REDIS_URL", schemes=REDIS_SCHEMES)
        try:
            seeds_of(value or "")
        except ValueError as error:  # its text names no password
            self.faults.append(f"LIVE_REDIS_URL: {error}")
        return value

    def number(self, key: str, default: int, *, low: int, high: int) -> int:
        value = self.environ.get(key, "").strip()
        if not value:
            return default
        if not value.isdecimal() or not low <= int(value) <= high:
            self.faults.append(f"{key}={value!r} must be a whole number from {low} to {high}")
            return default
        return int(value)

    def choice(self, key: str, kind: type[StrEnum], default: StrEnum) -> StrEnum:
        value = self.environ.get(key, "").strip()
        if not value:
            return default
        if value not in list(kind):
            self.faults.append(f"{key}={value!r} must be one of {', '.join(kind)}")
            return default
        return kind(value)

    def secret(self) -> str | None:
        """Two while one replaces the other, separated by a comma: the first signs, both verify."""
        value = self.environ.get("LIVE_SECRET", "")
        secrets = split_secrets(value)
        if len(secrets) > SECRETS_MAX:
            self.faults.append(f"LIVE_SECRET has more than {SECRETS_MAX} values")
        elif value and any(len(one.encode()) < SECRET_BYTES_MIN for one in secrets):
            self.faults.append(f"LIVE_SECRET is shorter than {SECRET_BYTES_MIN} bytes")
        return value or None

    def digest_key(self) -> str | None:
        value = self.environ.get("LIVE_DIGEST_KEY", "")
        if value and len(value.encode()) < SECRET_BYTES_MIN:
            self.faults.append(f"LIVE_DIGEST_KEY is shorter than {SECRET_BYTES_MIN} bytes")
        return value or None

    def jwks_url(self) -> str | None:
        """Whoever can change the keys on their way can sign as anybody."""
        return self.safe_url("LIVE_JWKS_URL")

    def safe_url(self, key: str) -> str | None:
        """What nobody on the way may read or change: https, but on loopback."""
        value = self.url(key, schemes=("https", "http"))
        parts = urlsplit(value or "")
        if parts.scheme == "http" and not _is_loopback(parts.hostname or ""):
            self.faults.append(f"{key} must start with https://, except on this machine")
        return value

    def checkout_url(self) -> str | None:
        value = self.safe_url("LIVE_CHECKOUT_URL")
        self.faults += [f"LIVE_CHECKOUT_URL {one}" for one in checkout_faults(value or "")]
        return value

    def provider_url(self) -> str | None:
        value = self.safe_url("LIVE_PROVIDER_URL")
        self.faults += [f"LIVE_PROVIDER_URL {one}" for one in service_faults(value or "")]
        return value

    def quote_url(self) -> str | None:
        value = self.safe_url("LIVE_QUOTE_URL")
        self.faults += [f"LIVE_QUOTE_URL {one}" for one in service_faults(value or "")]
        return value

    def signing_secrets(self, key: str, *, of: str) -> tuple[str, ...]:
        """Two while one replaces the other, separated by a comma: all sign, all verify."""
        secrets = tuple(self.parts(key))
        if bool(secrets) != self.given(of):
            self.faults.append(f"{of} and {key} need each other")
        if len(secrets) > SIGNING_SECRETS_MAX:
            self.faults.append(f"{key} has more than {SIGNING_SECRETS_MAX} values")
        if not all(is_signing_secret(one) for one in secrets):
            self.faults.append(f"{key} must be whsec_ and the base64 of 24 to 64 bytes")
        return secrets

    def issuer(self) -> str | None:
        value = self.environ.get("LIVE_ISSUER", "").strip()
        if value and not self.environ.get("LIVE_JWKS_URL", "").strip():
            self.faults.append("LIVE_ISSUER needs LIVE_JWKS_URL: it is who signs with those keys")
        return value or None

    def stripe_secrets(self) -> tuple[str, ...]:
        """Several while they are exchanged, separated by commas."""
        secrets = tuple(self.parts("LIVE_STRIPE_WEBHOOK_SECRET"))
        if bool(secrets) != bool(self.environ.get("LIVE_STRIPE_KEY", "").strip()):
            self.faults.append("LIVE_STRIPE_KEY and LIVE_STRIPE_WEBHOOK_SECRET need each other")
        return secrets

    def providers(self) -> tuple[str, ...]:
        """Each name once. A way to pay that cannot work here must be found at the start."""
        names = tuple(dict.fromkeys(self.parts("LIVE_PROVIDERS")))
        if not names and self.environ.get("LIVE_PROVIDERS", "").strip():
            self.faults.append("LIVE_PROVIDERS names no provider")
        self.faults += [
            f"LIVE_PROVIDERS: {name!r} is none of {', '.join(PROVIDERS)}"
            for name in names
            if name not in PROVIDERS
        ]
        if "stripe" in names and not self.given("LIVE_STRIPE_KEY"):
            self.faults.append("LIVE_PROVIDERS names stripe: LIVE_STRIPE_KEY must be set")
        if "external" in names and not self.given("LIVE_CHECKOUT_URL"):
            self.faults.append("LIVE_PROVIDERS names external: LIVE_CHECKOUT_URL must be set")
        if "http" in names and not self.given("LIVE_PROVIDER_URL"):
            self.faults.append("LIVE_PROVIDERS names http: LIVE_PROVIDER_URL must be set")
        if self.given("LIVE_SANDBOX_URL") and not self.given("LIVE_SANDBOX_KEY"):
            self.faults.append("LIVE_SANDBOX_URL needs LIVE_SANDBOX_KEY, which signs its events")
        own = self.given("LIVE_REDIS_URL", "REDIS_URL") and self.given(
            "LIVE_DATABASE_URL", "DATABASE_URL"
        )
        if "sandbox" in names and own and not self.given("LIVE_SANDBOX_URL"):
            self.faults.append(
                "LIVE_PROVIDERS names sandbox: with engines of your own LIVE_SANDBOX_URL and "
                "LIVE_SANDBOX_KEY must say where one runs"
            )
        if names == ("invoice",) and self.environ.get("LIVE_GUESTS", "").strip() == Guests.BUY:
            self.faults.append(
                "LIVE_PROVIDERS=invoice with LIVE_GUESTS=buy lets anybody, without a name, order "
                "everything and pay nothing: name another way to pay, too, or let guests watch"
            )
        return names

    def given(self, *keys: str) -> bool:
        return any(self.environ.get(key, "").strip() for key in keys)

    def hosts(self, key: str) -> tuple[str, ...]:
        names = tuple(self.parts(key))
        self.faults += [
            f"{key}: {name!r} is no name such as live.example, without scheme and port"
            for name in names
            if not _HOST_NAME.fullmatch(name)
        ]
        return names

    def networks(self, key: str) -> tuple[Network, ...]:
        found: list[Network] = []
        for part in self.parts(key):
            try:
                found.append(ip_network(part))
            except ValueError as fault:
                self.faults.append(f"{key}: {fault}")
        return tuple(found)

    def parts(self, key: str) -> list[str]:
        """What stands between commas."""
        return [part.strip() for part in self.environ.get(key, "").split(",") if part.strip()]

    def origins(self) -> tuple[str, ...]:
        """As browsers write them: apps in web views have schemes of their own."""
        found = []
        for part in self.parts("LIVE_ALLOWED_ORIGINS"):
            origin = part.rstrip("/").lower()
            if not _ORIGIN.fullmatch(origin):
                self.faults.append(
                    f"LIVE_ALLOWED_ORIGINS: {part!r} is no origin such as https://shop.example"
                    " or capacitor://localhost"
                )
            scheme = origin.partition(":")[0]
            found.append(origin.removesuffix(_OWN_PORTS.get(scheme, "/")))
        return tuple(found)


_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://(\[[0-9a-f:.]+\]|[^\s/?#@:*\[\]]+)(:[0-9]{1,5})?")
_OWN_PORTS = {"http": ":80", "https": ":443"}  # browsers leave them out
_HOST_NAME = re.compile(r"[A-Za-z0-9._-]{1,253}|\[?[0-9A-Fa-f:.]{2,45}\]?")
REDIS_SCHEMES = ("redis", "rediss", "unix", "redis+cluster", "rediss+cluster")
_PG_SCHEMES = ("postgresql", "postgres")


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def split_secrets(secret: str) -> tuple[str, ...]:
    """The keys of tokens: the first one signs, all verify."""
    return tuple(part.strip() for part in secret.split(",")) if "," in secret else (secret,)


def digest_key_of(settings: Settings, secret: str) -> str:
    """The key of the digests by which Redis and the ledger know buyers.

    By default the last secret: one that is put before it renames nobody.
    """
    return settings.digest_key or split_secrets(secret)[-1]


def resolve_secret(settings: Settings) -> str:
    """Return the key of tokens, or both with a comma between them while they are exchanged.

    Makes `$data_dir/secret` (0600) once where none is set.

    Raises SettingsError where a database is configured but no secret is: two gateways with secrets
    of their own would refuse each other's tokens.
    """
    if settings.secret is not None:
        return settings.secret
    if settings.database_url is not None:
        raise SettingsError(
            "LIVE_SECRET must be set where LIVE_DATABASE_URL is: it also keys the digests by which "
            "Redis and the ledger know buyers, so LIVE_JWKS_URL does not replace it"
        )
    path = settings.data_dir / "secret"
    settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    scratch = settings.data_dir / f"secret.{os.getpid()}"
    if not path.exists():
        scratch.touch(mode=0o600)
        scratch.write_text(secrets.token_urlsafe(48))
        try:
            os.link(scratch, path)  # the first writer wins; link never overwrites
        except FileExistsError:
            pass  # another command made it in the meantime, and that one counts
        finally:
            scratch.unlink()
    return path.read_text().strip()

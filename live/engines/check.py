"""Whether a Redis or Postgres answers, and whether it is one that this service may rely on.

Used for configured URLs, for adopted engines and by `live doctor`. An error never shows a password.
"""

from dataclasses import dataclass
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import redis

from live.engines.apart import run_apart
from live.engines.locate import POSTGRES_MIN, REDIS_MIN
from live.errors import EngineError

ANSWER_SECONDS = 5  # a server that takes longer to say hello cannot serve a flash sale
POLICY = "noeviction"


@dataclass(frozen=True, slots=True)
class RedisFacts:
    """`appendfsync` is "" where the server does not let us read it, "off" without append-only."""

    family: str
    version: str
    policy: str
    appendfsync: str


@dataclass(frozen=True, slots=True)
class PostgresFacts:
    version: str


def check_redis(url: str) -> RedisFacts:
    """Raises EngineError unless it answers, is recent enough and never evicts stock."""
    try:
        facts = read_redis(url)
    except (redis.RedisError, OSError) as error:
        raise EngineError(f"Redis at {shown(url)} does not answer: {error}") from error
    if _numbers(facts.version) < REDIS_MIN:
        raise EngineError(f"Redis at {shown(url)} is {facts.version}; 7.0 or later is needed")
    if facts.policy != POLICY:
        raise EngineError(
            f"Redis at {shown(url)} may evict stock (maxmemory-policy {facts.policy}); "
            f"set it to {POLICY}"
        )
    return facts


def read_redis(url: str) -> RedisFacts:
    """Ask a server what it is. Raises redis.RedisError or OSError."""
    with redis.Redis.from_url(
        url, socket_timeout=ANSWER_SECONDS, socket_connect_timeout=ANSWER_SECONDS
    ) as client:
        server = client.info("server")
        memory = client.info("memory")
        persistence = client.info("persistence")
        fsync = "off"
        if persistence.get("aof_enabled"):
            try:
                fsync = str(client.config_get("appendfsync").get("appendfsync", ""))
            except redis.ResponseError:  # managed servers forbid CONFIG
                fsync = ""
    family = str(server.get("server_name", "redis"))
    version = str(server.get(f"{family}_version") or server["redis_version"])
    return RedisFacts(family, version, str(memory["maxmemory_policy"]), fsync)


def check_postgres(url: str) -> PostgresFacts:
    """Raises EngineError unless it answers and is recent enough."""
    try:
        version = run_apart(_postgres_version(url))
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError) as error:
        text = str(error) or type(error).__name__
        raise EngineError(f"Postgres at {shown(url)} does not answer: {text}") from error
    if _numbers(version) < POSTGRES_MIN:
        raise EngineError(f"Postgres at {shown(url)} is {version}; 14 or later is needed")
    return PostgresFacts(version)


def shown(url: str) -> str:
    """Return a URL as it may be printed: without its password."""
    parts = urlsplit(url)
    if parts.password is None:
        return url
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{parts.username or ''}:***@{host}"))


async def _postgres_version(url: str) -> str:
    connection = await asyncpg.connect(url, timeout=ANSWER_SECONDS)
    try:
        found = connection.get_server_version()
        return f"{found.major}.{found.minor}"
    finally:
        await connection.close(timeout=ANSWER_SECONDS)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdecimal())

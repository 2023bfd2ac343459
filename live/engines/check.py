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
from live.redis_url import SLOTS, NodeUrl, is_cluster, read_slots, seeds_of

ANSWER_SECONDS = 5  # a server that takes longer to say hello cannot serve a flash sale
POLICY = "noeviction"


@dataclass(frozen=True, slots=True)
class RedisFacts:
    """`appendfsync` is "" where the server does not let us read it, "off" without append-only."""

    url: str
    family: str
    version: str
    policy: str
    appendfsync: str
    clustered: bool


@dataclass(frozen=True, slots=True)
class PostgresFacts:
    version: str


def check_redis(url: str) -> list[RedisFacts]:
    """What each server behind the URL is: one, or all nodes of a cluster, replicas too.

    Raises EngineError unless every one answers, is recent enough, never evicts stock and is of the
    kind that the URL says, and a cluster has all its slots.
    """
    return [_check_server(node, clustered=is_cluster(url)) for node in _servers(url)]


def read_redis(url: str) -> RedisFacts:
    """Ask a server what it is. Raises redis.RedisError or OSError."""
    with _client(url) as client:
        server = client.info("server")
        memory = client.info("memory")
        persistence = client.info("persistence")
        clustered = bool(client.info("cluster").get("cluster_enabled"))
        fsync = "off"
        if persistence.get("aof_enabled"):
            try:
                fsync = str(client.config_get("appendfsync").get("appendfsync", ""))
            except redis.ResponseError:  # managed servers forbid CONFIG
                fsync = ""
    family = str(server.get("server_name", "redis"))
    version = str(server.get(f"{family}_version") or server["redis_version"])
    return RedisFacts(url, family, version, str(memory["maxmemory_policy"]), fsync, clustered)


def _check_server(url: str, *, clustered: bool) -> RedisFacts:
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
    if facts.clustered and not clustered:
        scheme = "rediss+cluster" if url.startswith("rediss:") else "redis+cluster"
        raise EngineError(
            f"Redis at {shown(url)} is a node of a cluster: LIVE_REDIS_URL must start with "
            f"{scheme}:// and name one of its nodes or more"
        )
    return facts


def _servers(url: str) -> list[NodeUrl]:
    """All servers behind a URL, a cluster's primaries and replicas. Raises EngineError."""
    if not is_cluster(url):
        return [NodeUrl(url)]
    faults: list[str] = []
    for seed in seeds_of(url):
        try:
            return _cluster_nodes(seed)
        except (redis.RedisError, OSError) as error:
            faults.append(f"{shown(seed)}: {error}")
    raise EngineError(f"no node of the Redis cluster answers: {'; '.join(faults)}")


def _cluster_nodes(seed: NodeUrl) -> list[NodeUrl]:
    with _client(seed) as client:
        if not client.info("cluster").get("cluster_enabled"):
            raise EngineError(
                f"Redis at {shown(seed)} is no cluster: LIVE_REDIS_URL must start with "
                f"redis:// or rediss://"
            )
        told = client.execute_command("CLUSTER", "INFO")
        reply = client.execute_command("CLUSTER", "SLOTS")
    ranges = list(read_slots(reply, seed))
    covered = sum(last + 1 - first for first, last, _ in ranges)
    if b"cluster_state:ok" not in told or covered < SLOTS:
        raise EngineError(
            f"the Redis cluster at {shown(seed)} is not ready, {covered} of {SLOTS} slots have a "
            f"node: look at its CLUSTER INFO and CLUSTER NODES"
        )
    return list(dict.fromkeys(node for _, _, nodes in ranges for node in nodes))


def _client(url: str) -> redis.Redis:
    return redis.Redis.from_url(
        url, socket_timeout=ANSWER_SECONDS, socket_connect_timeout=ANSWER_SECONDS
    )


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

"""Whether a Redis answers, and whether it is one that this service may rely on.

Used for configured URLs, for adopted engines and by `live doctor`. An error never shows a password.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import time
from typing import Any, cast

import redis

from live.base.errors import EngineError, EngineLoading, reason_of
from live.base.redis_url import HASH_SLOTS, NodeUrl, is_cluster, read_hash_slots, seeds_of
from live.redis.memory import MemoryUse
from live.run.checks.redis_rights import check_rights
from live.run.checks.urls import numbers, shown

REDIS_MIN = (7, 0)
ANSWER_SECONDS = 5  # a server that takes longer to say hello cannot serve a flash sale
POLICY = "noeviction"


class Unreachable(EngineError):
    """Nobody answers there; of a cluster another node may."""


@dataclass(frozen=True, slots=True)
class RedisFacts:
    """`appendfsync` is "" where the server does not let us read it, "off" without append-only.

    `ahead_ms`: its clock against this machine's; known to half a round trip.
    """

    url: str
    family: str
    version: str
    policy: str
    appendfsync: str
    clustered: bool
    replica: bool
    ahead_ms: int
    memory: MemoryUse


def check_redis(url: str) -> list[RedisFacts]:
    """What each server behind the URL is: one, or all nodes of a cluster, replicas too.

    Raises EngineError unless every one answers, is recent enough, never evicts stock, lets us do
    what we must and is of the kind that the URL says, and a cluster has all its slots;
    EngineLoading while one reads its data back.
    """
    return [_check_server(node, clustered=is_cluster(url)) for node in _servers(url)]


def _read(client: redis.Redis, url: str) -> RedisFacts:
    """Ask a server what it is. Raises redis.RedisError, OSError or EngineLoading."""
    info = cast(dict[str, object], client.info())
    if info.get("loading"):
        told = f"{info.get('loading_loaded_perc', '?')} %"
        raise EngineLoading(f"Redis at {shown(url)} is reading its data back", progress=told)
    asked_at = time()
    seconds, micros = client.time()
    ours = (asked_at + time()) / 2
    family = str(info.get("server_name", "redis"))
    return RedisFacts(
        url=url,
        family=family,
        version=str(info.get(f"{family}_version") or info["redis_version"]),
        policy=str(info["maxmemory_policy"]),
        appendfsync=_fsync_of(client) if info.get("aof_enabled") else "off",
        clustered=bool(info.get("cluster_enabled")),
        replica=info.get("role") == "slave",
        ahead_ms=round((seconds + micros / 1e6 - ours) * 1000),
        memory=MemoryUse.of(info),
    )


def _fsync_of(client: redis.Redis) -> str:
    try:
        return str(client.config_get("appendfsync").get("appendfsync", ""))
    except redis.ResponseError:  # managed servers forbid CONFIG
        return ""


def _check_server(url: str, *, clustered: bool) -> RedisFacts:
    where = shown(url)
    with _asking(where, url) as client:
        facts = _read(client, url)
        if numbers(facts.version) < REDIS_MIN:
            raise EngineError(f"Redis at {where} is {facts.version}; 7.0 or later is needed")
        if facts.policy != POLICY:
            raise EngineError(
                f"Redis at {where} may evict stock (maxmemory-policy {facts.policy})",
                fix=f"set maxmemory-policy to {POLICY} there",
            )
        if facts.clustered and not clustered:
            scheme = "rediss+cluster" if url.startswith("rediss:") else "redis+cluster"
            raise EngineError(
                f"Redis at {where} is a node of a cluster: LIVE_REDIS_URL must start with "
                f"{scheme}:// and name one of its nodes or more"
            )
        if facts.replica and not clustered:
            text = f"Redis at {where} is a replica and cannot be written to"
            raise EngineError(text, fix="let LIVE_REDIS_URL name the primary")
        if not facts.replica:  # a replica's rights count once it is asked as a primary
            check_rights(client, where, clustered=clustered)
    return facts


@contextmanager
def _asking(where: str, url: str) -> Iterator[redis.Redis]:
    """A client of one server; what goes wrong with it is said as an EngineError."""
    try:
        with redis.Redis.from_url(
            url, socket_timeout=ANSWER_SECONDS, socket_connect_timeout=ANSWER_SECONDS
        ) as client:
            yield client
    except redis.BusyLoadingError as error:
        raise EngineLoading(f"Redis at {where} is reading its data back") from error
    except redis.exceptions.NoPermissionError as error:
        text = f"Redis at {where} does not let us ask what it is: {error}"
        raise EngineError(text, fix="give the account of the URL +info +time") from error
    except (redis.RedisError, OSError) as error:
        text = f"Redis at {where} does not answer: {reason_of(error)}"
        raise Unreachable(text, fix="start it, or mend LIVE_REDIS_URL") from error
    except (TypeError, ValueError) as error:  # redis-py, of an option of the URL
        raise EngineError(f"LIVE_REDIS_URL cannot be used: {error}") from error


def _servers(url: str) -> list[NodeUrl]:
    """All servers behind a URL, a cluster's primaries and replicas. Raises EngineError."""
    if not is_cluster(url):
        return [NodeUrl(url)]
    faults: list[str] = []
    for seed in seeds_of(url):
        try:
            return _cluster_nodes(seed)
        except Unreachable as error:
            faults.append(error.fault)
    raise EngineError(
        f"no node of the Redis cluster answers: {'; '.join(faults)}",
        fix="start it, or mend LIVE_REDIS_URL",
    )


def _cluster_nodes(seed: NodeUrl) -> list[NodeUrl]:
    where = shown(seed)
    with _asking(where, seed) as client:
        clustered = client.info("cluster").get("cluster_enabled")
        # redis-py leaves this method untyped.
        ask: Callable[[str, str], Any] = client.execute_command
        told = ask("CLUSTER", "INFO") if clustered else b""
        reply = ask("CLUSTER", "SLOTS") if clustered else []
    if not clustered:
        raise EngineError(
            f"Redis at {where} is no cluster: LIVE_REDIS_URL must start with redis:// or rediss://"
        )
    ranges = list(read_hash_slots(reply, seed))
    covered = sum(last + 1 - first for first, last, _ in ranges)
    if b"cluster_state:ok" not in told or covered < HASH_SLOTS:
        raise EngineError(
            f"the Redis cluster at {where} is not ready, {covered} of {HASH_SLOTS} slots have a "
            f"node: look at its CLUSTER INFO and CLUSTER NODES"
        )
    return list(dict.fromkeys(node for _, _, nodes in ranges for node in nodes))

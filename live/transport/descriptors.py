"""File descriptors: as many as the system allows, bounds that fit, and a word before they run out.

Every connection is one. Without any left the loop takes connections only to drop them, the health
checks' too, and says nothing; so the counts of connections stay below what there is, and what is
open is measured.
"""

import os
import resource
from dataclasses import replace

import structlog

from live.aio.loops import repeat
from live.base.seldom import Seldom
from live.connection.admission import DEFAULT, AdmissionLimits
from live.fanout import metrics

WANTED = 65_536  # all connections of a process with space to spare
UNLIMITED = 2**31
RESERVED = 128  # engines, providers, logs, files that are being served
HTTP_SHARE = 4  # a quarter of the rest is for plain HTTP
ADDRESS_SHARE = 2  # one address has half of either kind at most
LOOK_SECONDS = 5.0
SCARCE = 0.9  # of the limit

log = structlog.get_logger()
_scarce = Seldom("descriptors_scarce")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def raise_limit() -> int:
    """Raise this process' soft limit as far as `reachable`; the limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = reachable(soft, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return _limit()


def reachable(soft: int, hard: int) -> int:
    """The limit that a process with these can give itself: `WANTED`, or up to the hard one."""
    if soft == resource.RLIM_INFINITY:
        return UNLIMITED
    wanted = WANTED if hard == resource.RLIM_INFINITY else min(hard, WANTED)
    return max(soft, wanted)


def few(limit: int, limits: AdmissionLimits = DEFAULT) -> bool:
    """Whether so many descriptors lower the bounds of connections; `live doctor` asks it, too."""
    fitted = _fitted(limits, limit)
    bounds = (fitted.connections_max, fitted.http_max)
    return bounds != (limits.connections_max, limits.http_max)


def fit(limits: AdmissionLimits) -> AdmissionLimits:
    """Lower these bounds to what this process' descriptors allow."""
    fitted = _fitted(limits, _limit())
    if few(_limit(), limits):
        log.warning(
            "descriptors_few",
            limit=_limit(),
            connections_max=fitted.connections_max,
            http_max=fitted.http_max,
            per_address_max=fitted.per_address_max,
        )
    return fitted


def _fitted(limits: AdmissionLimits, limit: int) -> AdmissionLimits:
    space = max(8, limit - RESERVED)
    http_max = min(limits.http_max, space // HTTP_SHARE)
    return replace(
        limits,
        connections_max=min(limits.connections_max, space - space // HTTP_SHARE),
        http_max=http_max,
        per_address_max=min(limits.per_address_max, http_max // ADDRESS_SHARE),
    )


async def watch() -> None:
    """Measure for ever what this process has open."""

    async def measure() -> None:
        look()

    await repeat("descriptors", measure, every_seconds=LOOK_SECONDS)


def look() -> None:
    """Measure once, and warn where little is left."""
    limit, used = _limit(), _open()
    metrics.DESCRIPTORS_LIMIT.set(limit)
    if used is None:
        return
    metrics.DESCRIPTORS.set(used)
    if used > limit * SCARCE:
        _scarce.warn(open=used, limit=limit)
    memory = _resident_bytes()
    if memory is not None:
        metrics.MEMORY_BYTES.set(memory)


def _limit() -> int:
    soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return UNLIMITED if soft == resource.RLIM_INFINITY else soft


def _open() -> int | None:
    """Linux and macOS tell; None elsewhere, and where not even this one can be opened."""
    for directory in ("/proc/self/fd", "/dev/fd"):
        try:
            return len(os.listdir(directory)) - 1  # without the one that lists them
        except FileNotFoundError:
            continue
        except OSError:  # none left
            return _limit()
    return None


def _resident_bytes() -> int | None:
    try:
        with open("/proc/self/statm") as told:
            return int(told.read().split()[1]) * _PAGE_BYTES
    except OSError:
        return None  # no Linux

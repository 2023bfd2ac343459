"""How full Redis' memory is, and what it refuses for it.

Always: what counts is what Redis itself compares with `maxmemory`: its buffers for replicas and for
the append-only file are left out. Without a limit nothing is ever refused, and the ratio is 0.
Used by: clients of Redis (refusals), `live doctor` and the watch of each process (ratio).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Self

from prometheus_client import Counter, Gauge

SHORT: Final = 0.8  # of the limit; a sale that goes well fills the rest within an evening

USED_RATIO: Final = Gauge(
    "live_redis_memory_used_ratio",
    "Memory used of `maxmemory`, of the fullest node; 0 without a limit",
    multiprocess_mode="mostrecent",  # it speaks of Redis, not of a process
)
REFUSED: Final = Counter(
    "live_redis_writes_refused", "Commands that Redis refused because its memory is full"
)


@dataclass(frozen=True, slots=True)
class MemoryUse:
    """Bytes; `limit` 0: none."""

    used: int
    limit: int

    @classmethod
    def of(cls, info: Mapping[str, object]) -> Self:
        """Read it from the section `memory` of INFO."""
        used, limit, apart = (
            int(str(info.get(name, 0)))
            for name in ("used_memory", "maxmemory", "mem_not_counted_for_evict")
        )
        return cls(used - apart, limit)

    @property
    def ratio(self) -> float:
        return self.used / self.limit if self.limit else 0.0


def note_refusal(reply: str) -> bool:
    """Count an error reply of Redis, if it is one about memory; tells whether it is."""
    if not reply.startswith("OOM"):
        return False
    REFUSED.inc()
    return True

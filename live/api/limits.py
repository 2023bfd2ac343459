"""How often one address, or one connection, may ask for something that costs us and needs no token.

Always: memory is bounded - the address unused longest is forgotten first, and its bucket would
have been the fullest. One process, one count: N workers allow N times as much.
"""

from collections import OrderedDict
from dataclasses import dataclass

from live.connection.addresses import network_of

ADDRESSES_MAX = 10_000


@dataclass(slots=True)
class _Bucket:
    left: float
    at: float


class AddressLimit:
    """A token bucket per address, or per id of a connection."""

    def __init__(self, *, burst: int, per_second: float) -> None:
        self._burst = burst
        self._per_second = per_second
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    def take(self, address: str, *, now: float) -> bool:
        """Whether this address may go on; `now` is monotonic seconds."""
        bucket = self._refilled(network_of(address), now)
        if bucket.left < 1:
            return False
        bucket.left -= 1
        return True

    def has(self, address: str, *, now: float) -> bool:
        """The same without taking anything, for what is counted only once it has failed."""
        return self._refilled(network_of(address), now).left >= 1

    def _refilled(self, name: str, now: float) -> _Bucket:
        bucket = self._buckets.pop(name, None)
        if bucket is None:
            bucket = _Bucket(left=self._burst, at=now)
            if len(self._buckets) >= ADDRESSES_MAX:
                self._buckets.popitem(last=False)
        bucket.left = min(self._burst, bucket.left + (now - bucket.at) * self._per_second)
        bucket.at = now
        self._buckets[name] = bucket
        return bucket

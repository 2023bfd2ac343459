"""How often one address, or one connection, may ask for something that costs us and needs no token.

Always: memory is bounded - the address unused longest is forgotten first, and its bucket would
have been the fullest. One process, one count: N workers allow N times as much.
"""

import ipaddress
from collections import OrderedDict
from dataclasses import dataclass

ADDRESSES_MAX = 10_000
IPV6_PREFIX = 64  # one home or phone owns at least this much; single addresses cost nothing


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
        name = _network(address)
        bucket = self._buckets.pop(name, None)
        if bucket is None:
            bucket = _Bucket(left=self._burst, at=now)
            if len(self._buckets) >= ADDRESSES_MAX:
                self._buckets.popitem(last=False)
        bucket.left = min(self._burst, bucket.left + (now - bucket.at) * self._per_second)
        bucket.at = now
        self._buckets[name] = bucket
        if bucket.left < 1:
            return False
        bucket.left -= 1
        return True


def _network(address: str) -> str:
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address  # a unix socket, or a test client
    if isinstance(parsed, ipaddress.IPv4Address):
        return address
    return str(ipaddress.ip_network((parsed, IPV6_PREFIX), strict=False))

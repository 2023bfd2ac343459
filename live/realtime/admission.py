"""Who may open a connection: bounds per address and per person, and of the process.

Owns: a token bucket per address for handshakes, the count of connections of each address and of
all, and each person's connections. Always: memory is bounded - the bucket that was quiet for
longest is forgotten, and an address without connections has no count. Loopback has no bound per
address; addresses.py says what counts as one.
Runs on: the event loop only; no method awaits.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus

from live.protocol import codes
from live.protocol.session import Session
from live.realtime import metrics
from live.realtime.addresses import counted_as

ADDRESSES_MAX = 50_000  # buckets kept; the one that was quiet for longest goes first


@dataclass(frozen=True, slots=True, kw_only=True)
class AdmissionLimits:
    connections_max: int = 20_000  # of this process; about 40 MB of light connections
    per_address_max: int = 2_000  # a carrier's NAT brings very many; a tenth of the process
    per_person_max: int = 20  # tabs and phones of one person; then the oldest goes
    handshakes_per_second: float = 20.0  # of one address: a household, an office, a carrier's NAT
    handshakes_burst: float = 400.0  # after a lost network a whole office comes back at once


DEFAULT = AdmissionLimits()


class Admission:
    def __init__(self, clock: Callable[[], float], limits: AdmissionLimits = DEFAULT) -> None:
        self._clock = clock
        self._limits = limits
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()  # tokens, as of when
        self._open: dict[str, int] = {}  # connections by what their address is counted as
        self._people: dict[str, dict[Session, None]] = {}
        self.connections = 0

    @property
    def full(self) -> bool:
        return self.connections >= self._limits.connections_max

    def refusal(self, address: str | None) -> HTTPStatus | None:
        """Tell why a handshake of this address is not taken now; takes a token of its bucket."""
        if self.full:
            return HTTPStatus.SERVICE_UNAVAILABLE
        if self._crowded(address) or not self.may_knock(address):
            return HTTPStatus.TOO_MANY_REQUESTS
        return None

    def _crowded(self, address: str | None) -> bool:
        name = counted_as(address)
        return name is not None and self._open.get(name, 0) >= self._limits.per_address_max

    def may_knock(self, address: str | None) -> bool:
        """Take a token of this address; False: too many handshakes, answer 429."""
        name = counted_as(address)
        if name is None:
            return True
        now, limits = self._clock(), self._limits
        tokens, since = self._buckets.pop(name, (limits.handshakes_burst, now))
        filled = tokens + (now - since) * limits.handshakes_per_second
        tokens = min(limits.handshakes_burst, filled)
        self._buckets[name] = (max(0.0, tokens - 1.0), now)
        if len(self._buckets) > ADDRESSES_MAX:
            self._buckets.popitem(last=False)
        return tokens >= 1.0

    def opened(self, address: str | None) -> str | None:
        """Count a connection; returns what `closed` has to be told."""
        self.connections += 1
        metrics.CONNECTIONS.set(self.connections)
        name = counted_as(address)
        if name is not None:
            self._open[name] = self._open.get(name, 0) + 1
        return name

    def closed(self, name: str | None) -> None:
        self.connections -= 1
        metrics.CONNECTIONS.set(self.connections)
        if name is not None:
            self._open[name] -= 1
            if not self._open[name]:
                del self._open[name]

    def known_as(self, person: str, session: Session) -> None:
        """A connection told whose it is; beyond the bound the person's oldest one is closed.

        The oldest and not the newest: after a lost network the old ones are half open for a while.
        """
        if not person:
            return
        own = self._people.setdefault(person, {})
        own[session] = None
        if len(own) > self._limits.per_person_max:
            next(iter(own)).close(codes.CONNECTION_LIMIT)

    def gone(self, person: str, session: Session) -> None:
        own = self._people.get(person)
        if own is not None:
            own.pop(session, None)
            if not own:
                del self._people[person]

    def of(self, person: str) -> list[Session]:
        """All connections of a person on this process."""
        return list(self._people.get(person, ()))

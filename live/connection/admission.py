"""Who may open a connection: bounds per address and per person, and of the process.

Owns: a token bucket per address for handshakes, the counts of open sockets and of plain HTTP
connections, and each person's sockets. Always: memory is bounded - the bucket that was quiet for
longest is forgotten, and an address without connections has no count. Loopback has no bound per
address; addresses.py says what counts as one.

The two counts are apart, so that a crowd of one kind keeps nobody of the other kind out; an event
stream is in both, because it is a viewer and holds an HTTP connection.
Runs on: the event loop only; no method awaits.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus

from live.connection.addresses import counted_as
from live.connection.headcount import Headcount, Place
from live.fanout import metrics
from live.protocol import codes
from live.protocol.session import Session

ADDRESSES_MAX = 50_000  # buckets kept; the one that was quiet for longest goes first


@dataclass(frozen=True, slots=True, kw_only=True)
class AdmissionLimits:
    connections_max: int = 20_000  # of this process; about 40 MB of light connections
    http_max: int = 16_000  # plain HTTP connections of this process, silent ones among them
    per_address_max: int = 2_000  # of either; a carrier's NAT brings very many
    per_person_max: int = 20  # tabs and phones of one person; then the oldest goes
    handshakes_per_second: float = 20.0  # of one address: a household, an office, a carrier's NAT
    handshakes_burst: float = 400.0  # after a lost network a whole office comes back at once


DEFAULT = AdmissionLimits()


class Admission:
    def __init__(self, clock: Callable[[], float], limits: AdmissionLimits = DEFAULT) -> None:
        self._clock = clock
        self._limits = limits
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()  # tokens, as of when
        self._people: dict[str, dict[Session, None]] = {}
        self._sockets = Headcount(
            in_all_max=limits.connections_max,
            per_address_max=limits.per_address_max,
            changed=metrics.CONNECTIONS.set,
        )
        self.http = Headcount(
            in_all_max=limits.http_max,
            per_address_max=limits.per_address_max,
            changed=metrics.HTTP_CONNECTIONS.set,
        )

    @property
    def connections(self) -> int:
        """Open sockets and event streams."""
        return self._sockets.in_all

    @property
    def full(self) -> bool:
        return self._sockets.full

    def refusal(self, address: str | None) -> HTTPStatus | None:
        """Tell why a handshake of this address is not taken now; takes a token of its bucket."""
        status = self._sockets.refusal(address)
        if status is None and not self.may_knock(address):
            status = HTTPStatus.TOO_MANY_REQUESTS
        if status is not None:
            metrics.refused(status)
        return status

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

    def opened(self, address: str | None) -> Place:
        """Count a socket; returns what `closed` has to be given."""
        return self._sockets.enter(address)

    def closed(self, place: Place) -> None:
        place.leave()

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

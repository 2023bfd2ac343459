"""How many connections are open: of each address, and in all.

Always: a place is left once, however often `leave` is called; an address without connections has
no entry, so memory is bounded by the bound in all. addresses.py says what counts as one address
and who is not bounded.
Runs on: the event loop only; no method awaits.
"""

from collections.abc import Callable
from http import HTTPStatus

from live.connection.addresses import counted_as


class Headcount:
    """`changed` is told the number in all whenever it changes."""

    __slots__ = ("_changed", "_in_all_max", "_of_address", "_per_address_max", "in_all")

    def __init__(
        self,
        *,
        in_all_max: int,
        per_address_max: int,
        changed: Callable[[int], object] = lambda _count: None,
    ) -> None:
        self._in_all_max = in_all_max
        self._per_address_max = per_address_max
        self._changed = changed
        self._of_address: dict[str, int] = {}
        self.in_all = 0

    @property
    def full(self) -> bool:
        return self.in_all >= self._in_all_max

    def refusal(self, address: str | None) -> HTTPStatus | None:
        """Tell why one more connection of this address is not taken now."""
        if self.full:
            return HTTPStatus.SERVICE_UNAVAILABLE
        name = counted_as(address)
        if name is not None and self._of_address.get(name, 0) >= self._per_address_max:
            return HTTPStatus.TOO_MANY_REQUESTS
        return None

    def enter(self, address: str | None) -> "Place":
        """Count a connection until its place is left."""
        name = counted_as(address)
        if name is not None:
            self._of_address[name] = self._of_address.get(name, 0) + 1
        self.in_all += 1
        self._changed(self.in_all)
        return Place(self, name)

    def left(self, name: str | None) -> None:
        """Called by `Place.leave` alone."""
        self.in_all -= 1
        self._changed(self.in_all)
        if name is not None:
            self._of_address[name] -= 1
            if not self._of_address[name]:
                del self._of_address[name]


class Place:
    """One connection that is counted."""

    __slots__ = ("_headcount", "_name")

    def __init__(self, headcount: Headcount, name: str | None) -> None:
        self._headcount: Headcount | None = headcount
        self._name = name

    def leave(self) -> None:
        headcount, self._headcount = self._headcount, None
        if headcount is not None:
            headcount.left(self._name)

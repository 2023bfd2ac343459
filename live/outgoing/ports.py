"""What the sender wants from the ledger, and from the network."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from live.domain.outgoing.deliveries import Attempted, DueDelivery


class DeliveryPort(Protocol):
    """Deliveries under leases; see `live.ledger.events.deliveries.DeliveryRows`."""

    async def due_endpoints(self) -> list[str]: ...
    async def take(self, webhook: str, *, limit: int) -> list[DueDelivery]: ...
    async def record(self, ends: Sequence[Attempted]) -> list[Exception | None]: ...


@dataclass(frozen=True, slots=True)
class Receipt:
    """`status` None: there was no answer, and `answer` says why. `retry_after`: the header."""

    status: int | None
    answer: str
    retry_after: str = ""


class PostPort(Protocol):
    """One call; ends within its time, and raises nothing."""

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> Receipt: ...

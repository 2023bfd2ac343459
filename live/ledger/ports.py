"""What the ledger wants from packages that it never imports; `live/wiring/` wires them."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from live.domain.channels import Channel
from live.domain.events import Event
from live.domain.ids import BuyerId, HoldKey, ShowId
from live.domain.payment import ChargePage
from live.domain.show import ShowState
from live.domain.stock import OutboxBacklog, OutboxBatch, ShowFigures, ShowStock, StockSnapshot


class OutboxPort(Protocol):
    """The consumer group "settlers" of every show's outbox. Raises OutboxLost where it is gone."""

    async def read(
        self, shows: Sequence[ShowId], *, consumer: str, entries_max: int, block_ms: int
    ) -> Sequence[OutboxBatch]: ...

    async def claim(
        self, show: ShowId, *, consumer: str, idle_ms_min: int, entries_max: int
    ) -> Sequence[OutboxBatch]: ...

    async def ack(self, show: ShowId, entries: Sequence[str]) -> None: ...

    async def trim(self, show: ShowId) -> object: ...

    async def forget_consumers(self, show: ShowId, *, idle_ms: int) -> None:
        """Take dead settlers out of the group; nothing that was delivered is forgotten."""
        ...

    async def backlog(self, show: ShowId) -> OutboxBacklog: ...

    async def first_unsettled(self, show: ShowId) -> str | None:
        """The oldest entry that is not acknowledged, delivered or not; None: there is none."""
        ...

    def place_of(self, show: ShowId) -> str:
        """What shows of one Redis server have in common: only these may be read together."""
        ...

    async def recreate_group(self, show: ShowId) -> None:
        """Start over at the first entry that survived."""
        ...


class FiguresPort(Protocol):
    async def figures(self, show: ShowId) -> ShowFigures: ...


class AuditedStockPort(FiguresPort, Protocol):
    """What an audit asks of the stock engine. Raises Busy where Redis does not answer."""

    async def snapshot(self, show: ShowId) -> StockSnapshot | None:
        """All that Redis has of a show; None where something moved while it was read."""
        ...

    async def mark(self, show: ShowId) -> bytes:
        """Equal to the snapshot's as long as nothing moves."""
        ...


class StatesPort(Protocol):
    """What viewers were told last of a show. Raises Busy."""

    async def read_state(self, show: ShowId) -> ShowState | None: ...


class StockPort(FiguresPort, Protocol):
    """What a rebuild asks of the stock engine. Raises Busy while a show is not installed."""

    async def stop_show(self, show: ShowId, *, fence: int = 0) -> None: ...

    async def load_show(self, show: ShowId, stock: ShowStock, *, fence: int = 0) -> None: ...

    async def cancel(self, show: ShowId, buyer: BuyerId, key: HoldKey, *, payment: str) -> object:
        """Sold units go back, and this payment sells nothing again; a repeat does nothing.

        Raises NotFound for a hold it forgot.
        """
        ...


class PublishPort(Protocol):
    """Publish on a channel; idempotent by `key` while the channel's log remembers it."""

    async def __call__(self, channel: Channel, event: Event, *, key: str) -> None: ...


class ProviderAuditPort(Protocol):
    """What a payment provider itself says was charged."""

    @property
    def name(self) -> str: ...

    async def list_charges(
        self, *, cursor: str | None, limit: int, since_ms: int = 0
    ) -> ChargePage:
        """`since_ms`: Unix ms; charges that were made before may be left out."""
        ...


OnMismatch = Callable[[ShowId], Awaitable[None]]
"""Called when Redis sold what the ledger cannot accept; that it has to be undone, or the doubt
about the whole stock, is committed. The answer is `Rebuilder.rebuild`."""

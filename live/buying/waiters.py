"""Checkouts that wait for their order, woken by the personal event that tells of it.

Always: a waiter that is not woken costs one dictionary entry until its `with` ends; events nobody
waits for are dropped before they are decoded.
Runs on: the event loop only.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec
import structlog

from live.domain.events import OrderEvent
from live.domain.ids import BuyerId, HoldKey, ShowId, key_text
from live.domain.order import OrderView

_TYPES = frozenset({"order.confirmed", "order.rejected", "order.cancelled"})
_decode = msgspec.json.Decoder(OrderEvent).decode

log = structlog.get_logger()


class Waiter:
    """One checkout's wait; `order` gives None when the time is over."""

    __slots__ = ("_future",)

    def __init__(self) -> None:
        self._future: asyncio.Future[OrderView] = asyncio.get_running_loop().create_future()

    def wake(self, order: OrderView) -> None:
        if not self._future.done():
            self._future.set_result(order)

    async def order(self, *, seconds: float) -> OrderView | None:
        await asyncio.wait({self._future}, timeout=max(seconds, 0))
        return self._future.result() if self._future.done() else None


class OrderWaiters:
    """Who waits in this process; `tap` is registered with `Follower.on_personal`."""

    def __init__(self) -> None:
        self._waiting: dict[tuple[ShowId, BuyerId], dict[str, list[Waiter]]] = {}

    def tap(self, show: ShowId, buyer: BuyerId, event_type: str, data: bytes) -> None:
        """Wake who waits for the order in this event."""
        holds = self._waiting.get((show, buyer))
        if holds is None or event_type not in _TYPES:
            return
        try:
            order = _decode(data).order
        except msgspec.DecodeError as error:
            # The waiter times out and reads Postgres instead.
            log.error("order_event.unreadable", show=show, error=str(error))
            return
        for waiter in holds.get(order.hold, ()):
            waiter.wake(order)

    @contextmanager
    def expect(self, show: ShowId, buyer: BuyerId, hold: HoldKey) -> Iterator[Waiter]:
        """Wait for the order of a hold. Enter this before the step that may cause the event."""
        place, name, waiter = (show, buyer), key_text(hold), Waiter()
        self._waiting.setdefault(place, {}).setdefault(name, []).append(waiter)
        try:
            yield waiter
        finally:
            holds = self._waiting[place]
            holds[name].remove(waiter)
            if not holds[name]:
                del holds[name]
            if not holds:
                del self._waiting[place]

    def __len__(self) -> int:
        return sum(len(waiters) for holds in self._waiting.values() for waiters in holds.values())

"""What happens to orders after they were sold: cancelled, shipped, sent back.

Always: commands on one order follow each other; each is done once per key of who gave it.
Called by: the HTTP API.
Not here: what each of them changes (parcels.py, goods_back.py, money/cancels.py).
"""

from collections.abc import Sequence
from uuid import UUID

from live.base.errors import NotFound
from live.domain.ids import OrderId
from live.domain.orders.fulfilment import LineQty, ShipmentStatus
from live.ledger.db.pool import Connection, Pool
from live.ledger.hosting.show_command import Actor
from live.ledger.orders import goods_back, parcels
from live.ledger.orders.command import Changed, run_for_buyer, run_on_order
from live.ledger.orders.goods_back import ReturnDecision
from live.ledger.orders.parcels import NewParcel


class FulfilmentRows:
    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def ship(self, order: OrderId, parcel: NewParcel, *, actor: Actor) -> None:
        """A parcel leaves the shop. Raises NotFound, BadField, Conflict."""

        async def work(connection: Connection, wanted: UUID) -> Changed:
            return {"shipment": str(await parcels.ship(connection, wanted, parcel))}

        # The parcel's number is a way to where the buyer lives; the log keeps for good.
        await run_on_order(self._pool, order, actor, "order.ship", {}, work)

    async def note_arrival(
        self, order: OrderId, shipment: str, status: ShipmentStatus, *, actor: Actor
    ) -> None:
        """A parcel arrived, or came back to the shop. Raises NotFound, Conflict."""
        named = _uuid(shipment, "shipment")

        async def work(connection: Connection, wanted: UUID) -> Changed:
            done = await parcels.note_arrival(connection, wanted, named, status)
            return {} if done else None

        detail: dict[str, object] = {"shipment": shipment, "status": status.value}
        await run_on_order(self._pool, order, actor, "order.shipment", detail, work)

    async def cancel(self, order: OrderId, *, reason: str, restock: bool, actor: Actor) -> None:
        """The shop takes the order back before it leaves. Raises NotFound, Conflict, Busy."""

        async def work(connection: Connection, wanted: UUID) -> Changed:
            amount = await parcels.cancel(connection, wanted, reason=reason, restock=restock)
            return {"refund_minor": amount}

        detail: dict[str, object] = {"reason": reason, "restock": restock}
        await run_on_order(self._pool, order, actor, "order.cancel", detail, work)

    async def ask_return(
        self, order: OrderId, items: Sequence[LineQty], reason: str, *, actor: Actor, own: bool
    ) -> None:
        """Units are to come back, says the shop or, with `own`, who bought them.

        Raises NotFound, BadField, Conflict.
        """

        async def work(connection: Connection, wanted: UUID) -> Changed:
            made = await goods_back.ask_back(connection, wanted, items, reason)
            return {"return": str(made)}

        if own:
            await run_for_buyer(self._pool, order, actor, work)
        else:
            detail: dict[str, object] = {"reason": reason}
            await run_on_order(self._pool, order, actor, "order.return", detail, work)

    async def decide_return(
        self, order: OrderId, wanted_back: str, decision: ReturnDecision, *, actor: Actor
    ) -> None:
        """Approve or refuse a return, or receive its units. Raises NotFound, BadField, Conflict."""
        named = _uuid(wanted_back, "return")

        async def work(connection: Connection, wanted: UUID) -> Changed:
            return await goods_back.decide(connection, wanted, named, decision)

        detail: dict[str, object] = {"return": wanted_back, "state": decision.state.value}
        await run_on_order(self._pool, order, actor, "order.return.decide", detail, work)


def _uuid(text: str, name: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise NotFound(f"unknown {name}") from None

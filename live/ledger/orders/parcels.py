"""Parcels: which units of an order leave the shop, and what becomes of them.

Always: no unit leaves twice. What may leave of a line is what was bought of it, less what is
outside, and less what came back for good: put on the shelf, or received and thrown away. Commands
on one order follow each other, by its lock.
Called by: fulfilments.py, orders.py, withdraw.py, inside the transaction of a command.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

import asyncpg

from live.base.errors import BadField, Conflict, NotFound
from live.domain.ids import OfferId
from live.domain.order import ENDED, OrderState
from live.domain.orders.fulfilment import LineQty, ShipmentStatus, units_text
from live.ledger.db.pool import Connection
from live.ledger.money import cancels, refunds
from live.ledger.money.invoices import UNPAID
from live.ledger.money.refunds import Returned
from live.ledger.orders.units import units_of


@dataclass(frozen=True, slots=True, kw_only=True)
class NewParcel:
    """What the shop says of a parcel; without `items` all that may leave. `tracking_url`: https, or
    "" for none."""

    items: tuple[LineQty, ...]
    carrier: str
    tracking_number: str
    tracking_url: str


async def ship(connection: Connection, order: UUID, parcel: NewParcel) -> UUID:
    """Write a parcel down; its id.

    Raises NotFound, BadField for a line that is not there, Conflict for an order that is over or
    of which the money is not here yet, and for more units than may leave.
    """
    await refunds.lock_order(connection, order)
    row = await connection.fetchrow(_LOOK, order)
    assert row is not None, "locked above"
    state = OrderState(row["state"])
    if state in ENDED:
        raise Conflict(f"this order is {state}")
    if state is OrderState.CONFIRMED and not row["unpaid"]:
        raise Conflict("the money of this order is not here yet")
    lines = await read_lines(connection, order)
    left = {one["line"]: one["may_leave"] for one in lines}
    items = check_items(parcel.items, left, "may leave")
    shipment: UUID = await connection.fetchval(
        _SHIP,
        order,
        parcel.carrier,
        parcel.tracking_number,
        parcel.tracking_url,
        [item.line for item in items],
        [item.qty for item in items],
    )
    return shipment


def check_items(
    items: Sequence[LineQty], left: dict[int, int], may: str, *, field: str = "items"
) -> Sequence[LineQty]:
    """These units of these lines, or all that are left.

    Raises BadField for a line that is not there or is there twice, and Conflict for more units
    than are left, and where none is.
    """
    if not items:
        items = [LineQty(line=line, qty=qty) for line, qty in sorted(left.items()) if qty > 0]
        if not items:
            raise Conflict(f"no units {may}")
    if len({item.line for item in items}) < len(items):
        raise BadField(field, "a line may be named once")
    for item in items:
        if item.line not in left:
            raise BadField(field, f"this order has no line {item.line}")
        if item.qty > left[item.line]:
            raise Conflict(
                f"{field}: {units_text(item.qty)} of line {item.line},"
                f" {max(0, left[item.line])} {may}"
            )
    return items


async def cancel(connection: Connection, order: UUID, *, reason: str, restock: bool) -> int:
    """Take the order back before it leaves; how much money goes back. With `restock` the units that
    are here go to the shelf: not those that came back before and were thrown away.

    Raises NotFound, Conflict, Busy.
    """
    await refunds.lock_order(connection, order)
    here = [one for one in await read_lines(connection, order) if restock and one["may_leave"]]
    units = tuple(Returned(OfferId(one["offer"]), one["may_leave"]) for one in here)
    return await cancels.cancel(connection, order, reason=reason, units=units)


async def refuse_money_for_nothing(connection: Connection, order: UUID) -> None:
    """Raises Conflict where nothing of an order is with the buyer, or may still go there."""
    lines = await read_lines(connection, order)
    if not any(one["outside"] > 0 or one["may_leave"] for one in lines):
        raise Conflict("all of this order came back, nothing of it is owed: cancel it")


async def note_arrival(
    connection: Connection, order: UUID, shipment: UUID, status: ShipmentStatus
) -> bool:
    """What became of a parcel; False where that was known.

    Raises NotFound, and Conflict for a step that there is not, and where the buyer sends back what
    is said to have come back by itself.
    """
    await refunds.lock_order(connection, order)
    found = await connection.fetchval(_STATUS, order, shipment)
    if found is None:
        raise NotFound("unknown shipment")
    before = ShipmentStatus(found)
    if before is status:
        return False
    if status not in _NEXT[before]:
        raise Conflict(f"a parcel that is {before} does not become {status}")
    await connection.execute(_NOTE, shipment, status)
    if any(row["may_return"] < 0 for row in await read_lines(connection, order)):
        raise Conflict(
            "units of this parcel are on their way back as a return: say of that that it was"
            " received"
        )
    return True


async def read_lines(connection: Connection, order: UUID) -> list[asyncpg.Record]:
    """Of each line: `line`, `offer`, `qty`, `price_minor`, and how many units `may_leave`, are
    `outside` and `may_return`."""
    return list(await connection.fetch(_UNITS, order))


_NEXT = {
    ShipmentStatus.SHIPPED: (ShipmentStatus.DELIVERED, ShipmentStatus.RETURNED_TO_SENDER),
    ShipmentStatus.DELIVERED: (ShipmentStatus.RETURNED_TO_SENDER,),
    ShipmentStatus.RETURNED_TO_SENDER: (),
}

_LOOK = f"SELECT o.state, {UNPAID} AS unpaid FROM orders o WHERE o.id = $1"

_STATUS = "SELECT status FROM shipments WHERE order_id = $1 AND id = $2"

_NOTE = "UPDATE shipments SET status = $2, updated_at = now() WHERE id = $1"

_SHIP = """
WITH made AS (
    INSERT INTO shipments (order_id, carrier, tracking_number, tracking_url)
    VALUES ($1, $2, $3, $4) RETURNING id
), items AS (
    INSERT INTO shipment_items (shipment, line, qty)
    SELECT made.id, n.line, n.qty FROM made, unnest($5::integer[], $6::integer[]) AS n(line, qty)
)
SELECT id FROM made"""

_UNITS = units_of("$1")

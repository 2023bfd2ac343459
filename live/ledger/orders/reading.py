"""How an order is read: its statement, its rows as the domain's views, and who bought it.

Called by: orders.py, pages.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

import asyncpg
import msgspec
import orjson

from live.base.errors import NotFound
from live.domain.ids import BuyerId, OrderId, ShowId, key_text
from live.domain.order import (
    OrderContact,
    OrderItem,
    OrderState,
    OrderTotal,
    OrderView,
    totals_of,
)
from live.domain.orders.fulfilment import Fulfilment, ReturnView, ShipmentView
from live.ledger.db.pool import Connection, Pool
from live.ledger.money.refunds import REFUNDS, views_of
from live.ledger.orders.units import SHIPPABLE, units_of


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderRow:
    """An order with what the public view leaves out."""

    view: OrderView
    buyer: BuyerId
    reason: str  # why it was rejected, else ""

    @property
    def sub(self) -> str:
        return self.view.sub


def order_uuid(order: str) -> UUID:
    """Raises NotFound for what is no id of an order."""
    try:
        return UUID(order)
    except ValueError as error:
        raise NotFound("unknown order") from error


def order_of(row: asyncpg.Record) -> OrderRow:
    """Read a row of ORDER."""
    items = _items(row["items"])
    view = OrderView(
        order=OrderId(str(row["id"])),
        hold=key_text(row["key"].bytes),
        show=ShowId(row["show"]),
        sub=row["sub"],
        state=OrderState(row["state"]),
        fulfilment=Fulfilment(row["fulfilment"]),
        items=items,
        totals=_totals(row["totals"]) if row["totals"] else totals_of(items, row["total_minor"]),
        total_minor=row["total_minor"],
        refunded_minor=row["refunded_minor"],
        currency=row["currency"],
        refunds=views_of(row["refunds"]),
        shipments=_shipments(row["shipments"]),
        returns=_returns(row["returns"]),
        reference=row["reference"],
        withdrawn_at=row["withdrawn_ms"],
        withdrawal_statement=row["withdrawal_statement"],
        created_at=row["created_ms"],
        updated_at=row["updated_ms"],
    )
    return OrderRow(view=view, buyer=BuyerId(row["buyer"]), reason=row["reason"])


async def read_contacts(
    connection: Connection | Pool, orders: Sequence[OrderId]
) -> dict[OrderId, OrderContact]:
    """How to reach who bought these, where they said so. For readers who may know it alone."""
    rows = await connection.fetch(_CONTACTS, [UUID(order) for order in orders])
    return {OrderId(str(row["id"])): _contact(row["contact"]) for row in rows}


async def read_bill(connection: Connection, order: UUID) -> tuple[OrderTotal, ...]:
    """What was added to the goods, and to what; () where nothing was."""
    text = await connection.fetchval(_BILL, order)
    return () if text is None else _totals(text)


# What the JSON below is read into; msgspec makes the views themselves.
_items = msgspec.json.Decoder(tuple[OrderItem, ...]).decode
_totals = msgspec.json.Decoder(tuple[OrderTotal, ...]).decode
_shipments = msgspec.json.Decoder(tuple[ShipmentView, ...]).decode
_returns = msgspec.json.Decoder(tuple[ReturnView, ...]).decode


def _contact(text: str) -> OrderContact:
    """Read a stored contact; an address may have come as lines of text."""
    found = orjson.loads(text)
    address = found.get("address") or ""
    if isinstance(address, str):
        first, *more = address.splitlines() or [""]
        address = {"line1": first, "line2": ", ".join(more)}
    return msgspec.convert(found | {"address": address}, OrderContact)


_MS = "floor(extract(epoch FROM {}) * 1000)::bigint"

REFERENCE = "coalesce(o.reference, o.paid_reference)"
"""The shop's own number of an order `o`, as the index has it."""

_SHIPMENTS = f"""
(SELECT coalesce(json_agg(json_build_object(
            'shipment', s.id,
            'items', (SELECT json_agg(json_build_object('line', line, 'qty', qty) ORDER BY line)
                      FROM shipment_items WHERE shipment = s.id),
            'carrier', s.carrier, 'tracking_number', s.tracking_number,
            'tracking_url', s.tracking_url, 'status', s.status,
            'created_at', {_MS.format("s.created_at")},
            'updated_at', {_MS.format("s.updated_at")}) ORDER BY s.created_at, s.id), '[]')::text
 FROM shipments s WHERE s.order_id = o.id)"""

_RETURNS = f"""
(SELECT coalesce(json_agg(json_build_object(
            'return', r.id,
            'items', (SELECT json_agg(json_build_object('line', line, 'qty', qty) ORDER BY line)
                      FROM return_items WHERE return = r.id),
            'reason', r.reason, 'state', r.state, 'refund_minor', r.refund_minor,
            'restocked', r.restocked, 'created_at', {_MS.format("r.created_at")},
            'updated_at', {_MS.format("r.updated_at")}) ORDER BY r.created_at, r.id), '[]')::text
 FROM returns r WHERE r.order_id = o.id)"""

ORDER = f"""
SELECT o.id, o.key, o.show, o.buyer, o.sub, o.state, o.fulfilment, o.total_minor, o.refunded_minor,
       o.currency, o.reason, {REFERENCE} AS reference,
       {_MS.format("o.created_at")} AS created_ms,
       {_MS.format("coalesce(o.updated_at, o.created_at)")} AS updated_ms,
       coalesce(o.position, 0) AS position, o.created_at,
       coalesce(o.changed, o.position, 0) AS changed,
       coalesce(o.updated_at, o.created_at) AS changed_at,
       (SELECT {_MS.format("w.created_at")} FROM withdrawals w WHERE w.order_id = o.id)
           AS withdrawn_ms,
       (SELECT w.statement FROM withdrawals w WHERE w.order_id = o.id) AS withdrawal_statement,
       (SELECT coalesce(json_agg(json_build_object(
                   'line', l.line, 'offer', l.offer, 'sku', l.sku, 'title', l.title, 'qty', l.qty,
                   'price_minor', l.price_minor, 'shipped', l.left_shop - l.came_back,
                   'returned', l.taken_back,
                   'to_ship', CASE WHEN {SHIPPABLE} THEN l.may_leave ELSE 0 END)
               ORDER BY l.line), '[]')::text
        FROM ({units_of("o.id")}) l) AS items,
       (SELECT p.totals::text FROM payments p WHERE p.id = o.payment) AS totals,
       {_SHIPMENTS} AS shipments,
       {_RETURNS} AS returns,
       {REFUNDS} AS refunds
FROM orders o"""

_CONTACTS = """
SELECT o.id, p.contact::text AS contact FROM orders o JOIN payments p ON p.id = o.payment
WHERE o.id = ANY($1::uuid[]) AND p.contact IS NOT NULL"""

_BILL = "SELECT p.totals::text FROM orders o JOIN payments p ON p.id = o.payment WHERE o.id = $1"

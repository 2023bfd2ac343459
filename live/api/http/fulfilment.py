"""Orders after the sale: parcels, cancellation, goods that come back."""

from collections.abc import Sequence

from msgspec import UNSET, UnsetType

from live.api.http.deps import ApiDeps
from live.api.http.orders import find_order
from live.api.http.table import ApiCall
from live.api.schema.http_requests import (
    CancelBody,
    LineItem,
    ReturnBody,
    ReturnPatchBody,
    ShipmentBody,
    ShipmentPatchBody,
)
from live.domain.caller import Role
from live.domain.order import OrderView
from live.domain.orders.fulfilment import LineQty, ReturnState, ShipmentStatus
from live.ledger.orders.goods_back import ReturnDecision
from live.ledger.orders.parcels import NewParcel
from live.ledger.orders.reading import OrderRow


async def ship_order(deps: ApiDeps, call: ApiCall[ShipmentBody]) -> OrderView:
    found, body = await find_order(deps, call.caller, call.order_id), call.body
    parcel = NewParcel(
        items=_lines(body.items),
        carrier=body.carrier,
        tracking_number=body.tracking_number,
        tracking_url=body.tracking_url,
    )
    await deps.fulfilments.ship(found.view.order, parcel, actor=call.actor)
    return await _now(deps, found)


async def note_arrival(deps: ApiDeps, call: ApiCall[ShipmentPatchBody]) -> OrderView:
    found = await find_order(deps, call.caller, call.order_id)
    status = ShipmentStatus(call.body.status)
    await deps.fulfilments.note_arrival(
        found.view.order, call.path["shipment"], status, actor=call.actor
    )
    return await _now(deps, found)


async def cancel_order(deps: ApiDeps, call: ApiCall[CancelBody]) -> OrderView:
    found = await find_order(deps, call.caller, call.order_id)
    await deps.fulfilments.cancel(
        found.view.order, reason=call.body.reason, restock=call.body.restock, actor=call.actor
    )
    return await _now(deps, found)


async def ask_return(deps: ApiDeps, call: ApiCall[ReturnBody]) -> OrderView:
    found = await find_order(deps, call.caller, call.order_id)
    await deps.fulfilments.ask_return(
        found.view.order,
        _lines(call.body.items),
        call.body.reason,
        actor=call.actor,
        own=call.caller.role is Role.VIEWER,
    )
    return await _now(deps, found)


async def decide_return(deps: ApiDeps, call: ApiCall[ReturnPatchBody]) -> OrderView:
    found, body = await find_order(deps, call.caller, call.order_id), call.body
    decision = ReturnDecision(
        state=ReturnState(body.state), refund_minor=body.refund_minor, restock=body.restock
    )
    await deps.fulfilments.decide_return(
        found.view.order, call.path["return"], decision, actor=call.actor
    )
    return await _now(deps, found)


def _lines(items: Sequence[LineItem] | UnsetType) -> tuple[LineQty, ...]:
    """() where they are left out: all that may."""
    named = () if items is UNSET else items
    return tuple(LineQty(line=item.line, qty=item.qty) for item in named)


async def _now(deps: ApiDeps, found: OrderRow) -> OrderView:
    return (await deps.orders.get(found.view.order)).view

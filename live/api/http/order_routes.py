"""The calls that concern orders: lines of the table in routes.py."""

from typing import Any

from live.api.http import fulfilment, orders
from live.api.http.table import BUYERS, HOSTS_ANYWHERE, Endpoint
from live.api.schema.fields import Empty
from live.api.schema.http_answers import OrderPage
from live.api.schema.http_requests import (
    CallOffBody,
    CancelBody,
    PaidBody,
    RefundBody,
    ReturnBody,
    ReturnPatchBody,
    ShipmentBody,
    ShipmentPatchBody,
)
from live.domain.order import OrderView, OrderWithContact

# Any: as in routes.py.
ORDER_ENDPOINTS: tuple[Endpoint[Any], ...] = (
    Endpoint(
        method="GET",
        path="/v1/orders",
        summary="List orders; a viewer sees their own",
        query=(
            *("show", "buyer", "state", "fulfilment", "to_ship", "reference", "updated_since"),
            *("order", "cursor", "limit"),
        ),
        access=BUYERS,
        handler=orders.list_orders,
        body=Empty,
        answer=OrderPage,
    ),
    Endpoint(
        method="GET",
        path="/v1/orders/{order}",
        summary="Read an order",
        access=BUYERS,
        handler=orders.get_order,
        body=Empty,
        answer=OrderWithContact,
    ),
    Endpoint(
        method="POST",
        path="/v1/orders/{order}/refund",
        summary="Pay back all or a part",
        access=HOSTS_ANYWHERE,
        handler=orders.refund_order,
        body=RefundBody,
        answer=OrderView,
        key_needed=True,
    ),
    Endpoint(
        method="POST",
        path="/v1/orders/{order}/refund/call-off",
        summary="Pay nothing more back of refunds that failed",
        access=HOSTS_ANYWHERE,
        handler=orders.call_off_refunds,
        body=CallOffBody,
        answer=OrderView,
    ),
    Endpoint(
        method="POST",
        path="/v1/orders/{order}/paid",
        summary="Say that an invoice was paid",
        access=HOSTS_ANYWHERE,
        handler=orders.mark_paid,
        body=PaidBody,
        answer=OrderView,
    ),
    Endpoint(
        method="POST",
        path="/v1/orders/{order}/cancel",
        summary="Take an order back before it is shipped; its money is voided or refunded",
        access=HOSTS_ANYWHERE,
        handler=fulfilment.cancel_order,
        body=CancelBody,
        answer=OrderView,
    ),
    Endpoint(
        method="POST",
        path="/v1/orders/{order}/shipments",
        summary="Say that a parcel left, with all that may leave or a part of it",
        access=HOSTS_ANYWHERE,
        handler=fulfilment.ship_order,
        body=ShipmentBody,
        answer=OrderView,
        key_needed=True,
    ),
    Endpoint(
        method="PATCH",
        path="/v1/orders/{order}/shipments/{shipment}",
        summary="Say that a parcel arrived, or came back",
        access=HOSTS_ANYWHERE,
        handler=fulfilment.note_arrival,
        body=ShipmentPatchBody,
        answer=OrderView,
    ),
    Endpoint(
        method="POST",
        path="/v1/orders/{order}/returns",
        summary="Ask for units to come back; a viewer of their own order",
        access=BUYERS,
        handler=fulfilment.ask_return,
        body=ReturnBody,
        answer=OrderView,
        key_needed=True,
    ),
    Endpoint(
        method="PATCH",
        path="/v1/orders/{order}/returns/{return}",
        summary="Approve or refuse a return, or receive it and decide on money and shelf",
        access=HOSTS_ANYWHERE,
        handler=fulfilment.decide_return,
        body=ReturnPatchBody,
        answer=OrderView,
    ),
)

"""What happens to the units of an order after they were sold: parcels and returns."""

from dataclasses import dataclass
from enum import StrEnum
from typing import TypedDict


class Fulfilment(StrEnum):
    """How far an order has come, over all its parcels.

    `partial`: some units have left the shop. `shipped`: all that are to be sent have; `delivered`:
    and all of these arrived. `returned`: all units are back, by returns or as parcels that came
    back to the sender.
    """

    UNFULFILLED = "unfulfilled"
    PARTIAL = "partial"
    SHIPPED = "shipped"
    DELIVERED = "delivered"
    RETURNED = "returned"


class ShipmentStatus(StrEnum):
    """shipped -> delivered | returned_to_sender."""

    SHIPPED = "shipped"
    DELIVERED = "delivered"
    RETURNED_TO_SENDER = "returned_to_sender"


class ReturnState(StrEnum):
    """requested -> approved | refused | received; approved -> received | refused."""

    REQUESTED = "requested"
    APPROVED = "approved"
    REFUSED = "refused"
    RECEIVED = "received"


def units_text(qty: int) -> str:
    """So many units, for people."""
    return "1 unit" if qty == 1 else f"{qty} units"


@dataclass(frozen=True, slots=True, kw_only=True)
class LineQty:
    """So many units of a line of the order."""

    line: int
    qty: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ShipmentView:
    """A parcel, as the public contract has it; `tracking_url` is "" where there is none."""

    shipment: str
    items: tuple[LineQty, ...]
    carrier: str
    tracking_number: str
    tracking_url: str
    status: ShipmentStatus
    created_at: int
    updated_at: int


# By this form of it, since the contract names a field `return`, which is a word of Python.
ReturnView = TypedDict(
    "ReturnView",
    {
        "return": str,
        "items": tuple[LineQty, ...],
        "reason": str,
        "state": ReturnState,
        "refund_minor": int | None,
        "restocked": bool,
        "created_at": int,
        "updated_at": int,
    },
)
"""Units on their way back, as the public contract has it; `refund_minor` is None until a decision
on the money was taken, which is when they were received."""

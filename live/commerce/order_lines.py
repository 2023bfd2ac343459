"""Lines of orders as CSV, for a warehouse and its spreadsheet.

Always: one row a line, the oldest order first; a page of orders is in memory at a time. A cell that
a spreadsheet would take for a formula begins with an apostrophe, so that a buyer's name computes
nothing on somebody's desk.
Called by: `live orders`.
"""

import csv
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import IO

from live.domain.money import amount_text
from live.domain.order import OrderContact, OrderWithContact, with_contact
from live.domain.orders.fulfilment import ShipmentStatus
from live.ledger.orders.orders import OrderRows
from live.ledger.orders.pages import PAGE_MAX, OrderQuery

HEADER = (
    *("order", "created_at", "updated_at", "show", "reference", "buyer", "state", "fulfilment"),
    *("line", "sku", "title", "qty", "sent", "returned", "to_ship", "price", "currency"),
    *("name", "email", "phone", "line1", "line2", "city", "region", "postcode", "country"),
    "tracking_numbers",
)

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
"""What spreadsheets begin a formula with, or strip before they look for one (OWASP)."""


async def write_lines(rows: OrderRows, query: OrderQuery, out: IO[str]) -> int:
    """Write the lines of all orders that `query` finds, under a header; how many orders."""
    writer = csv.writer(out, lineterminator="\r\n")  # RFC 4180
    writer.writerow(HEADER)
    cursor, orders = None, 0
    while True:
        page = await rows.list(query, cursor=cursor, limit=PAGE_MAX)
        contacts = await rows.contacts([row.view.order for row in page.orders])
        for row in page.orders:
            order = with_contact(row.view, contacts.get(row.view.order))
            writer.writerows(lines_of(order))
        orders += len(page.orders)
        if not page.more:
            return orders
        cursor = page.cursor


def lines_of(order: OrderWithContact) -> Iterator[tuple[str, ...]]:
    """The rows of an order, in the columns of HEADER."""
    contact = order.contact or OrderContact()
    address = contact.address
    parcels = [one for one in order.shipments if one.status is not _BACK]
    for item in order.items:
        numbers = [
            parcel.tracking_number
            for parcel in parcels
            if any(line.line == item.line for line in parcel.items)
        ]
        cells = (
            *(order.order, _time(order.created_at), _time(order.updated_at), order.show),
            *(order.reference or "", order.sub, order.state, order.fulfilment),
            *(str(item.line), item.sku, item.title, str(item.qty)),
            *(str(item.shipped), str(item.returned), str(item.to_ship)),
            *(_price(item.price_minor, order.currency), order.currency),
            *(contact.name, contact.email, contact.phone),
            *(address.line1, address.line2, address.city, address.region),
            *(address.postcode, address.country),
            " ".join(numbers),
        )
        yield tuple(map(safe_cell, cells))


def safe_cell(text: str) -> str:
    """The text as no spreadsheet computes it."""
    return f"'{text}" if text.startswith(_FORMULA) else text


_BACK = ShipmentStatus.RETURNED_TO_SENDER


def _time(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="seconds")


def _price(minor: int, currency: str) -> str:
    return amount_text(minor, currency).partition(" ")[0]

"""The rows of the settlement bench: what a sale needs beforehand, and what settling it wrote."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

COPIED: Final = (
    "payments",
    "holds",
    "orders",
    "order_items",
    "stock_movements",
    "money_jobs",
    "notices",
    "events",
)
"""Every table of which settling writes a row, or a new version of one, per order."""


@dataclass(frozen=True, slots=True)
class Written:
    """The rows of a round by table, each as one order wrote them."""

    columns: dict[str, list[str]]
    rows: dict[str, list[tuple[object, ...]]]

    def parts(self, size: int) -> "Iterator[Written]":
        for start in range(0, len(self.rows["orders"]), size):
            yield Written(
                self.columns,
                {table: rows[start : start + size] for table, rows in self.rows.items()},
            )


SHOW = "INSERT INTO shows (id, title, status, currency) VALUES ($1, 'Bench', 'live', 'EUR')"

PRODUCT = """
INSERT INTO products (sku, title, price_minor, currency, on_hand, allotted)
VALUES ('bench', 'Bench', 100, 'EUR', $1, $1)"""

OFFER = """
INSERT INTO offers (id, show, slot, sku, title, price_minor, currency, mode, phase, quantity,
                    allotted, per_buyer_limit, hold_seconds)
VALUES ('bench', $1, 0, 'bench', 'Bench', 100, 'EUR', 'hold', 'open', $2, $2, 10, 600)"""

PAYMENTS = """
INSERT INTO payments (id, order_id, show, buyer, sub, hold, attempt, slots, quantities,
                      prices_minor, amount_minor, currency, provider, token, provider_ref, state,
                      lease_until)
SELECT id, order_id, $1, buyer, 'buyer-' || id, hold, hold, '{0}', '{1}', '{100}', 100, 'EUR',
       'sandbox', 'tok_approve', 'charge-' || id, 'authorised', now() + interval '10 minutes'
FROM unnest($2::uuid[], $3::uuid[], $4::bytea[], $5::uuid[]) AS n(id, order_id, buyer, hold)"""

COLUMNS = """
SELECT attname FROM pg_attribute
WHERE attrelid = $1::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum"""

_BY_ORDER = "WHERE order_id = ANY($1::uuid[]) ORDER BY order_id"
OF_ORDERS = {
    "payments": _BY_ORDER,
    "holds": """JOIN orders o ON o.show = t.show AND o.buyer = t.buyer AND o.key = t.key
                WHERE o.id = ANY($1::uuid[]) ORDER BY o.id""",
    "orders": "WHERE id = ANY($1::uuid[]) ORDER BY id",
    "order_items": _BY_ORDER,
    "stock_movements": _BY_ORDER,
    "money_jobs": """JOIN payments p ON p.id = t.payment
                     WHERE p.order_id = ANY($1::uuid[]) ORDER BY p.order_id""",
    "notices": _BY_ORDER,
    "events": """JOIN unnest($1::uuid[]) o ON t.subject = 'order:' || o ORDER BY o""",
}

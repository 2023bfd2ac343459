"""Units of an order: which left, which came back, which may leave. The one rule of it, as SQL.

Always: what may leave of a line is what was bought of it, less what is outside, and less what was
taken back: put on the shelf, or received and thrown away. Nothing leaves of an order that is over,
or of which the money is not here yet; an invoice may be shipped unpaid.
Called by: parcels.py, reading.py, pages.py.
"""

from live.ledger.db.states import PAID_FOR, UNDER_WAY
from live.ledger.money.invoices import UNPAID

# A line is numbered by the id of its offer, byte for byte: no collation may ever renumber it.
LINES = """
SELECT i.order_id, i.offer, f.sku, f.title, i.qty, i.price_minor,
       row_number() OVER (PARTITION BY i.order_id ORDER BY i.offer COLLATE "C")::integer AS line
FROM order_items i JOIN offers f ON f.id = i.offer"""
"""All lines of orders, a subquery to be put beside orders."""

_UNITS = f"""
WITH counted AS (
    SELECT l.line, l.offer, l.sku, l.title, l.qty, l.price_minor, s.units AS left_shop,
           s.came_back, r.units AS asked_back, r.received, r.thrown, m.units AS shelved
    FROM ({LINES}) l
    CROSS JOIN LATERAL (
        SELECT coalesce(sum(i.qty), 0) AS units,
               coalesce(sum(i.qty) FILTER (WHERE s.status = 'returned_to_sender'), 0) AS came_back
        FROM shipments s JOIN shipment_items i ON i.shipment = s.id
        WHERE s.order_id = l.order_id AND i.line = l.line) s
    CROSS JOIN LATERAL (
        SELECT coalesce(sum(i.qty), 0) AS units,
               coalesce(sum(i.qty) FILTER (WHERE r.state = 'received'), 0) AS received,
               coalesce(sum(i.qty) FILTER (WHERE r.state = 'received' AND NOT r.restocked), 0)
                   AS thrown
        FROM returns r JOIN return_items i ON i.return = r.id
        WHERE r.order_id = l.order_id AND r.state <> 'refused' AND i.line = l.line) r
    CROSS JOIN LATERAL (
        SELECT coalesce(sum(m.qty), 0) AS units FROM stock_movements m
        WHERE m.order_id = l.order_id AND m.offer = l.offer AND m.kind = 'returned') m
    WHERE l.order_id = {{order}}
)
SELECT line, offer, sku, title, qty, price_minor, left_shop::integer, came_back::integer,
       least(qty, shelved + thrown)::integer AS taken_back,
       (left_shop - came_back - received)::integer AS outside,
       (left_shop - came_back - asked_back)::integer AS may_return,
       greatest(0, qty - shelved - thrown - (left_shop - came_back - received))::integer
           AS may_leave
FROM counted ORDER BY line"""


def units_of(order: str) -> str:
    """A query of the lines of `order`, an expression: of each how many units `left_shop`, of these
    `came_back` by themselves, are `outside`, `may_return`, were `taken_back`, and `may_leave`."""
    return _UNITS.format(order=order)


SHIPPABLE = f"(o.state IN {PAID_FOR} OR {UNPAID})"
"""A condition on orders `o`: what may leave of them may leave now."""

# The first two lines are those of the index; `to_ship` alone may be true for nothing.
TO_SHIP = f"""
(o.to_ship AND o.state IN {UNDER_WAY}
 AND o.fulfilment IN ('unfulfilled', 'partial', 'returned')
 AND {SHIPPABLE} AND EXISTS (SELECT FROM ({units_of("o.id")}) u WHERE u.may_leave > 0))"""
"""A condition on orders `o`: units of them may leave now."""

# How far the order has come, after whatever was done to it, and the time of that.
NOTE_FULFILMENT = f"""
WITH units AS (
    SELECT sum(left_shop) AS left_shop, sum(outside) AS outside, sum(may_leave) AS may_leave,
           sum(greatest(0, may_leave - came_back)) AS never_sent
    FROM ({units_of("$1")}) u
)
UPDATE orders o SET updated_at = clock_timestamp(), to_ship = coalesce(u.may_leave, 0) > 0,
    fulfilment = CASE
    WHEN coalesce(u.left_shop, 0) = 0 THEN 'unfulfilled'
    WHEN u.outside = 0 AND u.never_sent = 0 THEN 'returned'
    WHEN u.may_leave > 0 THEN 'partial'
    WHEN EXISTS (SELECT FROM shipments s WHERE s.order_id = o.id AND s.status = 'shipped')
        THEN 'shipped'
    ELSE 'delivered' END
FROM units u WHERE o.id = $1"""

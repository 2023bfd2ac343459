"""The audit's own SQL about what left the shop and what came back, of one show."""

from live.ledger.audit.findings import Check
from live.ledger.db.states import STANDS

# Units of each line: bought, sent and back at the sender, asked back and received, on the shelf.
_GOODS = """
lines AS (
    SELECT o.id, o.state, o.fulfilment, o.to_ship, i.offer, i.qty, i.price_minor,
           row_number() OVER (PARTITION BY o.id ORDER BY i.offer COLLATE "C") AS line
    FROM orders o JOIN order_items i ON i.order_id = o.id WHERE o.show = $1
), sent AS (
    SELECT s.order_id AS id, n.line, sum(n.qty) AS units,
           coalesce(sum(n.qty) FILTER (WHERE s.status = 'returned_to_sender'), 0) AS came_back
    FROM orders o JOIN shipments s ON s.order_id = o.id
    JOIN shipment_items n ON n.shipment = s.id
    WHERE o.show = $1 GROUP BY s.order_id, n.line
), back AS (
    SELECT r.order_id AS id, n.line, sum(n.qty) FILTER (WHERE r.state <> 'refused') AS units,
           coalesce(sum(n.qty) FILTER (WHERE r.state = 'received'), 0) AS received,
           coalesce(sum(n.qty) FILTER (WHERE r.state = 'received' AND NOT r.restocked), 0)
               AS thrown
    FROM orders o JOIN returns r ON r.order_id = o.id JOIN return_items n ON n.return = r.id
    WHERE o.show = $1 GROUP BY r.order_id, n.line
), shelved AS (
    SELECT m.order_id AS id, m.offer, sum(m.qty) AS units FROM orders o
    JOIN stock_movements m ON m.order_id = o.id AND m.kind = 'returned'
    WHERE o.show = $1 GROUP BY m.order_id, m.offer
)"""

FULFILMENT = Check(
    "order_fulfilment",
    "P2",
    f"""-- How far an order has come is what its parcels and returns say.
    WITH {_GOODS}, units AS (
        SELECT l.id, min(l.fulfilment) AS told, bool_and(l.to_ship) AS to_ship,
               coalesce(sum(s.units), 0) AS sent,
               sum(n.outside) AS outside,
               sum(greatest(0, n.rest)) AS rest,
               sum(greatest(0, n.rest - coalesce(s.came_back, 0))) AS never_sent
        FROM lines l LEFT JOIN sent s ON s.id = l.id AND s.line = l.line
        LEFT JOIN back b ON b.id = l.id AND b.line = l.line
        LEFT JOIN shelved m ON m.id = l.id AND m.offer = l.offer
        CROSS JOIN LATERAL (
            SELECT coalesce(s.units - s.came_back, 0) - coalesce(b.received, 0) AS outside
        ) g CROSS JOIN LATERAL (
            SELECT g.outside, l.qty - coalesce(m.units, 0) - coalesce(b.thrown, 0) - g.outside
                       AS rest
        ) n
        GROUP BY l.id
    ), said AS (
        SELECT id, told, rest > 0 AND NOT to_ship AS forgotten, CASE
            WHEN sent = 0 THEN 'unfulfilled'
            WHEN outside = 0 AND never_sent = 0 THEN 'returned'
            WHEN rest > 0 THEN 'partial'
            WHEN EXISTS (SELECT FROM shipments s
                         WHERE s.order_id = units.id AND s.status = 'shipped') THEN 'shipped'
            ELSE 'delivered' END AS found
        FROM units
    )
    SELECT 'order ' || id AS name,
           CASE WHEN told <> found THEN 'is told as ' || told || ', its parcels say ' || found
                ELSE 'has units to ship, and is not listed' END AS text
    FROM said WHERE told <> found OR forgotten LIMIT $2""",
)

GOODS_CHECKS = (
    Check(
        "shipment_units",
        "P2",
        f"""-- What left the shop was bought, and its order stands.
        WITH {_GOODS}
        SELECT 'order ' || s.id AS name,
               CASE WHEN l.id IS NULL THEN 'sent units of line ' || s.line || ', which it has not'
                    WHEN l.state {STANDS}
                        THEN 'sent ' || s.units - s.came_back || ' units of line ' || s.line
                             || ' of ' || l.qty
                    ELSE 'is ' || l.state || ', and ' || g.outside
                             || ' units of it are outside' END AS text
        FROM sent s LEFT JOIN lines l ON l.id = s.id AND l.line = s.line
        LEFT JOIN back b ON b.id = s.id AND b.line = s.line
        CROSS JOIN LATERAL (
            SELECT s.units - s.came_back - coalesce(b.received, 0) AS outside) g
        WHERE l.id IS NULL
           OR g.outside > 0 AND NOT l.state {STANDS}
           OR s.units - s.came_back > l.qty
        UNION ALL
        SELECT 'shipment ' || s.id, 'has no items, or no order' FROM shipments s
        LEFT JOIN orders o ON o.id = s.order_id
        WHERE (o.id IS NULL OR o.show = $1)
          AND (o.id IS NULL OR NOT EXISTS (SELECT FROM shipment_items n WHERE n.shipment = s.id))
        LIMIT $2""",
    ),
    Check(
        "return_units",
        "P2",
        f"""-- What comes back had left, and its order knows the line.
        WITH {_GOODS}
        SELECT 'order ' || b.id AS name,
               'takes back ' || b.units || ' units of line ' || b.line || ', '
                   || coalesce(s.units - s.came_back, 0) || ' were sent' AS text
        FROM back b LEFT JOIN sent s ON s.id = b.id AND s.line = b.line
        WHERE b.units > coalesce(s.units - s.came_back, 0)
        UNION ALL
        SELECT 'return ' || r.id, 'has no items' FROM orders o JOIN returns r ON r.order_id = o.id
        WHERE o.show = $1 AND NOT EXISTS (SELECT FROM return_items n WHERE n.return = r.id)
        LIMIT $2""",
    ),
    Check(
        "return_decided",
        "P5",
        """-- A return that was received moved the money and the units that it says, any other none.
        SELECT 'return ' || r.id AS name,
               'is ' || r.state || ' with ' || coalesce(r.refund_minor::text, 'no')
                   || ' refunded' || CASE WHEN r.restocked THEN ' and restocked' ELSE '' END
                   || ', asked of the provider were ' || coalesce(j.minor, 0)
                   || ', movements say ' || coalesce(m.units, 0) || ' of ' || coalesce(i.units, 0)
                   AS text
        FROM orders o JOIN returns r ON r.order_id = o.id
        LEFT JOIN LATERAL (SELECT sum(amount_minor) AS minor FROM money_jobs
                           WHERE payment = o.payment AND kind = 'refund'
                             AND request = 'return:' || r.id) j ON true
        LEFT JOIN LATERAL (SELECT sum(qty) AS units FROM return_items WHERE return = r.id) i
            ON true
        LEFT JOIN LATERAL (
            SELECT sum(m.qty) AS units FROM order_items n JOIN stock_movements m
                ON m.key = 'return:' || o.id || ':' || n.offer || ':return:' || r.id
            WHERE n.order_id = o.id) m ON true
        WHERE o.show = $1
          AND (coalesce(r.refund_minor, 0) <> coalesce(j.minor, 0)
               OR (r.refund_minor IS NULL) <> (r.state <> 'received')
               OR coalesce(m.units, 0) <> CASE WHEN r.restocked THEN i.units ELSE 0 END)
        LIMIT $2""",
    ),
    FULFILMENT,
    Check(
        "order_withdrawn",
        "P2",
        f"""-- A buyer's withdrawal ended the order, or goods are on their way back for it.
        SELECT 'order ' || o.id AS name,
               'was withdrawn from on ' || w.created_at::date || ', and is ' || o.state AS text
        FROM orders o JOIN withdrawals w ON w.order_id = o.id
        LEFT JOIN returns r ON r.id = w.return
        WHERE o.show = $1
          AND (CASE WHEN w.return IS NULL THEN o.state {STANDS}
                    ELSE r.order_id IS DISTINCT FROM o.id OR r.state = 'requested' END)
        LIMIT $2""",
    ),
)

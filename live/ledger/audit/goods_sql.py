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

WITHDRAWN = Check(
    "order_withdrawn",
    "P2",
    f"""-- A buyer's withdrawal ended the order; or all that they have is on its way back, the rest
    -- is cancelled, and no money is kept but for goods that are outside, and what a host decided.
    WITH {_GOODS}, units AS (
        SELECT l.id, l.qty, l.price_minor, g.left_shop - coalesce(b.received, 0) AS outside,
               g.left_shop - coalesce(b.units, 0) AS unasked,
               l.qty - coalesce(m.units, 0) - coalesce(b.thrown, 0) - g.left_shop
                   + coalesce(b.received, 0) AS rest
        FROM lines l JOIN withdrawals w ON w.order_id = l.id
        LEFT JOIN sent s ON s.id = l.id AND s.line = l.line
        LEFT JOIN back b ON b.id = l.id AND b.line = l.line
        LEFT JOIN shelved m ON m.id = l.id AND m.offer = l.offer
        CROSS JOIN LATERAL (SELECT coalesce(s.units - s.came_back, 0) AS left_shop) g
        WHERE l.state {STANDS}
    ), goods AS (
        SELECT id, sum(outside) AS outside, sum(greatest(0, unasked)) AS unasked,
               sum(greatest(0, rest)) AS rest, sum(outside * price_minor) AS outside_minor,
               sum(qty * price_minor) AS all_minor
        FROM units GROUP BY id
    ), decided AS (  -- what hosts held back of received goods; what came back beside a refund
        SELECT g.id, coalesce(r.returns, 0) AS returns,
               coalesce(r.held, 0) + coalesce(m.minor, 0) AS held
        FROM goods g CROSS JOIN LATERAL (
            SELECT count(*) AS returns, sum(greatest(0, r.refund_less)) AS held FROM (
                SELECT sum(n.qty * l.price_minor) - x.refund_minor AS refund_less
                FROM returns x JOIN return_items n ON n.return = x.id
                JOIN lines l ON l.id = x.order_id AND l.line = n.line
                WHERE x.order_id = g.id AND x.state = 'received' GROUP BY x.id) r
        ) r CROSS JOIN LATERAL (
            SELECT sum(m.qty * l.price_minor) AS minor
            FROM lines l JOIN stock_movements m ON m.order_id = l.id AND m.offer = l.offer
            WHERE l.id = g.id AND m.kind = 'returned'
              AND m.key LIKE 'return:' || l.id || ':' || l.offer || ':host:%'
        ) m
    ), kept AS (  -- beyond goods outside and what was decided; extras go with the last goods
        SELECT g.id, p.captured_minor - p.refunded_minor - (
                   SELECT coalesce(sum(j.amount_minor), 0) FROM money_jobs j
                   WHERE j.payment = p.id AND j.kind = 'refund' AND j.state <> 'done')
               - g.outside_minor - d.held - CASE WHEN g.outside > 0 OR d.returns > 0
                     THEN greatest(0, o.total_minor - g.all_minor) ELSE 0 END AS minor
        FROM goods g JOIN decided d USING (id) JOIN orders o USING (id)
        JOIN payments p ON p.id = o.payment
    ), said AS (
        SELECT o.id, w.created_at, o.state, CASE
            WHEN w.return IS NOT NULL AND NOT EXISTS (
                SELECT FROM returns r WHERE r.id = w.return AND r.order_id = o.id)
                THEN 'its return is of another order'
            WHEN g.id IS NULL THEN NULL
            WHEN g.unasked > 0 THEN g.unasked || ' units of it are with the buyer, unasked for'
            WHEN g.rest > 0 THEN g.rest || ' units of it are neither cancelled nor paid back'
            WHEN EXISTS (SELECT FROM returns r WHERE r.order_id = o.id AND r.state = 'requested')
                THEN 'a return of it may be refused'
            WHEN k.minor > 0 THEN k.minor || ' of its money did not go back with the goods'
            END AS wrong
        FROM orders o JOIN withdrawals w ON w.order_id = o.id
        LEFT JOIN goods g ON g.id = o.id LEFT JOIN kept k ON k.id = o.id
        WHERE o.show = $1
    )
    SELECT 'order ' || id AS name,
           'was withdrawn from on ' || created_at::date || ', is ' || state || ', and ' || wrong
               AS text
    FROM said WHERE wrong IS NOT NULL LIMIT $2""",
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
    WITHDRAWN,
)

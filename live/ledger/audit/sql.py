"""The audit's own SQL about one show's stock and orders, as of one instant.

It adds up append-only rows and uses none of the queries it examines. Each check costs what the show
has, never what the shop has: it begins at the show's offers, orders or payments.
"""

from live.ledger.audit.findings import Check
from live.ledger.db.states import OWNED, STANDS, sold

# Units sold by movements; orders that stand; allotted as the host decided it.
OFFERS = f"""
SELECT f.id, f.slot, f.allotted, f.phase = 'closed' AS closed,
       coalesce((SELECT sum(m.qty) FROM stock_movements m
                 WHERE m.offer = f.id AND m.kind IN ('sold', 'cancelled')), 0)::bigint AS sold,
       coalesce(o.orders, 0) AS orders
FROM offers f
LEFT JOIN (SELECT i.offer, count(*) AS orders
           FROM orders s JOIN order_items i ON i.order_id = s.id
           WHERE s.show = $1 AND s.state {STANDS} GROUP BY i.offer) o ON o.offer = f.id
WHERE f.show = $1 AND f.phase <> 'draft' ORDER BY f.slot"""

# What an order's hold, payment and items must agree on: slot:qty pairs in order of the slots.
_ITEMS = """
items AS (
    SELECT o.id, string_agg(f.slot || ':' || i.qty, ' ' ORDER BY f.slot) AS units,
           string_agg(f.slot || ':' || i.qty || ':' || i.price_minor, ' ' ORDER BY f.slot) AS lines
    FROM orders o JOIN order_items i ON i.order_id = o.id
    JOIN offers f ON f.id = i.offer AND f.show = o.show
    WHERE o.show = $1 GROUP BY o.id
)"""

_LINES_OF_PAYMENT = """(
    SELECT string_agg(n.slot || ':' || n.qty || ':' || n.price, ' ' ORDER BY n.slot)
    FROM unnest(p.slots, p.quantities, p.prices_minor) AS n(slot, qty, price))"""

EXTRA_OF_PAYMENT = """
SELECT sum((n.line ->> 'amount_minor')::bigint)::bigint AS extra
FROM jsonb_array_elements(p.totals) AS n(line)
WHERE n.line ->> 'type' NOT IN ('subtotal', 'total') AND NOT (n.line ->> 'inclusive')::boolean"""
"""What the bill of a payment `p` adds to its goods; NULL where that is nothing."""

SHOW_CHECKS = (
    Check(
        "offer_counter",
        "P1",
        f"""-- The counter that the CHECK guards is the sum of its movements and of the orders.
        SELECT 'offer ' || f.id AS name,
               'counts ' || f.sold || ' sold, movements say ' || coalesce(m.sold, 0)
                   || ', orders say ' || coalesce(o.sold, 0) AS text
        FROM offers f
        LEFT JOIN LATERAL (SELECT sum(qty) AS sold FROM stock_movements
                           WHERE offer = f.id AND kind IN ('sold', 'cancelled')) m ON true
        LEFT JOIN (SELECT i.offer, sum(i.qty) AS sold
                   FROM orders s JOIN order_items i ON i.order_id = s.id
                   WHERE s.show = $1 AND {sold("s")} GROUP BY i.offer) o ON o.offer = f.id
        WHERE f.show = $1
          AND (f.sold <> coalesce(m.sold, 0) OR f.sold <> coalesce(o.sold, 0)) LIMIT $2""",
    ),
    Check(
        "offer_allotment",
        "P1",
        """-- What an offer may sell, and was meant to, is what hosts gave it and took back.
        SELECT 'offer ' || f.id AS name,
               'is allotted ' || f.allotted || ' of ' || f.quantity || ', movements say '
                   || coalesce(m.units, 0) || ' of ' || coalesce(m.planned, 0) AS text
        FROM offers f
        LEFT JOIN LATERAL (
            SELECT sum(qty) AS units,
                   sum(qty) FILTER (WHERE kind = 'allotted' OR reason = 'draft edited') AS planned
            FROM stock_movements
            WHERE offer = f.id AND kind IN ('allotted', 'given_back')) m ON true
        WHERE f.show = $1
          AND (f.allotted <> coalesce(m.units, 0) OR f.quantity <> coalesce(m.planned, 0))
        LIMIT $2""",
    ),
    Check(
        "offer_of_another",
        "P1",
        """-- An offer sells its own product, in the show's currency.
        SELECT 'offer ' || f.id AS name,
               CASE WHEN m.sku IS NOT NULL THEN 'sells ' || f.sku || ', a movement has ' || m.sku
                    ELSE 'is priced in ' || f.currency || ', the show in ' || s.currency
                         || ', the product in ' || coalesce(p.currency, 'no list') END AS text
        FROM offers f JOIN shows s ON s.id = f.show LEFT JOIN products p ON p.sku = f.sku
        LEFT JOIN LATERAL (SELECT sku FROM stock_movements
                           WHERE offer = f.id AND sku <> f.sku LIMIT 1) m ON true
        WHERE f.show = $1
          AND (m.sku IS NOT NULL OR f.currency <> s.currency
               OR f.currency IS DISTINCT FROM p.currency)
        LIMIT $2""",
    ),
    Check(
        "offer_logged",
        "P1",
        """-- What a host decided about an offer is what the hosts' log says last.
        WITH said AS (
            SELECT DISTINCT ON (a.offer, n.field) a.offer, n.field, n.value
            FROM (SELECT id, detail::jsonb AS detail, detail::jsonb ->> 'offer' AS offer
                  FROM host_actions
                  WHERE show = $1 AND action IN ('offer.create', 'offer.edit')) a,
                 jsonb_each(a.detail) AS n(field, value)
            WHERE n.field IN ('sku', 'price_minor', 'per_buyer_limit', 'hold_seconds', 'mode')
            ORDER BY a.offer, n.field, a.id DESC
        )
        SELECT 'offer ' || f.id AS name,
               'has ' || s.field || ' ' || (to_jsonb(f) -> s.field) || ', its host said '
                   || s.value AS text
        FROM offers f JOIN said s ON s.offer = f.id
        WHERE f.show = $1 AND to_jsonb(f) -> s.field <> s.value LIMIT $2""",
    ),
    Check(
        "buyer_limit",
        "P1",
        f"""-- Nobody has more of an offer than it gives to one buyer. The limit is fixed before the
        -- first unit is sold: only a draft is edited (`offer_logged` tells another change). An
        -- order whose capture was refused is about to be cancelled, its units may be taken again.
        WITH lines AS (
            SELECT o.buyer, i.offer, i.qty, o.payment FROM orders o
            JOIN order_items i ON i.order_id = o.id
            WHERE o.show = $1 AND o.state {STANDS}
        ), most AS (
            SELECT l.buyer, f.id, f.per_buyer_limit, sum(l.qty) AS units
            FROM lines l JOIN offers f ON f.id = l.offer
            GROUP BY l.buyer, f.id HAVING sum(l.qty) > f.per_buyer_limit
        )
        SELECT 'offer ' || m.id AS name,
               'sold ' || n.units || ' units to buyer ' || encode(m.buyer, 'hex')
                   || ', who may have ' || m.per_buyer_limit AS text
        FROM most m CROSS JOIN LATERAL (
            SELECT m.units - coalesce(sum(l.qty), 0) AS units
            FROM lines l JOIN money_jobs j ON j.payment = l.payment
            WHERE l.buyer = m.buyer AND l.offer = m.id
              AND j.kind = 'capture' AND j.state = 'failed') n
        WHERE n.units > m.per_buyer_limit LIMIT $2""",
    ),
    Check(
        "show_rehearsed",
        "P5",
        """-- A show on air takes money: a rehearsal ends before.
        SELECT 'show ' || id AS name, 'is ' || status || ', and still counts as rehearsed' AS text
        FROM shows WHERE id = $1 AND rehearsed AND status IN ('live', 'paused', 'ended')
        LIMIT $2""",
    ),
    Check(
        "order_units",
        "P2",
        f"""-- An order that stands moved its units of each offer, and so did one that the shop
        -- cancelled; any other one moved none in sum.
        WITH i AS (
            SELECT o.id, i.offer, i.qty, o.state, {sold("o")} AS sold
            FROM orders o
            JOIN order_items i ON i.order_id = o.id WHERE o.show = $1
        ), m AS (
            SELECT o.id, m.offer, sum(m.qty) AS qty FROM orders o
            JOIN stock_movements m ON m.order_id = o.id AND m.kind IN ('sold', 'cancelled')
            WHERE o.show = $1 GROUP BY o.id, m.offer
        )
        SELECT 'order ' || coalesce(i.id, m.id) AS name,
               coalesce(i.state, 'an order') || ' moved ' || coalesce(m.qty, 0) || ' units of '
                   || coalesce(i.offer, m.offer) || ', its items are ' || coalesce(i.qty, 0) AS text
        FROM i FULL JOIN m ON m.id = i.id AND m.offer = i.offer
        WHERE coalesce(m.qty, 0) <>
              CASE WHEN i.sold THEN i.qty ELSE 0 END
        UNION ALL
        SELECT 'order ' || o.id, o.state || ' has no items, its items are 0' FROM orders o
        WHERE o.show = $1 AND NOT EXISTS (SELECT FROM order_items i WHERE i.order_id = o.id)
        LIMIT $2""",
    ),
    Check(
        "order_movement",
        "P2",
        """-- Each movement of an order is of its time and of this show, and no more came back.
        SELECT 'movement ' || m.id AS name,
               CASE WHEN o.id IS NULL THEN m.kind || ' units for an order that is not there'
                    ELSE 'is of ' || m.created_at || ', its order of ' || o.created_at END AS text
        FROM offers f JOIN stock_movements m ON m.offer = f.id
        LEFT JOIN orders o ON o.id = m.order_id AND o.show = f.show
        WHERE f.show = $1
          AND (m.order_id IS NOT NULL OR m.kind IN ('sold', 'cancelled', 'returned'))
          AND (o.id IS NULL OR m.kind = 'sold' AND m.created_at <> o.created_at)
        UNION ALL
        SELECT 'order ' || m.order_id, 'got back ' || sum(m.qty) || ' units of ' || m.offer
        FROM offers f JOIN stock_movements m ON m.offer = f.id AND m.kind = 'returned'
        JOIN order_items i ON i.order_id = m.order_id AND i.offer = m.offer
        WHERE f.show = $1
        GROUP BY m.order_id, m.offer, i.qty HAVING sum(m.qty) > i.qty OR min(m.qty) < 0
        LIMIT $2""",
    ),
    Check(
        "order_total",
        "P2",
        f"""-- The items of an order that stands are what its total says, with what its payment's
        -- totals add to them.
        SELECT 'order ' || o.id AS name,
               'total ' || o.total_minor || ', items are worth ' || sum(i.qty * i.price_minor)
                   || ' and ' || coalesce(t.extra, 0) || ' is added' AS text
        FROM orders o JOIN order_items i ON i.order_id = o.id
        LEFT JOIN payments p ON p.id = o.payment
        LEFT JOIN LATERAL ({EXTRA_OF_PAYMENT}) t ON true
        WHERE o.show = $1 AND o.state {STANDS}
        GROUP BY o.id, t.extra
        HAVING sum(i.qty * i.price_minor) + coalesce(t.extra, 0) <> o.total_minor LIMIT $2""",
    ),
    Check(
        "order_payment",
        "P2",
        f"""-- An order says what its payment says: whose it is, for what, how much.
        WITH {_ITEMS}
        SELECT 'order ' || o.id AS name, 'is not as its payment in ' || d.fields AS text
        FROM orders o JOIN payments p ON p.id = o.payment
        LEFT JOIN items i ON i.id = o.id
        CROSS JOIN LATERAL (SELECT concat_ws(', ',
            CASE WHEN o.id <> p.order_id THEN 'its id' END,
            CASE WHEN o.show <> p.show THEN 'show' END,
            CASE WHEN o.buyer <> p.buyer THEN 'buyer' END,
            CASE WHEN o.sub <> p.sub THEN 'sub' END,
            CASE WHEN o.key <> p.hold THEN 'hold' END,
            CASE WHEN o.total_minor <> p.amount_minor THEN 'amount' END,
            CASE WHEN o.currency <> p.currency THEN 'currency' END,
            CASE WHEN o.state <> 'rejected' AND i.lines IS DISTINCT FROM {_LINES_OF_PAYMENT}
                 THEN 'units or prices' END) AS fields) d
        WHERE o.show = $1 AND d.fields <> '' LIMIT $2""",
    ),
    Check(
        "order_hold",
        "P2",
        f"""-- The journal of holds knows a standing order as confirmed, with the same units.
        WITH {_ITEMS}
        SELECT 'order ' || o.id AS name,
               o.state || ' for ' || i.units || ', its hold is ' || h.state || ' for ' || u.units
                   AS text
        FROM orders o JOIN holds h ON h.show = $1 AND h.buyer = o.buyer AND h.key = o.key
        JOIN items i ON i.id = o.id
        CROSS JOIN LATERAL (
            SELECT string_agg(n.slot || ':' || n.qty, ' ' ORDER BY n.slot) AS units
            FROM unnest(h.slots, h.quantities) AS n(slot, qty)) u
        WHERE o.show = $1
          AND (o.state {STANDS} AND (h.state <> 'confirmed' OR u.units IS DISTINCT FROM i.units)
               OR o.state = 'cancelled' AND h.state = 'confirmed' AND NOT o.shop_cancelled)
        LIMIT $2""",
    ),
    Check(
        "hold_without_order",
        "P2",
        """-- A hold was confirmed by the transaction that wrote its order.
        SELECT 'hold ' || h.key AS name, 'is confirmed, and has no order' AS text
        FROM holds h
        WHERE h.show = $1 AND h.state = 'confirmed'
          AND NOT EXISTS (SELECT FROM orders o
                          WHERE o.show = $1 AND o.buyer = h.buyer AND o.key = h.key) LIMIT $2""",
    ),
    Check(
        "buyer_names",
        "P2",
        """-- One digest of a buyer stands for one person.
        SELECT 'buyer ' || encode(buyer, 'hex') AS name,
               'is ' || string_agg(DISTINCT sub, ' and ' ORDER BY sub) AS text
        FROM (SELECT buyer, sub FROM payments WHERE show = $1
              UNION SELECT buyer, sub FROM orders WHERE show = $1 AND payment IS NOT NULL
              UNION SELECT buyer, sub FROM waitlist WHERE show = $1) n
        GROUP BY buyer HAVING count(DISTINCT sub) > 1 LIMIT $2""",
    ),
    Check(
        "order_unpaid",
        "P2",
        f"""-- An order that stands owns a payment that is authorised for it or further on.
        SELECT 'order ' || o.id AS name,
               CASE WHEN p.id IS NULL THEN 'has no payment'
                    ELSE 'stands on a payment that is ' || p.state END AS text
        FROM orders o LEFT JOIN payments p ON p.id = o.payment AND p.order_id = o.id
        WHERE o.show = $1 AND o.state {STANDS}
          AND (p.id IS NULL OR p.state NOT IN {OWNED})
        LIMIT $2""",
    ),
    Check(
        "bans_logged",
        "log",
        """-- Who is restricted is whom the hosts' log restricted last, for as long as it says.
        WITH said AS (
            SELECT DISTINCT ON (n.sub, n.kind) n.sub, n.kind, a.action <> 'chat.lift' AS restricted,
                   a.created_at + make_interval(secs => (a.detail::jsonb ->> 'seconds')::float)
                       AS until
            FROM host_actions a
            CROSS JOIN LATERAL (
                SELECT a.detail::jsonb ->> 'sub' AS sub, kind
                FROM jsonb_array_elements_text(CASE WHEN a.action = 'chat.lift'
                         THEN a.detail::jsonb -> 'kinds'
                         ELSE jsonb_build_array(substr(a.action, 6)) END) AS k(kind)) n
            WHERE a.show = $1
              AND a.action IN ('chat.mute', 'chat.shadow_ban', 'chat.ban', 'chat.lift')
            ORDER BY n.sub, n.kind, a.id DESC
        )
        SELECT 'show ' || $1 AS name,
               CASE WHEN b.sub IS NULL THEN 'a ' || s.kind || ' is in the hosts'' log and not kept'
                    WHEN s.restricted THEN 'a ' || b.kind || ' ends at another time than was said'
                    ELSE 'a ' || b.kind || ' is kept that the hosts'' log does not know' END AS text
        FROM (SELECT * FROM bans WHERE show = $1) b
        FULL JOIN said s ON s.sub = b.sub AND s.kind = b.kind
        WHERE (b.sub IS NULL AND s.restricted AND (s.until IS NULL OR s.until > now()))
           OR (b.sub IS NOT NULL AND NOT coalesce(s.restricted, false))
           OR (b.sub IS NOT NULL AND s.restricted
               AND abs(extract(epoch FROM coalesce(b.until, 'epoch') - coalesce(s.until, 'epoch')))
                   > 60) LIMIT $2""",
    ),
)

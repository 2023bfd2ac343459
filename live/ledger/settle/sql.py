"""The settler's statements. Sets of rows travel as arrays through unnest."""

from live.ledger.db.states import CANCELLABLE, ENDED, FINAL

# Hosts' commands lock the show first, and so do we: the other order would deadlock.
LOCK_SHOW = "SELECT 1 FROM shows WHERE id = $1 FOR KEY SHARE"

# The same where the row may be updated: in full at once, since an upgrade would deadlock with them.
LOCK_SHOW_TO_CHANGE = "SELECT 1 FROM shows WHERE id = $1 FOR NO KEY UPDATE"

READ_OFFERS = """
SELECT slot, allotted, sold FROM offers
WHERE show = $1 AND slot = ANY($2::integer[])"""

# Lock the batch's offers, always in the order of their ids.
LOCK_OFFERS = f"{READ_OFFERS} ORDER BY id FOR NO KEY UPDATE"

# Rows are looked up one by one, by their whole key and behind a LIMIT: a plain join is planned from
# the table's side ("this show has one payment"), which made a batch of 5,000 quadratic.

# Take the authorised payments of these holds. From here on nobody else may void them.
TAKE_PAYMENTS = """
UPDATE payments p SET state = 'capturing', updated_at = now()
WHERE p.state = 'authorised' AND p.id = ANY(ARRAY(
    SELECT a.id FROM unnest($2::bytea[], $3::uuid[]) AS n(buyer, key)
    CROSS JOIN LATERAL (
        SELECT id FROM payments
        WHERE show = $1 AND buyer = n.buyer AND hold = n.key AND state = 'authorised' LIMIT 1
    ) a))
RETURNING p.id"""

GIVE_BACK_PAYMENTS = """
UPDATE payments SET state = 'authorised' WHERE id = ANY($1::uuid[]) AND state = 'capturing'"""

# What is known about each sale; younger than the locks, so it is the truth until we commit.
LOOK = f"""
SELECT n.buyer, n.key, o.id AS order_id, o.payment AS order_payment, o.seq AS order_seq,
       o.state NOT IN {ENDED} AS order_stands,
       p.id AS payment, p.order_id AS payment_order,
       p.state AS payment_state, p.provider, p.provider_ref, p.sub, p.amount_minor,
       p.captured_minor, p.refunded_minor, p.currency, p.slots, p.quantities, p.prices_minor,
       h.state = 'cancelled' AS cancelled,
       p.state <> 'captured' AND EXISTS (
           SELECT FROM money_jobs j WHERE j.payment = p.id AND j.kind = 'void') AS voiding
FROM unnest($2::bytea[], $3::uuid[]) AS n(buyer, key)
LEFT JOIN LATERAL (
    SELECT id, payment, state, seq FROM orders
    WHERE show = $1 AND buyer = n.buyer AND key = n.key LIMIT 1
) o ON true
LEFT JOIN LATERAL (
    SELECT state FROM holds WHERE show = $1 AND buyer = n.buyer AND key = n.key LIMIT 1
) h ON true
LEFT JOIN LATERAL (
    SELECT * FROM payments
    WHERE show = $1 AND buyer = n.buyer AND hold = n.key
    ORDER BY state IN {FINAL}, created_at DESC
    LIMIT 1
) p ON true"""

# An order that was there already comes not back, so nothing is done for it again.
WRITE_ORDERS = """
INSERT INTO orders (id, show, buyer, sub, key, payment, state, total_minor, currency, seq, reason,
                    reference)
SELECT id, $1, buyer, sub, key, payment, state, total, currency, seq, reason, reference
FROM unnest($2::uuid[], $3::bytea[], $4::text[], $5::uuid[], $6::uuid[], $7::text[],
            $8::bigint[], $9::text[], $10::bigint[], $11::text[], $12::text[])
     AS n(id, buyer, sub, key, payment, state, total, currency, seq, reason, reference)
ON CONFLICT DO NOTHING
RETURNING id"""

# All that follows from new orders. Plain arrays and no joins: a join of two arrays is planned for
# ten rows and made by nested loops. (Forcing custom plans instead replans every reference check.)
WRITE_REST = """
WITH items AS (
    INSERT INTO order_items (order_id, offer, qty, price_minor)
    SELECT * FROM unnest($2::uuid[], $3::text[], $4::integer[], $5::bigint[])
), moves AS (
    INSERT INTO stock_movements (order_id, offer, sku, kind, qty)
    SELECT * FROM unnest($6::uuid[], $7::text[], $8::text[], $9::text[], $10::bigint[])
), counted AS (
    UPDATE offers f SET sold = f.sold + n.units
    FROM unnest($11::text[], $12::bigint[]) AS n(offer, units) WHERE f.id = n.offer
), jobs AS (
    INSERT INTO money_jobs (payment, kind, amount_minor, reason, request)
    SELECT * FROM unnest($13::uuid[], $14::text[], $15::bigint[], $16::text[], $17::text[])
    ON CONFLICT DO NOTHING
)
INSERT INTO notices (show, buyer, kind, order_id)
SELECT $1, buyer, kind, order_id
FROM unnest($18::bytea[], $19::text[], $20::uuid[]) AS n(buyer, kind, order_id)"""

# The payments of these holds, in the order of their ids: what is captured meanwhile must be seen.
LOCK_PAYMENTS = """
SELECT 1 FROM payments WHERE id = ANY(ARRAY(
    SELECT a.id FROM unnest($2::bytea[], $3::uuid[]) AS n(buyer, key)
    CROSS JOIN LATERAL (
        SELECT id FROM payments WHERE show = $1 AND buyer = n.buyer AND hold = n.key LIMIT 16
    ) a))
ORDER BY id FOR NO KEY UPDATE"""

# Cancel what was sold: the units go back once, the money is voided or refunded. A closed offer
# sells no more, so its units go on to the product, and Redis is to be told how few it has now.
CANCEL_ORDERS = f"""
WITH gone AS (
    UPDATE orders o SET state = 'cancelled', seq = n.seq
    FROM unnest($2::bytea[], $3::uuid[], $4::bigint[]) AS n(buyer, key, seq)
    WHERE o.show = $1 AND o.buyer = n.buyer AND o.key = n.key
      AND o.state IN {CANCELLABLE} AND o.seq < n.seq
    RETURNING o.id, o.buyer, o.payment
), lines AS MATERIALIZED (
    SELECT i.order_id, i.offer, i.qty, f.sku, f.phase = 'closed' AS closed
    FROM gone g JOIN order_items i ON i.order_id = g.id JOIN offers f ON f.id = i.offer
), moves AS (
    INSERT INTO stock_movements (sku, offer, order_id, kind, qty)
    SELECT sku, offer, order_id, 'cancelled', -qty FROM lines
    ON CONFLICT DO NOTHING
), given_back AS (
    INSERT INTO stock_movements (sku, offer, order_id, kind, qty, reason)
    SELECT sku, offer, order_id, 'given_back', -qty, 'cancelled after the close'
    FROM lines WHERE closed
), counted AS (
    UPDATE offers f
    SET sold = f.sold - n.units,
        allotted = f.allotted - CASE WHEN n.closed THEN n.units ELSE 0 END,
        version = f.version + n.closed::integer
    FROM (SELECT offer, closed, sum(qty) AS units FROM lines GROUP BY offer, closed) n
    WHERE f.id = n.offer
), shelves AS MATERIALIZED (
    -- In order: settlers of two shows may give back to the same products.
    SELECT sku FROM products WHERE sku IN (SELECT sku FROM lines WHERE closed)
    ORDER BY sku FOR NO KEY UPDATE
), shelved AS (
    UPDATE products p SET allotted = p.allotted - n.units
    FROM (SELECT sku, sum(qty) AS units FROM lines JOIN shelves USING (sku) WHERE closed
          GROUP BY sku) n
    WHERE p.sku = n.sku
), noted AS (
    UPDATE shows SET version = version + 1
    WHERE id = $1 AND EXISTS (SELECT FROM lines WHERE closed)
), stopped AS (
    UPDATE money_jobs j SET state = 'failed', reason = 'order cancelled'
    FROM gone g WHERE j.payment = g.payment AND j.kind = 'capture' AND j.state = 'due'
), jobs AS (
    INSERT INTO money_jobs (payment, kind, amount_minor, reason, request)
    SELECT p.id, CASE WHEN p.captured_minor > 0 THEN 'refund' ELSE 'void' END,
           CASE WHEN p.captured_minor > 0 THEN p.captured_minor - p.refunded_minor - n.asked
                ELSE p.amount_minor END,
           'order cancelled', CASE WHEN p.captured_minor > 0 THEN 'lost' END
    FROM gone g JOIN payments p ON p.id = g.payment
    CROSS JOIN LATERAL (
        -- What a host asked for is on its way already.
        SELECT coalesce(sum(j.amount_minor), 0)::bigint AS asked FROM money_jobs j
        WHERE j.payment = p.id AND j.kind = 'refund' AND j.state = 'due'
    ) n
    WHERE p.state NOT IN {FINAL}
      AND (p.captured_minor = 0 OR p.captured_minor > p.refunded_minor + n.asked)
    ON CONFLICT DO NOTHING
), told AS (
    INSERT INTO notices (show, buyer, kind, order_id)
    SELECT $1, buyer, 'order.cancelled', id FROM gone
)
SELECT id FROM gone"""

# Orders that a shop cancelled without Redis, and whose units Redis takes back after all.
TAKEN_BACK = """
SELECT o.id FROM unnest($2::bytea[], $3::uuid[], $4::bigint[]) AS n(buyer, key, seq)
JOIN orders o ON o.show = $1 AND o.buyer = n.buyer AND o.key = n.key
WHERE o.shop_cancelled AND o.seq < n.seq"""

# What was not sold goes back to the product. A draft has an entry here only where a rehearsal was
# left before it was read; the draft keeps its units.
CLOSE_OFFER = """
WITH old AS (
    SELECT id, sku, allotted - sold AS rest FROM offers
    WHERE show = $1 AND slot = $2 AND phase NOT IN ('draft', 'closed') FOR NO KEY UPDATE
), closed AS (
    UPDATE offers f SET allotted = f.sold, phase = 'closed', version = f.version + 1
    FROM old WHERE f.id = old.id RETURNING f.id
), product AS (
    UPDATE products p SET allotted = p.allotted - old.rest FROM old WHERE p.sku = old.sku
), moved AS (
    INSERT INTO stock_movements (sku, offer, kind, qty)
    SELECT sku, id, 'given_back', -rest FROM old WHERE rest > 0
), noted AS (
    UPDATE shows SET version = version + 1 WHERE id = $1 AND EXISTS (SELECT FROM closed)
)
SELECT count(*) FROM closed"""

# Money for a hold that had its order already; taken and given back in this transaction.
VOID_PAYMENTS = """
WITH free AS (
    UPDATE payments SET voiding = true WHERE id = ANY($1::uuid[]) AND state = 'authorised'
    RETURNING id, amount_minor
)
INSERT INTO money_jobs (payment, kind, amount_minor, reason)
SELECT id, 'void', amount_minor, $2 FROM free
ON CONFLICT DO NOTHING"""

# Redis sold what is not accepted: it takes these units back, whoever dies meanwhile.
UNDO = """
INSERT INTO sales_to_undo (show, buyer, key, reason)
SELECT $1, buyer, key, reason FROM unnest($2::bytea[], $3::uuid[], $4::text[])
    AS n(buyer, key, reason)
ON CONFLICT DO NOTHING"""

# Redis sold more than the ledger has: its stock is made again, whoever dies meanwhile.
DOUBT = "INSERT INTO stock_doubts (show, reason) VALUES ($1, $2) ON CONFLICT DO NOTHING"

# An entry that was put aside before is only noted: `tried_at` says that it failed again.
POISON = """
WITH put AS (
    INSERT INTO poison (show, entry, seq, body, reason) VALUES ($1, $2, $3, $4, $5)
    ON CONFLICT (show, entry, seq) DO UPDATE SET tried_at = now(), reason = excluded.reason
    RETURNING entry, tried_at = created_at AS fresh
), doubted AS (
    INSERT INTO stock_doubts (show, reason) SELECT $1, 'an entry was put aside' FROM put WHERE fresh
    ON CONFLICT DO NOTHING
)
SELECT entry FROM put WHERE fresh"""

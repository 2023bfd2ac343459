"""What a repair does in Postgres. Each statement tells what it did as `done`, and is repeatable."""

from live.domain.payment import INVOICE, OWN_BOOKS
from live.ledger.audit.shop_sql import HANGING, LEASE_SECONDS_MAX
from live.ledger.db.states import FINAL, MONEY_MOVED, STANDS, UNDECIDED, sold
from live.ledger.money.late_money import DUE_AGAIN

_OWN_BOOKS = "('" + "', '".join(sorted(OWN_BOOKS)) + "')"

_NO_ORDER = f"""NOT EXISTS (SELECT FROM orders o WHERE o.id = p.order_id AND o.payment = p.id
                            AND o.state {STANDS})"""

# Counters that are sums of append-only rows: set to the sum where everything else agrees with it.
COUNTERS = (
    f"""-- What an offer sold, where movements and orders agree and the offer had so many.
    UPDATE offers f SET sold = n.units
    FROM (SELECT o.id, coalesce((SELECT sum(m.qty) FROM stock_movements m
                                 WHERE m.offer = o.id AND m.kind IN ('sold', 'cancelled')), 0)
                     AS units
          FROM offers o WHERE o.show = ANY($1::text[])) n
    WHERE f.id = n.id AND f.sold <> n.units AND n.units BETWEEN 0 AND f.allotted
      AND n.units = coalesce((SELECT sum(i.qty) FROM orders o
                              JOIN order_items i ON i.order_id = o.id AND i.offer = f.id
                              WHERE o.show = f.show AND {sold("o")}), 0)
    RETURNING 'offer ' || f.id || ': counts ' || f.sold || ' sold' AS done""",
    """-- What of a product is on hand and allotted, where that fits on the shelf.
    UPDATE products p SET on_hand = n.on_hand, allotted = n.allotted
    FROM (SELECT sku, coalesce((SELECT sum(qty) FROM stock_movements m WHERE m.sku = s.sku
                                AND m.kind IN ('adjusted', 'returned')), 0) AS on_hand,
                 coalesce((SELECT sum(allotted) FROM offers f WHERE f.sku = s.sku), 0) AS allotted
          FROM products s
          WHERE s.sku IN (SELECT sku FROM offers WHERE show = ANY($1::text[])) ORDER BY sku) n
    WHERE p.sku = n.sku AND (p.on_hand, p.allotted) <> (n.on_hand, n.allotted)
      AND n.allotted <= n.on_hand
    RETURNING 'product ' || p.sku || ': has ' || p.on_hand || ' on hand, ' || p.allotted
              || ' allotted' AS done""",
)

# Each takes the grace in seconds as $1.
MONEY = (
    f"""-- Where refunds that are done, entries and figures contradict each other, what the
    -- provider says of each refund counts: the payment worker looks them up and sets the sums.
    -- (Of invoices and the shop's own checkout there are no other books.)
    UPDATE payments p SET refunds_news_at = clock_timestamp()
    FROM payments n
    LEFT JOIN (SELECT payment, sum(amount_minor) AS minor FROM money_jobs
               WHERE kind = 'refund' AND state = 'done' GROUP BY payment) d ON d.payment = n.id
    LEFT JOIN (SELECT payment, sum(amount_minor) AS minor FROM payment_entries
               WHERE kind = 'refunded' GROUP BY payment) e ON e.payment = n.id
    LEFT JOIN orders o ON o.id = n.order_id AND o.payment = n.id AND {sold("o")}
    WHERE p.id = n.id AND p.provider NOT IN {_OWN_BOOKS} AND p.state IN {MONEY_MOVED}
      AND (coalesce(d.minor, 0) > n.refunded_minor OR coalesce(e.minor, 0) <> n.refunded_minor
           OR o.refunded_minor <> least(n.refunded_minor, o.total_minor))
      AND p.refunds_news_at IS NULL AND p.updated_at < now() - make_interval(secs => $1)
    RETURNING 'payment ' || p.id || ': its refunds are looked up one by one' AS done""",
    f"""-- Voids that were refused. (A refund that failed is the host's to decide on, and the
    -- provider would only repeat its answer.)
    UPDATE money_jobs j
    SET state = 'due', due_at = now(), created_at = now(), reason = 'repair: asked again'
    FROM payments p
    WHERE p.id = j.payment AND j.kind = 'void' AND j.state = 'failed' AND p.captured_minor = 0
      AND p.updated_at < now() - make_interval(secs => $1)
      AND p.state NOT IN {FINAL}
    RETURNING 'payment ' || j.payment || ': its void was asked for again' AS done""",
    f"""-- An order that stands is paid for, an invoice when the shop says so. A capture that
    -- was done before is not done twice, because the provider knows its key.
    INSERT INTO money_jobs (payment, kind, amount_minor, reason)
    SELECT p.id, 'capture', p.amount_minor, 'repair'
    FROM orders o JOIN payments p ON p.id = o.payment AND p.order_id = o.id
    WHERE o.state = 'confirmed' AND p.state = 'capturing' AND p.captured_minor = 0
      AND p.provider <> '{INVOICE}'
      AND p.updated_at < now() - make_interval(secs => $1)
    ON CONFLICT (payment) WHERE kind = 'capture' DO UPDATE
    SET state = 'due', due_at = now(), created_at = now(), reason = 'repair'
    WHERE money_jobs.state = 'done' AND money_jobs.amount_minor = EXCLUDED.amount_minor
    RETURNING 'payment ' || payment || ': its capture was asked for' AS done""",
)

_OWED = f"""
p.captured_minor > p.refunded_minor
AND p.updated_at < now() - make_interval(secs => $1)
AND {_NO_ORDER} AND p.refunds_news_at IS NULL
AND NOT EXISTS (SELECT FROM money_jobs j WHERE j.payment = p.id AND j.state = 'due')"""

_KEPT = f"""
p.state = 'capturing' AND p.captured_minor = 0
AND p.updated_at < now() - make_interval(secs => $1)
AND NOT EXISTS (SELECT FROM orders o WHERE o.id = p.order_id AND o.state {STANDS})
AND NOT EXISTS (SELECT FROM money_jobs j WHERE j.payment = p.id AND j.state = 'due')"""

# What GIVE_BACK would give back, by currency.
TO_GIVE_BACK = f"""
SELECT currency, count(*) AS payments, sum(amount_minor)::bigint AS amount_minor
FROM (SELECT currency, captured_minor - refunded_minor AS amount_minor FROM payments p WHERE {_OWED}
      UNION ALL
      SELECT currency, amount_minor FROM payments p WHERE {_KEPT}) owed
GROUP BY currency ORDER BY currency"""

# Money of sales that have no order. Each takes the grace as $1, and at most $2 payments.
GIVE_BACK = (
    f"""-- What was captured for no order that stands goes back, after a failure once more.
    WITH owed AS (
        SELECT p.id, p.captured_minor - p.refunded_minor AS amount_minor,
               (SELECT count(*) FROM money_jobs j
                WHERE j.payment = p.id AND j.kind = 'refund') AS asked
        FROM payments p WHERE {_OWED} LIMIT $2
    ), answered AS (
        UPDATE money_jobs j SET state = 'called_off'
        FROM owed WHERE j.payment = owed.id AND j.kind = 'refund' AND j.state = 'failed'
    )
    INSERT INTO money_jobs (payment, kind, amount_minor, reason, request)
    SELECT id, 'refund', amount_minor, 'repair: captured for no order that stands',
           'repair:' || asked
    FROM owed
    ON CONFLICT DO NOTHING
    RETURNING 'payment ' || payment || ': its refund was asked for' AS done""",
    f"""-- What is kept for an order that did not come is let go.
    INSERT INTO money_jobs (payment, kind, amount_minor, reason)
    SELECT p.id, 'void', p.amount_minor, 'repair: kept for no order that stands'
    FROM payments p WHERE {_KEPT} LIMIT $2
    {DUE_AGAIN}
    RETURNING 'payment ' || payment || ': its void was asked for' AS done""",
)

# After that; $1 as before.
DUE_NOW = (
    f"""-- What nobody would look at for hours is due now.
    UPDATE money_jobs SET due_at = now()
    WHERE state = 'due' AND pending_at IS NULL
      AND due_at > now() + make_interval(secs => $1 + {LEASE_SECONDS_MAX})
    RETURNING 'payment ' || payment || ': its ' || kind || ' is due now' AS done""",
    f"""UPDATE notices SET due_at = now()
    WHERE due_at > now() + make_interval(secs => $1 + {LEASE_SECONDS_MAX})
    RETURNING 'notice ' || id || ': is due now' AS done""",
)

# Payments $2 of which so much has gone back by the provider's books ($3), as of our own less or
# more: the worker looks up each of their refunds.
REFUNDS_DIFFER = f"""
UPDATE payments p SET refunds_news_at = clock_timestamp()
FROM unnest($2::uuid[], $3::bigint[]) AS n(id, refunded)
WHERE p.id = n.id AND p.refunded_minor <> n.refunded AND p.state IN {MONEY_MOVED}
  AND p.refunds_news_at IS NULL AND p.updated_at < now() - make_interval(secs => $1)
RETURNING 'payment ' || p.id || ': its refunds are looked up one by one' AS done"""

# Payments that the worker should decide at once, whoever has their lease.
DECIDE = f"""
UPDATE payments p SET lease_until = now()
WHERE p.state IN {UNDECIDED} AND p.lease_until > now()
  AND p.updated_at < now() - make_interval(secs => $1)
  AND (p.lease_until > now() + interval '{LEASE_SECONDS_MAX} seconds' OR {HANGING})
RETURNING 'payment ' || p.id || ': was decided anew' AS done"""

# After the worker and the settler had their turn. The lock keeps the settler from taking it.
VOID_HANGING = f"""
WITH free AS (
    SELECT p.id, p.amount_minor FROM payments p
    WHERE {HANGING} AND p.updated_at < now() - make_interval(secs => $1)
    ORDER BY p.id FOR NO KEY UPDATE
)
INSERT INTO money_jobs (payment, kind, amount_minor, reason)
SELECT id, 'void', amount_minor, 'repair: authorised for no order' FROM free
{DUE_AGAIN}
RETURNING 'payment ' || payment || ': its void was asked for, no order came' AS done"""

HANGING_SHOWS = f"SELECT DISTINCT p.show FROM payments p WHERE {HANGING}"

# Shows whose stock is in Redis, or should be.
SOLD_IN = """
SELECT id FROM shows s
WHERE id = ANY($1::text[])
  AND (EXISTS (SELECT FROM offers f WHERE f.show = s.id AND f.phase <> 'draft')
       OR EXISTS (SELECT FROM stock_doubts d WHERE d.show = s.id))
ORDER BY created_at, id"""

# Newer than what viewers were told, so that they are told again.
TELL_AGAIN = """
WITH offered AS (
    UPDATE offers f SET version = greatest(f.version, n.version) + 1
    FROM unnest($3::text[], $4::bigint[]) AS n(id, version) WHERE f.id = n.id AND f.show = $1
)
UPDATE shows SET version = greatest(version, $2) + 1 WHERE id = $1"""

CATCH_UP_EPOCH = "UPDATE shows SET stock_epoch = greatest(stock_epoch, $2) WHERE id = $1"

PUT_ASIDE = "SELECT DISTINCT show FROM poison WHERE decided_at IS NULL"

GIVEN_UP = """
UPDATE poison SET decided_at = now() WHERE show = $1 AND decided_at IS NULL
RETURNING entry, seq, reason"""

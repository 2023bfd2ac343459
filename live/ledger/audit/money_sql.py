"""The audit's own SQL about the payments of one show, as of one instant."""

from live.domain.payment import INVOICE
from live.domain.payment_states import GIVEN_UP, SECURED
from live.ledger.audit.findings import Check
from live.ledger.audit.sql import EXTRA_OF_PAYMENT
from live.ledger.db.states import OVER, STANDS, UNDECIDED, sold, texts

REFUSED_SECONDS = 300  # a refused capture cancels its order in seconds; a rebuild may lie between

# Kinds of entries that tell of a decision of the provider.
_DECIDED = "{" + ",".join(texts(GIVEN_UP | SECURED)) + "}"

# A payment's money by its entries, and the order that owns it. Joined as sets: a show may have
# 200,000 payments.
_MONEY = f"""
entries AS (
    SELECT e.payment, sum(e.amount_minor) FILTER (WHERE e.kind = 'captured') AS captured,
           sum(e.amount_minor) FILTER (WHERE e.kind = 'refunded') AS refunded,
           array_agg(DISTINCT e.kind) AS kinds
    FROM payments p JOIN payment_entries e ON e.payment = p.id WHERE p.show = $1 GROUP BY e.payment
), owners AS (
    SELECT o.payment, count(*) AS owners FROM payments p
    JOIN orders o ON o.payment = p.id AND o.id = p.order_id AND o.state {STANDS}
    WHERE p.show = $1 GROUP BY o.payment
), money AS MATERIALIZED (
    SELECT p.id, p.state, p.amount_minor, p.captured_minor, p.refunded_minor,
           coalesce(e.captured, 0)::bigint AS captured, coalesce(e.refunded, 0)::bigint AS refunded,
           coalesce(e.kinds, '{{}}') AS kinds, coalesce(o.owners, 0) AS owners,
           EXISTS (SELECT FROM money_jobs j WHERE j.payment = p.id AND j.state = 'due') AS due
    FROM payments p LEFT JOIN entries e ON e.payment = p.id LEFT JOIN owners o ON o.payment = p.id
    WHERE p.show = $1
)"""

TOTALS = f"""
WITH {_MONEY}
SELECT count(*) FILTER (WHERE captured > 0) AS captured,
       count(*) FILTER (WHERE refunded > 0) AS refunded,
       count(*) FILTER (WHERE captured > refunded AND owners <> 1 AND NOT due) AS unmatched
FROM money"""

MONEY_CHECKS = (
    Check(
        "order_uncaptured",
        "P2",
        f"""-- An order that waits for its money has a job that fetches it, or was refused lately.
        -- An invoice waits for the shop.
        SELECT 'order ' || o.id AS name, 'is confirmed and nobody will capture its payment' AS text
        FROM orders o JOIN payments p ON p.id = o.payment
        WHERE o.show = $1 AND o.state = 'confirmed' AND p.captured_minor = 0
          AND p.provider <> '{INVOICE}'
          AND NOT EXISTS (SELECT FROM money_jobs j WHERE j.payment = p.id AND j.kind = 'capture'
                          AND (j.state = 'due' OR j.state = 'failed' AND EXISTS (
                              SELECT FROM payment_entries e
                              WHERE e.payment = p.id AND e.kind = 'declined'
                                AND e.created_at > now() - interval '{REFUSED_SECONDS} seconds')))
        LIMIT $2""",
    ),
    Check(
        "payment_sums",
        "P5",
        f"""-- A payment's figures and state are those of its entries, an order's are its payment's,
        -- and captured money belongs to one order that stands, or went back in full.
        WITH {_MONEY}
        (SELECT 'order_refunds' AS code, 'order ' || o.id AS name,
                o.state || ' with ' || o.refunded_minor || ' refunded, its payment has '
                    || m.captured || ' captured and ' || m.refunded || ' refunded' AS text
         FROM orders o JOIN money m ON m.id = o.payment
         WHERE (o.state = 'confirmed' AND m.captured > 0)
            OR (o.state = 'paid' AND (m.captured < o.total_minor OR m.refunded > 0))
            OR (o.state = 'partially_refunded'
                AND (m.refunded = 0 OR m.refunded >= o.total_minor))
            OR (o.state = 'refunded' AND m.refunded < o.total_minor)
            OR ({sold("o")} AND o.refunded_minor <> m.refunded) LIMIT $2)
        UNION ALL
        (SELECT 'payment_sums', 'payment ' || id,
                'counts ' || captured_minor || ' captured and ' || refunded_minor
                    || ' refunded, entries say ' || captured || ' and ' || refunded
         FROM money
         WHERE captured_minor <> captured OR refunded_minor <> refunded OR refunded > captured
         LIMIT $2)
        UNION ALL
        (SELECT 'payment_state', 'payment ' || id,
                'is ' || state || ', its entries are ' || array_to_string(kinds, ', ')
         FROM money
         WHERE CASE state
               WHEN 'created' THEN kinds <> '{{}}'
               WHEN 'authorising' THEN kinds && '{_DECIDED}'
               WHEN 'authorised' THEN NOT kinds @> '{{authorised}}' OR captured > 0
               WHEN 'capturing' THEN NOT kinds @> '{{authorised}}' OR captured > 0
               WHEN 'captured' THEN captured = 0 AND amount_minor > 0 OR refunded > 0
               WHEN 'partially_refunded' THEN refunded = 0 OR refunded >= captured
               WHEN 'refunded' THEN refunded < captured
               WHEN 'declined' THEN NOT kinds @> '{{declined}}'
               WHEN 'voided' THEN NOT kinds @> '{{voided}}'
               WHEN 'unknown' THEN NOT kinds @> '{{unknown}}'
               WHEN 'action_required' THEN NOT kinds @> '{{action_required}}'
               ELSE false END LIMIT $2)
        UNION ALL
        (SELECT 'payment_unowned', 'payment ' || id,
                'captured ' || captured || ', refunded ' || refunded || ', owned by ' || owners
                    || ' orders'
         FROM money WHERE captured > refunded AND owners <> 1 AND NOT due LIMIT $2)""",
    ),
    Check(
        "payment_lines",
        "P5",
        f"""-- A payment is for its units at the offers' own prices and in their mode and currency,
        -- and for what its totals add to them.
        SELECT 'payment ' || p.id AS name,
               'is ' || p.amount_minor || ' ' || p.currency || ' by ' || p.mode
                   || ', its units are not' AS text
        FROM payments p
        LEFT JOIN LATERAL unnest(p.slots, p.quantities, p.prices_minor) AS n(slot, qty, price)
            ON true
        LEFT JOIN offers f ON f.show = $1 AND f.slot = n.slot
        LEFT JOIN LATERAL ({EXTRA_OF_PAYMENT}) t ON true
        WHERE p.show = $1
        GROUP BY p.id, t.extra
        HAVING sum(n.qty * n.price) + coalesce(t.extra, 0) IS DISTINCT FROM p.amount_minor
            OR NOT bool_and(coalesce(f.price_minor = n.price AND f.currency = p.currency
                                     AND f.mode = p.mode, false))
        LIMIT $2""",
    ),
    Check(
        "payment_totals",
        "P5",
        f"""-- The lines of a bill add up to its total, which is the payment's amount.
        SELECT 'payment ' || p.id AS name,
               'is ' || p.amount_minor || ', its totals are ' || p.totals::text AS text
        FROM payments p CROSS JOIN LATERAL (
            SELECT sum((n.line ->> 'amount_minor')::bigint)
                       FILTER (WHERE n.line ->> 'type' = 'subtotal') AS goods,
                   sum((n.line ->> 'amount_minor')::bigint)
                       FILTER (WHERE n.line ->> 'type' = 'total') AS whole,
                   count(*) FILTER (WHERE n.line ->> 'type' = 'total') AS wholes
            FROM jsonb_array_elements(p.totals) AS n(line)) l
        LEFT JOIN LATERAL ({EXTRA_OF_PAYMENT}) t ON true
        WHERE p.show = $1 AND p.totals IS NOT NULL
          AND (l.wholes <> 1 OR l.whole <> p.amount_minor
               OR l.goods + coalesce(t.extra, 0) IS DISTINCT FROM p.amount_minor)
        LIMIT $2""",
    ),
    Check(
        "payment_kept",
        "P5",
        f"""-- A payment is kept for an order that will come, or being sent back.
        SELECT 'payment ' || p.id AS name, 'is capturing for no order that stands' AS text
        FROM payments p
        WHERE p.show = $1 AND p.state = 'capturing'
          AND NOT EXISTS (SELECT FROM orders o WHERE o.id = p.order_id AND o.state {STANDS})
          AND NOT EXISTS (SELECT FROM money_jobs j WHERE j.payment = p.id AND j.state = 'due')
        LIMIT $2""",
    ),
    Check(
        "job_amount",
        "P5",
        f"""-- What is asked of a provider is the payment's own sum, and what was done shows in it.
        SELECT 'payment ' || p.id AS name,
               'its ' || j.kind || ' of ' || j.amount_minor || ' is ' || j.state
                   || ', the payment is ' || p.state || ' over ' || p.amount_minor
                   || ' with ' || p.refunded_minor || ' refunded' AS text
        FROM payments p JOIN money_jobs j ON j.payment = p.id
        WHERE p.show = $1
          AND (j.kind <> 'refund' AND j.amount_minor <> p.amount_minor
               OR j.kind = 'capture' AND j.state = 'done' AND p.captured_minor < p.amount_minor
               OR j.kind = 'void' AND j.state = 'done'
                  AND p.state NOT IN {OVER}
               OR j.kind = 'refund' AND j.state IN ('due', 'done') AND p.refunds_news_at IS NULL
                  AND j.amount_minor > p.captured_minor - CASE WHEN j.state = 'due'
                                                          THEN p.refunded_minor ELSE 0 END)
        UNION ALL
        SELECT 'payment ' || p.id,
               'refunds of ' || sum(j.amount_minor) || ' are done, it has ' || p.refunded_minor
        FROM payments p JOIN money_jobs j ON j.payment = p.id
        WHERE p.show = $1 AND j.kind = 'refund' AND j.state = 'done' AND p.refunds_news_at IS NULL
        GROUP BY p.id HAVING sum(j.amount_minor) > p.refunded_minor
        LIMIT $2""",
    ),
    Check(
        "job_gone",
        "P5",
        """-- Every refund that the hosts' log tells of was asked of the provider.
        WITH said AS (
            SELECT a.detail::jsonb ->> 'order' AS id, count(*) AS times FROM host_actions a
            WHERE a.show = $1 AND a.action = 'order.refund'
              AND (a.detail::jsonb ->> 'amount_minor') IS DISTINCT FROM '0'  -- goods without money
            GROUP BY 1
        )
        SELECT 'order ' || o.id AS name,
               'hosts asked for ' || s.times || ' refunds, ' || n.jobs || ' are there' AS text
        FROM said s JOIN orders o ON o.id::text = s.id
        CROSS JOIN LATERAL (SELECT count(*) AS jobs FROM money_jobs j
                            WHERE j.payment = o.payment AND j.kind = 'refund'
                              AND j.request LIKE 'host:%') n
        WHERE o.show = $1 AND n.jobs < s.times LIMIT $2""",
    ),
)

# An invoice that nobody has paid yet is at rest: it may be so for weeks.
IN_FLIGHT = f"""
SELECT EXISTS (SELECT FROM payments WHERE show = $1 AND (state IN {UNDECIDED}
               OR state = 'capturing' AND provider <> '{INVOICE}'))
    OR EXISTS (SELECT FROM orders o JOIN money_jobs j ON j.payment = o.payment
               WHERE o.show = $1 AND j.state = 'due')
    OR EXISTS (SELECT FROM holds WHERE show = $1 AND state IN ('held', 'paying'))"""

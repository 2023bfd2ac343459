"""The audit's own SQL about the whole shop: queues, and what was put aside.

Each check reads a partial index of what is open, or a table that is emptied as its rows are done,
so it costs what is under way and not what has been. Only `ORPHANS` read everything.
"""

from live.ledger.audit.findings import Check
from live.ledger.db.states import MONEY_MOVED, STANDS, UNDECIDED

# The longest way of paying takes ten minutes, and the payment worker looks at least every five:
# what is not decided after half an hour will not be without a person.
UNDECIDED_SECONDS = 1_800
# An authorised payment becomes an order, or is given up, within seconds.
HANGS_SECONDS = 60
# A capture, void or refund that a provider neither did nor refused in so many tries (every five
# minutes at least): it may be down, and buyers' money waits.
DUE_SECONDS = 1_800
# A refund that the provider has taken on: banks take days, some methods two weeks.
PENDING_SECONDS = 30 * 86_400
UNATTENDED_SECONDS = 300  # a lease is seconds long, so somebody should have come long ago
LEASE_SECONDS_MAX = 3_600  # no lease and no pause is so long
DOUBTED_SECONDS = 60  # the keeper rebuilds at once, one show after the other
UNSENT_SECONDS = 1_800  # a notice waits for Redis only, and is tried every few seconds

IN_TIME = f"""(created_at >= now() - interval '{DUE_SECONDS} seconds'
    OR coalesce(pending_at >= now() - interval '{PENDING_SECONDS} seconds', false))"""
"""A condition on due money jobs: nobody need worry yet."""

_AT = """to_char({} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')"""

# Of an authorised payment: no order that stands, nor one to come while its void is due.
HANGING = f"""
p.state = 'authorised'
AND NOT EXISTS (SELECT FROM orders o WHERE o.id = p.order_id AND o.payment = p.id
                AND o.state {STANDS})
AND NOT EXISTS (SELECT FROM money_jobs j WHERE j.payment = p.id AND j.state = 'due')"""

SHOP_CHECKS = (
    Check(
        "entry_aside",
        "P1",
        """-- Nothing that was sold lies aside unsettled and undecided.
        SELECT 'outbox entry ' || show || ' ' || entry AS name, reason AS text
        FROM poison WHERE decided_at IS NULL ORDER BY created_at LIMIT $1""",
    ),
    Check(
        "stock_doubted",
        "P1",
        f"""-- What Redis is doubted about is made again at once.
        SELECT 'show ' || d.show AS name,
               'is to be rebuilt since ' || {_AT.format("d.created_at")} || ': ' || d.reason AS text
        FROM stock_doubts d WHERE d.created_at < now() - interval '{DOUBTED_SECONDS} seconds'
        LIMIT $1""",
    ),
    Check(
        "stock_doubted",
        "P1",
        f"""-- Shows whose stock is about to be made again.
        SELECT 'show ' || d.show AS name, 'is being rebuilt: ' || d.reason AS text
        FROM stock_doubts d WHERE d.created_at >= now() - interval '{DOUBTED_SECONDS} seconds'
        LIMIT $1""",
        in_flight=True,
    ),
    Check(
        "job_refused",
        "P5",
        f"""-- Nothing asked of a provider was refused and then forgotten.
        SELECT 'payment ' || j.payment AS name,
               'its ' || j.kind || ' failed: ' || j.reason
                   || CASE WHEN j.kind = 'refund' AND EXISTS (
                               SELECT FROM orders o
                               WHERE o.payment = j.payment AND o.state {STANDS})
                           THEN ' (its host asks anew or calls it off)' ELSE '' END AS text
        FROM money_jobs j JOIN payments p ON p.id = j.payment
        WHERE j.kind = 'refund' AND j.state = 'failed'
           OR j.kind = 'void' AND j.state = 'failed'
              AND p.state <> 'voided' AND p.state NOT IN {MONEY_MOVED}
        LIMIT $1""",
    ),
    Check(
        "payment_unattended",
        "P5",
        f"""-- Somebody looks after every authorisation: a lease, an order or a void job.
        SELECT 'payment ' || p.id AS name,
               'is ' || p.state || ' and nobody has looked after it since '
                   || {_AT.format("p.lease_until")} AS text
        FROM payments p
        WHERE p.state IN {UNDECIDED}
          AND (p.lease_until < now() - interval '{UNATTENDED_SECONDS} seconds'
               OR p.lease_until > now() + interval '{LEASE_SECONDS_MAX} seconds')
          AND NOT EXISTS (SELECT FROM money_jobs j WHERE j.payment = p.id AND j.state = 'due')
        LIMIT $1""",
    ),
    Check(
        "payment_hangs",
        "P5",
        f"""-- Money that is set aside becomes an order's or is let go.
        SELECT 'payment ' || p.id AS name,
               'is authorised for no order since ' || {_AT.format("p.updated_at")} AS text
        FROM payments p
        WHERE {HANGING} AND p.updated_at < now() - interval '{HANGS_SECONDS} seconds'
        LIMIT $1""",
    ),
    Check(
        "payment_undecided",
        "P5",
        f"""-- Looking after a payment comes to an end: it is decided soon after its window.
        SELECT 'payment ' || p.id AS name,
               'is ' || p.state || ' after ' || p.tries || ' tries since '
                   || {_AT.format("p.created_at")} AS text
        FROM payments p
        WHERE p.state IN {UNDECIDED}
          AND p.lease_until >= now() - interval '{UNATTENDED_SECONDS} seconds'
          AND p.created_at < now() - interval '{UNDECIDED_SECONDS} seconds'
          AND NOT EXISTS (SELECT FROM money_jobs j WHERE j.payment = p.id AND j.state = 'due')
        LIMIT $1""",
    ),
    Check(
        "job_overdue",
        "P5",
        f"""-- What is asked of a provider is done or refused within a bound.
        SELECT 'payment ' || payment AS name,
               'its ' || kind || ' is due since ' || {_AT.format("created_at")} || ': ' || reason
                   AS text
        FROM money_jobs
        WHERE state = 'due' AND (NOT {IN_TIME} OR pending_at IS NULL
                                 AND due_at > now() + interval '{LEASE_SECONDS_MAX} seconds')
        ORDER BY id LIMIT $1""",
    ),
    Check(
        "job_overdue",
        "P5",
        f"""-- What a provider tells of refunds is looked up.
        SELECT 'payment ' || id AS name,
               'its refunds were not looked up since ' || {_AT.format("refunds_news_at")} AS text
        FROM payments
        WHERE refunds_news_at < now() - interval '{DUE_SECONDS} seconds' AND state IN {MONEY_MOVED}
        LIMIT $1""",
    ),
    Check(
        "job_overdue",
        "P5",
        f"""-- Money moves that are on their way.
        SELECT 'payment ' || payment AS name,
               kind || ' of ' || amount_minor
                   || CASE WHEN pending_at IS NULL THEN ' is due' ELSE ' is at the provider' END
                   AS text
        FROM money_jobs
        WHERE state = 'due' AND {IN_TIME}
        ORDER BY id LIMIT $1""",
        in_flight=True,
    ),
    Check(
        "job_refused",
        "P5",
        """-- Orders that are about to be cancelled, because their money was refused.
        SELECT 'payment ' || j.payment AS name,
               'capture of ' || j.amount_minor || ' was refused: ' || j.reason AS text
        FROM money_jobs j JOIN payments p ON p.id = j.payment JOIN orders o ON o.id = p.order_id
        WHERE j.state = 'failed' AND j.kind = 'capture' AND o.state = 'confirmed'
        ORDER BY j.id LIMIT $1""",
        in_flight=True,
    ),
    Check(
        "payment_undecided",
        "P5",
        f"""-- Payments that are not decided yet.
        SELECT 'payment ' || id AS name, 'is ' || state AS text FROM payments
        WHERE state IN {UNDECIDED}
          AND lease_until >= now() - interval '{UNATTENDED_SECONDS} seconds'
          AND created_at >= now() - interval '{UNDECIDED_SECONDS} seconds' ORDER BY id LIMIT $1""",
        in_flight=True,
    ),
    Check(
        "notice_unsent",
        "P2",
        f"""-- Buyers who should have been told long ago.
        SELECT 'notice ' || id AS name,
               kind || ' is not sent since ' || {_AT.format("created_at")} AS text
        FROM notices
        WHERE created_at < now() - interval '{UNSENT_SECONDS} seconds'
           OR due_at > now() + interval '{LEASE_SECONDS_MAX} seconds' ORDER BY id LIMIT $1""",
    ),
    Check(
        "notice_unsent",
        "P2",
        f"""-- Buyers who have not been told yet.
        SELECT 'notice ' || id AS name, kind || ' is not sent yet' AS text
        FROM notices WHERE created_at >= now() - interval '{UNSENT_SECONDS} seconds'
        ORDER BY id LIMIT $1""",
        in_flight=True,
    ),
    Check(
        "notice_wrong",
        "P2",
        """-- A notice about an order goes to whom the order belongs.
        SELECT 'notice ' || n.id AS name, n.kind || ' is about an order of somebody else' AS text
        FROM notices n LEFT JOIN orders o ON o.id = n.order_id
        WHERE (n.kind LIKE 'order.%'
               AND (o.buyer, o.show) IS DISTINCT FROM (n.buyer, n.show))
           OR NOT EXISTS (SELECT FROM shows s WHERE s.id = n.show)
        LIMIT $1""",
    ),
)

# Of the products $2, or of all for NULL.
SHELVES = Check(
    "product_shelf",
    "P1",
    """-- All offers of a product together stay within what is on hand.
    SELECT 'product ' || p.sku AS name,
           'has ' || p.on_hand || ' on hand (movements say ' || coalesce(m.units, 0)
               || ') and ' || p.allotted || ' allotted (offers say ' || coalesce(f.units, 0)
               || ')' AS text
    FROM products p
    LEFT JOIN LATERAL (SELECT sum(allotted) AS units FROM offers WHERE sku = p.sku) f ON true
    LEFT JOIN LATERAL (SELECT sum(qty) AS units FROM stock_movements
                       WHERE sku = p.sku AND kind IN ('adjusted', 'returned')) m ON true
    WHERE ($2::text[] IS NULL OR p.sku = ANY($2))
      AND (p.allotted <> coalesce(f.units, 0) OR p.on_hand <> coalesce(m.units, 0)
           OR coalesce(f.units, 0) > p.on_hand) LIMIT $1""",
)

# Rows that settling writes without references (migration 0010): all of them, so only in full.
ORPHANS = (
    Check(
        "job_unowned",
        "P5",
        """SELECT 'job ' || j.id AS name, 'is for a payment that is not there' AS text
        FROM money_jobs j WHERE NOT EXISTS (SELECT FROM payments p WHERE p.id = j.payment)
        LIMIT $1""",
    ),
    Check(
        "row_unowned",
        "P2",
        """SELECT 'order ' || o.id AS name, 'is of a show that is not there' AS text
        FROM orders o WHERE NOT EXISTS (SELECT FROM shows s WHERE s.id = o.show)
        UNION ALL
        SELECT 'order ' || i.order_id, 'has items and is not there' FROM order_items i
        WHERE NOT EXISTS (SELECT FROM orders o WHERE o.id = i.order_id)
        UNION ALL
        SELECT 'movement ' || m.id, 'is of a product or offer that is not there'
        FROM stock_movements m
        WHERE NOT EXISTS (SELECT FROM products p WHERE p.sku = m.sku)
           OR m.offer IS NOT NULL AND NOT EXISTS (SELECT FROM offers f WHERE f.id = m.offer)
           OR m.offer IS NULL AND m.kind <> 'adjusted'
        LIMIT $1""",
    ),
)

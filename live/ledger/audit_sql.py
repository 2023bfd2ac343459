"""The audit's own SQL. It adds up append-only rows and uses none of the queries it examines."""

from dataclasses import dataclass
from typing import Literal

from live.domain.payment import INVOICE

# The longest way of paying takes ten minutes, and the payment worker looks at least every five:
# what is not decided after half an hour will not be without a person.
UNDECIDED_S = 1_800
# A capture, void or refund that a provider neither did nor refused in so many tries (every five
# minutes at least): it may be down, and buyers' money waits.
DUE_S = 1_800
# A refund that the provider has taken on: banks take days, some methods two weeks.
PENDING_S = 30 * 86_400
REFUSED_S = 300  # a refused capture cancels its order within seconds; a rebuild may lie between
UNATTENDED_S = 300  # a lease is seconds long, so somebody should have come long ago

IN_TIME = f"""(created_at >= now() - interval '{DUE_S} seconds'
    OR coalesce(pending_at >= now() - interval '{PENDING_S} seconds', false))"""
"""A condition on due money jobs: nobody need worry yet."""

_UNDECIDED = "('created', 'authorising', 'authorised', 'unknown', 'action_required')"

SHOWS = """
SELECT id FROM shows s
WHERE EXISTS (SELECT FROM offers f WHERE f.show = s.id AND f.phase <> 'draft')
ORDER BY created_at, id"""

LOGGED_SHOWS = "SELECT DISTINCT show FROM host_actions ORDER BY show"

# Units sold by movements; orders that stand; allotted as the host decided it.
OFFERS = """
SELECT f.id, f.slot, f.allotted, f.phase = 'closed' AS closed,
       coalesce((SELECT sum(m.qty) FROM stock_movements m
                 WHERE m.offer = f.id AND m.kind IN ('sold', 'cancelled')), 0)::bigint AS sold,
       (SELECT count(*) FROM order_items i JOIN orders o ON o.id = i.order_id
        WHERE i.offer = f.id AND o.state NOT IN ('cancelled', 'rejected')) AS orders
FROM offers f WHERE f.show = $1 AND f.phase <> 'draft' ORDER BY f.slot"""

# A payment's money by its entries, and the order that owns it.
_MONEY = """
money AS (
    SELECT p.id, p.state, p.captured_minor, p.refunded_minor, p.lease_until, p.created_at,
           coalesce(sum(e.amount_minor) FILTER (WHERE e.kind = 'captured'), 0)::bigint AS captured,
           coalesce(sum(e.amount_minor) FILTER (WHERE e.kind = 'refunded'), 0)::bigint AS refunded,
           (SELECT count(*) FROM orders o
            WHERE o.payment = p.id AND o.id = p.order_id
              AND o.state NOT IN ('cancelled', 'rejected')) AS owners,
           EXISTS (SELECT FROM money_jobs j WHERE j.payment = p.id AND j.state = 'due') AS due
    FROM payments p LEFT JOIN payment_entries e ON e.payment = p.id
    GROUP BY p.id
)"""

PAYMENT_TOTALS = f"""
WITH {_MONEY}
SELECT count(*) FILTER (WHERE captured > 0) AS captured,
       count(*) FILTER (WHERE refunded > 0) AS refunded,
       count(*) FILTER (WHERE captured > refunded AND owners <> 1 AND NOT due) AS unmatched
FROM money"""


@dataclass(frozen=True, slots=True)
class Check:
    """`query` returns `name` and `text` of what it found, at most $1 rows."""

    promise: Literal["P1", "P2", "P5"]
    query: str
    in_flight: bool = False


CHECKS = (
    Check(
        "P1",
        """-- The counter that the CHECK guards is the sum of its movements and of the orders.
        SELECT 'offer ' || f.id AS name,
               'counts ' || f.sold || ' sold, movements say ' || coalesce(m.sold, 0)
                   || ', orders say ' || coalesce(o.sold, 0) AS text
        FROM offers f
        LEFT JOIN (SELECT offer, sum(qty) AS sold FROM stock_movements
                   WHERE kind IN ('sold', 'cancelled') GROUP BY offer) m ON m.offer = f.id
        LEFT JOIN (SELECT i.offer, sum(i.qty) AS sold
                   FROM order_items i JOIN orders s ON s.id = i.order_id
                   WHERE s.state NOT IN ('cancelled', 'rejected') GROUP BY i.offer) o
               ON o.offer = f.id
        WHERE f.sold <> coalesce(m.sold, 0) OR f.sold <> coalesce(o.sold, 0) LIMIT $1""",
    ),
    Check(
        "P1",
        """-- What an offer may sell is what hosts gave it less what it gave back.
        SELECT 'offer ' || f.id AS name,
               'is allotted ' || f.allotted || ', movements say ' || coalesce(m.units, 0) AS text
        FROM offers f
        LEFT JOIN (SELECT offer, sum(qty) AS units FROM stock_movements
                   WHERE kind IN ('allotted', 'given_back') GROUP BY offer) m ON m.offer = f.id
        WHERE f.allotted <> coalesce(m.units, 0) LIMIT $1""",
    ),
    Check(
        "P1",
        """-- All offers of a product together stay within what is on hand.
        SELECT 'product ' || p.sku AS name,
               'has ' || p.on_hand || ' on hand (movements say ' || coalesce(m.units, 0)
                   || ') and ' || p.allotted || ' allotted (offers say ' || coalesce(f.units, 0)
                   || ')' AS text
        FROM products p
        LEFT JOIN (SELECT sku, sum(allotted) AS units FROM offers GROUP BY sku) f
               ON f.sku = p.sku
        LEFT JOIN (SELECT sku, sum(qty) AS units FROM stock_movements
                   WHERE kind IN ('adjusted', 'returned') GROUP BY sku) m ON m.sku = p.sku
        WHERE p.allotted <> coalesce(f.units, 0) OR p.on_hand <> coalesce(m.units, 0)
           OR coalesce(f.units, 0) > p.on_hand LIMIT $1""",
    ),
    Check(
        "P1",
        """-- Nothing that was sold lies aside unsettled.
        SELECT 'outbox entry ' || show || ' ' || entry AS name, reason AS text
        FROM poison WHERE decided_at IS NULL ORDER BY created_at LIMIT $1""",
    ),
    Check(
        "P2",
        """-- Every order that stands moved exactly its units, every other one moved none in sum.
        SELECT 'order ' || o.id AS name,
               o.state || ' moved ' || coalesce(m.units, 0) || ' units, its items are '
                   || coalesce(i.units, 0) AS text
        FROM orders o
        LEFT JOIN (SELECT order_id, sum(qty) AS units FROM stock_movements
                   WHERE kind IN ('sold', 'cancelled') GROUP BY order_id) m ON m.order_id = o.id
        LEFT JOIN (SELECT order_id, sum(qty) AS units, sum(qty * price_minor) AS worth
                   FROM order_items GROUP BY order_id) i ON i.order_id = o.id
        WHERE coalesce(m.units, 0) <>
              CASE WHEN o.state IN ('cancelled', 'rejected') THEN 0 ELSE coalesce(i.units, 0) END
           OR i.units IS NULL LIMIT $1""",
    ),
    Check(
        "P2",
        """-- The items of an order that stands are what its total says.
        SELECT 'order ' || o.id AS name,
               'total ' || o.total_minor || ', items are worth ' || sum(i.qty * i.price_minor)
                   AS text
        FROM orders o JOIN order_items i ON i.order_id = o.id
        WHERE o.state NOT IN ('cancelled', 'rejected')
        GROUP BY o.id HAVING sum(i.qty * i.price_minor) <> o.total_minor LIMIT $1""",
    ),
    Check(
        "P2",
        """-- An order that stands owns a payment that is authorised for it or further on.
        SELECT 'order ' || o.id AS name,
               CASE WHEN p.id IS NULL THEN 'has no payment'
                    ELSE 'stands on a payment that is ' || p.state END AS text
        FROM orders o LEFT JOIN payments p ON p.id = o.payment AND p.order_id = o.id
        WHERE o.state NOT IN ('cancelled', 'rejected')
          AND (p.id IS NULL OR p.state NOT IN
               ('capturing', 'captured', 'partially_refunded', 'refunded'))
        LIMIT $1""",
    ),
    Check(
        "P2",
        f"""-- An order that waits for its money has a job that fetches it, or was refused lately.
        -- An invoice waits for the shop.
        SELECT 'order ' || o.id AS name, 'is confirmed and nobody will capture its payment' AS text
        FROM orders o JOIN payments p ON p.id = o.payment
        WHERE o.state = 'confirmed' AND p.captured_minor = 0 AND p.provider <> '{INVOICE}'
          AND NOT EXISTS (SELECT FROM money_jobs j WHERE j.payment = p.id AND j.kind = 'capture'
                          AND (j.state = 'due' OR j.state = 'failed' AND EXISTS (
                              SELECT FROM payment_entries e
                              WHERE e.payment = p.id AND e.kind = 'declined'
                                AND e.created_at > now() - interval '{REFUSED_S} seconds')))
        LIMIT $1""",
    ),
    Check(
        "P2",
        f"""-- An order is paid, or given back, by what its payment's entries say.
        WITH {_MONEY}
        SELECT 'order ' || o.id AS name,
               o.state || ' with ' || o.refunded_minor || ' refunded, its payment has '
                   || m.captured || ' captured and ' || m.refunded || ' refunded' AS text
        FROM orders o JOIN money m ON m.id = o.payment
        WHERE (o.state = 'confirmed' AND m.captured > 0)
           OR (o.state = 'paid' AND (m.captured < o.total_minor OR m.refunded > 0))
           OR (o.state = 'partially_refunded'
               AND (m.refunded = 0 OR m.refunded >= o.total_minor))
           OR (o.state = 'refunded' AND m.refunded < o.total_minor)
           OR (o.state IN ('partially_refunded', 'refunded') AND o.refunded_minor <> m.refunded)
        LIMIT $1""",
    ),
    Check(
        "P5",
        f"""-- A payment's figures are the sums of its entries.
        WITH {_MONEY}
        SELECT 'payment ' || id AS name,
               'counts ' || captured_minor || ' captured and ' || refunded_minor
                   || ' refunded, entries say ' || captured || ' and ' || refunded AS text
        FROM money
        WHERE captured_minor <> captured OR refunded_minor <> refunded
           OR refunded > captured
           OR (state IN ('captured', 'partially_refunded', 'refunded') AND captured = 0
               AND captured_minor > 0) LIMIT $1""",
    ),
    Check(
        "P5",
        f"""-- Captured money belongs to exactly one order that stands, or went back in full.
        WITH {_MONEY}
        SELECT 'payment ' || id AS name,
               'captured ' || captured || ', refunded ' || refunded || ', owned by ' || owners
                   || ' orders' AS text
        FROM money WHERE captured > refunded AND owners <> 1 AND NOT due LIMIT $1""",
    ),
    Check(
        "P5",
        """-- Nothing asked of a provider was refused and then forgotten.
        SELECT 'payment ' || j.payment AS name,
               'its ' || j.kind || ' failed: ' || j.reason
                   || CASE WHEN j.kind = 'refund' AND EXISTS (
                               SELECT FROM orders o WHERE o.payment = j.payment
                                 AND o.state NOT IN ('cancelled', 'rejected'))
                           THEN ' (its host asks anew or calls it off)' ELSE '' END AS text
        FROM money_jobs j WHERE j.state = 'failed' AND j.kind IN ('void', 'refund') LIMIT $1""",
    ),
    Check(
        "P5",
        f"""-- Somebody looks after every authorisation: a lease, an order or a void job.
        SELECT 'payment ' || p.id AS name,
               'is ' || p.state || ' and nobody has looked after it since '
                   || to_char(p.lease_until AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')
                   AS text
        FROM payments p
        WHERE p.state IN {_UNDECIDED}
          AND p.lease_until < now() - interval '{UNATTENDED_S} seconds'
          AND NOT EXISTS (SELECT FROM money_jobs j WHERE j.payment = p.id AND j.state = 'due')
        LIMIT $1""",
    ),
    Check(
        "P5",
        f"""-- Looking after a payment comes to an end: it is decided soon after its window.
        SELECT 'payment ' || p.id AS name,
               'is ' || p.state || ' after ' || p.tries || ' tries since '
                   || to_char(p.created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')
                   AS text
        FROM payments p
        WHERE p.state IN {_UNDECIDED}
          AND p.lease_until >= now() - interval '{UNATTENDED_S} seconds'
          AND p.created_at < now() - interval '{UNDECIDED_S} seconds'
          AND NOT EXISTS (SELECT FROM money_jobs j WHERE j.payment = p.id AND j.state = 'due')
        LIMIT $1""",
    ),
    Check(
        "P5",
        """-- A payment is kept for an order that will come, or being sent back.
        SELECT 'payment ' || p.id AS name, 'is capturing for no order that stands' AS text
        FROM payments p
        WHERE p.state = 'capturing'
          AND NOT EXISTS (SELECT FROM orders o WHERE o.id = p.order_id
                          AND o.state NOT IN ('cancelled', 'rejected'))
          AND NOT EXISTS (SELECT FROM money_jobs j WHERE j.payment = p.id AND j.state = 'due')
        LIMIT $1""",
    ),
    Check(
        "P5",
        f"""-- What is asked of a provider is done or refused within a bound.
        SELECT 'payment ' || payment AS name,
               'its ' || kind || ' is due since '
                   || to_char(created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')
                   || ': ' || reason AS text
        FROM money_jobs
        WHERE state = 'due' AND NOT {IN_TIME}
        ORDER BY id LIMIT $1""",
    ),
    Check(
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
        "P5",
        f"""-- Payments that are not decided yet.
        SELECT 'payment ' || id AS name, 'is ' || state AS text FROM payments
        WHERE state IN {_UNDECIDED}
          AND lease_until >= now() - interval '{UNATTENDED_S} seconds'
          AND created_at >= now() - interval '{UNDECIDED_S} seconds' ORDER BY id LIMIT $1""",
        in_flight=True,
    ),
    Check(
        "P2",
        """-- Buyers who have not been told yet.
        SELECT 'notice ' || id AS name, kind || ' is not sent yet' AS text
        FROM notices ORDER BY id LIMIT $1""",
        in_flight=True,
    ),
)

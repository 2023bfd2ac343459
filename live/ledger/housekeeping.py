"""Housekeeping: rows that nobody asks for any more are deleted, a bounded number at a time.

Orders, their items, payments, money jobs, movements and actions are kept for good: they are the
books. What goes is memory of calls and deliveries, and what is known of people beyond the books:
contacts, names in waitlists, holds. How long each is kept stands in `KEPT_DAYS`, and in
docs/operating.md.
Always: no row goes that a rebuild, a refund or the audit may still need.
"""

from live.ledger.db.idempotency import IdempotencyRows
from live.ledger.db.pool import Pool
from live.ledger.db.states import STANDS
from live.ledger.hosting.revocations import RevocationRows

HOUSEKEEPING_EVERY_SECONDS = 600.0
DELETED_MAX = 10_000  # of one statement: short locks, short transactions
ROUNDS_MAX = 100  # of one run; the next one goes on
READ_TIMEOUT_SECONDS = 20.0

KEPT_DAYS = {
    "webhook_events": 30,  # providers repeat an event for days, not for weeks
    "events": 30,  # what was delivered is known as long, and can be had once more
    "deliveries": 30,
    "notices": 7,  # who was not told in a week reads their order
    "poison": 90,  # answered long before; for whoever looks into the incident
    "bans": 30,  # after their end
    "waitlist": 30,  # after the show's end; who waited, by name
    "holds": 90,  # after the show's end, that is, of ended holds; a report counts them until then
    # After the payment was made: name, e-mail, address. Where no order stands nothing is delivered;
    # an order may be delivered, returned and disputed for a year.
    "contact without order": 30,
    "contact": 400,
}

# Each deletes at most $2 rows that are older than $1 days and tells how many.
_DELETE = {
    "webhook_events": """
        WITH old AS (
            SELECT provider, id FROM webhook_events
            WHERE received_at < now() - make_interval(days => $1) LIMIT $2 FOR UPDATE SKIP LOCKED
        ), gone AS (
            DELETE FROM webhook_events w USING old
            WHERE w.provider = old.provider AND w.id = old.id RETURNING 1
        )
        SELECT count(*) FROM gone""",
    "notices": """
        WITH gone AS (
            DELETE FROM notices WHERE id IN (
                SELECT id FROM notices WHERE created_at < now() - make_interval(days => $1)
                ORDER BY id LIMIT $2 FOR UPDATE SKIP LOCKED) RETURNING 1
        )
        SELECT count(*) FROM gone""",
    # The oldest ones alone are looked at: their numbers follow their times.
    "events": """
        WITH gone AS (
            DELETE FROM events WHERE id IN (
                SELECT id FROM (SELECT id, at FROM events ORDER BY id LIMIT $2) first
                WHERE at < now() - make_interval(days => $1)) RETURNING 1
        )
        SELECT count(*) FROM gone""",
    "deliveries": """
        WITH gone AS (
            DELETE FROM deliveries WHERE id IN (
                SELECT id FROM (SELECT id, created_at FROM deliveries ORDER BY id LIMIT $2) first
                WHERE created_at < now() - make_interval(days => $1)) RETURNING 1
        )
        SELECT count(*) FROM gone""",
    "poison": """
        WITH gone AS (
            DELETE FROM poison p WHERE (show, entry, seq) IN (
                SELECT show, entry, seq FROM poison o
                WHERE created_at < now() - make_interval(days => $1)
                  AND decided_at IS NOT NULL
                LIMIT $2 FOR UPDATE SKIP LOCKED) RETURNING 1
        )
        SELECT count(*) FROM gone""",
}

_ENDED = """
    SELECT s.id FROM shows s WHERE s.status = 'ended' AND EXISTS (
        SELECT FROM {table} r WHERE r.show = s.id)
      AND greatest(s.created_at, (
              SELECT max(a.created_at) FROM host_actions a
              WHERE a.show = s.id AND a.action = 'show.end'))
          < now() - make_interval(days => $1)"""

# Of shows that ended so long ago, and of which nothing is on its way.
_OF_ENDED_SHOWS = {
    "waitlist": f"""
        WITH gone AS (
            DELETE FROM waitlist w WHERE ctid IN (
                SELECT ctid FROM waitlist WHERE show IN ({_ENDED.format(table="waitlist")})
                LIMIT $2 FOR UPDATE SKIP LOCKED) RETURNING 1
        )
        SELECT count(*) FROM gone""",
    "holds": f"""
        WITH gone AS (
            DELETE FROM holds h WHERE ctid IN (
                SELECT ctid FROM holds WHERE show IN ({_ENDED.format(table="holds")})
                  AND state NOT IN ('held', 'paying')
                LIMIT $2 FOR UPDATE SKIP LOCKED) RETURNING 1
        )
        SELECT count(*) FROM gone""",
}

# A cursor in time: what was made before it has been looked at. One round takes a day, or less where
# a day has many payments with contacts.
_CONTACTS = """
WITH cursor AS (
    SELECT coalesce((SELECT to_timestamp(mark / 1000.0) FROM audit_marks WHERE name = $1),
                    (SELECT min(created_at) FROM payments)) AS at
), span AS (
    SELECT at, least(at + interval '1 day', now() - make_interval(days => $2)) AS until FROM cursor
), found AS (
    SELECT p.id, p.created_at FROM span, payments p
    WHERE p.created_at >= span.at AND p.created_at < span.until
      AND p.contact IS NOT NULL AND {which}
    ORDER BY p.created_at, p.id LIMIT $3 FOR NO KEY UPDATE SKIP LOCKED
), gone AS (
    UPDATE payments p SET contact = NULL FROM found WHERE p.id = found.id RETURNING 1
), moved AS (
    INSERT INTO audit_marks (name, mark)
    SELECT $1, floor(extract(epoch FROM CASE
               WHEN (SELECT count(*) FROM found) < $3 THEN until
               ELSE (SELECT max(created_at) FROM found) END) * 1000)
    FROM span WHERE until > at
    ON CONFLICT (name) DO UPDATE SET mark = EXCLUDED.mark RETURNING 1
)
SELECT (SELECT count(*) FROM gone) AS gone, EXISTS (SELECT FROM moved) AS more"""

_NO_ORDER = f"""NOT EXISTS (SELECT FROM orders o WHERE o.payment = p.id AND o.id = p.order_id
                            AND o.state {STANDS})"""

_BANS = "DELETE FROM bans WHERE until < now() - make_interval(days => $1)"


async def keep_house(pool: Pool) -> None:
    """Forget what is older than it is kept."""
    await IdempotencyRows(pool).sweep()
    await pool.execute(_BANS, KEPT_DAYS["bans"])
    for table, query in (*_DELETE.items(), *_OF_ENDED_SHOWS.items()):
        for _ in range(ROUNDS_MAX):
            gone = await pool.fetchval(
                query, KEPT_DAYS[table], DELETED_MAX, timeout=READ_TIMEOUT_SECONDS
            )
            if gone < DELETED_MAX:
                break
    for _ in range(ROUNDS_MAX):
        if await RevocationRows(pool).sweep(DELETED_MAX) < DELETED_MAX:
            break
    for name, which in (("contact without order", _NO_ORDER), ("contact", "true")):
        await _forget_contacts(pool, name, which)


async def _forget_contacts(pool: Pool, name: str, which: str) -> None:
    query = _CONTACTS.format(which=which)
    for _ in range(ROUNDS_MAX):
        row = await pool.fetchrow(
            query, name, KEPT_DAYS[name], DELETED_MAX, timeout=READ_TIMEOUT_SECONDS
        )
        if row is None or not row["more"]:
            return

"""The statements of endpoints.py and of delivery_log.py, in their order."""

VIEW = """
SELECT id, url, types, shows, format, contact, state, reason,
       floor(extract(epoch FROM failing_since) * 1000)::bigint AS failing_ms,
       floor(extract(epoch FROM created_at) * 1000)::bigint AS created_ms
FROM webhooks"""

LOCK_ALL = "SELECT pg_advisory_xact_lock($1)"

COUNT = "SELECT count(*) FROM webhooks"

CREATE = """
INSERT INTO webhooks (id, url, types, shows, format, contact) VALUES ($1, $2, $3, $4, $5, $6)"""

# $8: it is to be active, whatever it was: all that waits is sent now.
PATCH = """
UPDATE webhooks
SET url = $2, types = $3, shows = $4, format = $5, contact = $6, state = $7,
    reason = CASE WHEN $8 THEN '' ELSE reason END,
    failing_since = CASE WHEN $8 THEN NULL ELSE failing_since END,
    throttles = CASE WHEN $8 THEN 0 ELSE throttles END,
    rests_until = CASE WHEN $8 THEN '-infinity' ELSE rests_until END,
    caught_up_to = CASE WHEN $8 THEN now() ELSE caught_up_to END,
    caught_up_id = CASE WHEN $8 THEN 0 ELSE caught_up_id END
WHERE id = $1"""

UNKNOWN_SHOWS = """
SELECT show FROM unnest($1::text[]) AS show
WHERE NOT EXISTS (SELECT FROM shows WHERE id = show) ORDER BY show LIMIT 1"""

DELETE = "DELETE FROM webhooks WHERE id = $1"

LOCK = "SELECT FROM webhooks WHERE id = $1 FOR UPDATE"

SECRET = """
SELECT secret FROM webhook_secrets WHERE webhook = $1 AND until = 'infinity'
ORDER BY made_at DESC LIMIT 1"""

FORGET_SECRETS = "DELETE FROM webhook_secrets WHERE webhook = $1 AND until <= now()"

COUNT_SECRETS = "SELECT count(*) FROM webhook_secrets WHERE webhook = $1"

# The last one goes on for a time; those before it go on to their ends.
END_SECRETS = """
UPDATE webhook_secrets SET until = now() + make_interval(hours => $2)
WHERE webhook = $1 AND until = 'infinity'"""

# The time of the statement: two in one transaction have an order.
NEW_SECRET = """
INSERT INTO webhook_secrets (webhook, secret, made_at) VALUES ($1, $2, clock_timestamp())"""

TEST = """
INSERT INTO deliveries (webhook, type, subject) VALUES ($1, $2, $3) RETURNING id"""

# The next try is that of the first in its line: those behind follow it.
_DELIVERY = """
SELECT d.id, d.webhook, d.event, d.type, d.state, d.attempts::text AS attempts,
       floor(extract(epoch FROM coalesce(e.at, d.created_at)) * 1000000)::bigint AS at_us,
       floor(extract(epoch FROM greatest(
           CASE WHEN (first.due_at, first.id) > (w.caught_up_to, w.caught_up_id) THEN now()
                ELSE first.due_at END,
           CASE WHEN first.id IS NOT NULL THEN w.rests_until END)) * 1000)::bigint AS next_ms
FROM deliveries d JOIN webhooks w ON w.id = d.webhook LEFT JOIN events e ON e.id = d.event
LEFT JOIN LATERAL (
    SELECT f.id, f.due_at FROM deliveries f
    WHERE d.state = 'due' AND f.webhook = d.webhook AND f.subject = d.subject AND f.state = 'due'
    ORDER BY f.id LIMIT 1
) first ON true"""

DELIVERIES = f"""{_DELIVERY}
WHERE d.webhook = $1 AND ($2::text IS NULL OR d.state = $2) AND ($3::bigint = 0 OR d.id < $3)
ORDER BY d.id DESC LIMIT $4"""

DELIVERY = f"""{_DELIVERY}
WHERE d.id = $1"""

REPEAT = """
UPDATE deliveries SET state = 'due', tries = 0, due_at = now(), leased_until = '-infinity'
WHERE webhook = $1 AND id = ANY($2::bigint[]) AND (state <> 'due' OR leased_until <= now())
RETURNING id"""

KNOWN = "SELECT count(*) FROM deliveries WHERE webhook = $1 AND id = ANY($2::bigint[])"

WAITING_REPLAYS = "SELECT count(*) FROM event_replays WHERE webhook = $1"

REPLAY = """
INSERT INTO event_replays (webhook, types, since, until, after, upto)
SELECT $1, $2, to_timestamp($3::float8 / 1000), to_timestamp($4::float8 / 1000), $5, position
FROM event_sequence"""

WAITING = """
SELECT count(*) FROM (
    SELECT FROM deliveries WHERE webhook = $1 AND state = 'due' LIMIT $2
) d"""

COUNT_SPAN = """
SELECT count(*) AS looked_at,
       count(*) FILTER (WHERE at >= to_timestamp($2::float8 / 1000)
                          AND at < to_timestamp($3::float8 / 1000) AND type = ANY($4::text[])
                          AND (cardinality($5::text[]) = 0 OR show = ANY($5::text[]))) AS found,
       floor(extract(epoch FROM max(at)) * 1000)::bigint AS last_ms
FROM (SELECT at, type, show FROM events WHERE position > $1 ORDER BY position LIMIT $6) e"""

ENDS = """
SELECT coalesce(min(position), 0) AS first, coalesce(max(position), 0) AS last FROM events
WHERE position IS NOT NULL"""

TIME_AT = """
SELECT floor(extract(epoch FROM at) * 1000)::bigint FROM events
WHERE position >= $1 ORDER BY position LIMIT 1"""

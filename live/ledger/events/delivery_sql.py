"""The statements of deliveries.py, in their order."""

# By the first one that is due: of a simple EXISTS the planner may read the whole table.
DUE_ENDPOINTS = """
SELECT w.id FROM webhooks w LEFT JOIN LATERAL (
    SELECT d.id FROM deliveries d
    WHERE d.webhook = w.id AND d.state = 'due'
      AND d.due_at <= now() + make_interval(secs => $1)
      AND d.leased_until <= now() + make_interval(secs => $1)
    ORDER BY d.due_at, d.id LIMIT 1
) first ON true
WHERE w.state = 'active' AND w.rests_until <= now() + make_interval(secs => $1)
  AND (w.caught_up_to IS NOT NULL OR first.id IS NOT NULL)
ORDER BY w.id LIMIT $2"""


# Leases those of which {which} says that they may go now, the first of each line alone. The
# endpoint is read with its deliveries, so what was changed in it counts from the next one on.
_TAKE = """
WITH w AS MATERIALIZED (
    SELECT id, url, format, contact, throttles FROM webhooks
    WHERE id = $1 AND state = 'active' AND rests_until <= now() + make_interval(secs => $3)
), due AS (
    SELECT d.id FROM w JOIN deliveries d ON d.webhook = w.id
    WHERE d.webhook = $1 AND d.state = 'due' AND {which}
      AND d.leased_until <= now() + make_interval(secs => $3)
      AND NOT EXISTS (SELECT FROM deliveries e
                      WHERE e.webhook = $1 AND e.subject = d.subject AND e.state = 'due'
                        AND e.id < d.id)
    ORDER BY d.due_at, d.id LIMIT $2 FOR UPDATE OF d SKIP LOCKED
), taken AS (
    UPDATE deliveries d SET leased_until = now() + make_interval(secs => $3 + $4)
    FROM due WHERE d.id = due.id
    RETURNING d.id, d.webhook, d.subject, d.type, d.event, d.tries, d.leased_until, d.created_at,
              d.due_at
)
SELECT t.id, t.webhook, t.subject, t.type, t.event, t.tries, t.leased_until, t.due_at,
       w.url, w.format, w.throttles, e.data::text AS data,
       floor(extract(epoch FROM coalesce(e.at, t.created_at)) * 1000000)::bigint AS at_us,
       CASE WHEN w.contact AND starts_with(t.type, 'order.') THEN substr(t.subject, 7)
            END AS order_id,
       ARRAY(SELECT s.secret FROM webhook_secrets s
             WHERE s.webhook = t.webhook AND s.until > now() + make_interval(secs => $3)
             ORDER BY s.made_at DESC) AS secrets
FROM taken t CROSS JOIN w LEFT JOIN events e ON e.id = t.event
ORDER BY t.id"""

TAKE = _TAKE.replace("{which}", "d.due_at <= now() + make_interval(secs => $3)")

CATCHES_UP = "SELECT caught_up_to IS NOT NULL FROM webhooks WHERE id = $1"

# Locked before its deliveries, as whoever changes both does it.
CAUGHT_UP = """
SELECT caught_up_to, caught_up_id FROM webhooks
WHERE id = $1 AND caught_up_to IS NOT NULL FOR NO KEY UPDATE"""

TAKE_AHEAD = _TAKE.replace(
    "{which}",
    "d.due_at > now() + make_interval(secs => $3)"
    " AND (d.due_at, d.id) > ($5::timestamptz, $6::bigint)",
)

# To NULL where it went to the end.
GO_ON = "UPDATE webhooks SET caught_up_to = $2, caught_up_id = $3 WHERE id = $1"

# A failure is written only by who still has the lease; that it arrived is true whoever says it.
# A try ahead of its time is one more: the schedule stays what it was.
#   arrays: $1 delivery  $2 state  $3 pause  $4 lease  $5 attempt  $8 ahead of its time
RECORD = """
UPDATE deliveries d
SET state = n.state, leased_until = '-infinity',
    tries = d.tries + CASE WHEN n.ahead AND n.state = 'due' THEN 0 ELSE 1 END,
    due_at = greatest(CASE WHEN n.ahead THEN d.due_at END,
                      now() + make_interval(secs => $6 + n.pause)),
    attempts = (CASE WHEN jsonb_array_length(d.attempts) >= $7 THEN d.attempts - 0
                     ELSE d.attempts END) || n.attempt::jsonb
FROM unnest($1::bigint[], $2::text[], $3::float8[], $4::timestamptz[], $5::text[], $8::boolean[])
     AS n(id, state, pause, lease, attempt, ahead)
WHERE d.id = n.id AND d.state = 'due' AND (n.state = 'delivered' OR d.leased_until = n.lease)"""

# Those behind one that failed are not even looked at until it is done, however many they are.
# OFFSET 0: they are found by their line.
MAKE_WAIT = """
UPDATE deliveries d SET due_at = first.due_at + make_interval(hours => $2)
FROM unnest($1::bigint[]) AS n(id) JOIN deliveries first ON first.id = n.id CROSS JOIN LATERAL (
    SELECT e.id, e.due_at FROM deliveries e
    WHERE e.webhook = first.webhook AND e.subject = first.subject AND e.state = 'due'
      AND e.id > first.id OFFSET 0
) behind
WHERE d.id = behind.id AND behind.due_at <= first.due_at"""

# The one that is first in its line now. A statement of its own: it sees what was recorded.
#   arrays: $1 webhook  $2 subject
LET_NEXT = """
UPDATE deliveries d SET due_at = now() + make_interval(secs => $3)
FROM unnest($1::uuid[], $2::text[]) AS n(webhook, subject) CROSS JOIN LATERAL (
    SELECT e.id FROM deliveries e
    WHERE e.webhook = n.webhook AND e.subject = n.subject AND e.state = 'due'
    ORDER BY e.id LIMIT 1
) first
WHERE d.id = first.id AND d.due_at > now() + make_interval(secs => $3)"""

#   arrays: $1 webhook  $2 whether an answer was good  $3 whether one said that it is gone  $4 rest
#   $7 whether a test was good;  seconds: $8 failing so long was an outage, $9 so long it lasts
JUDGE = """
WITH n AS (
    SELECT * FROM unnest($1::uuid[], $2::boolean[], $3::boolean[], $4::float8[], $7::boolean[])
        AS n(id, good, gone, rest, tested)
), old AS (
    SELECT w.id, w.state, w.failing_since FROM webhooks w JOIN n ON n.id = w.id
    WHERE NOT n.good OR n.rest > 0 OR n.gone OR w.failing_since IS NOT NULL OR w.throttles > 0
    ORDER BY w.id FOR NO KEY UPDATE OF w
), told AS (
    SELECT n.*, old.failing_since, old.state AS before,
           n.good AND old.failing_since IS NOT NULL
           AND (n.tested OR old.failing_since
                            <= now() + make_interval(secs => $5::float8 - $8::float8)) AS back,
           NOT n.good AND old.failing_since
                          <= now() + make_interval(secs => $5::float8 - $9::float8) AS away
    FROM n JOIN old ON old.id = n.id
), judged AS (
    UPDATE webhooks w
    SET failing_since = CASE WHEN n.good THEN NULL ELSE coalesce(
            n.failing_since, now() + make_interval(secs => $5)) END,
        caught_up_to = CASE WHEN n.back THEN now() + make_interval(secs => $5)
                            WHEN n.away THEN NULL ELSE w.caught_up_to END,
        caught_up_id = CASE WHEN n.back THEN 0 ELSE w.caught_up_id END,
        -- Once a rest: of many calls at once each answer asks for the same one.
        throttles = CASE WHEN n.rest > 0 AND w.rests_until <= now() + make_interval(secs => $5)
                         THEN w.throttles + 1
                         WHEN n.good THEN 0 ELSE w.throttles END,
        rests_until = CASE WHEN n.rest > 0
            THEN greatest(w.rests_until, now() + make_interval(secs => $5 + n.rest))
            ELSE w.rests_until END,
        state = CASE WHEN n.gone OR NOT n.good AND n.failing_since
                          <= now() + make_interval(secs => $5 - $6) THEN 'disabled'
                     ELSE w.state END,
        reason = CASE WHEN n.gone THEN 'it answered 410: it wants no more'
                      WHEN NOT n.good AND n.failing_since
                           <= now() + make_interval(secs => $5 - $6)
                      THEN 'nothing was taken for more than three days' ELSE w.reason END
    FROM told n WHERE w.id = n.id
    RETURNING w.id, w.state, w.reason, n.before
)
SELECT id, reason FROM judged WHERE state = 'disabled' AND before <> 'disabled'"""

# Of endpoints that want events now; the age is since the delivery was made, right after its event.
BACKLOG = """
SELECT (SELECT count(*) FROM (SELECT FROM events WHERE position IS NULL LIMIT $2) e) AS events,
       d.deliveries, d.oldest_seconds,
       (SELECT count(*) FROM webhooks WHERE state = 'disabled') AS disabled
FROM (SELECT count(*) AS deliveries,
             extract(epoch FROM now() + make_interval(secs => $1)
                     - min(f.created_at) FILTER (WHERE f.state = 'active'))::float8
             AS oldest_seconds
      FROM (SELECT d.created_at, w.state FROM deliveries d JOIN webhooks w ON w.id = d.webhook
            WHERE d.state = 'due' LIMIT $2) f) d"""

"""Deliveries of events: new ones, and past ones that an endpoint wants once more.

Always: a new delivery stands behind those of the same subject to the same endpoint. A replay goes
through a bounded part of the events in one transaction, and whoever comes next goes on from there.
What is not done yet gets no second delivery: it is due at once.
Called by: the sequencer.
"""

from live.domain.outgoing.event_types import match_types
from live.ledger.db.pool import Connection

LOOKED_AT_MAX = 2_000  # events of one step

# Behind one that waits it is not looked at before that. Not later than that: the first may end
# while this is not seen yet by whoever lets the next one go.
#   arrays: $1 webhook  $2 event  $3 type  $4 subject;  $5 seconds ahead of now
DELIVER = """
INSERT INTO deliveries (webhook, event, type, subject, created_at, due_at)
SELECT n.webhook, n.event, n.type, n.subject, now() + make_interval(secs => $5),
       greatest(now() + make_interval(secs => $5), (
           SELECT d.due_at FROM deliveries d
           WHERE d.webhook = n.webhook AND d.subject = n.subject AND d.state = 'due'
           ORDER BY d.id LIMIT 1))
FROM unnest($1::uuid[], $2::bigint[], $3::text[], $4::text[])
     WITH ORDINALITY AS n(webhook, event, type, subject, place)
ORDER BY n.place"""


async def go_on(connection: Connection, ahead_seconds: float) -> int:
    """Do a part of the oldest replay; the deliveries that it made or made due, at least 1
    where there is a replay."""
    replay = await connection.fetchrow(_TAKE)
    if replay is None:
        return 0
    upto = min(replay["after"] + LOOKED_AT_MAX, replay["upto"])
    span = (
        replay["after"],
        upto,
        replay["since"],
        replay["until"],
        list(match_types(replay["types"])),
        replay["shows"],
        replay["webhook"],
    )
    sooner = await connection.fetch(_SOONER, *span, ahead_seconds)
    rows = await connection.fetch(_EVENTS, *span)
    await connection.execute(
        DELIVER,
        [replay["webhook"]] * len(rows),
        [row["id"] for row in rows],
        [row["type"] for row in rows],
        [row["subject"] for row in rows],
        ahead_seconds,
    )
    if upto >= replay["upto"]:
        await connection.execute(_END, replay["id"])
    else:
        await connection.execute(_ADVANCE, replay["id"], upto)
    return max(1, len(rows) + len(sooner))


_TAKE = """
SELECT r.id, r.webhook, r.types, r.since, r.until, r.after, r.upto, w.shows
FROM event_replays r JOIN webhooks w ON w.id = r.webhook ORDER BY r.id LIMIT 1 FOR UPDATE OF r"""

# The first of each line: those behind follow it. Not those under way; their schedule begins anew,
# as that of a delivery that is asked for alone.
_SOONER = """
UPDATE deliveries d SET due_at = now() + make_interval(secs => $8), tries = 0
FROM events e
WHERE e.position > $1 AND e.position <= $2 AND e.at >= $3 AND e.at < $4 AND e.type = ANY($5::text[])
  AND (cardinality($6::text[]) = 0 OR e.show = ANY($6::text[]))
  AND d.webhook = $7 AND d.subject = e.subject AND d.event = e.id AND d.state = 'due'
  AND d.leased_until <= now() + make_interval(secs => $8)
  AND NOT EXISTS (SELECT FROM deliveries f
                  WHERE f.webhook = $7 AND f.subject = d.subject AND f.state = 'due'
                    AND f.id < d.id)
RETURNING d.id"""

# What is due anyhow needs no second delivery.
_EVENTS = """
SELECT e.id, e.type, e.subject FROM events e
WHERE e.position > $1 AND e.position <= $2 AND e.at >= $3 AND e.at < $4 AND e.type = ANY($5::text[])
  AND (cardinality($6::text[]) = 0 OR e.show = ANY($6::text[]))
  AND NOT EXISTS (SELECT FROM deliveries d
                  WHERE d.webhook = $7 AND d.subject = e.subject AND d.event = e.id
                    AND d.state = 'due')
ORDER BY e.position"""

_ADVANCE = "UPDATE event_replays SET after = $2 WHERE id = $1"

_END = "DELETE FROM event_replays WHERE id = $1"

"""Which shows a settler looks after: all that can still move, and no others.

Always: a list is complete at any number of shows, and costs what moves: each part of it reads a
partial index of just that. A show that only waits (scheduled, everything of it carried to Redis) or
is over is in none, so shows of years cost nothing.
"""

from live.ledger.money.open_money import OPEN_MONEY

SHOWS_MAX = 50_000
"""Of one list: far beyond what one Redis serves. Reached, it is an error in the log."""

# On air, or an offer is on its way to the end: units move, and entries come through the outbox.
MOVING = """
SELECT id FROM shows WHERE status IN ('rehearsal', 'live', 'paused')
UNION
SELECT show FROM offers WHERE phase IN ('scheduled', 'open', 'paused', 'closing')"""

# Shows of which an entry may still come although nothing is on sale: an order of theirs may be
# cancelled, a hold may expire.
LATE = f"""
SELECT show AS id FROM ({OPEN_MONEY}) AS open_money
UNION
SELECT show FROM sales_to_undo
UNION
SELECT id FROM shows s WHERE status = 'ended' AND retired_at IS NULL
    AND EXISTS (SELECT FROM holds h WHERE h.show = s.id AND h.state IN ('held', 'paying'))"""

# What the keeper looks after. `over`: nothing needs Redis any more. `doubted`: what Redis has is
# not to be believed, single sales of it are to be undone, or it has been given an end and is needed
# after all. Rows are looked up one by one (LATERAL, LIMIT): a plain join is planned as a pass over
# all shows.
KEPT = f"""
WITH open_money AS MATERIALIZED ({OPEN_MONEY}), wanted AS (
    {MOVING}
    UNION SELECT id FROM shows WHERE carried_version < version
    UNION SELECT id FROM shows WHERE rehearsed
    UNION SELECT id FROM shows WHERE status = 'ended' AND retired_at IS NULL
    UNION SELECT show FROM stock_doubts
    UNION SELECT show FROM sales_to_undo
    UNION SELECT show FROM open_money
), found AS (
    SELECT s.*,
           s.id IN (SELECT show FROM open_money) AS has_open_money,
           s.id IN (SELECT show FROM stock_doubts UNION SELECT show FROM sales_to_undo)
               AS in_doubt,
           EXISTS (SELECT FROM offers f WHERE f.show = s.id
                   AND f.phase IN ('scheduled', 'open', 'paused', 'closing')) AS selling
    FROM wanted w CROSS JOIN LATERAL (SELECT * FROM shows WHERE id = w.id LIMIT 1) s
)
SELECT id, version, stock_epoch, selling, status IN ('rehearsal', 'live', 'paused') AS running,
       rehearsed AND status <> 'rehearsal' AS rehearsed,
       in_doubt OR (retired_at IS NOT NULL AND has_open_money) AS doubted,
       status = 'ended' AND retired_at IS NULL AND carried_version >= version AND NOT rehearsed
           AND NOT selling AND NOT in_doubt AND NOT has_open_money
           AND NOT EXISTS (SELECT FROM holds h
                           WHERE h.show = found.id AND h.state IN ('held', 'paying')) AS over
FROM found ORDER BY selling DESC, running DESC, created_at DESC LIMIT $1"""

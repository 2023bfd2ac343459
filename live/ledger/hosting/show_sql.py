"""The statements of shows.py, in its order."""

from live.ledger.db.states import STANDS
from live.ledger.money.invoices import UNPAID

NOTE_CARRIED = """
UPDATE shows SET carried_version = $2, retired_at = NULL
WHERE id = $1 AND carried_version < $2"""

NOTE_RETIRED = """
UPDATE shows SET retired_at = now()
WHERE id = $1 AND stock_epoch = $2 AND status = 'ended'
  AND NOT EXISTS (SELECT FROM stock_doubts WHERE show = $1)"""

DOUBT = """
INSERT INTO stock_doubts (show, reason) SELECT $1, $2
WHERE NOT EXISTS (SELECT FROM leases WHERE name = 'rebuild:' || $1 AND until > now())
ON CONFLICT DO NOTHING"""

STATUS = "SELECT status FROM shows WHERE id = $1"

SUM_ORDERS = f"""
SELECT count(*) AS orders,
       coalesce(sum(total_minor - refunded_minor)
                FILTER (WHERE NOT {UNPAID}), 0)::bigint AS revenue_minor
FROM orders o WHERE show = $1 AND state {STANDS}"""

CREATE = """
INSERT INTO shows (id, title, currency, language, playback_url,
                   paid_partnership, starts_at, providers)
VALUES ($1, $2, $3, $4, $5, $6, to_timestamp($7::bigint / 1000.0), $8)
ON CONFLICT (id) DO NOTHING RETURNING id"""

PATCH = """
UPDATE shows SET title = coalesce($2, title),
    playback_url = coalesce($3, playback_url), frozen = coalesce($4, frozen),
    slow_mode_seconds = coalesce($5, slow_mode_seconds),
    rehearsal_passcode = nullif(coalesce($6, rehearsal_passcode), ''),
    starts_at = coalesce(to_timestamp($7::bigint / 1000.0), starts_at),
    providers = coalesce($8, providers)
WHERE id = $1"""

SET_RUN_ORDER = "UPDATE shows SET run_order = $2 WHERE id = $1"

SET_PINS = "UPDATE shows SET pins = $2 WHERE id = $1"

ANNOUNCE = """
UPDATE shows SET announcement = nullif($2, ''),
    announcement_until = to_timestamp($3::bigint / 1000.0) WHERE id = $1"""

SET_STATUS = "UPDATE shows SET status = $2 WHERE id = $1"

# In the order of ids, as the settler locks them: it settles most when a show ends.
LOCK_OFFERS = """
SELECT FROM offers WHERE show = $1 AND phase <> 'closed'
ORDER BY id FOR NO KEY UPDATE"""

BEGIN_CLOSING = """
UPDATE offers SET phase = 'closing', version = version + 1
WHERE show = $1 AND phase IN ('scheduled', 'open', 'paused')"""

DRAFTS = "SELECT id FROM offers WHERE show = $1 AND phase = 'draft' ORDER BY sku"

LOCK_DRAFT = "SELECT sku, allotted FROM offers WHERE id = $1 FOR NO KEY UPDATE"

CLOSE_DRAFT = """
UPDATE offers SET phase = 'closed', allotted = 0, version = version + 1
WHERE id = $1 AND phase = 'draft'"""

GIVE_UNITS_BACK = "UPDATE products SET allotted = allotted - $2 WHERE sku = $1"

LOG_GIVEN_BACK = """
INSERT INTO stock_movements (sku, offer, kind, qty, reason)
VALUES ($1, $2, 'given_back', $3, 'draft closed')"""

KNOWN_PRODUCTS = "SELECT sku FROM products WHERE sku = ANY($1)"

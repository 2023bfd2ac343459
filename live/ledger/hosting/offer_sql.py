"""The statements of offer_rows.py, in its order."""

SHOW_OF = "SELECT show FROM offers WHERE id = $1"

# Scheduled where a draft has a countdown; a second "open" during it opens at once.
OPEN = """
UPDATE offers SET version = version + 1,
    phase = CASE WHEN begin > now() THEN 'scheduled' ELSE 'open' END,
    opens_at = begin,
    closes_at = begin + make_interval(secs => duration_seconds)
FROM (SELECT now() + make_interval(secs => CASE WHEN phase = 'draft'
             THEN countdown_seconds ELSE 0 END) AS begin
      FROM offers WHERE id = $1) AS start
WHERE id = $1"""

# `columns`: of a closed set, each `name = $n`.
EDIT = "UPDATE offers SET {columns}, version = version + 1 WHERE id = $1"

MARK_SOLD_OUT = """
UPDATE offers SET phase = 'paused', sold_out = true, version = version + 1
WHERE id = $1"""

# One that was paused during its countdown opens now, not at a time gone by.
RESUME = """
UPDATE offers SET phase = 'open', sold_out = false, version = version + 1,
    opens_at = least(opens_at, now()) WHERE id = $1"""

EXTEND = """
UPDATE offers SET closes_at = closes_at + make_interval(secs => $2),
    version = version + 1
WHERE id = $1 AND closes_at + make_interval(secs => $2)
      <= now() + make_interval(secs => $3) RETURNING id"""

RESTOCK = """
UPDATE offers SET quantity = quantity + $2, allotted = allotted + $2,
    version = version + 1
WHERE id = $1 AND quantity + $2 <= $3 RETURNING sku"""

# What the clock does.
_OPENS = "(phase = 'scheduled' AND opens_at <= now())"
_SAID = "(announcement_until <= now())"
_CLOSES = "(phase IN ('scheduled', 'open', 'paused') AND closes_at <= now())"

DUE = f"""
SELECT show FROM offers WHERE {_OPENS}
UNION SELECT show FROM offers WHERE {_CLOSES}
UNION SELECT id FROM shows WHERE {_SAID}"""

LOCK_DUE = f"""
SELECT FROM offers WHERE show = $1 AND ({_OPENS} OR {_CLOSES})
ORDER BY id FOR NO KEY UPDATE"""

CLOSE_DUE = f"""
UPDATE offers SET phase = 'closing', version = version + 1
WHERE show = $1 AND {_CLOSES} RETURNING id"""

OPEN_DUE = f"""
UPDATE offers SET phase = 'open', version = version + 1
WHERE show = $1 AND {_OPENS} RETURNING id"""

TAKE_DOWN_ANNOUNCEMENT = f"""
UPDATE shows SET announcement = NULL, announcement_until = NULL
WHERE id = $1 AND {_SAID} RETURNING id"""

NEXT_SLOT = "SELECT coalesce(max(slot) + 1, 0) FROM offers WHERE show = $1"

COUNT_AHEAD = "SELECT count(*) FROM offers WHERE show = $1 AND phase <> 'closed'"

LOCK_PRODUCT = """
SELECT title, image_url, currency, on_hand - allotted AS available
FROM products WHERE sku = $1 FOR NO KEY UPDATE"""

# From the product to the offer, or back; no row where fewer units are available.
ALLOT = """
UPDATE products SET allotted = allotted + $2
WHERE sku = $1 AND on_hand - allotted >= $2 RETURNING sku"""

CREATE = """
INSERT INTO offers (id, show, slot, sku, title, image_url, price_minor, currency,
    mode, quantity, allotted, per_buyer_limit, hold_seconds, waitlist, guests,
    countdown_seconds, duration_seconds, providers)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $10, $11, $12, $13, $14, $15, $16,
        $17)
ON CONFLICT (id) DO NOTHING RETURNING id"""

LOCK_PHASE = "SELECT phase FROM offers WHERE id = $1 FOR NO KEY UPDATE"

SET_PHASE = "UPDATE offers SET phase = $2, version = version + 1 WHERE id = $1"

SKU_AND_ALLOTTED = "SELECT sku, allotted FROM offers WHERE id = $1"

SET_ALLOTTED = "UPDATE offers SET allotted = $2 WHERE id = $1"

LOG_EDITED = """
INSERT INTO stock_movements (sku, offer, kind, qty, reason)
VALUES ($1, $2, $3, $4, 'draft edited')"""

LOG_ALLOTTED = "INSERT INTO stock_movements (sku, offer, kind, qty) VALUES ($1, $2, 'allotted', $3)"

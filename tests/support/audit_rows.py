"""A shop's past, made by SQL: shows that are over, with offers, orders, payments and movements that
agree with one another. For measurements: a million rows take seconds."""

from live.ledger.db.pool import Pool

_FILL = (
    """INSERT INTO shows (id, title, status, currency)
       SELECT 'past-' || s, 'Past', 'ended', 'EUR' FROM generate_series(1, $1) s""",
    """INSERT INTO products (sku, title, price_minor, currency, on_hand, allotted)
       SELECT 'past-' || s, 'Thing', 100, 'EUR', $2::bigint, $2 FROM generate_series(1, $1) s""",
    """INSERT INTO offers (id, show, slot, sku, title, price_minor, currency, mode, phase, quantity,
                           allotted, sold, per_buyer_limit, hold_seconds)
       SELECT 'past-' || s || '-' || f, 'past-' || s, f, 'past-' || s, 'Thing', 100, 'EUR', 'hold',
              'closed', n.units, n.units, n.units, 10, 60
       FROM generate_series(1, $1) s, generate_series(0, $3 - 1) f
       CROSS JOIN LATERAL (SELECT $2::bigint / $3 AS units) n""",
    """INSERT INTO stock_movements (sku, kind, qty)
       SELECT 'past-' || s, 'adjusted', $2 FROM generate_series(1, $1) s""",
    """INSERT INTO stock_movements (sku, offer, kind, qty)
       SELECT sku, id, 'allotted', quantity FROM offers WHERE show LIKE 'past-%'""",
    """CREATE TEMPORARY TABLE past AS
       SELECT md5('o' || s || '-' || i)::uuid AS id, md5('p' || s || '-' || i)::uuid AS payment,
              md5('k' || s || '-' || i)::uuid AS key, decode(md5('b' || i), 'hex') AS buyer,
              'buyer-' || i AS sub, 'past-' || s AS show, i % $3 AS slot,
              'past-' || s || '-' || i % $3 AS offer
       FROM generate_series(1, $1) s, generate_series(0, $2 - 1) i""",
    """INSERT INTO payments (id, order_id, show, buyer, sub, hold, attempt, slots, quantities,
                             prices_minor, amount_minor, currency, provider, state, captured_minor,
                             lease_until, created_at, updated_at)
       SELECT payment, id, show, buyer, sub, key, key, ARRAY[slot], ARRAY[1], ARRAY[100], 100,
              'EUR', 'sandbox', 'captured', 100, now(), n.at, n.at
       FROM past, (SELECT now() - interval '1 hour' AS at) n""",
    """INSERT INTO payment_entries (payment, kind, amount_minor, created_at)
       SELECT payment, kind, 100, now() - interval '1 hour'
       FROM past, unnest(ARRAY['authorised', 'captured']) kind""",
    """INSERT INTO orders (id, show, buyer, sub, key, payment, state, total_minor, currency, seq)
       SELECT id, show, buyer, sub, key, payment, 'paid', 100, 'EUR', 1 FROM past""",
    "INSERT INTO order_items SELECT id, offer, 1, 100 FROM past",
    """INSERT INTO stock_movements (sku, offer, order_id, kind, qty)
       SELECT show, offer, id, 'sold', 1 FROM past""",
    """INSERT INTO holds (show, buyer, key, state, slots, quantities, seq)
       SELECT show, buyer, key, 'confirmed', ARRAY[slot], ARRAY[1], 1 FROM past""",
    """INSERT INTO money_jobs (payment, kind, amount_minor, state)
       SELECT payment, 'capture', 100, 'done' FROM past""",
    "DROP TABLE past",
)


async def fill(pool: Pool, *, shows: int, orders: int, offers: int) -> None:
    """So many shows that are over, each with so many orders (a multiple of `offers`)."""
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute("SET LOCAL session_replication_role = replica")
        for statement in _FILL:
            for place, value in enumerate((shows, orders, offers), start=1):
                statement = statement.replace(f"${place}", str(value))
            await connection.execute(statement, timeout=600)
    await pool.execute("ANALYZE", timeout=600)

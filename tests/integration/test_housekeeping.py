"""What is known of people and calls goes when its time has come, and nothing else does.

Method: the small sale of audit_stage.py, aged by SQL to either side of each bound.
"""

import pytest

from live.domain.ids import ShowId
from live.ledger.audit.run import audit
from live.ledger.db.pool import Pool
from live.ledger.housekeeping import KEPT_DAYS, keep_house
from tests.support.audit_stage import Stage, set_stage

DAY = "make_interval(days => $1)"


@pytest.fixture
async def stage(pool: Pool, redis_url: str, show: ShowId) -> Stage:
    return await set_stage(pool, redis_url, show)


async def count(pool: Pool, what: str) -> int:
    found: int = await pool.fetchval(f"SELECT count(*) FROM {what}")
    return found


async def end_days_ago(stage: Stage, days: int) -> None:
    """The show ended so long ago, and nothing of it is on its way."""
    pool = stage.sale.pool
    await pool.execute("UPDATE shows SET status = 'ended', created_at = now() - interval '1 year'")
    await pool.execute("UPDATE holds SET state = 'expired' WHERE state IN ('held', 'paying')")
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute("SET LOCAL session_replication_role = replica")
        await connection.execute(f"UPDATE host_actions SET created_at = now() - {DAY}", days)
        await connection.execute(
            "UPDATE host_actions SET action = 'show.end' WHERE id = (SELECT max(id) FROM "
            "host_actions)"
        )


@pytest.mark.parametrize("table", ["holds", "waitlist"])
@pytest.mark.parametrize("late", [False, True])
async def test_rows_of_an_ended_show_go_after_their_time(
    stage: Stage, table: str, late: bool
) -> None:
    """On the last day they are there; on the next one they are not."""
    await end_days_ago(stage, KEPT_DAYS[table] + (1 if late else -1))

    await keep_house(stage.sale.pool)

    assert (await count(stage.sale.pool, table) == 0) is late
    assert await count(stage.sale.pool, "orders") == 4
    await stage.close()


async def test_rows_of_a_show_that_goes_on_stay(stage: Stage) -> None:
    """However old it is: a rebuild may need them, and a repeat of a buyer's call."""
    await stage.sale.pool.execute("UPDATE shows SET created_at = now() - interval '2 years'")
    holds, waiting = [await count(stage.sale.pool, name) for name in ("holds", "waitlist")]

    await keep_house(stage.sale.pool)

    assert await count(stage.sale.pool, "holds") == holds > 0
    assert await count(stage.sale.pool, "waitlist") == waiting > 0
    await stage.close()


@pytest.mark.parametrize(
    ("days", "standing", "others"),
    [
        (KEPT_DAYS["contact without order"] - 1, 3, 3),
        (KEPT_DAYS["contact without order"] + 1, 3, 0),
        (KEPT_DAYS["contact"] - 1, 3, 0),
        (KEPT_DAYS["contact"] + 1, 0, 0),
    ],
)
async def test_contacts_are_kept_for_what_is_delivered(
    stage: Stage, days: int, standing: int, others: int
) -> None:
    """Where no order stands the address goes after a month; with the order after its year."""
    pool = stage.sale.pool
    await pool.execute(f"UPDATE payments SET created_at = now() - {DAY}", days)

    await keep_house(pool)
    await keep_house(pool)

    stands = "id IN (SELECT payment FROM orders WHERE state NOT IN ('cancelled', 'rejected'))"
    kept = f"payments WHERE contact IS NOT NULL AND {stands}"
    assert await count(pool, kept) == standing
    assert await count(pool, kept.replace("AND id IN", "AND id NOT IN")) == others
    assert await count(pool, "payments") == 6
    await stage.close()


async def test_contacts_that_come_later_go_in_their_turn(stage: Stage) -> None:
    """The sweep goes on from where it was, so it reads a day once."""
    pool = stage.sale.pool
    await keep_house(pool)
    await pool.execute(f"UPDATE payments SET created_at = now() - {DAY}", KEPT_DAYS["contact"] + 1)
    await pool.execute(
        "UPDATE audit_marks SET mark = floor(extract(epoch FROM now() - interval '405 days') * "
        "1000) WHERE name LIKE 'contact%'"
    )

    await keep_house(pool)

    assert await count(pool, "payments WHERE contact IS NOT NULL") == 0
    await stage.close()


async def test_what_was_forgotten_leaves_the_books_whole(stage: Stage) -> None:
    """After everything that may go has gone the audit finds nothing missing."""
    pool, sale = stage.sale.pool, stage.sale
    await sale.capture_all()
    await pool.execute("DELETE FROM notices")
    await end_days_ago(stage, KEPT_DAYS["holds"] + 1)
    await pool.execute("UPDATE payments SET created_at = now() - interval '2 years'")

    before = await audit(pool, sale.engine, sale.outbox, (), wait_seconds=0)
    await keep_house(pool)
    after = await audit(pool, sale.engine, sale.outbox, (), wait_seconds=0)

    stock = ("stock_", "offer_figures", "log_broken", "payment_und")
    assert [one.line for one in after.mend if not one.code.startswith(stock)] == [
        one.line for one in before.mend if not one.code.startswith(stock)
    ]
    await stage.close()


@pytest.mark.parametrize("late", [False, True])
async def test_undelivered_and_aside_go_after_their_time(stage: Stage, late: bool) -> None:
    """Notices that nobody could be told, entries that were answered, restrictions that are over."""
    pool = stage.sale.pool
    more = 1 if late else -1
    await pool.execute(
        f"UPDATE notices SET created_at = now() - {DAY}", KEPT_DAYS["notices"] + more
    )
    await pool.execute(
        "INSERT INTO poison (show, entry, seq, body, reason, created_at, decided_at) "
        f"SELECT id, '1-1', 0, '', '', now() - {DAY}, now() FROM shows",
        KEPT_DAYS["poison"] + more,
    )
    await pool.execute(f"UPDATE bans SET until = now() - {DAY}", KEPT_DAYS["bans"] + more)

    await keep_house(pool)

    for table in ("notices", "poison", "bans"):
        assert (await count(pool, table) == 0) is late, table
    await stage.close()


async def test_entry_aside_stays_until_it_is_answered(stage: Stage) -> None:
    """One that nobody decided on is not forgotten, however old."""
    pool = stage.sale.pool
    await pool.execute(
        "INSERT INTO poison (show, entry, seq, body, reason, created_at) "
        "SELECT id, '1-1', 1, '', '', now() - interval '1 year' FROM shows"
    )

    await keep_house(pool)

    assert await count(pool, "poison") == 1
    await stage.close()


@pytest.mark.parametrize(("table", "at"), [("events", "at"), ("deliveries", "created_at")])
async def test_what_the_shop_was_told_goes_after_its_time(pool: Pool, table: str, at: str) -> None:
    """The old one goes, the young one stays."""
    await pool.execute("INSERT INTO events (type, subject) VALUES ('a.b', 'c:d'), ('a.b', 'c:d')")
    await pool.execute(
        """INSERT INTO deliveries (webhook, type, subject)
           SELECT gen_random_uuid(), 'a.b', 'c:d' FROM (VALUES (1), (2))"""
    )
    await pool.execute(
        f"UPDATE {table} SET {at} = now() - {DAY} WHERE id = 1", KEPT_DAYS[table] + 1
    )

    await keep_house(pool)

    assert [row["id"] for row in await pool.fetch(f"SELECT id FROM {table}")] == [2]

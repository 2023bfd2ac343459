"""Lists of shows: complete at ten thousand, and what only waits costs nothing."""

import pytest

from live.domain.hold import Line, MovementKind
from live.domain.ids import ShowId
from live.ledger.db.pool import Pool
from live.ledger.hosting.show_lists import KEPT, LATE, MOVING
from live.ledger.hosting.shows import ShowRows
from live.ledger.money.payments import PaymentRows
from live.ledger.settle.settler import Settler
from tests.support.ledger_kit import Announced, Mismatches, StreamOutbox, make_show, new_buyer, pay

MANY = 10_000


async def make_many(pool: Pool, status: str, *, carried: bool = True) -> None:
    await pool.execute(
        """INSERT INTO shows (id, title, currency, status, carried_version)
           SELECT 'many-' || $1 || '-' || n, 'Show', 'EUR', $1, $3 FROM generate_series(1, $2) n""",
        status,
        MANY,
        1 if carried else 0,
    )
    await pool.execute("ANALYZE shows")


async def test_paused_show_behind_thousands_of_newer_ones_is_settled(
    pool: Pool, outbox: StreamOutbox, show: ShowId
) -> None:
    """Its order comes as soon as if it were alone, and its lag is looked at."""
    await make_show(pool, show, 10)
    await pool.execute("UPDATE shows SET status = 'paused', created_at = now() - interval '1 year'")
    await outbox.install(show)
    await make_many(pool, "scheduled", carried=False)
    buyer = new_buyer()
    await pay(PaymentRows(pool), show, buyer)
    await outbox.add(outbox.move(show, MovementKind.HELD, buyer, Line(0, 1)))
    await outbox.add(outbox.move(show, MovementKind.SOLD, buyer, Line(0, 1)))
    settler = Settler(pool, outbox, Announced(), Mismatches())

    await settler.run_once()

    assert settler.shows() == [show]
    assert await pool.fetchval("SELECT state FROM orders") == "confirmed"


async def test_all_that_run_are_listed(pool: Pool) -> None:
    """No bound leaves one out."""
    await make_many(pool, "live")

    assert len(await pool.fetch(MOVING)) == MANY
    assert len(await ShowRows(pool).active()) == MANY


async def test_shows_that_wait_or_are_over_are_in_no_list(pool: Pool) -> None:
    """So years of them cost nothing."""
    await make_many(pool, "scheduled")
    await make_many(pool, "ended")
    await pool.execute("UPDATE shows SET retired_at = now() WHERE status = 'ended'")

    assert await pool.fetch(MOVING) == await pool.fetch(LATE) == []
    assert await ShowRows(pool).active() == []


@pytest.mark.parametrize("query", [MOVING, LATE, KEPT], ids=["moving", "late", "kept"])
async def test_list_reads_no_show_that_only_waits(pool: Pool, query: str) -> None:
    """Postgres' own plan: no pass over all shows or all offers."""
    await make_many(pool, "scheduled")
    await make_many(pool, "ended")
    await pool.execute("UPDATE shows SET retired_at = now() WHERE status = 'ended'")
    await pool.execute("VACUUM ANALYZE shows")

    rows = await pool.fetch(f"EXPLAIN {query.replace('$1', '50000')}")

    plan = "\n".join(row[0] for row in rows)
    assert "Seq Scan on shows" not in plan, plan


STILL_MOVES = {
    "paused": "UPDATE shows SET status = 'paused'",
    "on rehearsal": "UPDATE shows SET status = 'rehearsal'",
    "scheduled with an open offer": "UPDATE shows SET status = 'scheduled'",
    "ended with an offer that closes": (
        "UPDATE shows SET status = 'ended'; UPDATE offers SET phase = 'closing'"
    ),
}


@pytest.mark.parametrize("change", STILL_MOVES.values(), ids=STILL_MOVES)
async def test_show_that_can_still_move_is_in_the_lists(
    pool: Pool, show: ShowId, change: str
) -> None:
    """Of settler and keeper alike."""
    await make_show(pool, show, 10)
    await pool.execute(f"UPDATE shows SET carried_version = version; {change}")

    assert [row["id"] for row in await pool.fetch(MOVING)] == [show]
    assert [one.id for one in await ShowRows(pool).active()] == [show]

"""`live audit --repair`: what an audit finds is mended where it can be; nothing else is touched.

Method: a real sale, one fault, a repair; then the audit is quiet and the figures are right.
"""

from collections.abc import Awaitable, Callable

import pytest
import redis.asyncio

from live.domain.hold import Line
from live.domain.offer import Stock
from live.domain.payment import PaymentState
from live.ledger.audit.repair import repair
from live.ledger.audit.run import audit
from live.ledger.db.pool import Pool
from live.ledger.db.schedule import Schedule
from live.ledger.housekeeping import keep_house
from live.stock.keys import show_keys
from tests.support.ledger_kit import PRICE, Sale, new_buyer, pay


def working(sale: Sale) -> Callable[[], Awaitable[bool]]:
    """A payment worker whose provider does everything that it is asked."""

    async def work() -> bool:
        jobs = await sale.rows.take_jobs(lease_ms=60_000, limit=100)
        for job in jobs:
            await sale.rows.finish_job(job)
        return bool(jobs)

    return work


async def mend(sale: Sale) -> list[str]:
    return await repair(
        sale.pool,
        stock=sale.engine,
        outbox=sale.outbox,
        settler=sale.settler,
        work=working(sale),
        grace_seconds=0,
    )


async def findings(sale: Sale) -> tuple[str, ...]:
    return (await audit(sale.pool, sale.engine, sale.outbox, (), wait_seconds=0)).findings


async def test_repair_of_a_sound_sale_does_nothing(sale: Sale) -> None:
    """Nothing is settled, asked for or rebuilt where nothing is wrong."""
    await sale.buy(new_buyer())
    await sale.settle()
    await sale.capture_all()
    epoch = await sale.pool.fetchval("SELECT stock_epoch FROM shows")

    assert await mend(sale) == []

    assert await findings(sale) == ()
    assert await sale.pool.fetchval("SELECT stock_epoch FROM shows") == epoch


async def test_repair_settles_what_is_behind(sale: Sale) -> None:
    """A confirmed hold that no settler took becomes its order, and its money is captured."""
    await sale.buy(new_buyer())
    assert await findings(sale) != ()

    done = await mend(sale)

    assert any("settled what its outbox held" in line for line in done)
    assert await findings(sale) == ()
    assert await sale.pool.fetchval("SELECT state FROM orders") == "paid"


async def test_repair_refunds_what_no_order_owns(sale: Sale) -> None:
    """Money that was captured for nothing goes back, once."""
    payment = await pay(sale.rows, sale.show, new_buyer())
    await sale.rows.record(payment.id, PaymentState.CAPTURED)
    assert await findings(sale) != ()

    await mend(sale)
    again = await mend(sale)

    assert again == []
    assert await findings(sale) == ()
    (row,) = await sale.pool.fetch("SELECT state, refunded_minor FROM payments")
    assert tuple(row) == ("refunded", PRICE)


async def test_repair_voids_what_is_kept_for_no_order(sale: Sale) -> None:
    """A payment that waits for a capture nobody will ask for is let go."""
    await pay(sale.rows, sale.show, new_buyer())
    await sale.pool.execute("UPDATE payments SET state = 'capturing'")
    assert await findings(sale) != ()

    await mend(sale)

    assert await findings(sale) == ()
    assert await sale.pool.fetchval("SELECT state FROM payments") == "voided"


async def test_repair_asks_anew_for_a_refund_that_no_host_can_ask_for(sale: Sale) -> None:
    """What was captured for no order is still owed after a refusal: by a request of its own, as a
    provider repeats its answer to the old one."""
    payment = await pay(sale.rows, sale.show, new_buyer())
    await sale.rows.record(payment.id, PaymentState.CAPTURED)
    await sale.pool.execute(
        """INSERT INTO money_jobs (payment, kind, amount_minor, request, state)
           SELECT id, 'refund', amount_minor, 'lost', 'failed' FROM payments"""
    )

    await mend(sale)

    assert await findings(sale) == ()
    assert await sale.pool.fetchval("SELECT refunded_minor FROM payments") == PRICE
    jobs = await sale.pool.fetch("SELECT state FROM money_jobs WHERE kind = 'refund' ORDER BY id")
    assert [job["state"] for job in jobs] == ["called_off", "done"]


async def test_repair_rebuilds_where_redis_sold_what_the_ledger_never_saw(
    sale: Sale, redis_url: str
) -> None:
    """An entry that was acknowledged and never settled: the ledger is right, the unit returns."""
    buyer = new_buyer()
    await sale.hold(buyer)
    await sale.engine.begin(sale.show, buyer.id, buyer.key, window_ms=60_000)
    await sale.settle()
    await sale.engine.confirm(sale.show, buyer.id, buyer.key, [Line(0, 1)])
    (batch,) = await sale.outbox.read([sale.show], consumer="lost", entries_max=9, block_ms=0)
    await sale.outbox.ack(sale.show, [batch.entry])
    await sale.pool.execute("UPDATE holds SET state = 'released'")
    allotted = await sale.pool.fetchval("SELECT sum(allotted) FROM offers")

    done = await mend(sale)

    assert any("rebuilt" in line for line in done)
    assert await findings(sale) == ()
    figures = await sale.engine.figures(sale.show)
    assert figures.offers[0] == Stock(left=10, held=0, sold=0)
    assert await sale.pool.fetchval("SELECT sum(allotted) FROM offers") == allotted


async def test_repair_rebuilds_a_show_that_redis_lost(sale: Sale, redis_url: str) -> None:
    """A show without its keys is on sale again, with what was sold."""
    await sale.buy(new_buyer())
    await sale.settle()
    keys = show_keys(sale.show)
    client = redis.asyncio.Redis.from_url(redis_url)
    await client.delete(keys.meta, keys.offers, keys.buyers, keys.outbox, keys.deadlines)
    await client.aclose()

    await mend(sale)

    assert await findings(sale) == ()
    assert (await sale.engine.figures(sale.show)).offers[0] == Stock(left=9, held=0, sold=1)


async def test_repair_applies_versions_that_redis_lacks(sale: Sale) -> None:
    """A host's restock that never reached Redis is on sale."""
    await sale.pool.execute("UPDATE products SET on_hand = 12, allotted = 12 WHERE allotted = 10")
    await sale.pool.execute(
        "UPDATE offers SET allotted = 12, quantity = 12, version = 2 WHERE slot = 0"
    )
    await sale.pool.execute(
        """INSERT INTO stock_movements (sku, offer, kind, qty)
           SELECT sku, NULL, 'adjusted', 2 FROM offers WHERE slot = 0
           UNION ALL SELECT sku, id, 'allotted', 2 FROM offers WHERE slot = 0"""
    )
    assert await findings(sale) != ()

    await mend(sale)

    assert await findings(sale) == ()
    assert (await sale.engine.figures(sale.show)).offers[0].left == 12


async def test_schedule_is_done_by_one_process_at_a_time(pool: Pool) -> None:
    """A second settler leaves the work to the one that is at it, and takes its turn after."""
    seen: list[bool] = []

    async def nothing() -> None:
        pass

    other = Schedule(pool, "audit", nothing, every_seconds=60)

    async def work() -> None:
        seen.append(await other.run_once())

    assert await Schedule(pool, "audit", work, every_seconds=60).run_once()
    assert seen == [False]
    assert await other.run_once()


@pytest.mark.parametrize(("days", "kept"), [(29, 1), (31, 0)])
async def test_housekeeping_forgets_webhooks_after_a_month(
    pool: Pool, days: int, kept: int
) -> None:
    """Ids are kept as long as a provider may repeat them."""
    await pool.execute(
        """INSERT INTO webhook_events (provider, id, kind, received_at)
           VALUES ('sandbox', 'e', 'x', now() - make_interval(days => $1))""",
        days,
    )

    await keep_house(pool)

    assert await pool.fetchval("SELECT count(*) FROM webhook_events") == kept


@pytest.mark.parametrize(("hours", "kept"), [(23, 1), (25, 0)])
async def test_housekeeping_forgets_answers_after_a_day(pool: Pool, hours: int, kept: int) -> None:
    """An Idempotency-Key is remembered for a day."""
    await pool.execute(
        """INSERT INTO idempotency (caller, key, request, created_at)
           VALUES ('host', 'k', '', now() - make_interval(hours => $1))""",
        hours,
    )

    await keep_house(pool)

    assert await pool.fetchval("SELECT count(*) FROM idempotency") == kept

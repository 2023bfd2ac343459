"""A finding ends when it is mended, however that was done; and a repair never pays twice."""

import pytest

from live.domain.hold import Line
from live.domain.ids import OrderId
from live.domain.payment import PaymentState
from live.ledger.audit.repair import repair
from live.ledger.audit.run import AuditReport, audit
from live.ledger.audit.shop_sql import HANGS_SECONDS
from live.ledger.orders.orders import OrderRows
from live.ledger.settle.rebuild import rebuild_show
from tests.support.ledger_kit import Sale, new_buyer, new_payment, pay, wish
from tests.support.shows_kit import HOST


async def look(sale: Sale) -> AuditReport:
    return await audit(sale.pool, sale.engine, sale.outbox, (), wait_seconds=0)


async def mend(sale: Sale, *, grace_seconds: float = 0) -> list[str]:
    async def work() -> bool:
        jobs = await sale.rows.take_jobs(lease_ms=60_000, limit=100)
        for job in jobs:
            await sale.rows.finish_job(job)
        return bool(jobs)

    return await repair(
        sale.pool,
        stock=sale.engine,
        outbox=sale.outbox,
        settler=sale.settler,
        work=work,
        grace_seconds=grace_seconds,
    )


async def refuse_refund(sale: Sale, amount_minor: int, *, key: str) -> OrderId:
    """A paid order of which a host's refund was refused; the order."""
    money = await sale.buy(new_buyer())
    await sale.settle()
    await sale.capture_all()
    await ask_refund(sale, money.order, amount_minor, key=key)
    (job,) = await sale.rows.take_jobs(lease_ms=60_000, limit=10)
    await sale.rows.fail_job(job, reason="no")
    return money.order


async def ask_refund(sale: Sale, order: OrderId, amount_minor: int, *, key: str) -> None:
    await OrderRows(sale.pool).request_refund(
        order, wish(amount_minor), request_key=key, actor=HOST
    )


async def test_refused_refund_that_another_made_good_is_not_paid_again(sale: Sale) -> None:
    """The host asked once more with a new key; nothing is owed, and nothing is told."""
    order = await refuse_refund(sale, 500, key="first")
    refused = await look(sale)
    await ask_refund(sale, order, 500, key="second")
    await sale.capture_all()

    done = await look(sale)
    assert await mend(sale) == []

    assert [(one.code, one.who) for one in refused.mend] == [("job_refused", "person")]
    assert done.ok
    assert await sale.pool.fetchval("SELECT refunded_minor FROM payments") == 500


async def test_refused_refund_stays_the_hosts(sale: Sale) -> None:
    """They may have paid it back otherwise: a repair does not ask for it, and goes on telling."""
    await refuse_refund(sale, 500, key="first")

    assert await mend(sale) == []

    assert [one.code for one in (await look(sale)).mend] == ["job_refused"]
    assert await sale.pool.fetchval("SELECT refunded_minor FROM payments") == 0


@pytest.mark.parametrize(
    ("seconds", "told"), [(HANGS_SECONDS - 5, False), (HANGS_SECONDS + 5, True)]
)
async def test_authorisation_that_hangs_is_told_after_a_minute(
    sale: Sale, seconds: int, told: bool
) -> None:
    """However often somebody looks at it: no order came, and no void was asked for."""
    await pay(sale.rows, sale.show, new_buyer())
    await sale.pool.execute(
        """UPDATE payments SET updated_at = now() - make_interval(secs => $1), tries = 9,
               lease_until = now() + interval '20 seconds'""",
        seconds,
    )

    report = await look(sale)

    assert ("payment_hangs" in {one.code for one in report.mend}) is told
    assert any("is authorised" in line for line in report.in_flight)


async def test_authorisation_that_hangs_is_let_go(sale: Sale) -> None:
    """Its money goes back once; whoever has its lease."""
    await pay(sale.rows, sale.show, new_buyer())
    await sale.pool.execute(
        """UPDATE payments SET updated_at = now() - interval '5 minutes',
               lease_until = now() + interval '20 seconds'"""
    )

    done = await mend(sale)

    assert any("its void was asked for, no order came" in line for line in done)
    assert await sale.pool.fetchval("SELECT state FROM payments") == "voided"
    assert (await look(sale)).ok
    assert await mend(sale) == []


async def test_second_payment_of_an_order_that_was_cancelled_is_let_go(sale: Sale) -> None:
    """Its key was used again: the order row stands for the first payment, not for this one."""
    buyer = new_buyer()
    await sale.buy(buyer)
    await sale.settle()
    await sale.engine.cancel(sale.show, buyer.id, buyer.key)
    await sale.settle()
    await sale.capture_all()
    # None is opened for such a key any more; a row of before, or of a hand, may be there.
    again = new_payment(sale.show, new_buyer())
    await sale.rows.open_payment(again)
    await sale.pool.execute(
        """UPDATE payments p SET buyer = f.buyer, sub = f.sub, hold = f.hold
           FROM payments f WHERE p.id = $1 AND f.id <> $1""",
        again.id,
    )
    await sale.rows.record(again.id, PaymentState.AUTHORISED, ref="again")
    await sale.pool.execute("UPDATE payments SET updated_at = now() - interval '5 minutes'")
    told = await look(sale)

    await mend(sale)

    assert "payment_hangs" in {one.code for one in told.mend}
    assert (await look(sale)).ok
    states = await sale.pool.fetch("SELECT state FROM payments")
    assert [row["state"] for row in states] == ["voided", "voided"]


async def test_payment_whose_order_comes_is_left_alone(sale: Sale) -> None:
    """Sold in Redis, not settled yet: a repair settles it first, so the order owns the money."""
    await sale.buy(new_buyer())
    await sale.pool.execute("UPDATE payments SET updated_at = now() - interval '5 minutes'")

    await mend(sale)

    assert await sale.pool.fetchval("SELECT state FROM orders") == "paid"
    assert await sale.pool.fetchval("SELECT count(*) FROM money_jobs WHERE kind = 'void'") == 0


async def test_entry_aside_is_answered_by_a_new_life_of_the_stock(sale: Sale) -> None:
    """What was put aside was taken back by the rebuild; the row stays for people to read."""
    await sale.buy(new_buyer(), Line(0, 1))
    await sale.pool.execute("ALTER TABLE order_items RENAME TO gone")
    await sale.settler._put_aside(sale.show, "1-1", (1 << 40) + 1, "{}", "odd")
    await sale.pool.execute("ALTER TABLE gone RENAME TO order_items")
    told = await look(sale)

    await rebuild_show(
        sale.pool, sale.show, stock=sale.engine, outbox=sale.outbox, settler=sale.settler
    )
    after = await look(sale)

    assert "entry_aside" in {one.code for one in told.mend}
    assert after.ok
    assert await sale.pool.fetchval("SELECT count(*) FROM poison") == 1

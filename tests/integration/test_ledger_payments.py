"""Payment rows on a real Postgres: one active per hold, never backwards, sums that add up."""

import asyncio
from itertools import permutations
from uuid import uuid4

import asyncpg
import pytest

from live.base.errors import BadField, Busy, Conflict, NotFound
from live.domain.hold import Line, MovementKind
from live.domain.ids import HoldKey, OrderId, ShowId, new_order_id
from live.domain.order import OrderState, RefundState
from live.domain.payment import (
    JobKind,
    NewPayment,
    PaymentId,
    PaymentState,
    ProviderRefund,
    refund_key,
)
from live.ledger.db.pool import Pool
from live.ledger.money.payments import PaymentRows
from live.ledger.orders.orders import OrderRows
from live.ledger.orders.pages import OrderQuery
from live.ledger.settle.settler import Settler
from tests.support.ledger_kit import (
    PRICE,
    Announced,
    Buyer,
    Mismatches,
    StreamOutbox,
    make_show,
    new_buyer,
    new_payment,
    pay,
    wish,
)
from tests.support.shows_kit import HOST

S = PaymentState


async def settled_order(
    pool: Pool, outbox: StreamOutbox, show: ShowId, *, qty: int = 2
) -> tuple[NewPayment, Buyer, Settler]:
    """A confirmed order whose capture job is due."""
    await make_show(pool, show, 5)
    await outbox.install(show)
    buyer = new_buyer()
    paid = await pay(PaymentRows(pool), show, buyer, Line(0, qty))
    await outbox.add(outbox.move(show, MovementKind.CONFIRMED, buyer, Line(0, qty)))
    settler = Settler(pool, outbox, Announced(), Mismatches())
    await settler.run_once()
    return paid, buyer, settler


async def capture(rows: PaymentRows) -> None:
    (job,) = await rows.take_jobs(lease_ms=10_000, limit=10)
    assert job.kind is JobKind.CAPTURE
    await rows.finish_job(job)


async def entries(pool: Pool, payment: str) -> list[tuple[str, int]]:
    rows = await pool.fetch(
        "SELECT kind, amount_minor FROM payment_entries WHERE payment = $1 ORDER BY id", payment
    )
    return [(row["kind"], row["amount_minor"]) for row in rows]


async def test_concurrent_openings_share_commits(pool: Pool, show: ShowId) -> None:
    """300 checkouts at once write 300 rows in a handful of transactions."""
    await make_show(pool, show, 5)
    rows = PaymentRows(pool)
    before = await pool.fetchval("SELECT count(DISTINCT xmin::text) FROM payments")

    opened = await asyncio.gather(
        *(rows.open_payment(new_payment(show, new_buyer())) for _ in range(300))
    )

    assert all(one.fresh for one in opened)
    assert await pool.fetchval("SELECT count(*) FROM payments") == 300
    transactions = await pool.fetchval("SELECT count(DISTINCT xmin::text) FROM payments")
    assert before == 0
    assert transactions <= 4


async def test_second_payment_for_a_hold_finds_the_first(pool: Pool, show: ShowId) -> None:
    """Another attempt at the same hold, at once or later, gets the active payment."""
    await make_show(pool, show, 5)
    rows, buyer = PaymentRows(pool), new_buyer()
    attempts = [new_payment(show, buyer) for _ in range(8)]

    opened = await asyncio.gather(*(rows.open_payment(one) for one in attempts))
    late = await rows.open_payment(new_payment(show, buyer))

    assert sum(one.fresh for one in opened) == 1
    assert {one.payment.id for one in opened} == {late.payment.id}
    assert not late.fresh


async def test_same_attempt_gets_its_row_even_after_a_decline(pool: Pool, show: ShowId) -> None:
    """A repeat of a declined checkout hears "declined"; a new attempt gets a new row."""
    await make_show(pool, show, 5)
    rows, buyer, attempt = PaymentRows(pool), new_buyer(), HoldKey(b"a" * 16)
    first = await rows.open_payment(new_payment(show, buyer, attempt=attempt))
    await rows.record(first.payment.id, S.DECLINED, reason="no funds", notify=True)

    repeat = await rows.open_payment(new_payment(show, buyer, attempt=attempt))
    other = await rows.open_payment(new_payment(show, buyer))
    again = await rows.open_payment(new_payment(show, buyer, attempt=attempt))

    assert (repeat.fresh, repeat.payment.id) == (False, first.payment.id)
    assert (repeat.payment.state, repeat.payment.reason) == (S.DECLINED, "no funds")
    assert other.fresh
    assert again.payment.id == first.payment.id
    assert await pool.fetchval("SELECT count(*) FROM notices WHERE kind = 'payment.failed'") == 1


async def test_steps_at_once_share_commits_and_keep_each_others_rules(
    pool: Pool, show: ShowId
) -> None:
    """300 payments move in a few transactions; two steps of one payment end as its rules say."""
    await make_show(pool, show, 5)
    rows = PaymentRows(pool)
    opened = await asyncio.gather(
        *(rows.open_payment(new_payment(show, new_buyer())) for _ in range(300))
    )
    ids = [one.payment.id for one in opened]

    said = await asyncio.gather(
        *(rows.record(one, S.AUTHORISED, ref=f"ch_{one}") for one in ids),
        return_exceptions=True,
    )
    transactions = await pool.fetchval("SELECT count(DISTINCT xmin::text) FROM payments")
    twice = await asyncio.gather(
        rows.record(ids[0], S.UNKNOWN, reason="late news"),
        rows.record(ids[0], S.VOIDED, reason="asked", notify=True),
        rows.record(ids[0], S.DECLINED, reason="too late", notify=True),
        rows.record(PaymentId(str(uuid4())), S.AUTHORISED),
        return_exceptions=True,
    )

    assert set(said) == {S.AUTHORISED}
    assert transactions <= 4
    assert list(twice[:3]) == [S.AUTHORISED, S.VOIDED, S.VOIDED]
    assert isinstance(twice[3], NotFound)
    assert [kind for kind, _ in await entries(pool, ids[0])] == ["authorised", "voided"]
    assert await pool.fetchval("SELECT count(*) FROM notices") == 1


async def test_step_that_the_ledger_refuses_harms_nobody_else(pool: Pool, show: ShowId) -> None:
    """A ref that belongs to another payment fails its own step; those beside it are done."""
    await make_show(pool, show, 5)
    rows = PaymentRows(pool)
    one, other, third = [
        (await rows.open_payment(new_payment(show, new_buyer()))).payment.id for _ in range(3)
    ]
    await rows.record(one, S.AUTHORISED, ref="ch_1")
    said = await asyncio.gather(
        rows.record(other, S.AUTHORISED, ref="ch_1"),
        rows.record(third, S.AUTHORISED, ref="ch_3"),
        return_exceptions=True,
    )
    assert isinstance(said[0], asyncpg.UniqueViolationError)
    assert said[1] is S.AUTHORISED


async def test_bad_row_in_a_group_harms_nobody_else(pool: Pool, show: ShowId) -> None:
    """A payment for an unknown show is refused alone; its neighbours in the commit are written."""
    await make_show(pool, show, 5)
    rows = PaymentRows(pool)
    good = [new_payment(show, new_buyer()) for _ in range(3)]
    bad = new_payment(ShowId("nowhere"), new_buyer())

    results = await asyncio.gather(
        *(rows.open_payment(one) for one in (good[0], bad, *good[1:])), return_exceptions=True
    )

    assert isinstance(results[1], Conflict)
    assert await pool.fetchval("SELECT count(*) FROM payments") == 3


async def test_opening_without_postgres_is_busy(pool: Pool, show: ShowId) -> None:
    """A lost ledger is a temporary error, which the client repeats with the same key."""
    await make_show(pool, show, 5)
    await pool.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname = current_database()")  # fmt: skip  # noqa: E501  # one statement
    await pool.close()

    with pytest.raises(Busy):
        await PaymentRows(pool).open_payment(new_payment(show, new_buyer()))


@pytest.mark.parametrize("order", list(permutations((S.AUTHORISED, S.CAPTURED, S.REFUNDED))))
async def test_final_state_is_a_function_of_the_set_of_events(
    pool: Pool, show: ShowId, order: tuple[PaymentState, ...]
) -> None:
    """Authorised, captured and refunded in any order, each twice, end as refunded with one sum."""
    await make_show(pool, show, 5)
    rows = PaymentRows(pool)
    new = new_payment(show, new_buyer())
    await rows.open_payment(new)

    for state in (*order, *order):
        await rows.record(new.id, state)

    payment = await rows.get(new.id)
    assert payment.state is S.REFUNDED
    assert (payment.captured_minor, payment.refunded_minor) == (PRICE, PRICE)
    money = [one for one in await entries(pool, new.id) if one[0] in ("captured", "refunded")]
    assert money == [("captured", PRICE), ("refunded", PRICE)]


async def test_declined_payment_stays_declined(pool: Pool, show: ShowId) -> None:
    """No later word takes a final state back, and the reference is learnt all the same."""
    await make_show(pool, show, 5)
    rows = PaymentRows(pool)
    new = new_payment(show, new_buyer())
    await rows.open_payment(new)

    await rows.record(new.id, S.DECLINED)

    assert await rows.record(new.id, S.AUTHORISED, ref="late") is S.DECLINED
    found = await rows.by_ref("sandbox", "late")
    assert found is not None and found.id == new.id
    with pytest.raises(NotFound):
        await rows.record(new_payment(show, new_buyer()).id, S.AUTHORISED)


async def test_due_payments_are_leased_to_one_worker(pool: Pool, show: ShowId) -> None:
    """Two workers at once share what is due; nothing is taken twice within its lease."""
    await make_show(pool, show, 5)
    rows = PaymentRows(pool, open_lease_seconds=0)
    for _ in range(20):
        await rows.open_payment(new_payment(show, new_buyer()))
    decided = new_payment(show, new_buyer())
    await rows.open_payment(decided)
    await rows.record(decided.id, S.DECLINED)

    taken = await asyncio.gather(*(rows.take_due(lease_ms=60_000, limit=15) for _ in range(2)))

    ids = [payment.id for some in taken for payment in some]
    assert len(ids) == len(set(ids)) == 20
    assert await rows.take_due(lease_ms=60_000, limit=50) == []
    await rows.postpone(ids[0], ms=0)
    (again,) = await rows.take_due(lease_ms=60_000, limit=50)
    assert (again.id, again.tries) == (ids[0], 2)


async def test_void_and_settlement_exclude_each_other(
    pool: Pool, outbox: StreamOutbox, show: ShowId
) -> None:
    """What is being voided is not settled, and what was settled is not voided."""
    await make_show(pool, show, 5)
    await outbox.install(show)
    rows, voided, sold = PaymentRows(pool), new_buyer(), new_buyer()
    first, second = await pay(rows, show, voided), await pay(rows, show, sold)
    await rows.ask_void(first.id, reason="the hold was gone")
    for buyer in (voided, sold):
        await outbox.add(outbox.move(show, MovementKind.CONFIRMED, buyer))

    await Settler(pool, outbox, Announced(), Mismatches()).run_once()
    await rows.ask_void(second.id, reason="too late")

    orders = OrderRows(pool)
    assert (await orders.get(first.order)).reason == "the payment is being voided"
    assert (await orders.get(second.order)).view.state is OrderState.CONFIRMED
    jobs = await rows.take_jobs(lease_ms=1_000, limit=10)
    assert {(job.kind, job.payment.id) for job in jobs} == {
        (JobKind.VOID, first.id),
        (JobKind.CAPTURE, second.id),
    }


async def test_finished_capture_pays_the_order_once(
    pool: Pool, outbox: StreamOutbox, show: ShowId
) -> None:
    """A capture reported twice moves the money figures once."""
    paid, _, _ = await settled_order(pool, outbox, show)
    rows = PaymentRows(pool)
    (job,) = await rows.take_jobs(lease_ms=0, limit=10)

    await asyncio.gather(rows.finish_job(job), rows.finish_job(job))

    assert (await OrderRows(pool).get(paid.order)).view.state is OrderState.PAID
    assert (await rows.get(paid.id)).captured_minor == 2 * PRICE
    assert await entries(pool, paid.id) == [("authorised", 2 * PRICE), ("captured", 2 * PRICE)]
    assert await rows.take_jobs(lease_ms=0, limit=10) == []


async def test_refused_capture_is_asked_for_until_the_order_is_cancelled(
    pool: Pool, outbox: StreamOutbox, show: ShowId
) -> None:
    """The refusal outlives a worker that died before it cancelled the hold."""
    paid, buyer, settler = await settled_order(pool, outbox, show)
    rows = PaymentRows(pool)
    (job,) = await rows.take_jobs(lease_ms=0, limit=10)
    await rows.fail_job(job, reason="card blocked")
    await pool.execute("UPDATE money_jobs SET due_at = now()")

    (again,) = await rows.take_jobs(lease_ms=0, limit=10)
    await outbox.add(outbox.move(show, MovementKind.CANCELLED, buyer, Line(0, 2)))
    await settler.run_once()

    assert again.id == job.id
    assert (await OrderRows(pool).get(paid.order)).view.state is OrderState.CANCELLED
    assert await pool.fetchval("SELECT sold FROM offers") == 0
    (void,) = await rows.take_jobs(lease_ms=0, limit=10)
    assert void.kind is JobKind.VOID
    await rows.finish_job(void)
    assert (await rows.get(paid.id)).state is S.VOIDED


async def test_capture_of_a_cancelled_order_is_refunded(
    pool: Pool, outbox: StreamOutbox, show: ShowId
) -> None:
    """Money that arrives for an order that is no more goes back by itself."""
    paid, buyer, settler = await settled_order(pool, outbox, show)
    rows = PaymentRows(pool)
    await outbox.add(outbox.move(show, MovementKind.CANCELLED, buyer, Line(0, 2)))
    await settler.run_once()

    await rows.record(paid.id, S.CAPTURED)

    jobs = {job.kind: job for job in await rows.take_jobs(lease_ms=0, limit=10)}
    assert jobs[JobKind.REFUND].amount_minor == 2 * PRICE
    await rows.finish_job(jobs[JobKind.REFUND])
    assert (await rows.get(paid.id)).state is S.REFUNDED


async def test_refunds_never_pass_what_was_captured(
    pool: Pool, outbox: StreamOutbox, show: ShowId
) -> None:
    """Parts add up to the whole and not beyond; a repeated key asks once."""
    paid, _, _ = await settled_order(pool, outbox, show)
    rows, orders = PaymentRows(pool), OrderRows(pool)

    async def refund(amount: int | None, key: str) -> None:
        await orders.request_refund(paid.order, wish(amount), request_key=key, actor=HOST)

    with pytest.raises(Conflict):
        await refund(1, "too-early")
    await capture(rows)
    await refund(1_000, "a")
    await refund(1_000, "a")
    with pytest.raises(Conflict):
        await refund(2_001, "b")
    with pytest.raises(Conflict):
        await refund(7, "a")
    with pytest.raises(BadField):
        await refund(0, "c")
    (job,) = await rows.take_jobs(lease_ms=0, limit=10)
    await rows.finish_job(job)
    partly = (await orders.get(paid.order)).view
    racing = await asyncio.gather(
        *(refund(None, f"rest-{n}") for n in range(4)), return_exceptions=True
    )
    (job,) = await rows.take_jobs(lease_ms=0, limit=10)
    await rows.finish_job(job)

    assert (partly.state, partly.refunded_minor) == (OrderState.PARTIALLY_REFUNDED, 1_000)
    assert sum(isinstance(one, Conflict) for one in racing) == 3
    whole = (await orders.get(paid.order)).view
    assert (whole.state, whole.refunded_minor) == (OrderState.REFUNDED, 2 * PRICE)
    assert (await rows.get(paid.id)).state is S.REFUNDED


async def test_refund_of_an_order_that_nobody_paid_is_a_conflict(
    pool: Pool, outbox: StreamOutbox, show: ShowId
) -> None:
    """The order is there, so it is not unknown; there is just nothing to pay back."""
    paid, _, _ = await settled_order(pool, outbox, show)
    await pool.execute("UPDATE orders SET payment = NULL")
    orders = OrderRows(pool)
    for order, error in ((paid.order, Conflict), (new_order_id(), NotFound)):
        with pytest.raises(error):
            await orders.request_refund(order, wish(1), request_key="a", actor=HOST)


async def test_webhook_that_tells_a_refund_first_counts_it_once(
    pool: Pool, outbox: StreamOutbox, show: ShowId
) -> None:
    """The provider's news are read before our own job's end is: the sum is the same."""
    paid, _, _ = await settled_order(pool, outbox, show)
    rows, orders = PaymentRows(pool), OrderRows(pool)
    await capture(rows)
    await orders.request_refund(paid.order, wish(500), request_key="k", actor=HOST)
    (job,) = await rows.take_jobs(lease_ms=0, limit=10)

    await rows.note_event("sandbox", "evt_1", kind="refund", payment=paid.id, ref=None, refund=True)
    (news,) = await rows.take_refund_news(lease_ms=0, limit=10)
    refund = ProviderRefund(
        key=refund_key(paid.id, job.id), amount_minor=500, state=RefundState.DONE
    )
    await rows.record_refunds(news, [refund])
    await rows.finish_job(job)

    assert (await rows.get(paid.id)).refunded_minor == 500
    assert (await entries(pool, paid.id))[-1] == ("refunded", 500)


async def test_webhook_is_noted_once_and_makes_its_payment_due(pool: Pool, show: ShowId) -> None:
    """A hundred deliveries of one event count once; the worker looks at the payment at once."""
    await make_show(pool, show, 5)
    rows = PaymentRows(pool)
    new = new_payment(show, new_buyer())
    await rows.open_payment(new)
    await rows.record(new.id, S.ACTION_REQUIRED, ref="r1")

    noted = await asyncio.gather(
        *(
            rows.note_event("sandbox", "evt_1", kind="authorised", payment=None, ref="r1")
            for _ in range(100)
        )
    )

    assert sum(noted) == 1
    assert [one.id for one in await rows.take_due(lease_ms=1_000, limit=5)] == [new.id]
    assert await rows.note_event("sandbox", "e2", kind="x", payment=None, ref="unknown")


async def test_orders_are_listed_by_cursor(pool: Pool, outbox: StreamOutbox, show: ShowId) -> None:
    """Pages of one follow each other without gap or repeat; others' orders look missing."""
    await make_show(pool, show, 5)
    await outbox.install(show)
    rows, orders = PaymentRows(pool), OrderRows(pool)
    buyers = [new_buyer() for _ in range(3)]
    for buyer in buyers:
        paid = await pay(rows, show, buyer)
        await outbox.add(outbox.move(show, MovementKind.CONFIRMED, buyer))
    await Settler(pool, outbox, Announced(), Mismatches()).run_once()

    seen, cursor = [], None
    for _ in range(3):
        page = await orders.list(OrderQuery(show=show), cursor=cursor, limit=1)
        seen += [row.sub for row in page.orders]
        cursor = page.cursor

    assert not page.more
    assert sorted(seen) == sorted(buyer.sub for buyer in buyers)
    assert await orders.of_buyer(paid.order, "somebody-else") is None
    assert await orders.of_buyer(OrderId("no uuid"), buyers[0].sub) is None
    mine = await orders.of_hold(show, buyers[2].id, buyers[2].key)
    assert mine is not None and mine.order == paid.order
    report = await orders.report(show)
    assert (report.orders, report.revenue_minor) == (3, 3 * PRICE)
    assert [(one.sold, one.orders) for one in report.offers] == [(3, 3)]


async def test_capture_and_cancellation_at_once_leave_no_money_behind(
    pool: Pool, outbox: StreamOutbox, show: ShowId
) -> None:
    """Whoever comes first, an order that is cancelled while it is captured is refunded or voided.

    Method: many orders, each captured and cancelled concurrently; then every job is done.
    """
    await make_show(pool, show, 60)
    await outbox.install(show)
    rows, buyers = PaymentRows(pool), [new_buyer() for _ in range(60)]
    payments = [await pay(rows, show, buyer) for buyer in buyers]
    settler = Settler(pool, outbox, Announced(), Mismatches())
    await outbox.add(*(outbox.move(show, MovementKind.CONFIRMED, buyer) for buyer in buyers))
    await settler.run_once()
    for buyer in buyers:
        await outbox.add(outbox.move(show, MovementKind.CANCELLED, buyer))
    batches = await outbox.read([show], consumer="test", entries_max=100, block_ms=1)

    await asyncio.gather(
        *(rows.record(one.id, S.CAPTURED) for one in payments),
        *(settler.settle_batches([batch]) for batch in batches),
    )
    for job in await rows.take_jobs(lease_ms=0, limit=200):
        if job.kind is JobKind.VOID and job.payment.captured_minor:
            continue  # a provider refuses to void what was captured
        await rows.finish_job(job)

    assert await pool.fetchval("SELECT count(*) FROM orders WHERE state = 'cancelled'") == 60
    assert await pool.fetchval("SELECT sold FROM offers") == 0
    left = await pool.fetch("SELECT DISTINCT state FROM payments")
    assert {row["state"] for row in left} <= {"refunded", "voided"}

"""The settler against a real stream and a real Postgres: once, in any order, never oversold."""

import asyncio
import itertools
import random
from typing import Any
from uuid import UUID

import pytest
import redis.asyncio

from live.domain.hold import Line, MovementKind
from live.domain.ids import ShowId
from live.domain.payment import PaymentState
from live.domain.stock import OutboxBatch
from live.ledger.db.pool import Pool
from live.ledger.money.payments import PaymentRows
from live.stock.keys import show_keys
from tests.support.ledger_kit import (
    Buyer,
    Mismatches,
    Sale,
    StreamOutbox,
    make_settler,
    make_show,
    new_buyer,
    new_payment,
    pay,
    read_all,
)

K = MovementKind


async def ledger_of(pool: Pool, show: ShowId) -> dict[str, list[tuple[Any, ...]]]:
    """Everything that settlement writes, without ids and times."""
    queries = {
        "orders": """SELECT buyer, key, state, total_minor, reason FROM orders
                     WHERE show = $1 ORDER BY 1, 2""",
        "items": """SELECT o.key, i.offer, i.qty FROM order_items i JOIN orders o
                    ON o.id = i.order_id WHERE o.show = $1 ORDER BY 1, 2""",
        "moves": """SELECT o.key, m.offer, m.kind, m.qty FROM stock_movements m JOIN orders o
                    ON o.id = m.order_id WHERE o.show = $1 ORDER BY 1, 2, 3""",
        "offers": "SELECT id, allotted, sold, phase FROM offers WHERE show = $1 ORDER BY 1",
        "holds": "SELECT buyer, key, state, seq FROM holds WHERE show = $1 ORDER BY 1, 2",
        "jobs": """SELECT p.hold, j.kind, j.amount_minor, j.state FROM money_jobs j JOIN payments p
                   ON p.id = j.payment WHERE p.show = $1 ORDER BY 1, 2""",
        "payments": "SELECT hold, state FROM payments WHERE show = $1 ORDER BY 1, 2",
        "notices": "SELECT buyer, kind FROM notices WHERE show = $1 ORDER BY 1, 2",
    }
    return {
        name: [tuple(row) for row in await pool.fetch(query, show)]
        for name, query in queries.items()
    }


async def test_settler_writes_order_job_and_notice(
    pool: Pool, outbox: StreamOutbox, show: ShowId
) -> None:
    """A confirmed hold becomes an order with its movement, capture job and notice, once."""
    await make_show(pool, show, 5)
    await outbox.install(show)
    buyer, rows = new_buyer(), PaymentRows(pool)
    await outbox.add(outbox.move(show, K.HELD, buyer, Line(0, 2), expires_at=1_800_000_000_000))
    paid = await pay(rows, show, buyer, Line(0, 2))
    await outbox.add(outbox.move(show, K.CONFIRMED, buyer, Line(0, 2)))
    settler = make_settler(pool, outbox)

    await settler.run_once()

    ledger = await ledger_of(pool, show)
    assert [row[2:] for row in ledger["orders"]] == [("confirmed", 3_000, "")]
    assert [row[1:] for row in ledger["jobs"]] == [("capture", 3_000, "due")]
    assert [row[1:] for row in ledger["notices"]] == [("order.confirmed",)]
    assert [row[2:] for row in ledger["moves"]] == [("sold", 2)]
    assert [row[1:] for row in ledger["offers"]] == [(5, 2, "open")]
    assert (await rows.get(paid.id)).state is PaymentState.CAPTURING
    assert str(await pool.fetchval("SELECT id FROM orders")) == paid.order
    assert (await outbox.backlog(show)).pending == 0


async def test_redelivery_changes_nothing(pool: Pool, outbox: StreamOutbox, show: ShowId) -> None:
    """Every entry settled three times leaves the same ledger as once."""
    await make_show(pool, show, 3)
    await outbox.install(show)
    rows = PaymentRows(pool)
    buyers = [new_buyer() for _ in range(5)]
    for buyer in buyers:
        await pay(rows, show, buyer)
        await outbox.add(outbox.move(show, K.HELD, buyer))
        await outbox.add(outbox.move(show, K.CONFIRMED, buyer))
    settler = make_settler(pool, outbox)
    batches = await read_all(outbox, show)

    await settler.settle_batches(batches)
    once = await ledger_of(pool, show)
    await settler.settle_batches(batches)
    await settler.settle_batches(batches[::2])

    assert await ledger_of(pool, show) == once
    states = [row[2] for row in once["orders"]]
    assert sorted(states) == ["confirmed"] * 3 + ["rejected"] * 2


async def test_any_order_of_entries_ends_in_the_same_rows(
    pool: Pool, outbox: StreamOutbox, show: ShowId
) -> None:
    """Holds settled in shuffled entries, one by one, end as in stream order."""
    await make_show(pool, show, 100)
    await outbox.install(show)
    rows = PaymentRows(pool)
    for number in range(12):
        buyer = new_buyer()
        await pay(rows, show, buyer)
        await outbox.add(outbox.move(show, K.HELD, buyer, expires_at=1_800_000_000_000))
        await outbox.add(outbox.move(show, K.BEGAN, buyer, expires_at=1_800_000_005_000))
        if number % 3 == 0:
            await outbox.add(outbox.move(show, K.EXPIRED, buyer))
            continue
        await outbox.add(outbox.move(show, K.CONFIRMED, buyer))
        if number % 3 == 1:
            await outbox.add(outbox.move(show, K.CANCELLED, buyer))
    batches = await read_all(outbox, show)
    random.Random(7).shuffle(batches)
    settler = make_settler(pool, outbox)

    for batch in batches:
        await settler.settle_batches([batch])

    ledger = await ledger_of(pool, show)
    assert sorted(row[2] for row in ledger["orders"]) == ["cancelled"] * 4 + ["confirmed"] * 4
    assert [row[1:] for row in ledger["offers"]] == [(100, 4, "open")]
    assert sorted(row[2] for row in ledger["holds"]) == (
        ["cancelled"] * 4 + ["confirmed"] * 4 + ["expired"] * 4
    )
    assert sum(row[3] for row in ledger["moves"]) == 4
    assert sorted(row[1] for row in ledger["jobs"] if row[3] == "due") == (
        ["capture"] * 4 + ["void"] * 4
    )


async def test_overflow_is_rejected_alone_with_alarm(
    pool: Pool, outbox: StreamOutbox, show: ShowId
) -> None:
    """What does not fit is rejected in stream order, voided, told, and raises the alarm."""
    await make_show(pool, show, 2)
    await outbox.install(show)
    rows, mismatches = PaymentRows(pool), Mismatches()
    first, greedy, last = new_buyer(), new_buyer(), new_buyer()
    for buyer, qty in ((first, 1), (greedy, 2), (last, 1)):
        await pay(rows, show, buyer, Line(0, qty))
    await outbox.add(
        outbox.move(show, K.CONFIRMED, first, Line(0, 1)),
        outbox.move(show, K.CONFIRMED, greedy, Line(0, 2)),
        outbox.move(show, K.CONFIRMED, last, Line(0, 1)),
    )

    await make_settler(pool, outbox, mismatches=mismatches).run_once()
    await asyncio.sleep(0)

    states = {row[0]: row[2] for row in (await ledger_of(pool, show))["orders"]}
    assert states == {first.id: "confirmed", greedy.id: "rejected", last.id: "confirmed"}
    jobs = {row[0].bytes: row[1] for row in (await ledger_of(pool, show))["jobs"]}
    assert jobs == {first.key: "capture", greedy.key: "void", last.key: "capture"}
    assert mismatches.shows == [show]


async def test_hold_without_authorised_payment_is_rejected(
    pool: Pool, outbox: StreamOutbox, show: ShowId
) -> None:
    """No payment row, an undecided one, and one for other units: each keeps its reason."""
    await make_show(pool, show, 10)
    await outbox.install(show)
    rows = PaymentRows(pool)
    nobody, undecided, other = new_buyer(), new_buyer(), new_buyer()
    await rows.open_payment(new_payment(show, undecided))
    await pay(rows, show, other, Line(0, 1))
    await outbox.add(
        outbox.move(show, K.CONFIRMED, nobody),
        outbox.move(show, K.CONFIRMED, undecided),
        outbox.move(show, K.CONFIRMED, other, Line(0, 3)),
    )

    await make_settler(pool, outbox).run_once()

    ledger = await ledger_of(pool, show)
    reasons = {row[0]: (row[2], row[4]) for row in ledger["orders"]}
    assert reasons == {
        nobody.id: ("rejected", "no payment row"),
        undecided.id: ("rejected", "the payment is created, not authorised"),
        other.id: ("rejected", "the payment is for other units"),
    }
    assert [row[1:] for row in ledger["offers"]] == [(10, 0, "open")]
    assert [row[1] for row in ledger["jobs"]] == ["void", "void"]
    undo = await pool.fetch("SELECT buyer, reason FROM sales_to_undo WHERE show = $1", show)
    assert {row["buyer"]: row["reason"] for row in undo} == {
        buyer: reason for buyer, (_, reason) in reasons.items()
    }
    assert await pool.fetchval("SELECT count(*) FROM stock_doubts") == 0


async def test_second_payment_for_a_key_that_had_its_order_is_voided(
    pool: Pool, outbox: StreamOutbox, show: ShowId
) -> None:
    """The first order stays what it is, nothing hangs, and the units go back."""
    await make_show(pool, show, 10)
    await outbox.install(show)
    rows = PaymentRows(pool)
    buyer = new_buyer()
    await outbox.add(outbox.move(show, K.CONFIRMED, buyer))
    settler = make_settler(pool, outbox)
    await settler.run_once()  # rejected: it had no payment
    await pool.execute("DELETE FROM sales_to_undo")
    key = await pool.fetchval("UPDATE orders SET key = gen_random_uuid() RETURNING key")
    new = await pay(rows, show, buyer, Line(0, 1))  # no payment is opened for a key with an order
    await pool.execute("UPDATE orders SET key = $1 WHERE key = $2", UUID(bytes=buyer.key), key)
    await outbox.add(outbox.move(show, K.CONFIRMED, buyer))

    await settler.run_once()
    await settler.run_once()

    states = await pool.fetch("SELECT state FROM orders")
    assert [row["state"] for row in states] == ["rejected"]
    jobs = await pool.fetch("SELECT payment::text, kind, state FROM money_jobs")
    assert [tuple(row) for row in jobs] == [(new.id, "void", "due")]
    undo = await pool.fetch("SELECT buyer FROM sales_to_undo")
    assert [row["buyer"] for row in undo] == [buyer.id]


async def test_sale_behind_the_end_of_its_order_is_undone(
    pool: Pool, outbox: StreamOutbox, show: ShowId
) -> None:
    """A payment sold once more when its order was cancelled; a redelivery is no such sale."""
    await make_show(pool, show, 10)
    await outbox.install(show)
    buyer, rows, settler = new_buyer(), PaymentRows(pool), make_settler(pool, outbox)
    await pay(rows, show, buyer, Line(0, 1))
    first = outbox.move(show, K.CONFIRMED, buyer)
    await outbox.add(first, outbox.move(show, K.CANCELLED, buyer))
    await settler.run_once()
    await outbox.add(first)
    await settler.run_once()
    assert await pool.fetchval("SELECT count(*) FROM sales_to_undo") == 0

    await outbox.add(outbox.move(show, K.RETAKEN, buyer))
    await settler.run_once()

    assert [row["state"] for row in await pool.fetch("SELECT state FROM orders")] == ["cancelled"]
    undo = await pool.fetch("SELECT buyer FROM sales_to_undo")
    assert [row["buyer"] for row in undo] == [buyer.id]
    assert await pool.fetchval("SELECT count(*) FROM stock_doubts") == 0


async def test_hold_that_became_an_order_is_never_paid_again(
    pool: Pool, outbox: StreamOutbox, show: ShowId
) -> None:
    """Also where the order was cancelled: the call is told of it, and no row is written."""
    await make_show(pool, show, 10)
    await outbox.install(show)
    rows = PaymentRows(pool)
    buyer = new_buyer()
    first = await pay(rows, show, buyer, Line(0, 1))
    await outbox.add(outbox.move(show, K.CONFIRMED, buyer))
    await make_settler(pool, outbox).run_once()
    await pool.execute("UPDATE orders SET state = 'cancelled'")
    await pool.execute("UPDATE payments SET state = 'voided'")

    again = await rows.open_payment(new_payment(show, buyer))

    assert (again.fresh, again.active, again.payment.id) == (False, False, first.id)
    assert await pool.fetchval("SELECT count(*) FROM payments") == 1


async def test_racing_settlers_never_oversell(
    pool: Pool, outbox: StreamOutbox, show: ShowId
) -> None:
    """Four settlers that all get all entries at once sell each unit once."""
    offers = await make_show(pool, show, 20, 20)
    await outbox.install(show)
    rows = PaymentRows(pool)
    buyers: list[Buyer] = [new_buyer() for _ in range(60)]
    lines = [(Line(0, 1),), (Line(1, 1),), (Line(0, 1), Line(1, 1))]
    await asyncio.gather(*(pay(rows, show, buyer, *lines[n % 3]) for n, buyer in enumerate(buyers)))
    for n, buyer in enumerate(buyers):
        await outbox.add(outbox.move(show, K.CONFIRMED, buyer, *lines[n % 3]))
    batches = await read_all(outbox, show)
    shuffled = [random.Random(seed).sample(batches, len(batches)) for seed in range(4)]

    await asyncio.gather(
        *(
            make_settler(pool, outbox).settle_batches(mine[start : start + 7])
            for mine in shuffled
            for start in range(0, len(mine), 7)
        )
    )

    offered = await pool.fetch("SELECT id, sold FROM offers")
    sold = {row["id"]: row["sold"] for row in offered}
    ordered = await pool.fetch(
        """SELECT i.offer, sum(i.qty) FROM order_items i JOIN orders o ON o.id = i.order_id
           WHERE o.state = 'confirmed' GROUP BY 1"""
    )
    counted = {row["offer"]: row["sum"] for row in ordered}
    assert sold == counted
    assert all(counted[offer] <= 20 for offer in offers)
    assert await pool.fetchval("SELECT count(*) FROM orders") == 60
    assert await pool.fetchval("SELECT count(*) FROM notices") == 60


async def test_poison_entry_blocks_nobody(pool: Pool, outbox: StreamOutbox, show: ShowId) -> None:
    """An entry with an unknown offer is put aside with its reason; its neighbours settle."""
    await make_show(pool, show, 5)
    await outbox.install(show)
    rows = PaymentRows(pool)
    good, bad = new_buyer(), new_buyer()
    await pay(rows, show, good)
    await outbox.add(
        outbox.move(show, K.CONFIRMED, bad, Line(77, 1)), outbox.move(show, K.CONFIRMED, good)
    )

    await make_settler(pool, outbox).run_once()

    assert [row[0] for row in (await ledger_of(pool, show))["orders"]] == [good.id]
    (poison,) = await pool.fetch("SELECT show, body, reason FROM poison")
    assert poison["show"] == show
    assert bad.key.hex() in poison["body"]
    assert "slot 77" in poison["reason"]
    assert (await outbox.backlog(show)).pending == 0


async def test_unreadable_entry_is_put_aside_once(sale: Sale, redis_url: str) -> None:
    """Bytes that nobody can read are kept with their reason; one alarm, though redelivered."""
    client = redis.asyncio.from_url(redis_url)
    await client.xadd(show_keys(sale.show).outbox, {"nonsense": "x"})
    await client.aclose()
    await sale.buy(new_buyer())

    await sale.settler.drain(sale.show)
    await sale.outbox.recreate_group(sale.show)
    await sale.settler.drain(sale.show)

    assert await sale.pool.fetchval("SELECT count(*) FROM poison") == 1
    assert len((await ledger_of(sale.pool, sale.show))["orders"]) == 1
    assert sale.mismatches.shows == [sale.show]


SOLD_THEN_CANCELLED = (K.HELD, K.BEGAN, K.CONFIRMED, K.CANCELLED)
PAID_TOO_LATE = (K.HELD, K.BEGAN, K.EXPIRED, K.RETAKEN)


@pytest.mark.parametrize("kinds", [SOLD_THEN_CANCELLED, PAID_TOO_LATE])
async def test_every_order_of_one_holds_entries_ends_alike(
    pool: Pool, outbox: StreamOutbox, show: ShowId, kinds: tuple[MovementKind, ...]
) -> None:
    """All 24 orders of a hold's four entries, each settled alone: the same hold, order, money."""
    await make_show(pool, show, 100)
    rows, settler, ends = PaymentRows(pool), make_settler(pool, outbox), set()
    await outbox.install(show)

    for order in itertools.permutations(range(4)):
        buyer = new_buyer()
        await pay(rows, show, buyer)
        entries = [outbox.move(show, kind, buyer, expires_at=1_800_000_000_000) for kind in kinds]
        for place in order:
            await settler.settle_batches([OutboxBatch(show, f"{place + 1}-0", (entries[place],))])
        (found,) = await pool.fetch(
            """SELECT h.state AS hold, o.state AS order, p.state AS payment,
                      (SELECT array_agg(j.kind) FROM money_jobs j
                       WHERE j.payment = p.id AND j.state = 'due') AS due,
                      (SELECT sum(m.qty) FROM stock_movements m WHERE m.order_id = o.id) AS units
               FROM holds h JOIN orders o USING (show, buyer, key) JOIN payments p
                    ON p.id = o.payment
               WHERE h.show = $1 AND h.buyer = $2""",
            show,
            buyer.id,
        )
        due = found["due"]
        ends.add((found["hold"], found["order"], tuple(due), int(found["units"])))

    if kinds is PAID_TOO_LATE:
        assert ends == {("confirmed", "confirmed", ("capture",), 1)}
        assert await pool.fetchval("SELECT sold FROM offers") == 24
    else:
        assert ends == {("cancelled", "cancelled", ("void",), 0)}
        assert await pool.fetchval("SELECT sold FROM offers") == 0


async def test_batch_that_no_column_takes_blocks_nobody(
    pool: Pool, outbox: StreamOutbox, show: ShowId
) -> None:
    """A number too large for its column is refused by the client library; it goes aside alone."""
    await make_show(pool, show, 5)
    await outbox.install(show)
    rows, good = PaymentRows(pool), new_buyer()
    await pay(rows, show, good)
    await outbox.add(
        outbox.move(show, K.CONFIRMED, new_buyer(), Line(0, 2**40)),
        outbox.move(show, K.CONFIRMED, good),
    )

    await make_settler(pool, outbox).run_once()

    states = {row[0]: row[2] for row in (await ledger_of(pool, show))["orders"]}
    assert states == {good.id: "confirmed"}
    assert await pool.fetchval("SELECT count(*) FROM poison") == 1

"""The audit finds each fault that is planted, names what is under way, and is quiet otherwise.

Method: a real sale with orders in every state, then one fault at a time, written past all guards.
"""

from collections.abc import Mapping
from dataclasses import replace

import orjson
import pytest
from prometheus_client import REGISTRY

from live.domain.hold import Line
from live.domain.payment import PaymentState
from live.ledger.audit.run import AuditReport, audit, audit_and_tell
from live.ledger.db.schedule import Schedule
from live.ledger.hosting.shows import ShowRows
from live.ledger.orders.orders import OrderRows
from tests.support.books import Books, SilentBooks, charge, charges_of
from tests.support.ledger_kit import PRICE, Buyer, Sale, new_buyer, new_payment, wish
from tests.support.shows_kit import HOST


async def run_audit(
    sale: Sale, *books: Books, unread: Mapping[str, str] | None = None, wait_seconds: float = 0
) -> AuditReport:
    return await audit(
        sale.pool, sale.engine, sale.outbox, books, unread=unread or {}, wait_seconds=wait_seconds
    )


async def sell_some(sale: Sale) -> tuple[Buyer, ...]:
    """A paid order, a refunded one, a cancelled one, and a live hold: nothing is wrong."""
    paid, refunded, cancelled, holding = (new_buyer() for _ in range(4))
    await sale.buy(paid, Line(0, 1), Line(1, 2))
    money = await sale.buy(refunded)
    await sale.buy(cancelled)
    await sale.hold(holding)
    await sale.settle()
    await sale.engine.cancel(sale.show, cancelled.id, cancelled.key)
    await sale.settle()
    await sale.capture_all()
    await OrderRows(sale.pool).request_refund(
        money.order, wish(restock=True), request_key="k", actor=HOST
    )
    await sale.capture_all()
    await sale.pool.execute("DELETE FROM notices")
    return paid, refunded, cancelled, holding


async def test_audit_of_a_sound_sale_is_quiet(sale: Sale) -> None:
    """Orders paid, refunded and cancelled, a live hold: no findings, exact figures."""
    await sell_some(sale)

    report = await run_audit(sale)

    assert report.findings == ()
    assert report.ok
    first, second = report.offers
    assert (first.allotted, first.left, first.held, first.sold) == (10, 7, 1, 2)
    assert (first.orders, first.oversold) == (2, 0)
    assert (second.left, second.sold, second.orders) == (3, 2, 1)
    assert (report.payments.captured, report.payments.refunded) == (2, 1)
    assert report.payments.unmatched == 0
    assert set(orjson.loads(orjson.dumps(report))) == {
        "ok", "offers", "payments", "in_flight", "findings", "mend", "shows",
    }  # fmt: skip


async def test_audit_names_what_is_in_flight(sale: Sale) -> None:
    """A due capture, an undecided payment and an unsent notice are named, not judged."""
    buyer = new_buyer()
    await sale.buy(buyer)
    await sale.settle()

    report = await run_audit(sale)

    assert report.ok
    payment = await sale.pool.fetchval("SELECT id FROM payments")
    assert f"P5 payment {payment}: capture of {PRICE} is due" in report.in_flight
    assert any(named.startswith("P2 notice") for named in report.in_flight)


async def test_audit_tells_an_entry_that_nobody_settles(sale: Sale) -> None:
    """A confirmed hold whose entry is not settled in time is a finding."""
    await sale.buy(new_buyer())

    report = await run_audit(sale)

    assert not report.ok
    assert any("is not settled" in finding for finding in report.findings)


PLANTED = {
    "oversold": (
        """ALTER TABLE offers DROP CONSTRAINT offers_never_oversold;
           UPDATE offers SET allotted = 1 WHERE slot = 0""",
        "2 sold of 1 allotted",
    ),
    "counter": ("UPDATE offers SET sold = sold + 1 WHERE slot = 1", "counts 3 sold"),
    "lost movement": (
        """ALTER TABLE stock_movements DISABLE TRIGGER USER;
           DELETE FROM stock_movements WHERE kind = 'sold' AND id =
               (SELECT max(id) FROM stock_movements WHERE kind = 'sold')""",
        "movements say",
    ),
    "allotment": ("UPDATE offers SET allotted = 9 WHERE slot = 0", "is allotted 9"),
    "product": ("UPDATE products SET on_hand = on_hand + 1", "on hand (movements say"),
    "lost order": (
        """DELETE FROM notices; DELETE FROM order_items WHERE order_id IN
               (SELECT id FROM orders WHERE state = 'paid')""",
        "items are 0",
    ),
    "order without payment": (
        "UPDATE orders SET payment = NULL WHERE state = 'paid'",
        "has no payment",
    ),
    "total": ("UPDATE orders SET total_minor = total_minor + 1 WHERE state = 'paid'", "total 4501"),
    "never captured": (
        """UPDATE orders SET state = 'confirmed' WHERE state = 'paid';
           ALTER TABLE payment_entries DISABLE TRIGGER USER;
           DELETE FROM payment_entries WHERE kind = 'captured' AND amount_minor = 4500;
           UPDATE payments SET state = 'capturing', captured_minor = 0 WHERE amount_minor = 4500""",
        "nobody will capture",
    ),
    "payment sums": (
        """ALTER TABLE payment_entries DISABLE TRIGGER USER;
           UPDATE payment_entries SET amount_minor = 4499
           WHERE kind = 'captured' AND amount_minor = 4500""",
        "entries say 4499",
    ),
    "captured for nothing": (
        "UPDATE orders SET state = 'cancelled' WHERE state = 'paid'",
        "owned by 0 orders",
    ),
    "failed refund": (
        """INSERT INTO money_jobs (payment, kind, amount_minor, request, state, reason)
           SELECT id, 'refund', 100, 'host:x', 'failed', 'no' FROM payments
           WHERE amount_minor = 4500""",
        "its refund failed: no",
    ),
    "forgotten authorisation": (
        """UPDATE payments SET state = 'authorised', lease_until = now() - interval '1 day'
           WHERE state = 'voided'""",
        "nobody has looked after it since",
    ),
    "payment that breaks for ever": (
        """UPDATE payments SET state = 'unknown', tries = 99, lease_until = now() + interval '20 s',
               created_at = now() - interval '1 day' WHERE state = 'voided'""",
        "is unknown after 99 tries since",
    ),
    "void that is never done": (
        """UPDATE money_jobs SET state = 'due', created_at = now() - interval '1 day',
               reason = 'no answer' WHERE kind = 'void'""",
        "its void is due since",
    ),
    "refund that is never done": (
        """UPDATE money_jobs SET state = 'due', created_at = now() - interval '1 day'
           WHERE kind = 'refund'""",
        "its refund is due since",
    ),
    "refused capture that stays": (
        """ALTER TABLE payment_entries DISABLE TRIGGER USER;
           UPDATE orders SET state = 'confirmed' WHERE state = 'paid';
           DELETE FROM payment_entries WHERE kind = 'captured' AND amount_minor = 4500;
           UPDATE payments SET state = 'capturing', captured_minor = 0 WHERE amount_minor = 4500;
           INSERT INTO payment_entries (payment, kind, detail, created_at)
               SELECT id, 'declined', 'capture refused: no', now() - interval '1 hour'
               FROM payments WHERE amount_minor = 4500;
           UPDATE money_jobs SET state = 'failed', reason = 'no'
           WHERE kind = 'capture' AND amount_minor = 4500""",
        "nobody will capture",
    ),
    "poison": (
        "INSERT INTO poison VALUES ((SELECT id FROM shows), '1-1', 1::bigint << 40, '{}', 'odd')",
        "outbox entry",
    ),
}


@pytest.mark.parametrize("fault", PLANTED)
async def test_audit_finds_a_planted_fault(sale: Sale, fault: str) -> None:
    """One row changed behind the ledger's back is named."""
    await sell_some(sale)
    assert (await run_audit(sale)).ok
    statement, told = PLANTED[fault]

    await sale.pool.execute(statement)
    report = await run_audit(sale)

    assert not report.ok
    assert any(told in finding for finding in report.findings), report.findings


async def test_audit_leaves_time_for_what_goes_wrong(sale: Sale) -> None:
    """A refused capture, a due void, a payment that broke once: named as under way at first."""
    await sale.buy(new_buyer())
    await sale.settle()
    (job,) = await sale.rows.take_jobs(lease_ms=0, limit=10)
    await sale.rows.fail_job(job, reason="no")
    await sale.rows.open_payment(other := new_payment(sale.show, new_buyer()))
    await sale.rows.ask_void(other.id, reason="too late")

    report = await run_audit(sale)

    assert report.findings == ()
    named = "\n".join(report.in_flight)
    assert f"{job.payment.id}: capture of {PRICE} was refused" in named
    assert f"{other.id}: void of {PRICE} is due" in named
    assert f"{other.id}: is created" in named


async def test_audit_on_a_schedule_raises_the_metric(sale: Sale) -> None:
    """Nobody reads its report, so the gauge tells: 0, then what was planted, then 0 again."""

    async def look() -> None:
        await audit_and_tell(sale.pool, sale.engine, sale.outbox, ())

    def told() -> float | None:
        return REGISTRY.get_sample_value("live_ledger_audit_findings")

    schedule = Schedule(sale.pool, "audit", look, every_seconds=60)
    await sell_some(sale)
    assert await schedule.run_once()
    sound = told()
    await sale.pool.execute(PLANTED["poison"][0])
    assert await schedule.run_once()
    planted = told()
    await sale.pool.execute("DELETE FROM poison")
    assert await schedule.run_once()

    assert (sound, planted, told()) == (0, 1, 0)


async def test_audit_finds_a_log_that_was_tampered_with(sale: Sale) -> None:
    """Whoever changed a row of the hosts' log behind its trigger is found out."""
    shows = ShowRows(sale.pool)
    for text in ("one", "two", "three"):
        await shows.announce(sale.show, text, None, HOST)
    assert (await run_audit(sale)).ok

    second = await sale.pool.fetchval("SELECT id FROM host_actions ORDER BY id OFFSET 1 LIMIT 1")
    await sale.pool.execute("ALTER TABLE host_actions DISABLE TRIGGER USER")
    await sale.pool.execute("UPDATE host_actions SET caller = 'another' WHERE id = $1", second)
    report = await run_audit(sale)

    assert report.findings == (
        f"log of show {sale.show}: row {second} is not what was written, or follows a gap",
    )


async def test_audit_finds_units_that_redis_sold_alone(sale: Sale) -> None:
    """A sale in Redis that the ledger rejected is a difference between the two."""
    buyer = new_buyer()
    await sale.hold(buyer)
    await sale.engine.begin(sale.show, buyer.id, buyer.key, window_ms=1_000)
    await sale.engine.confirm(sale.show, buyer.id, buyer.key, [Line(0, 1)])
    await sale.settle()

    report = await run_audit(sale)

    assert any("Redis sold 1, the ledger 0" in finding for finding in report.findings)
    assert sale.mismatches.shows == [sale.show]


async def test_audit_compares_the_providers_books(sale: Sale) -> None:
    """Charged there only, captured here only, other sums: each is told; equal books are quiet."""
    await sell_some(sale)
    await sale.pool.execute("UPDATE payments SET updated_at = now() - interval '1 hour'")
    equal = await charges_of(sale.pool)
    captured = [charge for charge in equal if charge.captured_minor]
    stranger = charge("6f1c0f6e-3b0a-4d9c-9a52-0d5d6a1f7f10", 5)
    voided = next(charge for charge in equal if charge.state is PaymentState.VOIDED)

    quiet = await run_audit(sale, Books(equal))
    extra = await run_audit(sale, Books([*equal, stranger]))
    missing = await run_audit(sale, Books([one for one in equal if one is not captured[0]]))
    other = await run_audit(
        sale,
        Books(
            [
                replace(one, captured_minor=one.captured_minor + 1, refunded_minor=0)
                for one in captured
            ]
        ),
    )
    unvoided = await run_audit(
        sale, Books([*captured, replace(voided, state=PaymentState.AUTHORISED)])
    )
    silent = await run_audit(sale, SilentBooks())

    assert quiet.ok
    assert "charged there, unknown here" in extra.findings[0]
    assert "not in the provider's books" in missing.findings[0]
    assert len(other.findings) == 2
    assert "authorised there, voided here" in unvoided.findings[0]
    assert "no books to compare" in silent.findings[0]


async def test_audit_tells_whose_books_it_could_not_read(sale: Sale) -> None:
    """Payments of a provider that is not configured are a finding; one that nobody used is none."""
    unread = {"sandbox": "set LIVE_SANDBOX_URL", "stripe": "set LIVE_STRIPE_KEY"}
    unused = await run_audit(sale, unread=unread)
    await sell_some(sale)

    used = await run_audit(sale, unread=unread)

    assert unused.ok
    assert used.findings == (
        "P5 provider sandbox: has 3 payments, its books were not read: set LIVE_SANDBOX_URL",
    )


CHARGED = {
    "twice": ({"ref": "another"}, True, "captured more than once there"),
    "another amount": ({"amount_minor": PRICE + 100}, False, f"{PRICE + 100} EUR there"),
    "another currency": ({"currency": "USD"}, False, f"{PRICE} USD there, {PRICE} EUR here"),
}
"""What a charge differs in, whether it is there beside the right one, and what is told."""


@pytest.mark.parametrize("fault", CHARGED)
async def test_audit_finds_a_wrong_charge(sale: Sale, fault: str) -> None:
    """A buyer who paid twice, or something else than they ordered, is named."""
    await sale.buy(new_buyer())
    await sale.settle()
    await sale.capture_all()
    await sale.pool.execute("UPDATE payments SET updated_at = now() - interval '1 hour'")
    changes, beside, told = CHARGED[fault]
    right = await charges_of(sale.pool)
    wrong = [replace(charge, **changes) for charge in right]  # type: ignore[arg-type]  # a table

    quiet = await run_audit(sale, Books(right))
    found = await run_audit(sale, Books([*right, *wrong] if beside else wrong))

    assert quiet.ok
    assert [told in finding for finding in found.findings] == [True]


async def test_payment_does_not_move_for_ever_in_the_books(sale: Sale) -> None:
    """What the provider captured for a payment that we never decide is told in the end."""
    await sale.rows.open_payment(new := new_payment(sale.show, new_buyer()))
    await sale.pool.execute("UPDATE payments SET updated_at = now() - interval '1 hour'")
    charged = Books([charge(new.id)])

    moving = await run_audit(sale, charged)
    await sale.pool.execute("UPDATE payments SET created_at = now() - interval '1 day'")
    stuck = await run_audit(sale, charged)

    told = f"P5 payment {new.id} at sandbox: captured {PRICE} and refunded 0 there, 0 and 0 here"
    assert moving.ok and told in moving.in_flight
    assert told in stuck.findings

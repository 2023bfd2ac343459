"""The money of an order that the ledger rejects: let go where it was set aside, else paid back."""

import pytest

from live.domain.hold import Line, MovementKind
from live.domain.ids import ShowId
from live.domain.order import RefundState
from live.domain.payment import NewPayment, PaymentState, ProviderRefund
from live.ledger.db.pool import Pool
from live.ledger.money.payments import PaymentRows
from tests.support.ledger_kit import (
    PRICE,
    StreamOutbox,
    make_settler,
    make_show,
    new_buyer,
    pay,
)

BACK = 400  # paid back by a person at the provider
S = PaymentState


async def move_money(rows: PaymentRows, payment: NewPayment, state: PaymentState) -> None:
    """What webhooks tell of an authorised payment while nobody settles."""
    if state is S.AUTHORISED:
        return
    await rows.record(payment.id, S.CAPTURED)
    if state is S.PARTIALLY_REFUNDED:
        await rows.doubt_refunds(payment.id)
        [news] = await rows.take_refund_news(lease_ms=1_000, limit=1)
        found = [ProviderRefund(key=None, amount_minor=BACK, state=RefundState.DONE)]
        assert await rows.record_refunds(news, found)
    elif state is S.REFUNDED:
        await rows.record(payment.id, S.REFUNDED)


@pytest.mark.parametrize(
    ("state", "jobs", "end"),
    [
        (S.AUTHORISED, [("void", PRICE)], S.VOIDED),
        (S.CAPTURED, [("refund", PRICE)], S.REFUNDED),
        (S.PARTIALLY_REFUNDED, [("refund", PRICE - BACK)], S.REFUNDED),
        (S.REFUNDED, [], S.REFUNDED),
    ],
)
async def test_rejected_order_keeps_no_money(
    pool: Pool,
    outbox: StreamOutbox,
    show: ShowId,
    state: PaymentState,
    jobs: list[tuple[str, int]],
    end: PaymentState,
) -> None:
    """Void what was authorised, refund the rest of what was captured; what went back is over."""
    await make_show(pool, show, 10)
    await outbox.install(show)
    buyer, rows = new_buyer(), PaymentRows(pool)
    payment = await pay(rows, show, buyer, Line(0, 1))
    await move_money(rows, payment, state)
    assert (await rows.get(payment.id)).state is state
    await outbox.add(outbox.move(show, MovementKind.CONFIRMED, buyer, Line(0, 2)))  # other units

    await make_settler(pool, outbox).run_once()

    taken = await rows.take_jobs(lease_ms=1_000, limit=10)
    assert [(job.kind, job.amount_minor) for job in taken] == jobs
    for job in taken:
        assert await rows.finish_job(job)
    after = await rows.get(payment.id)
    assert (after.state, after.refunded_minor) == (end, after.captured_minor)
    orders = await pool.fetch("SELECT state FROM orders WHERE show = $1", show)
    assert [row["state"] for row in orders] == ["rejected"]

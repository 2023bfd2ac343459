"""Refunds: paid once, for the units that came back, and done when the provider says so.

Method: a real sale and a provider process whose bank takes its time; then the figures at the
provider, in the ledger and on the shelf, what the desk was told, and the audit with its repair.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import orjson
import pytest

from live.base.errors import BadField, Conflict
from live.domain.hold import Line
from live.domain.ids import ShowId
from live.domain.order import OrderState, RefundState
from live.ledger.db.pool import Pool
from live.ledger.orders.fulfilments import FulfilmentRows
from tests.support.ledger_kit import PRICE, wish
from tests.support.refund_kit import (
    ask,
    hear,
    look,
    mend,
    paid_order,
    payment_of,
    proof,
    refund_events,
    work,
)
from tests.support.sale_kit import Sale, open_sale
from tests.support.sandbox import SandboxServer
from tests.support.shows_kit import HOST


@pytest.fixture
async def sale(
    pool: Pool, redis_url: str, server: SandboxServer, show: ShowId
) -> AsyncIterator[Sale]:
    """Two offers of ten units."""
    async with open_sale(pool, redis_url, server, show, units=(10, 10)) as sale:
        yield sale
    await server.misbehave()


async def test_refund_that_waits_is_not_told_as_done(sale: Sale) -> None:
    """The order is as it was and its buyer hears nothing, until the bank has paid."""
    order = await paid_order(sale)
    await sale.server.misbehave(refunds="pending")
    await ask(sale, order, wish(PRICE))
    await work(sale)
    await work(sale)
    assert await look(sale, order) == (OrderState.PAID, 0, [RefundState.DUE])
    assert (await proof(sale)).findings == ()

    await sale.server.bank(await payment_of(sale), "succeeded")
    await work(sale)

    assert await look(sale, order) == (OrderState.PARTIALLY_REFUNDED, PRICE, [RefundState.DONE])
    assert await sale.money() == (5 * PRICE, PRICE)
    assert (await proof(sale)).findings == ()


async def test_refund_may_wait_for_days_without_an_alarm(sale: Sale) -> None:
    """The provider has taken it on: the audit names it and finds nothing, for a month."""
    order = await paid_order(sale)
    await sale.server.misbehave(refunds="pending")
    await ask(sale, order, wish(PRICE))
    await work(sale)
    aged = """UPDATE money_jobs SET created_at = created_at - make_interval(days => $1),
                  pending_at = pending_at - make_interval(days => $1) WHERE kind = 'refund'"""
    later = "UPDATE payments SET updated_at = now() - interval '1 hour'"
    await sale.pool.execute(later)

    await sale.pool.execute(aged, 20)
    patient = await proof(sale)
    await sale.pool.execute(aged, 20)
    alarmed = await proof(sale)

    assert patient.findings == ()
    assert any("is at the provider" in line for line in patient.in_flight)
    assert any("its refund is due since" in line for line in alarmed.findings)


async def test_event_makes_a_waiting_refund_due(sale: Sale) -> None:
    """Nobody waits for the hour when the provider says that there is news."""
    order = await paid_order(sale)
    await sale.server.misbehave(refunds="pending")
    await ask(sale, order, wish(PRICE))
    await work(sale)
    await sale.pool.execute("UPDATE money_jobs SET due_at = now() + interval '1 hour'")
    await sale.server.bank(await payment_of(sale), "failed")

    await hear(sale, "refund.failed")
    await sale.worker.run_once()

    assert await look(sale, order) == (OrderState.PAID, 0, [RefundState.FAILED])


async def test_refund_that_fails_comes_back_to_its_host(sale: Sale) -> None:
    """The order says why, the desk hears of it, no buyer is told that they were paid back."""
    order = await paid_order(sale)
    await sale.server.misbehave(refunds="failed")
    await ask(sale, order, wish())
    await work(sale)

    state, refunded, _ = await look(sale, order)
    [refund] = (await sale.orders.get(order)).view.refunds
    assert (state, refunded) == (OrderState.PAID, 0)
    assert (refund.state, refund.amount_minor) == (RefundState.FAILED, 5 * PRICE)
    assert refund.failure == "the bank sent it back"
    [told] = await refund_events(sale)
    assert told["order"]["refunds"][0]["state"] == "failed"
    assert any("asks anew or calls it off" in line for line in (await proof(sale)).findings)


async def test_refund_asked_anew_is_paid_once_whatever_repairs(sale: Sale) -> None:
    """The failed one was answered for: the audit is quiet, and no repair pays a second time."""
    order = await paid_order(sale)
    await sale.server.misbehave(refunds="failed")
    await ask(sale, order, wish(PRICE))
    await work(sale)
    await sale.server.misbehave()
    assert await mend(sale) == []  # it is the host's to decide
    assert await sale.money() == (5 * PRICE, 0)

    await ask(sale, order, wish(PRICE))
    await work(sale)
    repaired = await mend(sale)
    await work(sale)

    both = [RefundState.CALLED_OFF, RefundState.DONE]
    assert await look(sale, order) == (OrderState.PARTIALLY_REFUNDED, PRICE, both)
    assert await sale.money() == (5 * PRICE, PRICE)
    assert repaired == []
    assert (await proof(sale)).findings == ()


async def test_failed_refund_is_called_off(sale: Sale) -> None:
    """Paid back in another way, say: it is no finding any more, and nothing goes back."""
    order = await paid_order(sale)
    with pytest.raises(Conflict):
        await sale.orders.call_off_refunds(order, reason="nothing failed", actor=HOST)
    await sale.server.misbehave(refunds="failed")
    await ask(sale, order, wish(PRICE))
    await work(sale)
    await sale.server.misbehave()

    await sale.orders.call_off_refunds(order, reason="paid in cash", actor=HOST)
    repaired = await mend(sale)
    await work(sale)

    assert await look(sale, order) == (OrderState.PAID, 0, [RefundState.CALLED_OFF])
    assert repaired == []
    assert (await proof(sale)).findings == ()
    detail = await sale.pool.fetchval(
        "SELECT detail FROM host_actions WHERE action = 'order.refund.call_off'"
    )
    assert orjson.loads(detail)["reason"] == "paid in cash"


@pytest.mark.parametrize("first", [PRICE, 5 * PRICE])
async def test_refund_that_comes_back_later_is_taken_back(sale: Sale, first: int) -> None:
    """Done, told, and returned by the bank days later: the order is not refunded any more."""
    order = await paid_order(sale)
    await ask(sale, order, wish(first))
    await work(sale)
    assert (await look(sale, order))[1] == first

    await sale.server.bank(await payment_of(sale), "failed")
    await hear(sale, "refund.failed")
    await sale.worker.run_once()

    assert await look(sale, order) == (OrderState.PAID, 0, [RefundState.FAILED])
    assert len(await refund_events(sale, buyers=1)) == 1  # they believe that they were paid back
    report = await proof(sale)
    assert [line for line in report.findings if "its refund failed" not in line] == []
    await ask(sale, order, wish(first))
    await work(sale)
    assert (await look(sale, order))[1] == first
    assert await sale.money() == (5 * PRICE, first)
    assert (await proof(sale)).findings == ()


async def test_one_of_two_refunds_comes_back(sale: Sale) -> None:
    """The other one stands; news that is no news changes nothing."""
    order = await paid_order(sale)
    await ask(sale, order, wish(PRICE))
    await work(sale)
    await sale.server.bank(await payment_of(sale), "failed")
    await ask(sale, order, wish(2 * PRICE))
    await work(sale)

    await hear(sale, "refund.failed")
    await sale.worker.run_once()
    await hear(sale, "refund.updated")
    await sale.worker.run_once()

    states = [RefundState.FAILED, RefundState.DONE]
    assert await look(sale, order) == (OrderState.PARTIALLY_REFUNDED, 2 * PRICE, states)
    assert await sale.money() == (5 * PRICE, 2 * PRICE)


async def test_refund_told_as_done_that_failed_meanwhile_is_failed(sale: Sale) -> None:
    """News came of its success, and a worker looks only after it failed: that is what counts."""
    order = await paid_order(sale)
    await sale.server.misbehave(refunds="pending")
    await ask(sale, order, wish(PRICE))
    await work(sale)
    await sale.server.bank(await payment_of(sale), "succeeded")
    await hear(sale, "charge.partially_refunded")
    assert await look(sale, order) == (OrderState.PAID, 0, [RefundState.DUE])
    await sale.server.bank(await payment_of(sale), "failed")

    await work(sale)

    assert await look(sale, order) == (OrderState.PAID, 0, [RefundState.FAILED])


# Units that come back.


async def shelf(sale: Sale) -> list[int]:
    rows = await sale.pool.fetch("SELECT on_hand FROM products ORDER BY sku")
    return [row["on_hand"] for row in rows]


async def test_part_of_the_money_brings_back_the_units_that_are_named(sale: Sale) -> None:
    """One unit of five: one is on the shelf, and not five."""
    order = await paid_order(sale)
    offer = sale.offers[0]

    await ask(sale, order, wish(PRICE, restock=True, **{offer: 1}))
    assert await shelf(sale) == [11, 10]
    with pytest.raises(BadField, match=r"^items: "):
        await ask(sale, order, wish(PRICE, restock=True))
    assert await shelf(sale) == [11, 10]
    await ask(sale, order, wish(restock=True))
    assert await shelf(sale) == [15, 10]
    assert (await proof(sale)).findings == ()


async def test_units_come_back_at_most_as_often_as_they_were_sold(sale: Sale) -> None:
    """However often a host asks, and for whichever amount."""
    order = await paid_order(sale, Line(0, 3), Line(1, 2))
    first, second = sale.offers
    await ask(sale, order, wish(1, restock=True, **{first: 2}))
    wrong: list[dict[str, int]] = [{first: 2}, {second: 3}, {first: 1, second: 3}, {"another": 1}]
    for units in wrong:
        with pytest.raises(Conflict):
            await ask(sale, order, wish(1, restock=True, **units))
    await ask(sale, order, wish(1, restock=True, **{first: 1, second: 2}))
    await ask(sale, order, wish(restock=True))
    assert await shelf(sale) == [13, 12]
    assert (await proof(sale)).findings == ()


async def test_units_that_came_back_stay_back_when_the_money_did_not_go(sale: Sale) -> None:
    """The goods are there whatever the bank does; asking anew does not double them."""
    order = await paid_order(sale)
    await sale.server.misbehave(refunds="failed")
    await ask(sale, order, wish(restock=True))
    await work(sale)
    await sale.server.misbehave()
    await ask(sale, order, wish(restock=True))
    await work(sale)
    assert await shelf(sale) == [15, 10]
    assert await sale.money() == (5 * PRICE, 5 * PRICE)


async def test_refunds_at_once_bring_no_unit_back_twice(sale: Sale) -> None:
    """Four hosts press the button: the units and the money go once."""
    order = await paid_order(sale)
    results = await asyncio.gather(
        *(ask(sale, order, wish(restock=True)) for _ in range(4)), return_exceptions=True
    )
    assert sum(isinstance(one, Conflict) for one in results) == 3
    assert await shelf(sale) == [15, 10]


async def test_key_of_a_refund_belongs_to_its_host(sale: Sale) -> None:
    """Two hosts may choose the same key; each is paid out, and each only once."""
    order = await paid_order(sale)
    other = replace(HOST, sub="host-2")
    for actor in (HOST, HOST, other, other):
        await sale.orders.request_refund(order, wish(PRICE), request_key="monday", actor=actor)
    await work(sale)
    assert await sale.money() == (5 * PRICE, 2 * PRICE)


async def test_refund_is_told_with_its_id_and_why(sale: Sale) -> None:
    """The host's own words stay, whatever the provider says of it; what follows has its own."""
    order = await paid_order(sale)
    await sale.server.misbehave(refunds="failed")
    await ask(sale, order, replace(wish(PRICE), reason="a scratch"))
    await work(sale)
    await sale.server.misbehave()
    await ask(sale, order, replace(wish(PRICE), reason="a scratch, again"))
    await FulfilmentRows(sale.pool).cancel(order, reason="no more", restock=True, actor=HOST)
    await work(sale)

    found = (await sale.orders.get(order)).view.refunds
    assert [one.reason for one in found] == ["a scratch", "a scratch, again", "no more"]
    assert found[0].failure not in ("", "a scratch")
    ids = await sale.pool.fetch("SELECT id FROM money_jobs WHERE kind = 'refund' ORDER BY id")
    assert [one.refund for one in found] == [str(row["id"]) for row in ids]
    await sale.pool.execute("UPDATE money_jobs SET asked_why = NULL")
    assert (await sale.orders.get(order)).view.refunds[0].reason == ""

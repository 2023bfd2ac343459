"""The payment worker on real engines: it finishes whatever a dead gateway left, and moves money."""

import asyncio
import signal
from collections.abc import AsyncIterator

import pytest
from prometheus_client import REGISTRY
from structlog.contextvars import merge_contextvars
from structlog.testing import capture_logs

from live.domain.caller import Caller
from live.domain.ids import ShowId, key_text
from live.domain.offer import Stock
from live.domain.outcomes import Outcome
from live.domain.payment import PaymentState
from live.ledger.audit.run import audit
from live.ledger.db.pool import Pool
from live.payments.breaker import LOST_MAX
from live.payments.port import MoneyRequest, Verdict, authorise_request
from live.payments.worker import PaymentWorker
from tests.support.ledger_kit import PRICE, wish
from tests.support.payment_kit import authorised, lose_hold, only_payment, opened
from tests.support.sale_kit import Sale, open_sale, viewer
from tests.support.sandbox import SandboxServer
from tests.support.shows_kit import HOST


@pytest.fixture
async def brief(
    pool: Pool, redis_url: str, server: SandboxServer, show: ShowId
) -> AsyncIterator[Sale]:
    """Holds of one second."""
    async with open_sale(pool, redis_url, server, show, units=(2,), hold_seconds=1) as sale:
        yield sale


@pytest.fixture
async def sale(
    pool: Pool, redis_url: str, server: SandboxServer, show: ShowId
) -> AsyncIterator[Sale]:
    """Two units, so that one sale more or less shows."""
    async with open_sale(
        pool, redis_url, server, show, units=(2,), provider_timeout_seconds=0.5
    ) as sale:
        yield sale
    await server.misbehave()


@pytest.mark.parametrize("token", ["tok_approve", "tok_timeout_after_charge"])
async def test_payment_left_before_or_after_its_call_is_finished(sale: Sale, token: str) -> None:
    """Whether the provider was reached or not, one charge and one paid order come of it."""
    ada = viewer()
    payment = await opened(sale, ada, await sale.hold(ada), token)
    if token == "tok_timeout_after_charge":
        await sale.provider.authorise(authorise_request(payment))
    await sale.work_until("captured", "paid")
    assert await sale.money() == (PRICE, 0)
    assert await sale.figures() == Stock(left=1, held=0, sold=1)


async def test_payment_left_before_confirm_is_confirmed(sale: Sale) -> None:
    """An authorised payment without an order gets its order."""
    ada = viewer()
    await authorised(sale, ada, await sale.hold(ada))
    await sale.work_until("captured", "paid")
    assert await sale.money() == (PRICE, 0)


async def test_payment_left_declined_is_told(sale: Sale) -> None:
    """The buyer learns that their payment failed; the hold is as it was before they began to
    pay."""
    ada = viewer()
    assert ada.buyer is not None
    hold = await sale.hold(ada)
    [before] = (await sale.stock.buyer_state(sale.show, ada.buyer)).holds
    await opened(sale, ada, hold, "tok_decline", window_ms=600_000)
    await sale.work_until("declined", None)
    assert (await sale.stock.buyer_state(sale.show, ada.buyer)).holds == (before,)
    event = await sale.told.wait_for(ada.buyer, "payment.failed")
    assert event["reason"] == "card declined"


async def test_failed_payment_of_an_ended_hold_frees_its_units(brief: Sale) -> None:
    """The bank said no after the hold's own deadline: the units are back at once."""
    ada = viewer()
    await opened(brief, ada, await brief.hold(ada), "tok_decline", window_ms=600_000)
    await expire_clock(brief)
    assert await brief.figures() == Stock(left=1, held=1, sold=0)

    await brief.work_until("declined", None)
    await brief.stock.reap(brief.show)

    assert await brief.figures() == Stock(left=2, held=0, sold=0)
    assert ada.buyer is not None
    await brief.told.wait_for(ada.buyer, "hold.expired")


async def test_late_payment_takes_units_again(brief: Sale) -> None:
    """Paid after the hold expired, and units are left: the buyer gets them."""
    ada = viewer()
    hold = await brief.hold(ada)
    await authorised(brief, ada, hold)
    await expire(brief, ada)
    await brief.work_until("captured", "paid")
    assert await brief.figures() == Stock(left=1, held=0, sold=1)


async def test_late_payment_without_units_is_voided(brief: Sale) -> None:
    """Paid after the hold expired and everything is gone: no order, no money, and they are told."""
    ada = viewer()
    hold = await brief.hold(ada)
    await authorised(brief, ada, hold)
    await expire(brief, ada)
    await brief.hold(viewer(), 2)

    await brief.work_until("voided", None)

    assert await brief.money() == (0, 0)
    assert ada.buyer is not None
    event = await brief.told.wait_for(ada.buyer, "payment.failed")
    assert event["reason"] == Outcome.EXPIRED


async def test_payment_for_a_released_hold_is_voided(sale: Sale) -> None:
    """Who gives their hold back while they pay does not get it again behind their back."""
    ada = viewer()
    hold = await sale.hold(ada)
    await authorised(sale, ada, hold)
    await lose_hold(sale, ada, hold)
    await sale.work_until("voided", None)
    assert await sale.figures() == Stock(left=2, held=0, sold=0)


async def test_unfinished_action_is_voided_after_its_window(sale: Sale) -> None:
    """A buyer who never comes back from their bank leaves neither money nor units behind."""
    ada = viewer()
    payment = await opened(sale, ada, await sale.hold(ada), "tok_action_required")
    await sale.provider.authorise(authorise_request(payment))
    await sale.pool.execute("UPDATE payments SET created_at = now() - interval '1 hour'")
    await sale.work_until("voided", None)
    assert await sale.money() == (0, 0)


async def test_payment_never_charged_is_declined_after_its_window(sale: Sale) -> None:
    """Nobody is charged for a click of long ago."""
    ada = viewer()
    await opened(sale, ada, await sale.hold(ada))
    await sale.pool.execute("UPDATE payments SET created_at = now() - interval '1 hour'")
    await sale.work_until("declined", None)
    assert (await sale.provider.look_up(await only_payment(sale), None)).state is (
        PaymentState.CREATED
    )


async def test_money_that_another_process_heard_of_takes_its_units(sale: Sale) -> None:
    """The provider tells this worker of no money, but the row has it: the units are sold."""
    ada = viewer()
    payment = await opened(sale, ada, await sale.hold(ada), "tok_action_required")
    await sale.provider.authorise(authorise_request(payment))
    await sale.payments.record(payment.id, PaymentState.AUTHORISED)

    decision = await sale.worker.decisions.decide(payment)

    assert decision == "confirmed"
    assert await sale.figures() == Stock(left=1, held=0, sold=1)


async def test_refused_capture_cancels_the_order(sale: Sale) -> None:
    """A capture refused for good: the order is cancelled, the units are back, nothing is kept."""
    ada = viewer()
    await sale.server.misbehave(refuse_captures=True)
    answer = await sale.pay(ada, await sale.hold(ada))
    await sale.work_until("voided", "cancelled")
    assert answer.outcome is Outcome.CONFIRMED
    assert await sale.figures() == Stock(left=2, held=0, sold=0)
    assert await sale.pool.fetchval("SELECT sold FROM offers WHERE show = $1", sale.show) == 0
    assert ada.buyer is not None
    await sale.told.wait_for(ada.buyer, "order.cancelled")


async def test_capture_with_a_lost_answer_is_captured_once(sale: Sale) -> None:
    """The provider captured and never said so: the repeat finds out, and takes nothing twice."""
    ada = viewer()
    await sale.server.misbehave(hang_captures=True)
    await sale.pay(ada, await sale.hold(ada))
    await sale.worker.run_once()
    await sale.server.misbehave()
    await sale.work_until("captured", "paid")
    assert await sale.money() == (PRICE, 0)


async def test_capture_that_a_person_made_counts(sale: Sale) -> None:
    """Somebody captured at the provider: our capture is refused, and the order is paid."""
    ada = viewer()
    await sale.pay(ada, await sale.hold(ada))
    await sale.provider.capture(
        MoneyRequest(
            payment=await only_payment(sale),
            ref=None,
            amount_minor=PRICE,
            currency="EUR",
            key="a person",
        )
    )
    await sale.work_until("captured", "paid")
    assert await sale.money() == (PRICE, 0)


async def test_void_that_a_person_made_impossible_is_named_by_the_audit(sale: Sale) -> None:
    """Somebody captured money that we were about to free: the audit says so until it is settled."""
    ada = viewer()
    hold = await sale.hold(ada)
    payment = await authorised(sale, ada, hold)
    await lose_hold(sale, ada, hold)
    captured = await sale.provider.capture(
        MoneyRequest(
            payment=payment.id,
            ref=None,
            amount_minor=PRICE,
            currency="EUR",
            key=f"by hand {payment.id}",
        )
    )
    assert captured.verdict is Verdict.DONE, captured
    await sale.expire_leases()
    await sale.worker.run_once()  # decides on the void
    await sale.worker.run_once()  # is refused, at the latest now

    report = await audit(sale.pool, sale.stock, sale.outbox, [sale.provider], wait_seconds=0)

    assert not report.ok
    about = [found for found in report.findings if payment.id in found]
    assert any("its void failed" in found for found in about), about
    assert any(
        f"captured {PRICE} and refunded 0 there" in found
        for found in about + list(report.in_flight)
    )


async def test_one_broken_row_does_not_stop_the_others(sale: Sale) -> None:
    """A payment whose provider is no longer configured waits; the next one is finished."""
    broken, ada = viewer(), viewer()
    await authorised(sale, broken, await sale.hold(broken))
    await sale.pool.execute("UPDATE payments SET provider = 'gone', state = 'unknown'")
    await authorised(sale, ada, await sale.hold(ada))
    async with asyncio.timeout(60):
        while ("captured", "paid") not in await sale.payment_states():
            await sale.expire_leases()
            await sale.worker.run_once()
    assert ("unknown", None) in await sale.payment_states()


def held_back() -> float:
    """Authorisations that the breaker did not let through."""
    labels = {"provider": "sandbox", "call": "authorise", "result": "held_back"}
    return REGISTRY.get_sample_value("live_payments_provider_calls_total", labels) or 0.0


async def test_breaker_spares_buyers_the_wait_for_a_dead_provider(
    pool: Pool, redis_url: str, server: SandboxServer, show: ShowId
) -> None:
    """Some wait in vain, then nobody does; once it is back everybody gets their order, paid
    once."""
    async with open_sale(
        pool, redis_url, server, show, units=(10,), provider_timeout_seconds=0.5
    ) as sale:
        buyers = [viewer() for _ in range(LOST_MAX + 2)]
        holds = [await sale.hold(buyer) for buyer in buyers]
        server.signal(signal.SIGSTOP)
        try:
            first = [
                sale.pay(buyer, hold)
                for buyer, hold in zip(buyers[:LOST_MAX], holds[:LOST_MAX], strict=True)
            ]
            answers = await asyncio.gather(*first)
            before = held_back()
            answers += [
                await sale.pay(buyers[-2], holds[-2]),
                await sale.pay(buyers[-1], holds[-1]),
            ]
            spared = held_back() - before
        finally:
            server.signal(signal.SIGCONT)
        async with asyncio.timeout(60):
            while set(await sale.payment_states()) != {("captured", "paid")}:
                await sale.expire_leases()
                await sale.pool.execute("UPDATE money_jobs SET due_at = now()")
                if not await sale.worker.run_once():
                    await asyncio.sleep(0.05)

        assert {answer.outcome for answer in answers} == {Outcome.PROCESSING}
        assert spared >= 1  # a probe may have been let through in between
        assert await sale.money() == (PRICE * len(buyers), 0)
        assert await sale.figures() == Stock(left=10 - len(buyers), held=0, sold=len(buyers))


async def test_slow_capture_holds_up_nobody_else(
    pool: Pool, redis_url: str, server: SandboxServer, show: ShowId
) -> None:
    """While one capture hangs until its deadline, the next order is paid."""
    async with open_sale(pool, redis_url, server, show) as sale:
        stop = asyncio.Event()
        working = asyncio.create_task(sale.worker.run(stop))
        slow, quick = viewer(), viewer()
        await sale.pay(slow, await sale.hold(slow), "tok_capture_hangs")
        await sale.pay(quick, await sale.hold(quick))
        async with asyncio.timeout(60):
            # Rows of another task, which tells nobody when it is done.
            while ("captured", "paid") not in await sale.payment_states():  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        first = await pool.fetchval(
            """SELECT p.sub FROM payment_entries e JOIN payments p ON p.id = e.payment
               WHERE e.kind = 'captured' ORDER BY e.id LIMIT 1"""
        )
        stop.set()
        await working
    assert first == quick.sub


async def test_refund_is_paid_back_once(sale: Sale) -> None:
    """A refund asked for twice with one key goes back once; a second one adds to it."""
    ada = viewer()
    answer = await sale.pay(ada, await sale.hold(ada))
    await sale.work_until("captured", "paid")
    assert answer.order is not None
    for key in ("a", "a", "b"):
        await sale.orders.request_refund(answer.order.order, wish(500), request_key=key, actor=HOST)
    await sale.work_until("partially_refunded", "partially_refunded")
    async with asyncio.timeout(60):
        while await sale.money() != (PRICE, 1_000):
            await sale.worker.run_once()
    order = await sale.orders.of_buyer(answer.order.order, ada.sub)
    assert order is not None
    assert order.refunded_minor == 1_000


async def test_workers_at_once_do_everything_once(sale: Sale) -> None:
    """Four workers that see the same rows make one order and one capture each payment."""
    buyers = [viewer() for _ in range(2)]
    for buyer in buyers:
        await authorised(sale, buyer, await sale.hold(buyer))
    providers = {"sandbox": sale.provider}
    workers = [PaymentWorker(sale.payments, sale.stock, providers) for _ in range(4)]
    async with asyncio.timeout(60):
        while await sale.payment_states() != [("captured", "paid")] * 2:
            await sale.expire_leases()
            await asyncio.gather(*(worker.run_once() for worker in workers))
    assert await sale.money() == (2 * PRICE, 0)
    assert await sale.figures() == Stock(left=0, held=0, sold=2)


async def test_decision_repeated_by_a_slow_worker_changes_nothing(sale: Sale) -> None:
    """A worker that wakes up after its lease ran out repeats a decision of somebody else."""
    ada = viewer()
    payment = await authorised(sale, ada, await sale.hold(ada))
    await sale.work_until("captured", "paid")
    await sale.worker.decisions.decide(payment)
    assert await sale.payment_states() == [("captured", "paid")]
    assert await sale.figures() == Stock(left=1, held=0, sold=1)


async def expire_clock(sale: Sale) -> None:
    """Let a second pass by Redis' clock, which is how long a hold of `brief` lives."""
    start = (await sale.stock.figures(sale.show)).at
    async with asyncio.timeout(60):
        # Redis' clock tells nobody that it moved on.
        while (await sale.stock.figures(sale.show)).at <= start + 1_000:  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def expire(sale: Sale, caller: Caller) -> None:
    """Let the buyer's hold run into its deadline."""
    assert caller.buyer is not None
    async with asyncio.timeout(60):
        while "hold.expired" not in sale.told.types(caller.buyer):
            await sale.stock.reap(sale.show)
            await asyncio.sleep(0.02)  # the deadline is Redis' time, which tells nobody


async def test_logs_name_show_hold_and_order(sale: Sale) -> None:
    """Whoever looks for a buyer's purchase finds every line about it, by any of its ids."""
    ada, bob = viewer(), viewer()
    payment = await opened(sale, ada, await sale.hold(ada))
    with capture_logs(processors=[merge_contextvars]) as lines:
        await sale.work_until("captured", "paid")
        await sale.server.misbehave(refuse_captures=True)
        await sale.pay(bob, await sale.hold(bob))
        await sale.worker.run_once()

    decided = next(line for line in lines if line["event"] == "payment.decided")
    undone = next(line for line in lines if line["event"] == "money_job.not_done")
    ids = {
        "payment": payment.id,
        "show": sale.show,
        "hold": key_text(payment.hold),
        "order": payment.order,
    }
    assert {name: decided[name] for name in ids} == ids
    assert ids.keys() <= undone.keys() and undone["show"] == sale.show

"""Money set aside after we gave its payment up goes back, whoever hears of it."""

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from live.domain.ids import ShowId
from live.domain.offer import Mode
from live.domain.outcomes import Outcome
from live.domain.payment import Payment, PaymentState
from live.ledger.audit.repair import repair
from live.ledger.audit.run import audit
from live.ledger.db.pool import Pool
from live.payments.inbox import WebhookInbox
from live.payments.metrics import REFUSED_VOIDS
from live.payments.port import CaptureResult, MoneyRequest, Verdict, authorise_request
from tests.integration.test_webhooks import event
from tests.support.ledger_kit import PRICE
from tests.support.payment_kit import authorised, lose_hold, opened
from tests.support.sale_kit import Sale, new_key, open_sale, viewer
from tests.support.sandbox import SandboxServer


@pytest.fixture
async def sale(
    pool: Pool, redis_url: str, server: SandboxServer, show: ShowId
) -> AsyncIterator[Sale]:
    async with open_sale(
        pool, redis_url, server, show, units=(2,), provider_timeout_seconds=0.5
    ) as sale:
        yield sale
    await server.misbehave()


async def given_up(sale: Sale) -> Payment:
    """A payment that was declined because its window passed and nobody had charged anything.

    Returns it as the process sees it that was frozen just before its call to the provider.
    """
    ada = viewer()
    payment = await opened(sale, ada, await sale.hold(ada))
    await sale.pool.execute("UPDATE payments SET created_at = now() - interval '1 hour'")
    await sale.work_until("declined", None)
    return payment


async def at_provider(sale: Sale, payment: Payment) -> PaymentState:
    return (await sale.provider.look_up(payment.id, None)).state


async def work(sale: Sale) -> None:
    """Let the worker do all that is due, and what follows from it."""
    while await sale.worker.run_once():
        pass


async def test_call_of_a_frozen_worker_is_voided(sale: Sale) -> None:
    """It wakes up, sends the call that it was about to send, and learns that it came too late."""
    payment = await given_up(sale)
    said = await sale.provider.authorise(authorise_request(payment))

    decision = await sale.worker.decisions.decide(payment)
    await work(sale)

    assert said.state is PaymentState.AUTHORISED
    assert decision == "void: authorised when it was declined"
    assert await at_provider(sale, payment) is PaymentState.VOIDED
    assert await sale.payment_states() == [("declined", None)]


async def test_call_of_a_frozen_gateway_is_voided(sale: Sale) -> None:
    """The same where a checkout tells what the provider said."""
    payment = await given_up(sale)
    said = await sale.provider.authorise(authorise_request(payment))

    state = await sale.payments.record(payment.id, said.state, ref=said.ref)
    await work(sale)

    assert state is PaymentState.DECLINED
    assert await at_provider(sale, payment) is PaymentState.VOIDED


async def test_money_after_a_void_of_nothing_is_voided_too(sale: Sale) -> None:
    """The void came before the charge, so there was nothing to void; then the charge arrives."""
    ada = viewer()
    payment = await opened(sale, ada, await sale.hold(ada))
    await sale.payments.ask_void(payment.id, reason="the test's")
    await work(sale)
    before = await sale.payment_states()
    said = await sale.provider.authorise(authorise_request(payment))

    await sale.payments.record(payment.id, said.state, ref=said.ref)
    await work(sale)

    assert before == [("voided", None)]
    assert await at_provider(sale, payment) is PaymentState.VOIDED


@pytest.mark.parametrize(
    ("kind", "state"),
    [("authorised", PaymentState.VOIDED), ("declined", PaymentState.AUTHORISED)],
)
async def test_event_of_a_late_authorisation_voids_it(
    sale: Sale, kind: str, state: PaymentState
) -> None:
    """Only the provider tells, by a webhook; an event about something else asks for nothing."""
    payment = await given_up(sale)
    await sale.provider.authorise(authorise_request(payment))
    inbox = WebhookInbox({"sandbox": sale.provider}, sale.payments)

    await inbox.take("sandbox", *event(payment.id, kind))
    await work(sale)

    assert await at_provider(sale, payment) is state
    jobs = await sale.pool.fetchval("SELECT count(*) FROM money_jobs")
    assert jobs == (1 if kind == "authorised" else 0)


async def test_repair_voids_what_only_the_books_tell(sale: Sale) -> None:
    """Nobody told us: the audit finds it in the provider's books and the repair sends it back."""
    payment = await given_up(sale)
    await sale.provider.authorise(authorise_request(payment))
    await sale.pool.execute("UPDATE payments SET updated_at = now() - interval '1 hour'")
    found = await audit(sale.pool, sale.stock, sale.outbox, [sale.provider], wait_seconds=0)

    done = await repair(
        sale.pool,
        stock=sale.stock,
        outbox=sale.outbox,
        settler=sale.settler,
        work=sale.worker.run_once,
        providers=[sale.provider],
        grace_seconds=0,
    )

    assert any(
        payment.id in one and "authorised there, declined here" in one for one in found.findings
    )
    assert any(payment.id in line for line in done)
    assert await at_provider(sale, payment) is PaymentState.VOIDED


async def test_answer_that_comes_too_late_to_buy_keeps_its_ref(
    pool: Pool, redis_url: str, server: SandboxServer, show: ShowId
) -> None:
    """A way of paying that turns out slow is voided in `first_paid` mode, by the provider's id."""
    async with open_sale(pool, redis_url, server, show, units=(2,), mode=Mode.FIRST_PAID) as sale:
        sale.provider.is_asynchronous = lambda token: False  # type: ignore[method-assign]
        answer = await sale.buy(viewer(), "tok_async", key=new_key())
        (row,) = await pool.fetch("SELECT state, provider_ref FROM payments")
        await work(sale)

        assert answer.outcome is Outcome.DECLINED
        assert row["state"] == "authorising" and row["provider_ref"].startswith("ch_")
        assert await sale.payment_states() == [("voided", None)]


async def test_refused_void_is_asked_for_until_nothing_is_held(
    sale: Sale, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A provider that refuses a void today may do it tomorrow; until then the alarm stands."""
    bob = viewer()
    hold = await sale.hold(bob)
    payment = await authorised(sale, bob, hold)
    await lose_hold(sale, bob, hold)
    alarms = REFUSED_VOIDS._value.get()

    with monkeypatch.context() as refusing:
        refusing.setattr(sale.provider, "void", refuse)
        await sale.expire_leases()
        await work(sale)
        first = await due_in_seconds(sale)
        await sale.pool.execute("UPDATE money_jobs SET due_at = now()")
        await work(sale)
    second = await due_in_seconds(sale)
    report = await audit(sale.pool, sale.stock, sale.outbox, [], wait_seconds=0)
    idle = await sale.worker.run_once()
    await sale.pool.execute("UPDATE money_jobs SET due_at = now()")
    await work(sale)

    assert REFUSED_VOIDS._value.get() == alarms + 2
    assert 50 < first < second <= 3_600, "a long pause, doubled"
    assert not idle
    assert any("its void failed: not now" in finding for finding in report.findings)
    assert await at_provider(sale, payment) is PaymentState.VOIDED
    assert await sale.payment_states() == [("voided", None)]
    entries = "SELECT count(*) FROM payment_entries WHERE detail LIKE 'void refused%'"
    assert await sale.pool.fetchval(entries) == 1


async def test_refused_void_of_money_that_went_back_by_hand_is_done(
    sale: Sale, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A person captured and refunded it at the provider: there is nothing left to void."""
    bob = viewer()
    hold = await sale.hold(bob)
    payment = await authorised(sale, bob, hold)
    await lose_hold(sale, bob, hold)
    asked = MoneyRequest(
        payment=payment.id, ref=None, amount_minor=PRICE, currency="EUR", key=payment.id
    )
    await sale.provider.capture(asked)
    await sale.provider.refund(replace(asked, key=f"{payment.id}:back"))

    await sale.expire_leases()
    await work(sale)

    assert await sale.pool.fetchval("SELECT state FROM money_jobs") == "done"


async def refuse(request: MoneyRequest) -> CaptureResult:
    return CaptureResult(Verdict.REFUSED, "not now")


async def due_in_seconds(sale: Sale) -> float:
    """How long the one job of the sale waits for its next try."""
    query = "SELECT extract(epoch FROM due_at - now())::float8 FROM money_jobs"
    found: float = await sale.pool.fetchval(query)
    return found

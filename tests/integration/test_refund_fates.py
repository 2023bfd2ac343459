"""What became of one refund is never concluded from what has gone back in all.

Method: a real sale, real rows and a provider process; several refunds of one payment, of which the
provider does some and refuses others, while answers come late and workers freeze. Then the refunds
one by one, the figures here and there, what was told, and the audit with its repair.
"""

import asyncio
from collections.abc import AsyncIterator
from itertools import permutations
from uuid import uuid4

import pytest

from live.domain.ids import OrderId, ShowId
from live.domain.order import OrderState, RefundState
from live.domain.payment import PaymentId, PaymentState, ProviderRefund
from live.ledger.db.pool import Pool
from live.payments.port import (
    Authorisation,
    CaptureResult,
    MoneyRequest,
    Verdict,
    authorise_request,
)
from tests.support.ledger_kit import PRICE, wish
from tests.support.payment_kit import opened
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
from tests.support.sale_kit import Sale, open_sale, viewer
from tests.support.sandbox import SandboxServer

DONE, FAILED = RefundState.DONE, RefundState.FAILED


@pytest.fixture
async def sale(
    pool: Pool, redis_url: str, server: SandboxServer, show: ShowId
) -> AsyncIterator[Sale]:
    async with open_sale(pool, redis_url, server, show, units=(10,)) as sale:
        yield sale
    await server.misbehave()


async def surprises(sale: Sale) -> list[str]:
    """What the audit finds, but that a refund failed: that is the host's to know."""
    return [line for line in (await proof(sale)).findings if "its refund failed" not in line]


async def by_person(sale: Sale, amount: int) -> None:
    """Somebody pays back at the provider itself."""
    payment = PaymentId(await payment_of(sale))
    asked = MoneyRequest(
        payment=payment, ref=None, amount_minor=amount, currency="EUR", key=str(uuid4())
    )
    assert (await sale.provider.refund(asked)).verdict is Verdict.DONE


@pytest.mark.parametrize("fates", sorted(permutations(("failed", "refused", "succeeded"))))
async def test_each_refund_has_its_own_fate(
    sale: Sale, monkeypatch: pytest.MonkeyPatch, fates: tuple[str, ...]
) -> None:
    """Three of one amount, asked at once: one is paid, one fails, of one the provider has nothing.

    Whichever comes first, the buyer has what the provider paid, and each refund says what it is.
    """
    order = await paid_order(sale)
    real, turn, calls = sale.provider.refund, asyncio.Lock(), iter(fates)

    async def refund(request: MoneyRequest) -> CaptureResult:
        async with turn:
            fate = next(calls)
            if fate == "refused":
                return CaptureResult(Verdict.REFUSED, "not today")
            await sale.server.misbehave(refunds=fate)
            return await real(request)

    monkeypatch.setattr(sale.provider, "refund", refund)
    for _ in fates:
        await ask(sale, order, wish(PRICE))
    await work(sale)

    state, refunded, refunds = await look(sale, order)
    assert (state, refunded) == (OrderState.PARTIALLY_REFUNDED, PRICE)
    assert sorted(refunds) == [DONE, FAILED, FAILED]
    assert await sale.money() == (5 * PRICE, PRICE)
    assert await surprises(sale) == []
    assert len(await refund_events(sale)) == 2


async def test_refund_that_was_paid_is_not_taken_back_by_another_one(
    sale: Sale, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One is refused at once; what was read of the payment then is older than the other's end."""
    order = await paid_order(sale)
    await ask(sale, order, wish(PRICE))
    await ask(sale, order, wish(PRICE))
    real, real_look = sale.provider.refund, sale.provider.look_up
    read, keys = asyncio.Event(), list[str]()

    async def refund(request: MoneyRequest) -> CaptureResult:
        keys.append(request.key)
        if len(keys) > 1:
            return CaptureResult(Verdict.REFUSED, "not today")
        if len(sale.worker._tasks) > 1:  # the other one is under way beside this one
            await read.wait()
        return await real(request)

    async def look_up(payment: PaymentId, ref: str | None) -> Authorisation:
        answer = await real_look(payment, ref)
        read.set()
        async with asyncio.timeout(60):
            while (await look(sale, order))[1] == 0:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        return answer

    monkeypatch.setattr(sale.provider, "refund", refund)
    monkeypatch.setattr(sale.provider, "look_up", look_up)
    await work(sale)
    monkeypatch.undo()

    assert await look(sale, order) == (OrderState.PARTIALLY_REFUNDED, PRICE, [DONE, FAILED])
    assert await sale.money() == (5 * PRICE, PRICE)
    assert len(await refund_events(sale)) == 1


async def test_refund_that_fails_here_and_was_paid_there_is_done(
    sale: Sale, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The call arrives after its refusal was written down; the provider's news tell, in any way."""
    order = await paid_order(sale)
    real, sent = sale.provider.refund, list[MoneyRequest]()

    async def refund(request: MoneyRequest) -> CaptureResult:
        sent.append(request)
        return CaptureResult(Verdict.REFUSED, "not today")

    monkeypatch.setattr(sale.provider, "refund", refund)
    await ask(sale, order, wish(PRICE))
    await work(sale)
    assert await look(sale, order) == (OrderState.PAID, 0, [FAILED])

    await real(sent[0])
    await hear(sale, "refund.updated")
    await work(sale)

    assert await look(sale, order) == (OrderState.PARTIALLY_REFUNDED, PRICE, [DONE])
    assert (await proof(sale)).findings == ()


@pytest.mark.parametrize("fate", ["succeeded", "failed"])
async def test_worker_whose_turn_is_over_decides_nothing(sale: Sale, fate: str) -> None:
    """It was frozen with the provider's answer in its hands; another one has done its work."""
    order = await paid_order(sale)
    await ask(sale, order, wish(PRICE))
    [late] = await sale.payments.take_jobs(lease_ms=0, limit=10)
    await sale.server.misbehave(refunds=fate)
    await work(sale)
    before = await look(sale, order)

    assert not await sale.payments.fail_job(late, reason="no")
    assert not await sale.payments.finish_job(late)
    await sale.payments.retry_job(late, ms=0, reason="no")

    assert await look(sale, order) == before
    assert await surprises(sale) == []


async def test_refunds_of_a_payment_take_turns(sale: Sale) -> None:
    """However many workers look: one refund at a time, and each is asked once."""
    order = await paid_order(sale)
    for _ in range(4):
        await ask(sale, order, wish(PRICE))

    taken = await asyncio.gather(
        *(sale.payments.take_jobs(lease_ms=60_000, limit=10) for _ in range(4))
    )

    assert sum(len(jobs) for jobs in taken) == 1
    [job] = [job for jobs in taken for job in jobs]
    await sale.payments.retry_job(job, ms=60_000, reason="later")
    [following] = await sale.payments.take_jobs(lease_ms=60_000, limit=10)
    assert following.id > job.id


async def test_look_that_is_older_than_the_news_is_followed_by_another(
    sale: Sale, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A refund came back while the provider's older answer was on its way to us."""
    order = await paid_order(sale)
    await ask(sale, order, wish(PRICE))
    await work(sale)
    real, heard = sale.provider.list_refunds, list[object]()

    async def list_refunds(
        payment: PaymentId, ref: str | None
    ) -> tuple[ProviderRefund, ...] | None:
        answer = await real(payment, ref)
        if not heard:
            heard.append(answer)
            await sale.server.bank(payment, "failed")
            await hear(sale, "refund.failed")
        return answer

    monkeypatch.setattr(sale.provider, "list_refunds", list_refunds)
    await hear(sale, "charge.partially_refunded")
    await work(sale)

    assert await look(sale, order) == (OrderState.PAID, 0, [FAILED])
    assert await surprises(sale) == []


async def test_refunds_of_persons_and_of_hosts_add_up(sale: Sale) -> None:
    """Also where all come back and more follow; a silent provider leaves everything as it is."""
    order = await paid_order(sale)
    await by_person(sale, 300)
    await ask(sale, order, wish(PRICE))
    await work(sale)
    await hear(sale, "charge.partially_refunded")
    await sale.server.misbehave(down=True)
    await sale.worker.run_once()
    silent = await look(sale, order)
    await sale.server.misbehave()
    await sale.pool.execute("UPDATE payments SET refunds_until = now()")
    await work(sale)
    both = await look(sale, order)
    await sale.server.bank(await payment_of(sale), "failed")
    await by_person(sale, 200)
    await hear(sale, "refund.failed")
    await work(sale)

    assert silent == (OrderState.PARTIALLY_REFUNDED, PRICE, [DONE])
    assert both == (OrderState.PARTIALLY_REFUNDED, PRICE + 300, [DONE])
    assert await look(sale, order) == (OrderState.PARTIALLY_REFUNDED, 200, [FAILED])
    assert await sale.money() == (5 * PRICE, 200)
    assert await surprises(sale) == []


# What was read before somebody else went on.


async def test_late_refusal_of_a_capture_cancels_no_paid_order(
    sale: Sale, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker froze between the provider's no and the cancellation; the money came meanwhile."""
    ada = viewer()
    await sale.pay(ada, await sale.hold(ada))
    async with asyncio.timeout(60):
        while not (taken := await sale.payments.take_jobs(lease_ms=0, limit=10)):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    await sale.work_until("captured", "paid")

    async def capture(request: MoneyRequest) -> CaptureResult:
        return CaptureResult(Verdict.REFUSED, "not today")

    async def look_up(payment: PaymentId, ref: str | None) -> Authorisation:
        return Authorisation(state=PaymentState.AUTHORISED, ref=ref)

    monkeypatch.setattr(sale.provider, "capture", capture)
    monkeypatch.setattr(sale.provider, "look_up", look_up)
    result = await sale.worker.moves.do(taken[0])
    monkeypatch.undo()

    assert result == "late"
    assert (await sale.figures()).sold == 1
    assert await sale.payment_states() == [("captured", "paid")]


async def test_payment_that_went_back_in_part_before_its_order_is_sold(sale: Sale) -> None:
    """A person captured and paid back some of it, before we knew that it was authorised."""
    ada = viewer()
    payment = await opened(sale, ada, await sale.hold(ada))
    said = await sale.provider.authorise(authorise_request(payment))
    asked = MoneyRequest(
        payment=payment.id, ref=said.ref, amount_minor=PRICE, currency="EUR", key=str(uuid4())
    )
    await sale.provider.capture(asked)
    await by_person(sale, 400)

    await sale.work_until("partially_refunded", "partially_refunded")

    order = OrderId(str(await sale.pool.fetchval("SELECT id FROM orders")))
    assert await look(sale, order) == (OrderState.PARTIALLY_REFUNDED, 400, [])
    assert (await proof(sale)).findings == ()


# Ledgers that were wrong.


async def two_refunds(sale: Sale) -> OrderId:
    """One is done and one has failed."""
    order = await paid_order(sale)
    await ask(sale, order, wish(PRICE))
    await work(sale)
    await sale.server.misbehave(refunds="failed")
    await ask(sale, order, wish(PRICE))
    await work(sale)
    await sale.server.misbehave()
    await sale.pool.execute("UPDATE payments SET updated_at = now() - interval '1 hour'")
    return order


async def pretend(sale: Sale, refunded: int, *, entry: int) -> None:
    """Write other sums into payment, order and entries."""
    state = "partially_refunded" if refunded else "captured"
    await sale.pool.execute("UPDATE payments SET refunded_minor = $1, state = $2", refunded, state)
    state = "partially_refunded" if refunded else "paid"
    await sale.pool.execute("UPDATE orders SET refunded_minor = $1, state = $2", refunded, state)
    await sale.pool.execute(
        "INSERT INTO payment_entries (payment, kind, amount_minor)"
        " SELECT id, 'refunded', $1 FROM payments",
        entry,
    )


async def test_repair_takes_back_a_refund_that_was_never_paid(sale: Sale) -> None:
    """Written down as done, and the provider has nothing of it: host and buyer are told."""
    order = await two_refunds(sale)
    await sale.pool.execute("UPDATE money_jobs SET state = 'done' WHERE kind = 'refund'")
    await pretend(sale, 2 * PRICE, entry=PRICE)
    found = await surprises(sale)
    await refund_events(sale)  # of the one that failed before
    told = len(sale.told.events)

    done = await mend(sale)

    assert any(f"refunded {PRICE} there" in line for line in found)
    assert any("its refunds are looked up one by one" in line for line in done)
    assert await look(sale, order) == (OrderState.PARTIALLY_REFUNDED, PRICE, [DONE, FAILED])
    assert await surprises(sale) == []
    await refund_events(sale, buyers=1)
    kinds = [kind for _, kind, _ in sale.told.events[told:]]
    assert kinds == ["refund.failed", "refund.failed"]
    assert await mend(sale) == []


async def test_repair_counts_a_refund_that_was_taken_back_wrongly(sale: Sale) -> None:
    """Its row is done and the sums say nothing of it, so it could be asked for again."""
    order = await two_refunds(sale)
    await pretend(sale, 0, entry=-PRICE)
    found = await surprises(sale)

    await mend(sale)

    assert any(f"refunds of {PRICE} are done, it has 0" in line for line in found)
    assert await look(sale, order) == (OrderState.PARTIALLY_REFUNDED, PRICE, [DONE, FAILED])
    assert await surprises(sale) == []


@pytest.mark.parametrize("table", ["payments", "orders"])
async def test_repair_sets_one_sum_to_its_refunds(sale: Sale, table: str) -> None:
    """Payment and order agree with the refunds afterwards, whichever of them was wrong."""
    order = await two_refunds(sale)
    await sale.pool.execute(f"UPDATE {table} SET refunded_minor = refunded_minor + 1")
    found = await surprises(sale)

    await mend(sale)

    assert found != []
    assert await look(sale, order) == (OrderState.PARTIALLY_REFUNDED, PRICE, [DONE, FAILED])
    assert await surprises(sale) == []


async def test_repair_learns_of_what_a_person_paid_back(sale: Sale) -> None:
    """No event told of it, and the provider's books do."""
    order = await two_refunds(sale)
    await by_person(sale, 300)

    await mend(sale)

    assert (await look(sale, order))[1] == PRICE + 300
    assert await surprises(sale) == []

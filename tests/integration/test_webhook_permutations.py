"""Every order of every set of events, for each provider that sends them: one final state.

Method: the provider's books are brought to an end state by its own means; then the events that lead
there are delivered to the inbox in every order, each of them twice, while the payment worker looks
in between. The rows afterwards are what the set of events says, and nothing moved at the provider.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path
from uuid import uuid4

import orjson
import pytest

from live.domain.hold import HoldState
from live.domain.ids import BuyerId, OrderId, ShowId
from live.domain.offer import Stock
from live.domain.payment import PaymentId, PaymentState
from live.ledger.db.pool import Pool
from live.payments.inbox import WebhookInbox
from live.payments.port import MoneyRequest, Provider
from live.payments.webhooks import signed_headers
from tests.support.ledger_kit import PRICE, wish
from tests.support.sale_kit import SETTLED_SECONDS, Sale, open_sale, viewer
from tests.support.sandbox import KEY, SandboxServer, running_sandbox
from tests.support.shows_kit import HOST
from tests.support.stripe_server import StripeServer, signed_event

Signed = tuple[dict[str, str], bytes]
UNITS = 30


@dataclass(frozen=True, slots=True)
class Paid:
    """One payment of the sale; `ref` is the provider's name for it."""

    id: PaymentId
    ref: str
    buyer: BuyerId


@dataclass(frozen=True, slots=True)
class World:
    """A sale, and one provider of it that tells what happened."""

    sale: Sale
    provider: Provider
    inbox: WebhookInbox
    approve: str
    action: str
    event: Callable[[str, str, str], Signed]
    """(kind in the sandbox's words, payment, ref) -> a signed event of the provider's own."""
    finish: Callable[[str, str], Awaitable[None]]

    async def pay(self, token: str) -> Paid:
        """Somebody new holds a unit and pays."""
        buyer = viewer()
        assert buyer.buyer is not None
        hold = await self.sale.hold(buyer)
        await self.sale.pay(buyer, hold, token, provider=self.provider.name)
        [payment] = await self.sale.payments.of_hold(self.sale.show, buyer.buyer, hold)
        assert payment.ref is not None
        return Paid(payment.id, payment.ref, buyer.buyer)

    async def deliver(self, order: tuple[str, ...], paid: Paid) -> None:
        signed = [self.event(kind, paid.id, paid.ref) for kind in order]
        for headers, body in signed + signed[::-1]:
            await self.inbox.take(self.provider.name, headers, body)
            await self.sale.worker.run_once()

    async def truth(self, paid: Paid) -> tuple[PaymentState, int, int]:
        said = await self.provider.look_up(paid.id, paid.ref)
        return said.state, said.captured_minor, said.refunded_minor

    async def refund(self, paid: Paid, amount: int) -> None:
        """As a person does at the provider."""
        await self.provider.refund(
            MoneyRequest(
                payment=paid.id,
                ref=paid.ref,
                amount_minor=amount,
                currency="EUR",
                key=str(uuid4()),
            )
        )

    async def work_until(self, *states: tuple[str, str | None]) -> None:
        """Let the worker work until every payment and its order are in one of these states."""
        async with asyncio.timeout(SETTLED_SECONDS):
            while not set(await self.sale.payment_states()) <= set(states):
                await self.sale.expire_leases()
                await self.sale.pool.execute("UPDATE money_jobs SET due_at = now()")
                await self.sale.worker.run_once()

    async def sums(self) -> dict[str, int]:
        """What the append-only entries add up to."""
        rows = await self.sale.pool.fetch(
            "SELECT kind, sum(amount_minor)::bigint AS total FROM payment_entries"
            " WHERE kind IN ('captured', 'refunded') GROUP BY kind"
        )
        return {row["kind"]: row["total"] for row in rows}


@pytest.fixture(scope="module")
def sandbox_server(scratch: Path) -> Iterator[SandboxServer]:
    with running_sandbox(scratch / "sandbox-permutations") as server:
        yield server


@pytest.fixture(scope="module")
def stripe_server() -> Iterator[StripeServer]:
    server = StripeServer()
    server.start()
    yield server
    server.close()


def sandbox_event(kind: str, payment: str, ref: str) -> Signed:
    body = orjson.dumps({"type": f"charge.{kind}", "payment": payment, "ref": ref})
    name = f"evt_{uuid4().hex}"
    return signed_headers(KEY.encode(), event=name, timestamp=int(time.time()), body=body), body


def stripe_event(kind: str, payment: str, ref: str) -> Signed:
    metadata: dict[str, object] = {"metadata": {"payment": payment}}
    name = f"evt_{uuid4().hex}"
    if kind in ("refunded", "partially_refunded"):
        charge = {"id": "ch_1", "object": "charge", "payment_intent": ref, **metadata}
        return signed_event(name, "charge.refunded", charge)
    intent = {"id": ref, "object": "payment_intent", **metadata}
    return signed_event(name, f"payment_intent.{_STRIPE_KINDS[kind]}", intent)


_STRIPE_KINDS = {
    "action_required": "requires_action",
    "authorised": "amount_capturable_updated",
    "captured": "succeeded",
    "declined": "payment_failed",
    "voided": "canceled",
}


@pytest.fixture(params=["sandbox", "stripe"])
async def world(
    request: pytest.FixtureRequest,
    pool: Pool,
    redis_url: str,
    show: ShowId,
    sandbox_server: SandboxServer,
    stripe_server: StripeServer,
) -> AsyncIterator[World]:
    stripe = stripe_server.provider()
    async with open_sale(
        pool, redis_url, sandbox_server, show, units=(UNITS,), more=[stripe]
    ) as sale:

        async def finish_sandbox(ref: str, verb: str) -> None:
            async with sandbox_server.client() as client:
                await client.post(f"/pay/{ref}?approve={'yes' if verb == 'approve' else 'no'}")

        if request.param == "sandbox":
            provider: Provider = sale.provider
            words = ("tok_approve", "tok_action_required")
        else:
            provider = stripe
            words = ("pm_card_visa", "pm_card_authenticationRequired")
        inbox = WebhookInbox({provider.name: provider}, sale.payments)
        yield World(
            sale,
            provider,
            inbox,
            *words,
            event=sandbox_event if request.param == "sandbox" else stripe_event,
            finish=finish_sandbox if request.param == "sandbox" else stripe_server.buyer,
        )
    await stripe.close()


async def test_approved_action_in_any_order(world: World) -> None:
    """The buyer approved at their bank; however the news comes, they get one order and pays
    once."""
    orders = list(permutations(("action_required", "authorised")))
    paid = [await world.pay(world.action) for _ in orders]
    for one, order in zip(paid, orders, strict=True):
        await world.finish(one.ref, "approve")
        await world.deliver(order, one)
    await world.work_until(("captured", "paid"))
    for one in paid:
        assert await world.truth(one) == (PaymentState.CAPTURED, PRICE, 0)
    assert await world.sale.figures() == Stock(left=UNITS - 2, held=0, sold=2)


async def test_refused_action_in_any_order(world: World) -> None:
    """The bank refused: no order, no money, the hold is free for another card, they are told
    once."""
    orders = list(permutations(("action_required", "declined", "voided")))
    paid = [await world.pay(world.action) for _ in orders]
    for one, order in zip(paid, orders, strict=True):
        await world.finish(one.ref, "decline")
        await world.deliver(order, one)
    assert set(await world.sale.payment_states()) <= {("declined", None), ("voided", None)}
    for one in paid:
        assert (await world.truth(one))[1:] == (0, 0)
        await world.sale.told.wait_for(one.buyer, "payment.failed")
        assert world.sale.told.types(one.buyer) == ["payment.failed"]
        [hold] = (await world.sale.stock.buyer_state(world.sale.show, one.buyer)).holds
        assert hold.state is HoldState.HELD


async def test_refunded_order_in_any_order(world: World) -> None:
    """Two refunds that a person made, told in any order and twice: the total counts, once."""
    orders = list(permutations(("authorised", "captured", "partially_refunded", "refunded")))
    paid = [await world.pay(world.approve) for _ in orders]
    await world.work_until(("captured", "paid"))
    for one, order in zip(paid, orders, strict=True):
        await world.refund(one, 400)
        await world.refund(one, PRICE - 400)
        await world.deliver(order, one)
    assert set(await world.sale.payment_states()) == {("refunded", "refunded")}
    for one in paid:
        assert await world.truth(one) == (PaymentState.REFUNDED, PRICE, PRICE)
    whole = PRICE * len(paid)
    assert await world.sums() == {"captured": whole, "refunded": whole}


async def test_events_before_our_own_capture_in_any_order(world: World) -> None:
    """Events that overtake our own calls, even of what never happened, move nothing."""
    orders = list(permutations(("authorised", "captured", "refunded")))
    paid = []
    for order in orders:
        one = await world.pay(world.approve)
        await world.deliver(order, one)
        paid.append(one)
    await world.work_until(("captured", "paid"))
    for one in paid:
        assert await world.truth(one) == (PaymentState.CAPTURED, PRICE, 0)


async def test_partial_refunds_there_and_here_add_up(world: World) -> None:
    """A person pays a part back at the provider, a host another one here: the sum is known."""
    one = await world.pay(world.approve)
    await world.work_until(("captured", "paid"))
    await world.refund(one, 300)
    await world.deliver(("partially_refunded",), one)
    order = OrderId(str(await world.sale.pool.fetchval("SELECT id FROM orders")))
    for _ in range(2):  # asked twice with one key: once
        await world.sale.orders.request_refund(order, wish(200), request_key="k", actor=HOST)
    await world.sale.worker.run_once()
    await world.deliver(("partially_refunded",), one)
    assert await world.sale.payment_states() == [("partially_refunded", "partially_refunded")]
    assert await world.truth(one) == (PaymentState.PARTIALLY_REFUNDED, PRICE, 500)
    assert await world.sums() == {"captured": PRICE, "refunded": 500}

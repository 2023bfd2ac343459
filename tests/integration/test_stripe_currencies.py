"""Currencies that Stripe writes with other digits than ISO 4217: a sale is charged what it costs.

Method: a real checkout through the stand-in for Stripe's API, which refuses what Stripe refuses;
then what the intent asks of the card, and our audit of Stripe's books.
"""

from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from live.domain.ids import ShowId
from live.domain.outcomes import Outcome
from live.ledger.audit.run import audit
from live.ledger.db.pool import Pool
from live.payments.providers.stripe import Stripe
from tests.support.ledger_kit import wish
from tests.support.sale_kit import Sale, open_sale, viewer
from tests.support.sandbox import SandboxServer, running_sandbox
from tests.support.shows_kit import HOST
from tests.support.stripe_server import KEY, StripeServer


@pytest.fixture(scope="module")
def sandbox(scratch: Path) -> Iterator[SandboxServer]:
    with running_sandbox(scratch / "sandbox-currencies") as server:
        yield server


@pytest.fixture(scope="module")
def server() -> Iterator[StripeServer]:
    server = StripeServer()
    server.start()
    yield server
    server.close()


@pytest.fixture
async def stripe(server: StripeServer) -> AsyncIterator[Stripe]:
    provider = server.provider()
    yield provider
    await provider.close()


@pytest.fixture
async def sale(
    pool: Pool, redis_url: str, sandbox: SandboxServer, show: ShowId, stripe: Stripe
) -> AsyncIterator[Sale]:
    async with open_sale(pool, redis_url, sandbox, show, more=[stripe]) as sale:
        yield sale


async def price(sale: Sale, minor: int, currency: str) -> None:
    """Sell the show's offer at this price."""
    room = sale.followed.followed[sale.show]
    assert room.state is not None
    terms = tuple(replace(one, price_minor=minor, currency=currency) for one in room.state.offers)
    room.state = replace(room.state, offers=terms, currency=currency)
    await sale.pool.execute("UPDATE offers SET price_minor = $1, currency = $2", minor, currency)


async def asked(server: StripeServer, ref: str) -> tuple[int, str]:
    """What Stripe would take from the card."""
    headers = {"authorization": f"Bearer {KEY}"}
    async with httpx.AsyncClient(trust_env=False, timeout=60, headers=headers) as client:
        intent = (await client.get(f"{server.url}/v1/payment_intents/{ref}")).json()
    return intent["amount"], intent["currency"]


@pytest.mark.parametrize(
    ("minor", "currency", "amount"),
    [
        (5_000, "ISK", 500_000),
        (4_990, "ISK", 499_000),
        (38_000, "UGX", 3_800_000),
        (1_000, "MGA", 10),
        (1_500, "JPY", 1_500),
        (1_230, "KWD", 1_230),
    ],
)
async def test_sale_is_charged_and_paid_back_what_it_costs(
    sale: Sale, server: StripeServer, stripe: Stripe, minor: int, currency: str, amount: int
) -> None:
    """From the price through the card and half of it back, our books are Stripe's."""
    await price(sale, minor, currency)
    ada = viewer()
    answer = await sale.pay(ada, await sale.hold(ada), "pm_card_visa", provider="stripe")
    assert answer.outcome is Outcome.CONFIRMED and answer.order is not None
    await sale.work_until("captured", "paid")
    ref = await sale.pool.fetchval("SELECT provider_ref FROM payments")

    assert await asked(server, ref) == (amount, currency.lower())
    half = minor // 2 // 100 * 100
    await sale.orders.request_refund(answer.order.order, wish(half), request_key="half", actor=HOST)
    await sale.work_until("partially_refunded", "partially_refunded")
    await sale.pool.execute("UPDATE payments SET updated_at = now() - interval '1 hour'")
    report = await audit(sale.pool, sale.stock, sale.outbox, [stripe], wait_seconds=5)
    mine = await sale.pool.fetchval("SELECT id::text FROM payments")
    assert [line for line in report.findings if mine in line] == []


async def test_amount_that_cannot_be_charged_says_so(sale: Sale) -> None:
    """The buyer reads why, and Stripe is not asked."""
    await price(sale, 1_234, "KWD")
    ada = viewer()
    answer = await sale.pay(ada, await sale.hold(ada), "pm_card_visa", provider="stripe")
    assert answer.outcome is Outcome.DECLINED
    assert "last of three digits" in answer.reason

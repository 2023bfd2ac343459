"""Webhooks that are signed and none of ours: taken with thanks, or the provider switches us off.

An endpoint set to "all events", or one of an account that another shop uses, too, gets them daily.
"""

from collections.abc import AsyncIterator, Iterator
from uuid import uuid4

import orjson
import pytest

from live.ledger.db.pool import Pool
from live.ledger.money.payments import PaymentRows
from live.payments.inbox import WebhookInbox
from tests.support.stripe_server import StripeServer, signed_body, signed_event

STRANGER = str(uuid4())
FOREIGN: list[tuple[str, dict[str, object]]] = [
    ("balance.available", {"object": "balance", "available": [{"amount": 1}]}),  # it has no id
    ("customer.created", {"id": "cus_1", "object": "customer", "metadata": None}),
    ("invoice.paid", {"id": 7, "object": "invoice", "payment_intent": {"id": "pi_x"}}),
    ("account.updated", {"id": "acct_1", "object": "account", "metadata": []}),
    ("payment_intent.succeeded", {"id": "pi_strange", "object": "payment_intent"}),
    ("charge.refunded", {"id": "ch_1", "object": "charge", "payment_intent": "pi_strange"}),
    ("charge.refunded", {"id": "ch_1", "object": "charge", "metadata": {"payment": "order 7"}}),
    ("refund.failed", {"id": "re_1", "object": "refund", "metadata": {"payment": STRANGER}}),
    ("charge.refunded", {"id": "ch_1", "object": "charge", "metadata": {"payment": 7}}),
]


@pytest.fixture(scope="module")
def server() -> Iterator[StripeServer]:
    server = StripeServer()
    server.start()
    yield server
    server.close()


@pytest.fixture
async def inbox(server: StripeServer, pool: Pool) -> AsyncIterator[WebhookInbox]:
    provider = server.provider(timeout_seconds=5.0)
    yield WebhookInbox({"stripe": provider}, PaymentRows(pool))
    await provider.close()


@pytest.mark.parametrize(("kind", "about"), FOREIGN)
async def test_signed_event_that_is_not_ours_is_taken(
    inbox: WebhookInbox, pool: Pool, kind: str, about: dict[str, object]
) -> None:
    """Nothing is raised, so the answer is 200, and no payment is the matter."""
    for _ in range(2):
        await inbox.take("stripe", *signed_event("evt_1", kind, about))
    assert await pool.fetchval("SELECT count(payment) FROM webhook_events") == 0


async def test_signed_event_without_a_snapshot_is_taken(inbox: WebhookInbox, pool: Pool) -> None:
    """Thin events name their object and do not carry it."""
    thin = {"id": "evt_2", "object": "v2.core.event", "type": "v2.core.account.updated"}
    await inbox.take("stripe", *signed_body(orjson.dumps(thin)))
    assert await pool.fetchval("SELECT count(*) FROM webhook_events") == 0

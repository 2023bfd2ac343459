"""What strangers make us say of webhooks that nobody believes."""

from typing import cast

import pytest
from structlog.testing import capture_logs

from live.payments.inbox import Events, WebhookInbox
from live.payments.port import WebhookRefused
from live.payments.providers.invoice import Invoice
from live.payments.providers.stripe import Stripe


async def test_refused_webhooks_are_told_seldom() -> None:
    """One line for each provider and reason, however many come."""
    stripe = Stripe("sk_test", webhook_secrets=("whsec_test",), api_base="http://127.0.0.1:1")
    inbox = WebhookInbox({"invoice": Invoice(), "stripe": stripe}, cast(Events, None))
    with capture_logs() as lines:
        for _ in range(100):
            for name in ("invoice", "stripe"):
                with pytest.raises(WebhookRefused):
                    await inbox.take(name, {}, b"{}")
    await stripe.close()

    told = [(line["event"], line["provider"], line["code"]) for line in lines]
    assert told == [
        ("webhook.refused", "invoice", "webhook.unknown"),
        ("webhook.refused", "stripe", "webhook.signature"),
    ]

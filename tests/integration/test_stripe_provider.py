"""What only the stripe provider has: its own signatures, a shared account, secrets, a deadline."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Iterator
from uuid import uuid4

import pytest

from live.base.errors import SettingsError
from live.base.settings import Settings
from live.domain.payment import PaymentId, PaymentState
from live.ledger.db.pool import Pool
from live.ledger.money.payments import PaymentRows
from live.payments.port import (
    WEBHOOK_BYTES_MAX,
    AuthoriseRequest,
    MoneyRequest,
    Verdict,
    WebhookRefused,
)
from live.payments.providers.stripe import Stripe
from live.payments.webhooks import TOLERANCE_SECONDS
from live.wiring.shared import providers_of
from tests.support.stripe_server import KEY, WEBHOOK_SECRET, StripeServer, signed_body, signed_event


@pytest.fixture(scope="module")
def server() -> Iterator[StripeServer]:
    server = StripeServer()
    server.start()
    yield server
    server.close()


@pytest.fixture
async def provider(server: StripeServer) -> AsyncIterator[Stripe]:
    provider = server.provider(timeout_seconds=1.0)
    yield provider
    await provider.close()


def wanted(token: str) -> AuthoriseRequest:
    return AuthoriseRequest(
        payment=PaymentId(str(uuid4())),
        amount_minor=990,
        currency="EUR",
        token=token,
        metadata={"show": "demo"},
    )


@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [
        ("old", 400, "webhook.stale"),
        ("from the future", 400, "webhook.stale"),
        ("tampered", 401, "webhook.signature"),
        ("wrong key", 401, "webhook.signature"),
        ("unsigned", 401, "webhook.signature"),
        ("no UTF-8", 401, "webhook.signature"),
        ("no event", 400, "webhook.body"),
        ("too long", 413, "webhook.too_long"),
    ],
)
async def test_event_that_is_not_believed_is_refused(
    provider: Stripe, fault: str, status: int, code: str
) -> None:
    """Signature first, then age, then content; each with its own status and code."""
    about: dict[str, object] = {"id": "pi_1", "object": "payment_intent"}
    now = int(time.time())
    headers, body = signed_event("evt_1", "payment_intent.succeeded", about)
    match fault:
        case "old":
            headers, body = signed_event("evt_1", "x", about, at=now - TOLERANCE_SECONDS - 5)
        case "from the future":
            headers, body = signed_event("evt_1", "x", about, at=now + TOLERANCE_SECONDS + 5)
        case "tampered":
            body += b" "
        case "wrong key":
            headers, body = signed_event("evt_1", "x", about, secret="whsec_another")
        case "unsigned":
            headers = {}
        case "no UTF-8":
            body = b"\xff"
        case "no event":
            headers, body = signed_body(b'{"object": "list"}')
        case "too long":
            body = b" " * (WEBHOOK_BYTES_MAX + 1)
    with pytest.raises(WebhookRefused) as caught:
        provider.parse_webhook(headers, body)
    assert (caught.value.status, caught.value.code) == (status, code)


@pytest.mark.parametrize("secret", ["whsec_old", "whsec_new"])
async def test_event_may_be_signed_with_either_secret_while_one_is_replaced(
    server: StripeServer, secret: str
) -> None:
    """A rotation loses no event."""
    provider = Stripe(KEY, webhook_secrets=("whsec_old", "whsec_new"), api_base=server.url)
    about: dict[str, object] = {"id": "pi_1", "object": "payment_intent"}
    [event] = provider.parse_webhook(*signed_event("evt_1", "x", about, secret=secret))
    await provider.close()
    assert event.id == "evt_1"


async def test_event_names_payment_and_intent(provider: Stripe) -> None:
    """An intent's event names it by id, a charge's by its intent; a refund is marked."""
    mine = {"metadata": {"payment": "p-1"}}
    intent = {"id": "pi_1", "object": "payment_intent", **mine}
    charge = {"id": "ch_1", "object": "charge", "payment_intent": "pi_1", **mine}
    strange = {"id": "cus_1", "object": "customer", "metadata": None}
    [one] = provider.parse_webhook(*signed_event("e1", "payment_intent.succeeded", intent))
    [two] = provider.parse_webhook(*signed_event("e2", "charge.refunded", charge))
    [three] = provider.parse_webhook(*signed_event("e3", "customer.created", strange))
    assert (one.payment, one.ref, one.refund) == ("p-1", "pi_1", False)
    assert (two.payment, two.ref, two.refund) == ("p-1", "pi_1", True)
    assert (three.payment, three.ref) == (None, None)


async def test_intent_refused_by_the_bank_cannot_be_paid_afterwards(
    provider: Stripe, server: StripeServer
) -> None:
    """The buyer has the client secret: what we call failed must be over at Stripe as well."""
    request = wanted("pm_card_authenticationRequired")
    ref = (await provider.authorise(request)).ref
    assert ref is not None
    await server.buyer(ref, "decline")
    said = await provider.look_up(request.payment, ref)
    assert (said.state, said.reason) == (PaymentState.VOIDED, "Your card was declined.")
    late = await provider.capture(
        MoneyRequest(payment=request.payment, ref=ref, amount_minor=990, currency="EUR", key="late")
    )
    assert late.verdict is Verdict.REFUSED


async def test_charges_of_another_shop_are_none_of_ours(
    provider: Stripe, server: StripeServer
) -> None:
    """An account may be shared: what does not carry our metadata is not listed."""
    before = len(await everything(provider))
    await provider._intents.create_async(
        {
            "amount": 1,
            "currency": "eur",
            "capture_method": "manual",
            "confirm": True,
            "payment_method": "pm_card_visa",
        }
    )
    await provider.authorise(wanted("pm_card_visa"))
    assert len(await everything(provider)) == before + 1


async def test_silent_provider_is_given_up_in_time(server: StripeServer) -> None:
    """A hundred calls to a frozen provider, more than may be open at once, all end in a second."""
    provider = server.provider(timeout_seconds=0.5)
    assert server.process is not None
    server.process.send_signal(signal.SIGSTOP)
    started = time.monotonic()
    try:
        said = await asyncio.gather(
            *(provider.look_up(PaymentId(str(uuid4())), None) for _ in range(100))
        )
    finally:
        server.process.send_signal(signal.SIGCONT)
        await provider.close()
    assert {one.state for one in said} == {PaymentState.UNKNOWN}
    assert time.monotonic() - started < 30


async def test_wrong_key_is_unknown_and_stays_secret(
    server: StripeServer, capsys: pytest.CaptureFixture[str]
) -> None:
    """A key that Stripe refuses charges nobody, declines nobody, and is never repeated."""
    provider = Stripe("sk_live_precious", webhook_secrets=("whsec_x",), api_base=server.url)
    said = await provider.authorise(wanted("pm_card_visa"))
    await provider.close()
    assert said.state is PaymentState.UNKNOWN
    assert "precious" not in repr(said) + "".join(capsys.readouterr())


def test_settings_keep_the_key_secret_and_need_both() -> None:
    """Key and webhook secret come together, and neither shows in a repr."""
    both = {"LIVE_STRIPE_KEY": "sk_1", "LIVE_STRIPE_WEBHOOK_SECRET": "whsec_1, whsec_2"}
    settings = Settings.from_env(both)
    assert settings.stripe_webhook_secrets == ("whsec_1", "whsec_2")
    assert "sk_1" not in repr(settings) and "whsec" not in repr(settings)
    for name in both:
        with pytest.raises(SettingsError, match="need each other"):
            Settings.from_env({name: both[name]})


async def test_stripe_is_offered_where_it_is_configured(pool: Pool) -> None:
    """Without a key there is no such provider, so no checkout can name it."""
    payments = PaymentRows(pool)
    assert "stripe" not in providers_of(Settings.from_env({}), payments)
    found = providers_of(
        Settings.from_env({"LIVE_STRIPE_KEY": KEY, "LIVE_STRIPE_WEBHOOK_SECRET": WEBHOOK_SECRET}),
        payments,
    )
    assert found["stripe"].name == "stripe"
    for provider in found.values():
        await provider.close()


async def everything(provider: Stripe) -> list[str]:
    found: list[str] = []
    cursor: str | None = None
    while True:
        page = await provider.list_charges(cursor=cursor, limit=100)
        found += [charge.payment for charge in page.charges]
        if page.cursor is None:
            return found
        cursor = page.cursor

"""The provider `http`: what leaves us is signed, what comes back is believed only where it fits.

Method: the real client against the example of a payment service, which is made to answer wrongly;
and whole sales through it. What every provider must do is in test_provider_contract.py.
"""

import base64
import json
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from live.domain.ids import ShowId
from live.domain.order import OrderState
from live.domain.outcomes import Outcome
from live.domain.payment import PaymentId, PaymentState
from live.ledger.audit.run import audit
from live.ledger.db.pool import Pool
from live.payments.breaker import LOST_MAX, GuardedProvider
from live.payments.inbox import WebhookInbox
from live.payments.port import AuthoriseRequest, MoneyRequest, Verdict, WebhookRefused
from live.payments.providers.http import ANSWER_BYTES_MAX, HttpProvider
from live.payments.webhooks import signed_headers, signing_key, verify
from tests.support.http_provider import SECRET, ExampleServer, running_example
from tests.support.ledger_kit import PRICE, wish
from tests.support.sale_kit import Sale, new_key, open_sale, viewer
from tests.support.sandbox import SandboxServer
from tests.support.shows_kit import HOST

OTHER = "whsec_" + base64.b64encode(b"another secret of thirty-two byt").decode()


@pytest.fixture(scope="module")
def example(scratch: Path) -> Iterator[ExampleServer]:
    with running_example(scratch / "example-http.sqlite3") as server:
        yield server


@pytest.fixture
async def provider(example: ExampleServer) -> AsyncIterator[HttpProvider]:
    made = example.provider()
    yield made
    await made.close()
    await example.misbehave()


@pytest.fixture
async def sale(
    pool: Pool, redis_url: str, server: SandboxServer, show: ShowId, provider: HttpProvider
) -> AsyncIterator[Sale]:
    async with open_sale(pool, redis_url, server, show, more=(provider,)) as opened:
        yield opened


def wanted(token: str | None = "tok_approve") -> AuthoriseRequest:
    return AuthoriseRequest(
        payment=PaymentId(str(uuid4())),
        amount_minor=PRICE,
        currency="EUR",
        token=token,
        metadata={"show": "demo", "order": "o-1", "hold": "h-1", "buyer": "00"},
        sub="ada",
    )


def money(request: AuthoriseRequest, key: str) -> MoneyRequest:
    return MoneyRequest(
        payment=request.payment, ref=None, amount_minor=PRICE, currency="EUR", key=key
    )


def charge(request: AuthoriseRequest, **changes: object) -> dict[str, object]:
    """A good answer, or one with these changes."""
    return {
        "payment": request.payment,
        "state": "authorised",
        "ref": "ch_1",
        "amount_minor": PRICE,
        "currency": "EUR",
    } | changes


async def test_each_call_is_signed_and_keyed(
    example: ExampleServer, provider: HttpProvider
) -> None:
    """By the rules of Standard Webhooks over the very bytes, which name the call; a repeat has the
    same id, and the buyer's digest is nobody's business."""
    request = wanted()
    example.received.clear()
    await provider.authorise(request)
    await provider.authorise(request)
    await provider.look_up(request.payment, None)
    await provider.capture(money(request, "c-1"))
    await provider.refund(money(request, "r-1"))
    await provider.void(money(request, "v-1"))

    ids = []
    for path, headers, body in example.received:
        ids.append(verify(headers, body, keys=[signing_key(SECRET)], now=time.time()))
        said = json.loads(body)
        assert path == f"/{said['call']}" and said["payment"] == request.payment
        assert headers["idempotency-key"] == ids[-1] == said["key"]
    assert ids[0] == ids[1] == request.payment and ids[3:] == ["c-1", "r-1", "v-1"]
    first = json.loads(example.received[0][2])
    assert first == {
        "call": "authorise",
        "key": request.payment,
        "payment": request.payment,
        "amount_minor": PRICE,
        "currency": "EUR",
        "token": "tok_approve",
        "sub": "ada",
        "show": "demo",
        "order": "o-1",
        "hold": "h-1",
    }


async def test_example_takes_no_call_that_is_not_ours(example: ExampleServer) -> None:
    """Another secret, and a recorded body sent to another path: nothing is charged."""
    stranger = HttpProvider(example.url, secrets=(OTHER,), timeout_seconds=1)
    request = wanted()

    said = await stranger.authorise(request)
    await stranger.close()

    assert said.state is PaymentState.UNKNOWN
    assert example.books.charge(request.payment)["state"] == "created"


async def test_secret_is_exchanged_without_a_gap(example: ExampleServer) -> None:
    """While there are two, both sign, and news may be signed by either."""
    both = HttpProvider(example.url, secrets=(OTHER, SECRET), timeout_seconds=1)
    example.received.clear()

    said = await both.authorise(wanted())
    await both.close()

    assert said.state is PaymentState.AUTHORISED
    _, headers, body = example.received[0]
    for one in (OTHER, SECRET):
        assert verify(headers, body, keys=[signing_key(one)], now=time.time())
        assert both.parse_webhook(*news(key=one))


BAD_ANSWERS: list[tuple[int, bytes | dict[str, object]]] = [
    (200, b"not json"),
    (200, b"[]"),
    (200, b"\xff\xfe"),
    (200, b'{"payment": "x", "pad": "' + b"x" * ANSWER_BYTES_MAX + b'"}'),
    (200, {"state": "nearly"}),
    (200, {"state": "unknown"}),
    (200, {"payment": "another"}),
    (200, {"amount_minor": PRICE - 1}),
    (200, {"amount_minor": True}),
    (200, {"amount_minor": -1}),
    (200, {"currency": "USD"}),
    (200, {"captured_minor": PRICE + 1}),
    (200, {"captured_minor": 1, "refunded_minor": 2}),
    (200, {"state": "action_required"}),
    (200, {"action": {"kind": "redirect", "value": "https://bank.example"}}),
    (200, {"state": "action_required", "action": {"kind": "dance", "value": "x"}}),
    (200, {"ref": ""}),
    (200, {"state": "created"}),
    (201, {}),
    (302, {}),
    (400, {"state": "declined"}),
    (404, {}),
    (500, {}),
]


@pytest.mark.parametrize(("status", "answer"), BAD_ANSWERS)
async def test_answer_that_does_not_fit_says_nothing(
    example: ExampleServer,
    provider: HttpProvider,
    status: int,
    answer: bytes | dict[str, object],
) -> None:
    """Not that the charge is there, and not that it is not."""
    request = wanted()
    body = answer if isinstance(answer, bytes) else json.dumps(charge(request, **answer)).encode()
    await example.misbehave(say=(status, body))

    said = await provider.authorise(request)

    assert said.state is PaymentState.UNKNOWN


@pytest.mark.parametrize(
    ("status", "answer"),
    [(200, {"result": "maybe"}), (200, {}), (404, {"result": "done"}), (200, [])],
)
async def test_money_call_that_is_not_answered_is_asked_again(
    example: ExampleServer, provider: HttpProvider, status: int, answer: object
) -> None:
    await example.misbehave(say=(status, json.dumps(answer).encode()))
    request = wanted()
    for call in (provider.capture, provider.void, provider.refund):
        assert (await call(money(request, "k"))).verdict is Verdict.UNKNOWN
    assert await provider.list_refunds(request.payment, None) is None
    found = await provider.look_up_refund(money(request, "k"))
    assert found is not None and found.verdict is Verdict.UNKNOWN


@pytest.mark.parametrize("kind", ["redirect", "client_secret", "qr", "voucher"])
async def test_action_reaches_the_buyer_with_its_end(
    example: ExampleServer, sale: Sale, kind: str
) -> None:
    """As the provider said it; asked again, the same."""
    action = {"kind": kind, "value": f"{kind}-1", "expires_at": 1_900_000_000_000}
    ada, key = viewer(), new_key()
    hold = await sale.hold(ada)
    await sale.pay(ada, hold, "tok_action_required", provider="http", key=key)
    payment = str(await sale.pool.fetchval("SELECT id FROM payments"))
    answer = charge(
        wanted(), payment=payment, state="action_required", action=action, amount_minor=PRICE
    )
    await example.misbehave(say=(200, json.dumps(answer).encode()))

    told = await sale.pay(ada, hold, "tok_action_required", provider="http", key=key)

    assert told.outcome is Outcome.ACTION_REQUIRED
    assert told.body()["action"] == action


async def test_sale_goes_there_and_back(sale: Sale) -> None:
    """Authorised at the click, captured for the order, refunded in part; the audit agrees."""
    ada = viewer()
    answer = await sale.pay(ada, await sale.hold(ada), provider="http")
    assert answer.outcome is Outcome.CONFIRMED and answer.order is not None
    await sale.work_until("captured", "paid")

    await sale.orders.request_refund(answer.order.order, wish(500), request_key="a", actor=HOST)
    await sale.work_until("partially_refunded", "partially_refunded")

    found = (await sale.orders.get(answer.order.order)).view
    assert (found.state, found.refunded_minor) == (OrderState.PARTIALLY_REFUNDED, 500)
    report = await audit(sale.pool, sale.stock, sale.outbox, (), wait_seconds=5)
    assert report.findings == ()


async def test_charge_of_another_amount_sells_nothing_and_is_not_forgotten(
    example: ExampleServer, sale: Sale
) -> None:
    """Not at the click and not when it is looked up; once the service says the right one, it is a
    sale."""
    ada = viewer()
    hold = await sale.hold(ada)
    example.books.authorise, real = _cheaper(example), example.books.authorise
    try:
        answer = await sale.pay(ada, hold, provider="http")
        await sale.expire_leases()
        await sale.worker.run_once()
        assert answer.outcome is Outcome.PROCESSING
        assert await sale.payment_states() == [("unknown", None)]
        assert (await sale.figures()).sold == 0
    finally:
        example.books.authorise = real
    with example.books.lock:
        example.books.rows("UPDATE charges SET amount_minor = ?", PRICE)

    await sale.work_until("captured", "paid")


def _cheaper(example: ExampleServer) -> Any:
    real = example.books.authorise

    def authorise(ask: dict[str, Any]) -> Any:
        return real(ask | {"amount_minor": ask["amount_minor"] - 1})

    return authorise


async def test_lost_answers_hold_the_calls_back(
    example: ExampleServer, provider: HttpProvider
) -> None:
    """After a few nothing leaves any more, and buyers need not wait for it."""
    await example.misbehave(down=True)
    guarded = GuardedProvider(provider)
    for _ in range(LOST_MAX):
        await guarded.authorise(wanted())
    example.received.clear()

    said = await guarded.authorise(wanted())

    assert said.state is PaymentState.UNKNOWN and example.received == []


def news(
    payment: str = "p-1", kind: str = "payment.updated", *, key: str = SECRET, body: bytes = b""
) -> tuple[Mapping[str, str], bytes]:
    body = body or json.dumps({"type": kind, "payment": payment}).encode()
    stamp = int(time.time())
    event = f"msg_{uuid4().hex}"
    return signed_headers(signing_key(key), event=event, timestamp=stamp, body=body), body


async def test_news_make_the_payment_due(example: ExampleServer, sale: Sale) -> None:
    """The buyer is back from their bank: the service tells it, the worker asks, and it is sold."""
    ada = viewer()
    await sale.pay(ada, await sale.hold(ada), "tok_action_required", provider="http")
    payment = str(await sale.pool.fetchval("SELECT id FROM payments"))
    ref = example.books.charge(payment)["ref"]
    await example.finish(ref, "approve")
    await sale.pool.execute("UPDATE payments SET lease_until = now() + interval '1 hour'")
    inbox = WebhookInbox({"http": example.provider()}, sale.payments)

    assert not await sale.worker.run_once()
    await inbox.take("http", *news(payment))
    await sale.worker.run_once()

    await sale.work_until("captured", "paid")


@pytest.mark.parametrize(
    ("told", "status"),
    [
        (news(key=OTHER), 401),
        (({}, b"{}"), 401),
        (news(body=b"not json"), 400),
        (news(kind="payment updated"), 400),
    ],
)
def test_news_of_strangers_are_refused(
    example: ExampleServer, told: tuple[Mapping[str, str], bytes], status: int
) -> None:
    with pytest.raises(WebhookRefused) as caught:
        example.provider().parse_webhook(*told)
    assert caught.value.status == status


@pytest.mark.parametrize(
    ("kind", "refund", "authorised"),
    [
        ("payment.updated", False, False),
        ("payment.authorised", False, True),
        ("refund.updated", True, False),
    ],
)
def test_news_say_what_to_look_at(
    example: ExampleServer, kind: str, refund: bool, authorised: bool
) -> None:
    (event,) = example.provider().parse_webhook(*news(kind=kind))
    assert (event.payment, event.refund, event.authorised) == ("p-1", refund, authorised)

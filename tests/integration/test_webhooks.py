"""Webhooks end to end: a real provider process, a real endpoint, and the state that comes of it."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import permutations
from pathlib import Path
from uuid import uuid4

import orjson
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from live.base.errors import NotFound
from live.domain.ids import ShowId
from live.domain.outcomes import Outcome
from live.domain.payment import PaymentId
from live.ledger.db.pool import Pool
from live.payments.inbox import WebhookInbox
from live.payments.port import MoneyRequest, WebhookRefused
from live.payments.webhooks import TOLERANCE_SECONDS, signed_headers
from tests.support.ledger_kit import PRICE
from tests.support.sale_kit import Sale, open_sale, viewer
from tests.support.sandbox import KEY, SandboxServer, running_sandbox


@asynccontextmanager
async def endpoint(inbox: WebhookInbox, uds: Path) -> AsyncIterator[list[int]]:
    """The webhook route on a unix socket; yields the statuses that it has answered."""
    answered: list[int] = []

    async def take(request: Request) -> Response:
        headers = {name.lower(): value for name, value in request.headers.items()}
        try:
            await inbox.take("sandbox", headers, await request.body())
        except WebhookRefused as refused:
            answered.append(refused.status)
            return Response(status_code=refused.status)
        answered.append(200)
        return Response()

    app = Starlette(routes=[Route("/webhook", take, methods=["POST"])])
    server = uvicorn.Server(uvicorn.Config(app, uds=str(uds), log_level="error", lifespan="off"))
    running = asyncio.create_task(server.serve())
    yield answered
    server.should_exit = True
    await running


@pytest.fixture
async def hooked(
    pool: Pool, redis_url: str, show: ShowId, scratch: Path
) -> AsyncIterator[tuple[Sale, list[int]]]:
    """A sale whose provider sends webhooks, and a payment worker that runs."""
    directory = scratch / f"hooks-{show}"
    directory.mkdir()
    server = SandboxServer(directory, webhook_uds=directory / "h.sock")
    server.start()
    async with open_sale(pool, redis_url, server, show) as sale:
        inbox = WebhookInbox({"sandbox": sale.provider}, sale.payments)
        async with endpoint(inbox, directory / "h.sock") as answered:
            stop = asyncio.Event()
            working = asyncio.create_task(sale.worker.run(stop))
            yield sale, answered
            stop.set()
            await working
            server.close()


@pytest.fixture
async def quiet(
    pool: Pool, redis_url: str, show: ShowId, scratch: Path
) -> AsyncIterator[tuple[Sale, WebhookInbox]]:
    """A sale whose provider sends nothing: the test brings the events."""
    with running_sandbox(scratch / f"quiet-{show}") as server:
        async with open_sale(pool, redis_url, server, show) as sale:
            yield sale, WebhookInbox({"sandbox": sale.provider}, sale.payments)


def event(payment: str, kind: str, *, name: str = "") -> tuple[dict[str, str], bytes]:
    """A signed event of a payment."""
    body = orjson.dumps({"type": f"charge.{kind}", "payment": payment, "ref": payment})
    name = name or f"evt_{uuid4().hex}"
    headers = signed_headers(KEY.encode(), event=name, timestamp=int(time.time()), body=body)
    return headers, body


async def test_asynchronous_payment_is_confirmed_by_its_event(
    hooked: tuple[Sale, list[int]],
) -> None:
    """The bank says yes later; the webhook brings the order without anybody asking again."""
    sale, _ = hooked
    await sale.server.misbehave(async_ms=200)
    ada = viewer()
    answer = await sale.pay(ada, await sale.hold(ada), "tok_async")
    assert answer.outcome is Outcome.PROCESSING
    assert ada.buyer is not None
    await sale.told.wait_for(ada.buyer, "order.confirmed")


async def test_events_doubled_and_shuffled_do_everything_once(
    hooked: tuple[Sale, list[int]],
) -> None:
    """Each event a hundred times in any order: each is answered 200, and one order stands."""
    sale, answered = hooked
    await sale.server.misbehave(webhook_copies=100, webhook_shuffle=True, async_ms=1)
    ada = viewer()
    await sale.pay(ada, await sale.hold(ada), "tok_async")
    assert ada.buyer is not None
    await sale.told.wait_for(ada.buyer, "order.confirmed")
    async with asyncio.timeout(60):
        # authorising, authorised, captured: the endpoint tells nobody, so its list is looked at.
        while len(answered) < 300:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        # The last events come with the capture's answer, and its worker commits after that.
        while await sale.payment_states() != [("captured", "paid")]:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    assert set(answered) == {200}
    assert await sale.pool.fetchval("SELECT count(*) FROM webhook_events") == 3
    assert await sale.money() == (PRICE, 0)


async def test_same_event_at_once_is_noted_once(quiet: tuple[Sale, WebhookInbox]) -> None:
    """A hundred parallel copies leave one row."""
    sale, inbox = quiet
    ada = viewer()
    await sale.pay(ada, await sale.hold(ada))
    headers, body = event(str(await sale.pool.fetchval("SELECT id FROM payments")), "authorised")
    await asyncio.gather(*(inbox.take("sandbox", headers, body) for _ in range(100)))
    assert await sale.pool.fetchval("SELECT count(*) FROM webhook_events") == 1


@pytest.mark.parametrize("order", list(permutations(["authorised", "captured", "refunded"])))
async def test_final_state_is_a_function_of_the_set_of_events(
    quiet: tuple[Sale, WebhookInbox], order: tuple[str, ...]
) -> None:
    """A refund that a person made at the provider arrives in any order, and is known afterwards."""
    sale, inbox = quiet
    ada = viewer()
    await sale.pay(ada, await sale.hold(ada))
    await sale.work_until("captured", "paid")
    payment = PaymentId(str(await sale.pool.fetchval("SELECT id FROM payments")))
    await sale.provider.refund(
        MoneyRequest(payment=payment, ref=None, amount_minor=PRICE, currency="EUR", key="person")
    )
    for kind in order:
        await inbox.take("sandbox", *event(payment, kind))
        await sale.worker.run_once()
    assert await sale.payment_states() == [("refunded", "refunded")]
    assert ada.buyer is not None
    await sale.told.wait_for(ada.buyer, "order.refunded")


@pytest.mark.parametrize("fault", ["stale", "tampered", "wrong key", "unsigned", "no JSON"])
async def test_events_that_are_not_believed_leave_nothing(
    quiet: tuple[Sale, WebhookInbox], fault: str
) -> None:
    """Refused with its own status and code, and no row is written."""
    sale, inbox = quiet
    headers, body = event(str(uuid4()), "authorised")
    now = int(time.time())
    match fault:
        case "stale":
            old = now - TOLERANCE_SECONDS - 5
            headers = signed_headers(KEY.encode(), event="evt_1", timestamp=old, body=body)
        case "tampered":
            body += b" "
        case "wrong key":
            headers = signed_headers(b"another", event="evt_1", timestamp=now, body=body)
        case "unsigned":
            headers = {}
        case "no JSON":
            body = b"nothing"
            headers = signed_headers(KEY.encode(), event="evt_1", timestamp=now, body=body)
    with pytest.raises(WebhookRefused) as caught:
        await inbox.take("sandbox", headers, body)
    assert (caught.value.status, caught.value.code) == {
        "stale": (400, "webhook.stale"),
        "tampered": (401, "webhook.signature"),
        "wrong key": (401, "webhook.signature"),
        "unsigned": (401, "webhook.signature"),
        "no JSON": (400, "webhook.body"),
    }[fault]
    assert await sale.pool.fetchval("SELECT count(*) FROM webhook_events") == 0


async def test_event_of_an_unknown_payment_is_taken_and_does_nothing(
    quiet: tuple[Sale, WebhookInbox],
) -> None:
    """A provider shared with another shop must not be made to repeat for ever."""
    sale, inbox = quiet
    await inbox.take("sandbox", *event(str(uuid4()), "refunded"))
    await inbox.take("sandbox", *event("no UUID", "authorised"))
    assert await sale.payment_states() == []


async def test_event_of_an_unknown_provider_is_not_found(
    quiet: tuple[Sale, WebhookInbox],
) -> None:
    """There is no such endpoint."""
    _, inbox = quiet
    with pytest.raises(NotFound):
        await inbox.take("nobody", *event(str(uuid4()), "authorised"))

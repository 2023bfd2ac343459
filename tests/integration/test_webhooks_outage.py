"""A shop's server that was away and is back: what waited goes at once, and nobody has to ask.

Method: a real sender, a receiver that fails and recovers, real Postgres, and a clock to move ahead.
"""

import asyncio
from collections.abc import AsyncIterator
from uuid import uuid4

import orjson
import pytest
from aiohttp import web

from live.domain.outgoing.retries import PAUSES_SECONDS
from live.domain.outgoing.webhooks import DeliveryState, EndpointState
from live.ledger.db.pool import Pool
from live.ledger.events import delivery_log
from live.ledger.events.deliveries import OUTAGE_SECONDS, DeliveryRows
from live.ledger.events.delivery_log import Span
from live.ledger.events.endpoints import EndpointPatch
from live.outgoing.client import WebhookClient
from live.outgoing.sender import IDLE_SECONDS, WebhookSender
from tests.support.events_kit import SHOP, Out, going_out
from tests.support.receiver import Receiver, receiving

DUE, DELIVERED = DeliveryState.DUE, DeliveryState.DELIVERED
ACTIVE = EndpointPatch(state=EndpointState.ACTIVE)
WAITING = 30


@pytest.fixture
async def out(pool: Pool) -> AsyncIterator[Out]:
    async with going_out(pool) as found:
        yield found


@pytest.fixture
async def shop() -> AsyncIterator[Receiver]:
    async with receiving() as found:
        yield found


async def happen(out: Out, *types: str, subject: str = "") -> None:
    """Events of one subject, a new one where none is named."""
    subject = subject or f"product:{uuid4().hex[:8]}"
    for type in types:
        await out.pool.execute(
            "INSERT INTO events (type, subject, detail) VALUES ($1, $2, '{}')", type, subject
        )


async def fail_some(out: Out, shop: Receiver, count: int = WAITING) -> str:
    """An endpoint with so many that failed and wait for minutes; the receiver is well again."""
    made = await out.endpoint(shop.url)
    shop.status(500)
    for _ in range(count):
        await happen(out, "product.created")
    await out.send()
    out.ahead += PAUSES_SECONDS[0] + 1
    await out.send()
    shop.answer = None
    shop.got.clear()
    return made.endpoint.webhook


async def states(out: Out, webhook: str) -> set[DeliveryState]:
    return {one.state for one in await out.all(webhook)}


async def test_all_that_waits_is_sent_once_the_receiver_is_back(out: Out, shop: Receiver) -> None:
    """By the first event that it takes, without a call of anybody."""
    webhook = await fail_some(out, shop)
    out.ahead += OUTAGE_SECONDS
    await out.send()
    assert shop.got == []  # nothing is due yet

    await happen(out, "product.updated")
    await out.send()

    assert await states(out, webhook) == {DELIVERED}
    assert len(shop.got) == WAITING + 1


@pytest.mark.parametrize("paused", [False, True])
async def test_active_again_sends_all_that_waits(out: Out, shop: Receiver, paused: bool) -> None:
    """Whatever the state was; the list of deliveries says so."""
    webhook = await fail_some(out, shop)
    await out.pool.execute("UPDATE webhooks SET rests_until = now() + interval '1 day'")
    if paused:
        await out.endpoints.patch(webhook, EndpointPatch(state=EndpointState.PAUSED), SHOP)

    await out.endpoints.patch(webhook, ACTIVE, SHOP)
    next_at = [one.next_at for one in await out.all(webhook)]
    now = await out.pool.fetchval("SELECT floor(extract(epoch FROM now()) * 1000)::bigint")
    await out.send()

    assert all(one is not None and one <= now for one in next_at)
    assert await states(out, webhook) == {DELIVERED}


async def test_next_of_a_subject_goes_when_the_one_before_was_taken(
    out: Out, shop: Receiver
) -> None:
    """Also where that one alone was asked for."""
    made = await out.endpoint(shop.url)
    shop.status(500)
    order = f"order:{uuid4()}"
    await happen(out, "order.confirmed", "order.paid", "order.shipped", subject=order)
    await out.send()
    out.ahead += PAUSES_SECONDS[0] + 1
    await out.send()
    shop.answer = None
    shop.got.clear()

    first = (await out.all(made.endpoint.webhook))[0]
    await out.log.repeat(made.endpoint.webhook, [int(first.delivery)], SHOP)
    await out.send()

    assert [one.type for one in shop.got] == ["order.confirmed", "order.paid", "order.shipped"]


async def test_replay_of_a_span_sends_what_waits_once(out: Out, shop: Receiver) -> None:
    """Beside what was taken already; it says how many that is."""
    webhook = await fail_some(out, shop, count=3)
    await happen(out, "product.updated")
    await out.send()
    assert len(shop.got) == 1
    span = Span(since=0, until=4_102_444_800_000, types=("product.created", "product.updated"))

    found = await out.log.replay(webhook, span, SHOP)
    await out.send()

    assert (found.deliveries, found.more, found.state) == (4, False, EndpointState.ACTIVE)
    assert len(shop.got) == 1 + 4
    assert len(await out.all(webhook)) == 4 + 1
    assert await states(out, webhook) == {DELIVERED}


async def test_count_of_a_replay_is_bounded(
    out: Out, shop: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = await out.endpoint(shop.url)
    for _ in range(3):
        await happen(out, "product.created")
    await out.place()
    span = Span(since=0, until=4_102_444_800_000, types=("product.created",))
    monkeypatch.setattr(delivery_log, "COUNTED_MAX", 2)

    found = await out.log.replay(made.endpoint.webhook, span, SHOP)

    assert (found.deliveries, found.more) == (2, True)


async def test_good_test_sends_what_waits(out: Out, shop: Receiver) -> None:
    """So the endpoint does not look well while events wait for hours."""
    webhook = await fail_some(out, shop)

    await out.log.test(webhook, SHOP)
    await out.send()

    assert (await out.look(webhook)).failing_since is None
    assert await states(out, webhook) == {DELIVERED}


async def test_try_ahead_of_its_time_leaves_the_schedule(out: Out, shop: Receiver) -> None:
    """It is one more: neither is the next one later, nor are there fewer of them."""
    webhook = await fail_some(out, shop, count=1)
    shop.status(500)
    before = (await out.all(webhook))[0]

    await out.endpoints.patch(webhook, ACTIVE, SHOP)
    await out.send()

    after = (await out.all(webhook))[0]
    assert len(after.attempts) == len(before.attempts) + 1
    assert after.next_at == before.next_at
    assert await out.pool.fetchval("SELECT tries FROM deliveries") == len(before.attempts)


async def test_catching_up_ends_where_the_receiver_is_still_away(out: Out, shop: Receiver) -> None:
    webhook = await fail_some(out, shop)

    async def refuse(_request: web.Request, _body: bytes) -> web.StreamResponse:
        out.ahead += 0.5
        return web.Response(status=500)

    shop.answer = refuse
    await out.endpoints.patch(webhook, ACTIVE, SHOP)
    await out.send()

    assert 1 <= len(shop.got) <= 12
    assert not await out.deliveries.due_endpoints()


async def test_event_that_is_always_refused_keeps_its_schedule(out: Out, shop: Receiver) -> None:
    """Others that are taken meanwhile are no recovery."""

    async def answer(_request: web.Request, body: bytes) -> web.StreamResponse:
        return web.Response(status=500 if orjson.loads(body)["type"] == "order.paid" else 200)

    shop.answer = answer
    await out.endpoint(shop.url)
    await happen(out, "order.paid", subject=f"order:{uuid4()}")
    await out.send()
    for _ in range(20):
        await happen(out, "product.created")
        await out.send()
        out.ahead += 3

    refused = [one for one in shop.got if one.type == "order.paid"]
    assert len(refused) == 2  # of 60 seconds: at once, and after five


async def test_what_waits_for_its_next_try_has_an_age(out: Out, shop: Receiver) -> None:
    await fail_some(out, shop, count=3)
    out.ahead += 60

    found = await out.deliveries.backlog()

    assert found.deliveries == 3
    assert 60 <= found.oldest_seconds < 600


async def test_long_line_behind_a_failure_is_not_looked_at(out: Out, shop: Receiver) -> None:
    """Of many events of one subject the first alone is due again, and each lets the next one go."""
    made = await out.endpoint(shop.url)
    shop.status(500)
    await happen(out, *["product.updated"] * 20, subject="product:one")
    await out.send()
    out.ahead += PAUSES_SECONDS[0] + 1

    due = await out.pool.fetchval(
        "SELECT count(*) FROM deliveries WHERE due_at <= now() + make_interval(secs => $1)",
        out.ahead,
    )
    next_at = {one.next_at for one in await out.all(made.endpoint.webhook)}
    shop.answer = None
    await out.send()

    assert due == 1
    assert len(next_at) == 1
    assert await states(out, made.endpoint.webhook) == {DELIVERED}
    assert [one.id for one in shop.got[1:]] == sorted(
        (one.id for one in shop.got[1:]), key=lambda one: int(one.split("_")[1])
    )


async def test_what_stands_behind_what_waits_is_not_looked_at_all_the_time(
    out: Out, shop: Receiver
) -> None:
    """The second event of a line is asked for by hand while the first one rests."""
    made = await out.endpoint(shop.url)
    await happen(out, "product.created", "product.updated", subject="product:lamp")
    shop.status(500)
    await out.send()
    first, second = sorted(one.delivery for one in await out.all(made.endpoint.webhook))
    await out.pool.execute("UPDATE deliveries SET due_at = now() WHERE id = $1", int(second))
    looks, rows = 0, DeliveryRows(out.pool)

    async def look() -> list[str]:
        nonlocal looks
        looks += 1
        return await DeliveryRows.due_endpoints(rows)

    rows.due_endpoints = look  # type: ignore[method-assign]
    client, stop = WebhookClient(development=True), asyncio.Event()
    running = asyncio.create_task(WebhookSender(rows, client).run(stop))
    await asyncio.sleep(4 * IDLE_SECONDS)  # what is asked is how often it looks meanwhile
    stop.set()
    await running
    await client.close()

    assert first != second
    assert looks < 20

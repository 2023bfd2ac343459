"""Webhooks on their way: a real sender, a real receiver with every kind of manners, real Postgres.

Method: a test's clock is moved ahead; what is waited for is an answer or a row, never a time.
"""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import orjson
import pytest
from aiohttp import web
from cloudevents.core.bindings.http import HTTPMessage, from_http_event
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from live.base.errors import Conflict
from live.domain.outgoing.retries import FAILING_SECONDS_MAX, PAUSES_SECONDS, TRIES_MAX
from live.domain.outgoing.signatures import sign
from live.domain.outgoing.webhooks import DeliveryState, EndpointState, WebhookFormat
from live.ledger.db.pool import Pool
from live.ledger.events.delivery_log import Span
from live.ledger.events.endpoints import SECRETS_MAX, EndpointPatch, NewEndpoint
from live.outgoing.client import WebhookClient
from tests.support.events_kit import SHOP, Out, going_out
from tests.support.ledger_kit import Sale, new_buyer
from tests.support.receiver import Got, Receiver, receiving

VECTORS = json.loads((Path(__file__).parent / "standard_webhooks.json").read_text())
DEAD, DUE, DELIVERED = DeliveryState.DEAD, DeliveryState.DUE, DeliveryState.DELIVERED


@pytest.fixture
async def out(pool: Pool) -> AsyncIterator[Out]:
    async with going_out(pool, client=WebhookClient(development=True, timeout_seconds=2)) as found:
        yield found


@pytest.fixture
async def shop() -> AsyncIterator[Receiver]:
    async with receiving() as found:
        yield found


async def happen(out: Out, subject: str, *types: str, show: str = "") -> None:
    """Events of one subject, as triggers write them."""
    for type in types:
        await out.pool.execute(
            "INSERT INTO events (type, show, subject, detail) VALUES ($1, $2, $3, '{}')",
            type,
            show,
            subject,
        )


def sku() -> str:
    return f"product:{uuid4().hex[:8]}"


# What is sent.


@pytest.mark.parametrize("vector", VECTORS["symmetric"], ids=lambda one: one["name"])
def test_signature_is_that_of_the_standard(vector: dict[str, str]) -> None:
    key = base64.b64decode(vector["secret_base64"])

    made = sign([key], vector["id"], int(vector["timestamp"]), vector["body"].encode())

    assert made == vector["signature"]


async def test_official_verifier_takes_what_is_sent(out: Out, shop: Receiver, sale: Sale) -> None:
    """A sale, from end to end: each event once, signed, in order, with the order as it is."""
    made = await out.endpoint(shop.url, "order.*")
    paid = await sale.buy(new_buyer("ann"))
    await sale.settle()

    await out.send()

    (got,) = shop.got
    told = Webhook(made.secret).verify(got.body, got.headers)
    assert (told["type"], told["data"]["order"]) == ("order.confirmed", paid.order)
    assert got.headers["content-type"] == "application/json" and "." not in got.id
    with pytest.raises(WebhookVerificationError):
        Webhook(made.secret).verify(got.body + b" ", got.headers)
    (delivery,) = await out.all(made.endpoint.webhook)
    assert (delivery.state, delivery.event) == (DELIVERED, got.id)
    assert [(one.status, one.answer) for one in delivery.attempts] == [(200, "thanks")]


async def test_cloud_event_is_one(out: Out, shop: Receiver, sale: Sale) -> None:
    new = NewEndpoint(url=shop.url, types=("order.*",), format=WebhookFormat.CLOUDEVENTS)
    made = await out.endpoints.create(new, SHOP)
    paid = await sale.buy(new_buyer("ann"))
    await sale.settle()

    await out.send()

    (got,) = shop.got
    Webhook(made.secret).verify(got.body, got.headers)
    event = from_http_event(HTTPMessage(headers=got.headers, body=got.body))
    assert (event.get_id(), event.get_type()) == (got.id, "order.confirmed")
    assert (event.get_subject(), event.get_specversion()) == (f"order:{paid.order}", "1.0")
    assert event.get_source() == "urn:live-shopping"
    assert event.get_data()["order"] == paid.order  # type: ignore[index,call-overload]


async def test_contact_goes_only_to_who_asked_for_it(out: Out, shop: Receiver, sale: Sale) -> None:
    """It is put into the delivery, and is stored nowhere but with the payment."""
    await out.endpoint(f"{shop.url}/with", "order.*", contact=True)
    await out.endpoint(f"{shop.url}/without", "order.*")
    paid = await sale.buy(new_buyer("ann"))
    await out.pool.execute(
        "UPDATE payments SET contact = $2 WHERE id = $1", paid.id, '{"name": "Ann A."}'
    )
    await sale.settle()

    await out.send()

    by_path = {got.path: got.json["data"] for got in shop.got}
    assert by_path["/hooks/with"]["contact"]["name"] == "Ann A."
    assert "contact" not in by_path["/hooks/without"]
    stored = await out.pool.fetch("SELECT data::text FROM events")
    logged = await out.pool.fetch("SELECT attempts::text FROM deliveries")
    assert "Ann A." not in str([*stored, *logged])


async def test_endpoint_gets_its_types_and_its_shows_alone(out: Out, shop: Receiver) -> None:
    await out.endpoint(f"{shop.url}/shows", "show.started", "offer.*", shows=["s1"])
    await out.endpoint(f"{shop.url}/stock", "stock.*", "product.created")
    for show in ("s1", "s2"):
        await happen(out, f"show:{show}", "show.started", "show.ended", show=show)
        await happen(out, f"offer:{show}-o", "offer.opened", show=show)
    await happen(out, sku(), "product.created", "product.updated", "stock.adjusted")

    await out.send()

    got = sorted((one.path, one.type) for one in shop.got)
    assert got == [
        ("/hooks/shows", "offer.opened"),
        ("/hooks/shows", "show.started"),
        ("/hooks/stock", "product.created"),
        ("/hooks/stock", "stock.adjusted"),
    ]


async def test_rotated_secret_signs_for_a_day_more(out: Out, shop: Receiver) -> None:
    """Both for 24 hours, then the new one alone."""
    made = await out.endpoint(shop.url)
    rotated = await out.endpoints.rotate(made.endpoint.webhook, SHOP)
    await happen(out, sku(), "product.created")
    await out.send()
    for secret in (made.secret, rotated.secret):
        Webhook(secret).verify(shop.got[0].body, shop.got[0].headers)

    out.ahead = 24 * 3_600 + 1
    await happen(out, sku(), "product.created")
    await out.send()

    late = shop.got[1]
    assert late.headers["webhook-signature"].count("v1,") == 1


async def test_each_secret_of_a_day_signs(out: Out, shop: Receiver) -> None:
    """Whoever rotates twice cuts nobody off; to a bound, until the first of them has ended."""
    made = await out.endpoint(shop.url)
    webhook = made.endpoint.webhook
    rotated = [await out.endpoints.rotate(webhook, SHOP) for _ in range(SECRETS_MAX - 1)]
    with pytest.raises(Conflict):
        await out.endpoints.rotate(webhook, SHOP)
    await happen(out, sku(), "product.created")

    await out.send()

    for secret in (made.secret, *(one.secret for one in rotated)):
        Webhook(secret).verify(shop.got[0].body, shop.got[0].headers)
    await out.pool.execute(
        "UPDATE webhook_secrets SET until = now() WHERE secret = $1", made.secret
    )
    await out.endpoints.rotate(webhook, SHOP)
    assert await out.pool.fetchval("SELECT count(*) FROM webhook_secrets") == SECRETS_MAX


# How receivers fail.


@pytest.mark.parametrize("status", [302, 400, 404, 500])
async def test_all_but_2xx_is_a_failure(out: Out, shop: Receiver, status: int) -> None:
    """A redirect is not followed; the next try has the same id and body."""
    made = await out.endpoint(shop.url)
    shop.status(status, location=f"{shop.url}/elsewhere")
    await happen(out, sku(), "product.created")
    await out.send()
    shop.answer = None

    out.ahead = PAUSES_SECONDS[0]
    await out.send()

    first, second = shop.got
    assert (first.id, first.body, first.path) == (second.id, second.body, second.path)
    assert first.headers["webhook-timestamp"] != second.headers["webhook-timestamp"]
    (delivery,) = await out.all(made.endpoint.webhook)
    assert [one.status for one in delivery.attempts] == [status, 200]
    assert delivery.attempts[0].answer == f"this is {status}"


async def test_gone_disables_at_once_and_says_why(out: Out, shop: Receiver) -> None:
    made = await out.endpoint(shop.url)
    shop.status(410)
    await happen(out, sku(), "product.created")
    await out.send()

    await happen(out, sku(), "product.created")
    await out.send()

    found = await out.look(made.endpoint.webhook)
    assert (found.state, len(shop.got)) == (EndpointState.DISABLED, 1)
    assert "410" in found.reason
    assert [one.state for one in await out.all(made.endpoint.webhook)] == [DEAD]


@pytest.mark.parametrize("status", [429, 502, 503, 504])
async def test_asking_for_a_rest_is_obeyed_for_all_of_its_events(
    out: Out, shop: Receiver, status: int
) -> None:
    """`Retry-After: 86400` keeps us away for a day, from every subject."""
    await out.endpoint(shop.url)
    shop.status(status, Retry_After="86400")
    await happen(out, sku(), "product.created")
    await out.send()
    shop.answer = None
    await happen(out, sku(), "product.updated")

    out.ahead = 86_390
    await out.send()
    assert len(shop.got) == 1

    out.ahead = 86_410
    await out.send()
    assert sorted(one.type for one in shop.got[1:]) == ["product.created", "product.updated"]


async def test_rest_without_a_time_grows(out: Out, shop: Receiver) -> None:
    made = await out.endpoint(shop.url)
    shop.status(429)
    rests = []
    for _ in range(3):
        await happen(out, sku(), "product.created")
        await out.send()
        rests.append(
            await out.pool.fetchval(
                "SELECT extract(epoch FROM rests_until - now())::float8 FROM webhooks"
            )
            - out.ahead
        )
        out.ahead += rests[-1] + 1

    assert [round(one) for one in rests] == [5, 10, 20]
    assert (await out.look(made.endpoint.webhook)).failing_since is not None


async def test_receiver_that_never_answers_holds_its_own_calls_only(
    out: Out, shop: Receiver
) -> None:
    """While it says nothing, the other one has everything."""
    silence = asyncio.Event()

    async def hang(request: web.Request, _body: bytes) -> web.StreamResponse:
        if request.path.endswith("silent"):
            await silence.wait()
        return web.Response()

    shop.answer = hang
    await out.endpoint(f"{shop.url}/silent")
    await out.endpoint(f"{shop.url}/quick")
    for _ in range(40):
        await happen(out, sku(), "product.created")
    await out.place()
    sending = asyncio.create_task(out.send())

    def quick() -> list[Got]:
        return [one for one in shop.got if one.path.endswith("quick")]

    async with asyncio.timeout(1.5), shop.arrived:  # before the first of the silent ones ends
        await shop.arrived.wait_for(lambda: len(quick()) == 40)
    assert not sending.done()
    silence.set()
    await sending


async def test_silence_ends_by_the_time_out(out: Out, shop: Receiver) -> None:
    silence = asyncio.Event()

    async def hang(_request: web.Request, _body: bytes) -> web.StreamResponse:
        await silence.wait()
        return web.Response()

    shop.answer = hang
    made = await out.endpoint(shop.url)
    await happen(out, sku(), "product.created")

    await out.send()

    (delivery,) = await out.all(made.endpoint.webhook)
    assert (delivery.attempts[0].status, delivery.attempts[0].answer) == (None, "no answer in 2 s")
    silence.set()


async def test_answer_without_end_is_read_to_a_bound(out: Out, shop: Receiver) -> None:
    """A gigabyte, or one that pretends to be small: the status counts, a kilobyte is kept."""
    written = 0

    async def flood(request: web.Request, _body: bytes) -> web.StreamResponse:
        nonlocal written
        response = web.StreamResponse(headers={"content-encoding": "gzip"})
        await response.prepare(request)
        try:
            for _ in range(1_024):
                await response.write(b"\0a" * 524_288)
                written += 1
        except OSError:
            pass
        return response

    shop.answer = flood
    made = await out.endpoint(shop.url)
    await happen(out, sku(), "product.created")

    await out.send()

    (delivery,) = await out.all(made.endpoint.webhook)
    assert delivery.state is DELIVERED
    assert len(delivery.attempts[0].answer) <= 1_024
    assert written < 100


async def test_reset_and_refused_connections_are_tried_again(out: Out, shop: Receiver) -> None:
    async def reset(request: web.Request, _body: bytes) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    shop.answer = reset
    made = await out.endpoint(shop.url)
    nobody = await out.endpoint("http://127.0.0.1:9/hooks")
    await happen(out, sku(), "product.created")

    await out.send()

    for webhook in (made.endpoint.webhook, nobody.endpoint.webhook):
        (delivery,) = await out.all(webhook)
        assert (delivery.state, delivery.attempts[0].status) == (DUE, None)
        assert delivery.attempts[0].answer.startswith("no answer")


# Three days.


async def test_schedule_of_three_days_ends_in_a_dead_letter(out: Out, shop: Receiver) -> None:
    """Ten tries at the times of the standard; the endpoint shows since when it fails, is disabled,
    and has what it missed by a replay."""
    made = await out.endpoint(shop.url)
    shop.status(500)
    await happen(out, sku(), "product.created")
    await out.send()
    times = [0.0]
    for seconds in PAUSES_SECONDS:
        out.ahead += seconds - 2
        await out.send()
        out.ahead += 3
        before = len(shop.got)
        await out.send()
        assert len(shop.got) == before + 1, seconds
        times.append(out.ahead)

    (dead,) = await out.all(made.endpoint.webhook, DEAD)
    assert len(shop.got) == len(dead.attempts) == TRIES_MAX == 10
    assert len({one.id for one in shop.got}) == len({one.body for one in shop.got}) == 1
    assert (await out.look(made.endpoint.webhook)).state is EndpointState.ACTIVE

    out.ahead = FAILING_SECONDS_MAX + 60
    await happen(out, sku(), "product.updated")
    await out.send()
    found = await out.look(made.endpoint.webhook)
    assert found.state is EndpointState.DISABLED and "three days" in found.reason

    shop.answer = None
    patch = EndpointPatch(state=EndpointState.ACTIVE)
    again = await out.endpoints.patch(made.endpoint.webhook, patch, SHOP)
    await out.log.repeat(made.endpoint.webhook, [int(dead.delivery)], SHOP)
    out.ahead += 60
    await out.send()
    assert (again.reason, again.failing_since) == ("", None)
    states = {one.type: one.state for one in await out.all(made.endpoint.webhook)}
    assert states == {"product.created": DELIVERED, "product.updated": DELIVERED}


async def test_outage_of_three_days_loses_nothing_and_keeps_the_order(
    out: Out, shop: Receiver
) -> None:
    """Events go on meanwhile; afterwards each arrived, and those of one subject in their order."""
    await out.endpoint(shop.url)
    shop.status(500)
    subjects = [sku() for _ in range(6)]
    for hours in (0, 1, 5, 20, 50, 70):
        out.ahead = hours * 3_600
        for subject in subjects:
            await happen(out, subject, "product.created", "product.updated")
        await out.send()
    failed = len(shop.got)
    shop.answer = None

    out.ahead += 86_400 * 1.2
    await out.send()

    rows = await out.pool.fetch("SELECT id, subject FROM events ORDER BY id")
    arrived = [int(one.id.split("_")[1]) for one in shop.got[failed:]]
    assert sorted(arrived) == [row["id"] for row in rows]
    for subject in subjects:
        mine = {row["id"] for row in rows if row["subject"] == subject}
        assert [one for one in arrived if one in mine] == sorted(mine)


async def test_next_event_of_a_subject_waits_for_the_one_before(out: Out, shop: Receiver) -> None:
    """Other subjects do not."""

    async def answer(_request: web.Request, body: bytes) -> web.StreamResponse:
        return web.Response(status=500 if orjson.loads(body)["type"] == "order.paid" else 200)

    await out.endpoint(shop.url)
    shop.answer = answer
    stuck, free = f"order:{uuid4()}", f"order:{uuid4()}"
    await happen(out, stuck, "order.confirmed", "order.paid", "order.shipped")
    await out.send()
    await happen(out, stuck, "order.delivered")
    await happen(out, free, "order.confirmed", "order.shipped")
    await out.send()
    seen = [one.type for one in shop.got]

    shop.answer = None
    out.ahead = 6
    await out.send()

    assert seen == ["order.confirmed", "order.paid", "order.confirmed", "order.shipped"]
    rest = [one.type for one in shop.got[len(seen) :]]
    assert rest == ["order.paid", "order.shipped", "order.delivered"]


# Pause, replay, test.


async def test_paused_endpoint_misses_nothing(out: Out, shop: Receiver) -> None:
    made = await out.endpoint(shop.url)
    await out.endpoints.patch(
        made.endpoint.webhook, EndpointPatch(state=EndpointState.PAUSED), SHOP
    )
    await happen(out, sku(), "product.created")
    await out.send()
    assert shop.got == []

    await out.endpoints.patch(
        made.endpoint.webhook, EndpointPatch(state=EndpointState.ACTIVE), SHOP
    )
    await out.send()

    assert [one.type for one in shop.got] == ["product.created"]


async def test_span_is_replayed_by_time_and_type(out: Out, shop: Receiver) -> None:
    """What an endpoint was not there for arrives under the ids that others know it by."""
    await happen(out, sku(), "product.created", "product.updated")
    await out.place()
    await out.pool.execute("UPDATE events SET at = now() - interval '2 days'")
    await happen(out, sku(), "product.created", "product.updated", "stock.adjusted")
    await out.place()
    made = await out.endpoint(shop.url, "product.*")
    now = int(await out.pool.fetchval("SELECT extract(epoch FROM now()) * 1000"))
    span = Span(since=now - 86_400_000, until=now + 60_000, types=("product.created",))

    await out.log.replay(made.endpoint.webhook, span, SHOP)
    await out.send()
    assert [one.type for one in shop.got] == ["product.created"]

    everything = Span(since=0, until=now + 60_000, types=("product.created", "product.updated"))
    await out.log.replay(made.endpoint.webhook, everything, SHOP)
    await out.send()
    assert len(shop.got) == 5
    assert len({one.id for one in shop.got}) == 4


async def test_test_event_says_how_it_went(out: Out, shop: Receiver) -> None:
    made = await out.endpoint(shop.url, "order.*")

    asked = await out.log.test(made.endpoint.webhook, SHOP)
    await out.send()

    (got,) = shop.got
    assert Webhook(made.secret).verify(got.body, got.headers)["type"] == "webhook.test"
    assert got.id == asked.event
    assert (await out.all(made.endpoint.webhook))[0].attempts[0].status == 200


async def test_body_of_any_event_is_below_the_bound(out: Out, shop: Receiver) -> None:
    await out.endpoint(shop.url)
    detail = orjson.dumps({"sku": "lamp", "description": "ß" * 30_000}).decode()
    await out.pool.execute(
        "INSERT INTO events (type, subject, detail) VALUES ('product.updated', 'product:x', $1)",
        detail,
    )

    await out.send()

    assert len(shop.got[0].body) < 20_000
    assert shop.got[0].json["data"] == {"sku": "lamp", "shortened": ["description"]}


async def test_two_senders_send_each_delivery_once(out: Out, shop: Receiver) -> None:
    """The lease keeps one from what the other has."""
    await out.endpoint(shop.url)
    for _ in range(30):
        await happen(out, sku(), "product.created", "product.updated")
    await out.place()

    async with going_out(out.pool) as other:
        await asyncio.gather(out.send(), other.send(), out.send())

    assert len(shop.got) == len({one.id for one in shop.got}) == 60

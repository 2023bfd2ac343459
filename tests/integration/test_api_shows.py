"""Hosts' HTTP calls on real engines: what Postgres, Redis and the audience know afterwards."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from live.domain.caller import Role
from live.domain.ids import BuyerId, HoldKey, ShowId
from live.domain.offer import Stock
from live.domain.outcomes import Outcome
from live.hosting.views import view_show
from live.ledger.db.pool import Pool
from tests.support.api_kit import Stage, open_stage
from tests.support.stock_kit import one

LAMP = {"sku": "lamp", "title": "Lamp", "price_minor": 2500, "currency": "EUR", "on_hand": 10}


def offer(**changes: Any) -> dict[str, Any]:
    base: dict[str, Any] = {
        "sku": "lamp",
        "price_minor": 1900,
        "quantity": 5,
        "per_buyer_limit": 2,
        "hold_seconds": 60,
        "mode": "hold",
    }
    return base | changes


@pytest.fixture
async def stage(pool: Pool, redis_url: str) -> AsyncIterator[Stage]:
    async with open_stage(pool, redis_url) as opened:
        yield opened


async def begin(stage: Stage, show: ShowId) -> str:
    """A live show with one prepared offer; its id."""
    assert (await stage.call("POST", "/v1/products", LAMP)).status_code == 201
    body = {"id": show, "title": "Friday", "currency": "EUR"}
    assert (await stage.call("POST", "/v1/shows", body)).status_code == 201
    assert (await stage.call("POST", f"/v1/shows/{show}/start")).status_code == 200
    made = await stage.call("POST", f"/v1/shows/{show}/offers", offer())
    assert made.status_code == 201
    return str(made.json()["id"])


async def test_offer_goes_from_draft_to_a_hold(stage: Stage, show: ShowId) -> None:
    """Prepared, opened, held: the stock engine knows the offer with the answer to `open`."""
    name = await begin(stage, show)
    buyer, key = BuyerId(b"b" * 16), HoldKey(b"k" * 16)

    before = await stage.stock.hold(show, buyer, key, one())
    opened = await stage.call("POST", f"/v1/offers/{name}/open")
    after = await stage.stock.hold(show, buyer, key, one())

    assert (before.outcome, after.outcome) == (Outcome.NOT_OPEN, Outcome.HELD)
    assert (opened.json()["phase"], opened.json()["left"]) == ("open", 5)
    seen = (await stage.call("GET", f"/v1/offers/{name}")).json()
    assert (seen["left"], seen["held"], seen["sold"]) == (4, 1, 0)


async def test_commands_are_heard_in_order(stage: Stage, show: ShowId) -> None:
    """Each command is one event of the show log, with the whole object as it is then."""
    name = await begin(stage, show)
    for path, body in (
        (f"/v1/shows/{show}/pins", {"skus": ["lamp"]}),
        (f"/v1/shows/{show}/announcements", {"text": "Now!"}),
        (f"/v1/offers/{name}/open", None),
        (f"/v1/offers/{name}/pause", None),
        (f"/v1/offers/{name}/resume", None),
        (f"/v1/offers/{name}/restock", {"quantity": 2}),
        (f"/v1/offers/{name}/close", None),
        (f"/v1/shows/{show}/pins", {"skus": []}),
    ):
        assert (await stage.call("POST", path, body)).status_code == 200, path
    for method, path, changed in (
        ("PATCH", f"/v1/shows/{show}", {"title": "Later", "frozen": False}),
        ("PUT", f"/v1/shows/{show}/run-order", {"skus": ["lamp"]}),
    ):
        assert (await stage.call(method, path, changed)).status_code == 200, path
    assert (await stage.call("POST", f"/v1/shows/{show}/end")).status_code == 200

    assert await stage.types(show) == [
        "show.started",
        "product.pinned",
        "announcement",
        "offer.opened",
        "offer.paused",
        "offer.opened",
        "offer.restocked",
        "offer.closing",
        "product.unpinned",
        "show.updated",
        "show.updated",
        "show.ended",
    ]
    assert (await stage.published(show))[9]["show"]["title"] == "Later"
    assert (await stage.published(show))[10]["show"]["run_order"] == ["lamp"]
    card = {"sku": "lamp", "title": "Lamp", "image_url": "", "price_minor": 2500, "currency": "EUR"}
    pinned, unpinned = [(await stage.published(show))[index] for index in (1, 8)]
    assert (pinned["products"], unpinned["products"]) == ([card], [])
    restocked = (await stage.published(show))[6]["offer"]
    assert (restocked["quantity"], restocked["left"]) == (7, 7)


async def test_drafts_are_told_to_hosts_only(stage: Stage, show: ShowId) -> None:
    """A prepared flash offer stays a surprise: not in the show log, not in a viewer's snapshot."""
    await begin(stage, show)

    assert await stage.types(show) == ["show.started"]
    for log in ("desk", "staff"):
        assert await stage.types(show, log) == ["offer.updated"]
    state = await stage.log.read_state(show)
    assert state is not None
    assert view_show(state, {}, drafts=False).offers == ()
    told = await stage.call("GET", f"/v1/shows/{show}", role=Role.MODERATOR)
    assert len(told.json()["offers"]) == 1


async def test_offer_beyond_available_units_is_a_conflict(stage: Stage, show: ShowId) -> None:
    """Ten units: one offer of five and one of five, racing three more."""
    await begin(stage, show)

    path = f"/v1/shows/{show}/offers"
    answers = await asyncio.gather(*(stage.call("POST", path, offer()) for _ in range(4)))

    assert sorted(answer.status_code for answer in answers) == [201, 409, 409, 409]
    product = (await stage.call("GET", "/v1/products/lamp")).json()
    assert (product["allotted"], product["available"]) == (10, 0)
    units = sum(stock.allotted for stock in (await stage.stock.figures(show)).offers.values())
    assert units == 10


async def test_redis_failure_after_commit_is_a_note_and_is_made_good(
    stage: Stage, show: ShowId
) -> None:
    """The host's command stands; carrying the state later gives the same events."""
    name = await begin(stage, show)
    await stage.stock.stop_show(show)  # as at the start of a rebuild: every call is refused

    opened = await stage.call("POST", f"/v1/offers/{name}/open")

    assert (opened.status_code, opened.json()["phase"]) == (200, "open")
    assert "as soon as Redis answers" in opened.headers["live-note"]
    assert await stage.types(show) == ["show.started"]


async def test_repeated_post_gives_the_first_answer(stage: Stage, show: ShowId) -> None:
    """Same key, same body: the same bytes and one offer. Another body: a conflict."""
    await begin(stage, show)
    path, key = f"/v1/shows/{show}/offers", {"idempotency-key": "abc"}

    first = await stage.call("POST", path, offer(quantity=1), headers=key)
    again = await stage.call("POST", path, offer(quantity=1), headers=key)
    other = await stage.call("POST", path, offer(quantity=2), headers=key)

    assert (first.status_code, again.status_code, other.status_code) == (201, 201, 409)
    assert again.content == first.content
    assert (await stage.call("GET", "/v1/products/lamp")).json()["allotted"] == 6


async def test_one_key_at_once_from_two_places_does_one_thing(stage: Stage, show: ShowId) -> None:
    """A double click that reaches two workers: one offer, and no second answer of its own."""
    await begin(stage, show)
    path, key = f"/v1/shows/{show}/offers", {"idempotency-key": "abc"}

    body = offer(quantity=1)
    answers = await asyncio.gather(*(stage.call("POST", path, body, headers=key) for _ in range(5)))

    made = {answer.content for answer in answers if answer.status_code == 201}
    assert {answer.status_code for answer in answers} <= {201, 409} and len(made) == 1
    assert (await stage.call("GET", "/v1/products/lamp")).json()["allotted"] == 6


async def test_refused_post_gives_its_key_back(stage: Stage, show: ShowId) -> None:
    """A refusal changed nothing, so the same key may be tried when the state allows it."""
    name = await begin(stage, show)
    key = {"idempotency-key": "abc"}

    refused = await stage.call("POST", f"/v1/offers/{name}/resume", headers=key)
    await stage.call("POST", f"/v1/offers/{name}/open")
    await stage.call("POST", f"/v1/offers/{name}/pause")
    done = await stage.call("POST", f"/v1/offers/{name}/resume", headers=key)

    assert (refused.status_code, done.status_code) == (409, 200)


async def test_audit_log_is_paged(stage: Stage, show: ShowId) -> None:
    """Pages of two give every action once, in order, with the caller and their address."""
    await begin(stage, show)
    found: list[dict[str, Any]] = []
    cursor = ""
    while True:
        path = f"/v1/shows/{show}/audit-log?limit=2" + (f"&cursor={cursor}" if cursor else "")
        page = (await stage.call("GET", path)).json()
        found += page["items"]
        if page["next"] is None:
            break
        cursor = page["next"]

    assert [one["action"] for one in found] == ["show.create", "show.start", "offer.create"]
    assert {(one["caller"], one["address"]) for one in found} == {("host-1", "127.0.0.1")}


async def test_report_of_a_show_without_orders(stage: Stage, show: ShowId) -> None:
    """Nothing sold: zeros, no division by them, and the offers by name."""
    await begin(stage, show)

    report = (await stage.call("GET", f"/v1/shows/{show}/report")).json()

    assert (report["orders"], report["revenue_minor"], report["conversion"]) == (0, 0, 0.0)
    assert (report["average_order_minor"], report["viewers"]) == (0, 0)
    assert [one["allotted"] for one in report["offers"]] == [5]


async def test_show_patch_changes_what_it_names(stage: Stage, show: ShowId) -> None:
    """Fields that are not in the body stay; freezing refuses the next configuration."""
    await begin(stage, show)
    path = f"/v1/shows/{show}"

    patched = await stage.call("PATCH", path, {"title": "Saturday", "frozen": True})
    refused = await stage.call("PATCH", path, {"title": "Sunday"})
    released = await stage.call("PATCH", path, {"frozen": False})

    assert (patched.json()["title"], refused.status_code) == ("Saturday", 409)
    assert released.json()["title"] == "Saturday"


async def test_closed_draft_gives_units_back_in_redis_too(stage: Stage, show: ShowId) -> None:
    """Redis never keeps units that the product has got back."""
    name = await begin(stage, show)

    closed = await stage.call("POST", f"/v1/offers/{name}/close")

    assert closed.json()["phase"] == "closed"
    assert (await stage.stock.figures(show)).offers[0] == Stock(left=0, held=0, sold=0)


@pytest.mark.parametrize(("quantity", "status"), [("3.0", 201), ("3.5", 400), ('"3"', 400)])
async def test_whole_number_may_have_a_point(
    stage: Stage, show: ShowId, quantity: str, status: int
) -> None:
    """JSON Schema takes 3.0 for an integer, and some languages write nothing else."""
    await begin(stage, show)
    body = json.dumps(offer(quantity=0)).replace('"quantity": 0', f'"quantity": {quantity}')
    headers = {"authorization": f"Bearer {stage.token(Role.HOST, ['*'])}"}
    headers |= {"content-type": "application/json"}

    made = await stage.client.post(f"/v1/shows/{show}/offers", content=body, headers=headers)

    assert made.status_code == status, made.text
    assert made.json().get("quantity", 3) == 3

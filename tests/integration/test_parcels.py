"""Parcels and returns over HTTP: no unit moves twice, whatever is sent, how often and by whom."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import httpx
import orjson
import pytest

from live.domain.caller import Role
from live.domain.ids import ShowId
from live.ledger.db.pool import Pool
from tests.integration.test_orders_changed import bought
from tests.support.api_kit import Stage, open_stage
from tests.support.ledger_kit import make_show

PARCEL = {"carrier": "DHL", "tracking_number": "JD01", "tracking_url": "https://dhl.example/JD01"}


@pytest.fixture
async def stage(pool: Pool, redis_url: str) -> AsyncIterator[Stage]:
    async with open_stage(pool, redis_url) as found:
        yield found


@pytest.fixture
async def order(stage: Stage, show: ShowId) -> str:
    """A paid order of viewer-1: three units of line 1, one of line 2."""
    await make_show(stage.pool, show, 5, 5)
    made: str = await bought(stage.pool, show, orjson.dumps({"name": "Ada"}))
    await stage.pool.execute("UPDATE order_items SET qty = 3")
    await stage.pool.execute(
        "INSERT INTO order_items (order_id, offer, qty, price_minor) VALUES ($1, $2, 1, 500)",
        made,
        f"{show}-offer-1",
    )
    return made


def items(**lines: int) -> list[dict[str, int]]:
    return [{"line": int(name[1:]), "qty": qty} for name, qty in lines.items()]


async def ship(stage: Stage, order: str, **changes: Any) -> httpx.Response:
    return await stage.call("POST", f"/v1/orders/{order}/shipments", PARCEL | changes)


async def test_order_leaves_in_parcels(stage: Stage, order: str) -> None:
    """In parts, then all of the rest; each arrives, and the order follows."""
    first = await ship(stage, order, items=items(l1=2))
    assert first.status_code == 200, first.text
    [parcel] = first.json()["shipments"]
    assert parcel["items"] == [{"line": 1, "qty": 2}]
    assert {name: parcel[name] for name in PARCEL} == PARCEL
    assert (parcel["status"], first.json()["fulfilment"]) == ("shipped", "partial")

    rest = (await ship(stage, order)).json()
    assert rest["fulfilment"] == "shipped"
    assert rest["shipments"][1]["items"] == [{"line": 1, "qty": 1}, {"line": 2, "qty": 1}]
    assert rest["updated_at"] >= first.json()["updated_at"]
    for place, expected in ((0, "shipped"), (1, "delivered")):
        path = f"/v1/orders/{order}/shipments/{rest['shipments'][place]['shipment']}"
        told = await stage.call("PATCH", path, {"status": "delivered"})
        assert (told.status_code, told.json()["fulfilment"]) == (200, expected)


@pytest.mark.parametrize(
    ("changes", "status", "field"),
    [
        ({"items": []}, 400, "items"),
        ({"items": None}, 400, "items"),
        ({"items": [{"line": 1, "qty": 4}]}, 409, None),
        ({"items": [{"line": 2, "qty": 2}]}, 409, None),
        ({"items": [{"line": 3, "qty": 1}]}, 400, "items"),
        ({"items": [{"line": 9, "qty": 1}]}, 400, "items"),
        ({"items": [{"line": 1, "qty": 1}, {"line": 1, "qty": 1}]}, 400, "items"),
        ({"items": [{"line": 0, "qty": 1}]}, 400, "items[0].line"),
        ({"items": [{"line": 1, "qty": 0}]}, 400, "items[0].qty"),
        ({"items": [{"line": True, "qty": 1}]}, 400, "items[0].line"),
        ({"carrier": ""}, 400, "carrier"),
        ({"tracking_number": "1\n2"}, 400, "tracking_number"),
        ({"tracking_url": "http://dhl.example/1"}, 400, "tracking_url"),
        ({"tracking_url": "https://user@dhl.example/1"}, 400, "tracking_url"),
        ({"tracking_url": "javascript:alert(1)"}, 400, "tracking_url"),
        ({"tracking_url": "/relative"}, 400, "tracking_url"),
        ({"status": "delivered"}, 400, "status"),
    ],
)
async def test_parcel_that_cannot_be_is_refused(
    stage: Stage, order: str, changes: dict[str, Any], status: int, field: str | None
) -> None:
    """More than was bought, lines that are not there, links that lead nowhere good."""
    refused = await ship(stage, order, **changes)
    assert (refused.status_code, refused.json().get("field")) == (status, field), refused.text
    assert "1 units" not in refused.text and "Expected `int` <=" not in refused.text
    assert field != "tracking_url" or "an https address" in refused.text
    assert await stage.pool.fetchval("SELECT count(*) FROM shipments") == 0


async def test_nothing_leaves_twice(stage: Stage, order: str) -> None:
    """A repeat with its key answers the same; a new call has nothing left; a key is needed."""
    path, key = f"/v1/orders/{order}/shipments", {"idempotency-key": uuid4().hex}
    first = await stage.call("POST", path, PARCEL, headers=key)
    again = await stage.call("POST", path, PARCEL, headers=key)
    other = await stage.call("POST", path, PARCEL | {"carrier": "UPS"}, headers=key)

    assert first.json() == again.json()
    assert (other.status_code, (await ship(stage, order)).status_code) == (409, 409)
    keyless = await stage.call("POST", path, PARCEL, headers={"idempotency-key": ""})
    assert (keyless.status_code, keyless.json()["field"]) == (400, "Idempotency-Key")
    assert await stage.pool.fetchval("SELECT count(*) FROM shipments") == 1


async def test_call_that_still_runs_says_when_to_repeat(stage: Stage, order: str) -> None:
    """Its repeat comes too early: unlike any other conflict, a later one is answered."""
    path, key = f"/v1/orders/{order}/shipments", {"idempotency-key": uuid4().hex}
    first = await stage.call("POST", path, PARCEL, headers=key)
    await stage.pool.execute("UPDATE idempotency SET status = NULL, created_at = now()")
    early = await stage.call("POST", path, PARCEL, headers=key)
    told = early.json()
    assert (early.status_code, told["code"], told["temporary"]) == (409, 1409, True)
    assert (told["retry_ms"], early.headers["retry-after"]) == (500, "1")

    await stage.pool.execute("UPDATE idempotency SET created_at = '2020-01-01'")
    assert (await stage.call("POST", path, PARCEL, headers=key)).json() == first.json()
    other = await stage.call("POST", path, PARCEL | {"carrier": "UPS"}, headers=key)
    assert (other.status_code, "temporary" in other.json()) == (409, False)
    assert "retry-after" not in other.headers


async def test_two_of_the_staff_ship_one_parcel(stage: Stage, order: str) -> None:
    """In the same second: one parcel leaves, the other call hears that nothing is left."""
    both = await asyncio.gather(*(ship(stage, order) for _ in range(2)))
    assert sorted(one.status_code for one in both) == [200, 409]
    assert await stage.pool.fetchval("SELECT sum(qty) FROM shipment_items") == 4
    logged = "SELECT count(*) FROM host_actions WHERE action = 'order.ship'"
    assert await stage.pool.fetchval(logged) == 1


async def test_parcel_that_came_back_leaves_again(stage: Stage, order: str) -> None:
    """Its units may be sent once more; what was delivered is not shipped again."""
    sent = (await ship(stage, order)).json()
    path = f"/v1/orders/{order}/shipments/{sent['shipments'][0]['shipment']}"
    back = await stage.call("PATCH", path, {"status": "returned_to_sender"})
    assert (back.status_code, back.json()["fulfilment"]) == (200, "returned")
    assert (await stage.call("PATCH", path, {"status": "delivered"})).status_code == 409

    again = await ship(stage, order)
    assert (again.status_code, again.json()["fulfilment"]) == (200, "shipped")
    assert (await ship(stage, order)).status_code == 409


async def test_news_of_a_parcel_is_told_once(stage: Stage, order: str) -> None:
    """What is known changes nothing; what no parcel is, or another order's, is unknown."""
    sent = (await ship(stage, order)).json()
    name = sent["shipments"][0]["shipment"]
    path = f"/v1/orders/{order}/shipments/{name}"
    first = (await stage.call("PATCH", path, {"status": "delivered"})).json()
    again = (await stage.call("PATCH", path, {"status": "delivered"})).json()
    assert first["updated_at"] == again["updated_at"]

    for wrong, status in (("shipped", 400), ("lost", 400)):
        refused = await stage.call("PATCH", path, {"status": wrong})
        assert refused.json()["detail"].endswith("is not one of delivered, returned_to_sender")
        assert (refused.status_code, refused.json()["field"]) == (status, "status")
    for shipment in (uuid4(), "nothing"):
        unknown = f"/v1/orders/{order}/shipments/{shipment}"
        assert (await stage.call("PATCH", unknown, {"status": "delivered"})).status_code == 404


@pytest.mark.parametrize("state", ["cancelled", "rejected", "refunded", "confirmed"])
async def test_order_that_is_over_or_unpaid_stays(stage: Stage, order: str, state: str) -> None:
    """Nothing leaves for a promise that was taken back, or before its money is here."""
    await stage.pool.execute("UPDATE orders SET state = $1", state)
    refused = await ship(stage, order)
    assert refused.status_code == 409, refused.text


async def test_invoice_leaves_before_it_is_paid(stage: Stage, order: str) -> None:
    """That is what an invoice is."""
    await stage.pool.execute("UPDATE payments SET provider = 'invoice'")
    await stage.pool.execute("UPDATE orders SET state = 'confirmed'")
    assert (await ship(stage, order)).status_code == 200


async def test_only_the_shop_ships(stage: Stage, order: str) -> None:
    """Not the buyer, not moderators, not the host of another show."""
    path = f"/v1/orders/{order}/shipments"
    for role in (Role.VIEWER, Role.MODERATOR):
        assert (await stage.call("POST", path, PARCEL, role=role)).status_code == 403
    foreign = await stage.call("POST", path, PARCEL, shows=["elsewhere"])
    none = await stage.call("POST", f"/v1/orders/{uuid4()}/shipments", PARCEL)
    wrong = await stage.call("POST", "/v1/orders/nothing/shipments", PARCEL)
    told = [(one.status_code, one.json()["detail"]) for one in (foreign, none, wrong)]
    assert told == [(404, "unknown order")] * 3
    assert (await stage.call("POST", path, PARCEL, role=Role.SERVICE)).status_code == 200


async def test_returned_units_are_not_shipped_again(stage: Stage, order: str) -> None:
    """Units on the shelf are somebody else's by now; what never left may still leave."""
    await ship(stage, order, items=items(l1=2))
    await stage.pool.execute(
        """INSERT INTO stock_movements (sku, offer, order_id, kind, qty)
           SELECT sku, id, $1, 'returned', 1 FROM offers WHERE slot = 0""",
        order,
    )
    rest = await ship(stage, order)
    assert rest.json()["shipments"][1]["items"] == [{"line": 2, "qty": 1}]
    none = await ship(stage, order, items=items(l1=1))
    assert none.json()["detail"] == "items: 1 unit of line 1, 0 may leave"
    assert rest.json()["fulfilment"] == "shipped"


async def test_return_without_items_is_all_that_may_come_back(stage: Stage, order: str) -> None:
    """As a parcel without them is all that may leave; an empty list is none of it."""
    await ship(stage, order, items=items(l1=2, l2=1))
    path = f"/v1/orders/{order}/returns"
    await stage.call("POST", path, {"items": items(l1=1), "reason": "too small"})
    for body in ({"items": [], "reason": "too small"}, {"items": None, "reason": "too small"}):
        refused = await stage.call("POST", path, body)
        assert (refused.status_code, refused.json()["field"]) == (400, "items")
    rest = await stage.call("POST", path, {"reason": "too small"})
    assert rest.status_code == 200, rest.text
    assert rest.json()["returns"][1]["items"] == items(l1=1, l2=1)
    nothing = await stage.call("POST", path, {"reason": "too small"})
    assert (nothing.status_code, nothing.json()["code"]) == (409, 1409)


async def test_patch_sets_a_state_whatever_its_key(stage: Stage, order: str) -> None:
    """The same once more changes nothing; what was passed since is a conflict, and not a repeat."""
    [parcel] = (await ship(stage, order)).json()["shipments"]
    shipment = f"/v1/orders/{order}/shipments/{parcel['shipment']}"
    asked = await stage.call("POST", f"/v1/orders/{order}/returns", {"reason": "too small"})
    back = f"/v1/orders/{order}/returns/{asked.json()['returns'][0]['return']}"
    key = {"idempotency-key": uuid4().hex}

    async def patch(path: str, body: dict[str, object]) -> int:
        return (await stage.call("PATCH", path, body, headers=key)).status_code

    assert [await patch(shipment, {"status": "delivered"}) for _ in range(2)] == [200, 200]
    steps = ["approved", "approved", "received", "received", "approved"]
    got = [await patch(back, {"state": state}) for state in steps]
    assert got == [200, 200, 200, 200, 409]

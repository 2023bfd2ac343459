"""What a warehouse is to send: `to_ship` of each line, and the list of orders that have some.

Method: every way in which units stop being there to send, or come to be there again, on rows of a
real Postgres and by the API's own calls.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx
import orjson
import pytest

from live.domain.ids import ShowId
from live.ledger.db.pool import Pool
from live.ledger.orders.pages import OrderQuery, _statement
from live.ledger.orders.withdraw import WithdrawalRows
from tests.integration.test_orders_changed import bought
from tests.support.api_kit import Stage, open_stage
from tests.support.ledger_kit import make_show

PARCEL = {"carrier": "DHL", "tracking_number": "JD01"}
UNITS = 3


@pytest.fixture
async def stage(pool: Pool, redis_url: str) -> AsyncIterator[Stage]:
    async with open_stage(pool, redis_url) as found:
        yield found


@pytest.fixture
async def order(stage: Stage, show: ShowId) -> str:
    """A paid order of three units."""
    await make_show(stage.pool, show, 5)
    made: str = await bought(stage.pool, show, orjson.dumps({"name": "Ada"}))
    await stage.pool.execute("UPDATE order_items SET qty = $1", UNITS)
    await stage.pool.execute(
        """INSERT INTO stock_movements (sku, offer, order_id, kind, qty)
           SELECT f.sku, f.id, $1, 'sold', $2 FROM offers f WHERE f.slot = 0""",
        made,
        UNITS,
    )
    return made


async def post(stage: Stage, order: str, call: str, body: object) -> Any:
    return told(await stage.call("POST", f"/v1/orders/{order}/{call}", body))


def told(answer: httpx.Response) -> Any:
    assert answer.status_code == 200, answer.text
    return answer.json()


async def figures(stage: Stage, order: str) -> tuple[int, int, int]:
    """(shipped, returned, to_ship) of its line; the list says the same as the order."""
    [item] = told(await stage.call("GET", f"/v1/orders/{order}"))["items"]
    for wanted in ("true", "false"):
        listed = told(await stage.call("GET", f"/v1/orders?to_ship={wanted}"))["items"]
        there = (item["to_ship"] > 0) is (wanted == "true")
        assert [one["order"] for one in listed] == ([order] if there else [])
    assert item["qty"] == UNITS
    return item["shipped"], item["returned"], item["to_ship"]


async def send(stage: Stage, order: str, qty: int) -> str:
    body = PARCEL | {"items": [{"line": 1, "qty": qty}]}
    sent = await post(stage, order, "shipments", body)
    return str(sent["shipments"][-1]["shipment"])


async def take_back_unsent(stage: Stage, order: str) -> None:
    [item] = told(await stage.call("GET", f"/v1/orders/{order}"))["items"]
    back = [{"offer": item["offer"], "qty": 2}]
    body = {"amount_minor": 1, "reason": "torn", "restock": True, "items": back}
    await post(stage, order, "refund", body)


async def cancel(stage: Stage, order: str) -> None:
    """Units that are lost are on no shelf, and leave neither."""
    await post(stage, order, "cancel", {"reason": "lost", "restock": False})


async def send_all(stage: Stage, order: str) -> None:
    await send(stage, order, UNITS)


async def bring_parcel_back(stage: Stage, order: str) -> None:
    parcel = await send(stage, order, 2)
    path = f"/v1/orders/{order}/shipments/{parcel}"
    told(await stage.call("PATCH", path, {"status": "returned_to_sender"}))


async def receive(stage: Stage, order: str, *, restock: bool) -> None:
    await send(stage, order, 2)
    body = {"items": [{"line": 1, "qty": 1}], "reason": "small"}
    asked = await post(stage, order, "returns", body)
    path = f"/v1/orders/{order}/returns/{asked['returns'][0]['return']}"
    told(await stage.call("PATCH", path, {"state": "received", "restock": restock}))


async def receive_to_shelf(stage: Stage, order: str) -> None:
    await receive(stage, order, restock=True)


async def receive_to_bin(stage: Stage, order: str) -> None:
    await receive(stage, order, restock=False)


async def withdraw(stage: Stage, order: Any) -> None:
    await send(stage, order, 1)
    await WithdrawalRows(stage.pool, days=14).withdraw(order, "viewer-1", confirm=True)


async def wait_for_money(stage: Stage, order: str) -> None:
    await stage.pool.execute("UPDATE orders SET state = 'confirmed'")


async def owe_by_invoice(stage: Stage, order: str) -> None:
    await stage.pool.execute("UPDATE orders SET state = 'confirmed'")
    await stage.pool.execute("UPDATE payments SET provider = 'invoice'")


async def refund_part(stage: Stage, order: str) -> None:
    await stage.pool.execute("UPDATE orders SET state = 'partially_refunded'")


async def refund_all(stage: Stage, order: str) -> None:
    await stage.pool.execute("UPDATE orders SET state = 'refunded'")


@pytest.mark.parametrize(
    ("happen", "expected"),
    [
        (take_back_unsent, (0, 2, 1)),
        (cancel, (0, 0, 0)),
        (send_all, (3, 0, 0)),
        (bring_parcel_back, (0, 0, 3)),
        (receive_to_shelf, (2, 1, 1)),
        (receive_to_bin, (2, 1, 1)),
        (withdraw, (1, 2, 0)),
        (wait_for_money, (0, 0, 0)),
        (owe_by_invoice, (0, 0, 3)),
        (refund_part, (0, 0, 3)),
        (refund_all, (0, 0, 0)),
    ],
)
async def test_line_says_what_may_leave_now(
    stage: Stage,
    order: str,
    happen: Callable[[Stage, str], Awaitable[None]],
    expected: tuple[int, int, int],
) -> None:
    """Exactly what a parcel without `items` takes, and the list of orders to ship agrees."""
    assert await figures(stage, order) == (0, 0, 3)
    await happen(stage, order)
    assert await figures(stage, order) == expected

    parcel = await stage.call("POST", f"/v1/orders/{order}/shipments", PARCEL)
    assert parcel.status_code == (200 if expected[2] else 409), parcel.text
    if expected[2]:
        sent = parcel.json()["shipments"][-1]["items"]
        assert sent == [{"line": 1, "qty": expected[2]}]


async def test_what_is_to_be_sent_is_found_among_many(stage: Stage, order: str) -> None:
    """All that were sent long ago are not read for it."""
    await stage.pool.execute(
        """INSERT INTO orders (id, show, buyer, sub, key, state, total_minor, currency, seq,
                               fulfilment, to_ship)
           SELECT gen_random_uuid(), (SELECT show FROM orders), decode(repeat('ab', 16), 'hex'),
                  'ada', gen_random_uuid(), 'paid', 1, 'EUR', n,
                  (ARRAY['shipped', 'delivered', 'returned'])[1 + n % 3], false
           FROM generate_series(1, 20000) n"""
    )
    await stage.pool.execute("ANALYZE orders")
    assert await figures_of_list(stage) == [order]
    show = await stage.pool.fetchval("SELECT show FROM orders LIMIT 1")
    for query in (OrderQuery(to_ship=True), OrderQuery(to_ship=True, show=show)):
        text, arguments = _statement(query, None, None, 10**9, 51)
        plan = await stage.pool.fetchval(f"EXPLAIN (FORMAT json) {text}", *arguments)
        assert '"orders_to_ship"' in plan


async def figures_of_list(stage: Stage) -> list[str]:
    return [
        one["order"] for one in told(await stage.call("GET", "/v1/orders?to_ship=true"))["items"]
    ]


async def test_shops_own_number_finds_the_order(stage: Stage, order: str) -> None:
    """The one that was given with the payment, or with the confirmation; by an index."""
    await stage.pool.execute("UPDATE orders SET reference = 'A 1/2'")
    path = "/v1/orders?reference="
    for text, found in (("A%201/2", [order]), ("A", []), ("x" * 200, [])):
        listed = told(await stage.call("GET", path + text))["items"]
        assert [one["order"] for one in listed] == found
    await stage.pool.execute("UPDATE orders SET reference = NULL, paid_reference = 'SEPA 1'")
    assert len(told(await stage.call("GET", path + "SEPA%201"))["items"]) == 1

    for wrong in ("", "x" * 201, "a%00b"):
        refused = await stage.call("GET", path + wrong)
        assert (refused.status_code, refused.json()["field"]) == (400, "reference")
    text, arguments = _statement(OrderQuery(reference="x"), None, None, 10**9, 51)
    async with stage.pool.acquire() as connection, connection.transaction():
        await connection.execute("SET LOCAL enable_seqscan = off")
        plan = await connection.fetchval(f"EXPLAIN (FORMAT json) {text}", *arguments)
    assert '"orders_by_reference"' in plan


@pytest.mark.parametrize("word", ["", "yes", "1", "True"])
async def test_flag_that_is_none_is_refused(stage: Stage, word: str) -> None:
    """What no boolean is means nothing."""
    refused = await stage.call("GET", f"/v1/orders?to_ship={word}")
    assert (refused.status_code, refused.json()["field"]) == (400, "to_ship")


def test_cursor_outlives_filters_that_came_later() -> None:
    """A poller goes on from one that was given before there were any."""
    assert OrderQuery().mark == "6f30a22cfcd3fee9"
    marks = {OrderQuery(to_ship=flag).mark for flag in (None, True, False)}
    assert len(marks | {OrderQuery(reference="x").mark}) == 4

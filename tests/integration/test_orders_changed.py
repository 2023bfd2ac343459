"""Orders by their last change: who polls them misses none and reads each as it is then.

Method: rows written by hand, transactions held open and committed the other way round.
"""

import time
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import orjson
import pytest

from live.domain.caller import Role
from live.domain.ids import OrderId, ShowId
from live.domain.order import OrderState
from live.ledger.db.pool import Pool
from live.ledger.money.payments import PaymentRows
from live.ledger.orders.orders import OrderRows
from live.ledger.orders.pages import _FIRST_FROM, OrderQuery, Sorting
from tests.integration.test_orders_pages import place
from tests.support.api_kit import Stage, open_stage
from tests.support.ledger_kit import make_show, new_buyer, pay
from tests.support.shows_kit import set_stage

CHANGE = "UPDATE orders SET state = 'paid' WHERE id = $1"


@pytest.fixture
async def stage(pool: Pool, redis_url: str) -> AsyncIterator[Stage]:
    async with open_stage(pool, redis_url) as found:
        yield found


@pytest.fixture
async def other(database_url: str) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(database_url)
    yield connection
    await connection.close()


async def poll(rows: OrderRows, show: ShowId, cursor: str | None = None) -> tuple[list[str], str]:
    query = OrderQuery(show=show, sorting=Sorting.UPDATED)
    page = await rows.list(query, cursor=cursor)
    return [row.view.order for row in page.orders], page.cursor


async def test_changed_order_is_told_once_more(pool: Pool, show: ShowId) -> None:
    """It moves to the end; an update that changes nothing moves nothing."""
    await set_stage(pool, show)
    rows = OrderRows(pool)
    first, second = await place(pool, show), await place(pool, show)
    seen, cursor = await poll(rows, show)
    assert seen == [first, second]
    before = (await rows.get(OrderId(first))).view

    await pool.execute(CHANGE, first)
    seen, cursor = await poll(rows, show, cursor)
    assert seen == [first]
    after = (await rows.get(OrderId(first))).view
    assert before.updated_at == before.created_at <= after.updated_at

    await pool.execute(CHANGE, first)
    assert (await poll(rows, show, cursor))[0] == []


async def test_change_that_commits_late_is_not_passed_over(
    other: Any, pool: Pool, show: ShowId
) -> None:
    """The later change is told only behind the earlier one."""
    await set_stage(pool, show)
    rows = OrderRows(pool)
    first, second = await place(pool, show), await place(pool, show)
    _, cursor = await poll(rows, show)
    slow = other.transaction()
    await slow.start()
    await other.execute(CHANGE, first)
    await pool.execute(CHANGE, second)

    seen, cursor = await poll(rows, show, cursor)
    assert seen == []
    await slow.commit()

    assert (await poll(rows, show, cursor))[0] == [first, second]


async def test_pages_of_changes_hold_each_order_as_it_is(pool: Pool, show: ShowId) -> None:
    """An order that changes while pages are read comes at the end, and none is left out."""
    await set_stage(pool, show)
    rows, query = OrderRows(pool), OrderQuery(show=show, sorting=Sorting.UPDATED)
    old = [await place(pool, show) for _ in range(2)]
    await pool.execute("UPDATE orders SET position = NULL, changed = NULL, updated_at = NULL")
    await pool.execute("ALTER TABLE orders DISABLE TRIGGER orders_note_change")
    await pool.execute("UPDATE orders SET position = NULL, changed = NULL, updated_at = NULL")
    await pool.execute("ALTER TABLE orders ENABLE TRIGGER orders_note_change")
    new = [await place(pool, show) for _ in range(3)]
    seen: list[tuple[str, OrderState]] = []
    cursor = None
    for turn in range(6):
        page = await rows.list(query, cursor=cursor, limit=1)
        seen += [(row.view.order, row.view.state) for row in page.orders]
        cursor = page.cursor
        if turn == 1:
            await pool.execute(CHANGE, old[0])

    assert [order for order, _ in seen] == [*old, *new, old[0]]
    assert seen[-1][1] is OrderState.PAID


async def _list(stage: Stage, path: str, status: int = 200) -> Any:
    answer = await stage.call("GET", path)
    assert answer.status_code == status, answer.text
    return answer.json()


async def test_filters_find_what_they_say(stage: Stage, show: ShowId) -> None:
    """By state, by fulfilment and by time, and together."""
    await set_stage(stage.pool, show)
    paid, sent = await place(stage.pool, show), await place(stage.pool, show)
    await stage.pool.execute(CHANGE, paid)
    await stage.pool.execute("UPDATE orders SET fulfilment = 'shipped' WHERE id = $1", sent)
    since = (await _list(stage, f"/v1/orders/{sent}"))["updated_at"]
    path = f"/v1/orders?show={show}"

    async def found(filters: str) -> list[str]:
        return [one["order"] for one in (await _list(stage, path + filters))["items"]]

    assert await found("&state=paid") == [paid]
    assert await found("&fulfilment=shipped") == [sent]
    assert await found("&state=paid&fulfilment=shipped") == []
    assert await found("&updated_since=0") == [paid, sent]
    assert await found(f"&updated_since={since + 1}&order=updated") == []
    assert sent in await found(f"&updated_since={since}")


async def test_time_to_come_is_an_empty_page_that_goes_on(stage: Stage, show: ShowId) -> None:
    """Nothing has changed then yet; what has by that time is read from the same cursor."""
    await set_stage(stage.pool, show)
    order = await place(stage.pool, show)
    soon = time.time_ns() // 1_000_000 + 3_600_000
    path = f"/v1/orders?show={show}&updated_since={soon}"

    empty = await _list(stage, path)
    assert (empty["items"], empty["next"]) == ([], None)
    await stage.pool.execute("ALTER TABLE orders DISABLE TRIGGER orders_note_change")
    await stage.pool.execute(
        """UPDATE orders SET updated_at = now() + interval '2 hours',
               changed = nextval('orders_position')"""
    )

    later = await _list(stage, f"{path}&cursor={empty['cursor']}")
    assert [one["order"] for one in later["items"]] == [order]


@pytest.mark.parametrize(
    ("query", "field", "word"),
    [
        ("state=lost", "state", "'lost'"),
        ("fulfilment=", "fulfilment", "''"),
        ("updated_since=yesterday", "updated_since", "Unix ms"),
        ("updated_since=-1", "updated_since", "Unix ms"),
        ("updated_since=253402300800000", "updated_since", "Unix ms"),
        ("updated_since=1&order=newest", "order", "updated"),
        ("order=best", "order", "'best'"),
    ],
)
async def test_filter_that_means_nothing_is_refused(
    stage: Stage, show: ShowId, query: str, field: str, word: str
) -> None:
    """The answer names the field, and the word that nobody knows."""
    await set_stage(stage.pool, show)
    refused = await _list(stage, f"/v1/orders?show={show}&{query}", 400)
    assert refused["field"] == field
    assert word in refused["detail"]


async def test_cursor_of_another_query_is_refused(stage: Stage, show: ShowId) -> None:
    """It would skip what the other query left out."""
    await set_stage(stage.pool, show)
    await place(stage.pool, show)
    path = f"/v1/orders?show={show}"
    cursor = (await _list(stage, path))["cursor"]

    for other in ("&state=paid", "&order=newest", "&updated_since=0", "&buyer=ada"):
        refused = await _list(stage, f"{path}{other}&cursor={cursor}", 400)
        assert refused["field"] == "cursor"
    assert (await _list(stage, f"{path}&limit=7&cursor={cursor}"))["items"] == []
    for forged in ("MC4wLjA=", "YQ==", cursor[:-8]):
        assert (await _list(stage, f"{path}&cursor={forged}", 400))["field"] == "cursor"


async def test_order_says_what_a_warehouse_needs(stage: Stage, show: ShowId) -> None:
    """Buyer, lines with SKU and title, totals; and the contact for host, service and buyer."""
    await make_show(stage.pool, show, 5)
    contact = {"name": "Ada", "email": "ada@example.org", "address": "1 Row\nHill\nTown"}
    order = await bought(stage.pool, show, orjson.dumps(contact))
    path = f"/v1/orders/{order}"
    seen = await _list(stage, path)

    [item] = seen["items"]
    assert (item["line"], item["qty"], item["discount_minor"]) == (1, 1, 0)
    product = await stage.pool.fetchrow(
        "SELECT sku, title FROM offers WHERE id = $1", item["offer"]
    )
    assert product is not None
    assert (item["sku"], item["title"]) == (product["sku"], product["title"])
    totals = {one["type"]: one["amount_minor"] for one in seen["totals"]}
    assert totals == {"subtotal": item["price_minor"], "total": seen["total_minor"]}
    assert seen["sub"] == "viewer-1"
    assert (seen["shipments"], seen["returns"], seen["reference"]) == ([], [], None)
    for role in (Role.HOST, Role.SERVICE, Role.VIEWER):
        read = (await stage.call("GET", path, role=role)).json()
        assert read["contact"]["address"]["line1"] == "1 Row"
        assert read["contact"]["address"]["line2"] == "Hill, Town"
        listed = (await stage.call("GET", "/v1/orders", role=role)).json()
        assert listed["items"][0]["contact"]["email"] == "ada@example.org"


async def test_contact_is_in_no_answer_but_to_readers(stage: Stage, show: ShowId) -> None:
    """Not for moderators, not in the view that events carry, not in a kept answer."""
    await make_show(stage.pool, show, 5)
    order = await bought(stage.pool, show, orjson.dumps({"name": "Ada Secret"}))
    path = f"/v1/orders/{order}"

    assert (await stage.call("GET", path, role=Role.MODERATOR)).status_code == 403
    assert (await stage.call("GET", path, shows=["elsewhere"])).status_code == 404
    view = (await OrderRows(stage.pool).get(order)).view
    assert b"Secret" not in orjson.dumps(view)
    command = await stage.call("POST", f"{path}/refund", {"reason": "late"})
    assert command.status_code == 200, command.text
    assert "contact" not in command.json()
    kept = await stage.pool.fetch("SELECT body FROM idempotency")
    assert kept and not any(b"Secret" in row["body"] for row in kept)


async def bought(pool: Pool, show: ShowId, contact: bytes) -> Any:
    """A captured order of one unit by viewer-1."""
    buyer = new_buyer()
    paid = await pay(PaymentRows(pool), show, buyer)
    await pool.execute(
        """UPDATE payments SET state = 'captured', captured_minor = amount_minor,
               contact = $1::text::jsonb WHERE id = $2::text::uuid""",
        contact.decode(),
        paid.id,
    )
    await pool.execute(
        """INSERT INTO orders (id, show, buyer, sub, key, payment, state, total_minor, currency,
                               seq)
           SELECT order_id, show, buyer, 'viewer-1', hold, id, 'paid', amount_minor, currency, 1
           FROM payments WHERE id = $1::text::uuid""",
        paid.id,
    )
    await pool.execute(
        """INSERT INTO order_items (order_id, offer, qty, price_minor)
           SELECT p.order_id, f.id, p.quantities[1], p.prices_minor[1]
           FROM payments p JOIN offers f ON f.show = p.show AND f.slot = p.slots[1]
           WHERE p.id = $1::text::uuid""",
        paid.id,
    )
    return paid.order


async def test_time_to_begin_at_is_found_among_many(pool: Pool, show: ShowId) -> None:
    """All that changed since then, wherever that is, and not what a long life has before it."""
    await set_stage(pool, show)
    await pool.execute(
        """INSERT INTO orders (id, show, buyer, sub, key, state, total_minor, currency, seq,
                               created_at)
           SELECT gen_random_uuid(), $1, decode(repeat('ab', 16), 'hex'), 'ada', gen_random_uuid(),
                  'paid', 1, 'EUR', n, to_timestamp(1700000000 + n * 60)
           FROM generate_series(1, 20000) n""",
        show,
    )
    rows = OrderRows(pool)
    for minute in (1, 2, 7_777, 19_990, 20_000, 20_001):
        since = (1_700_000_000 + minute * 60) * 1_000
        query = OrderQuery(show=show, updated_since=since, sorting=Sorting.UPDATED)
        page = await rows.list(query, cursor=None, limit=3)
        expected = [since + 60_000 * n for n in range(3) if minute + n <= 20_000]
        assert [row.view.updated_at for row in page.orders] == expected
    plan = await pool.fetchval(f"EXPLAIN (FORMAT json) {_FIRST_FROM}", 7_777)
    assert "orders_by_change" in plan

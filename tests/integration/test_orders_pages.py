"""Who copies the orders page by page misses none, whatever order they are committed in.

Method: transactions of two settlers, held open by the test and committed the other way round.
"""

from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from live.domain.ids import ShowId
from live.ledger.db.pool import Pool
from live.ledger.orders.orders import OrderRows
from live.ledger.orders.pages import OrderQuery, Sorting
from tests.integration.test_api_shows import begin
from tests.support.api_kit import Stage, open_stage
from tests.support.shows_kit import set_stage

INSERT = """INSERT INTO orders (id, show, buyer, sub, key, state, total_minor, currency, seq)
            VALUES ($1, $2, $3, 'ada', $4, 'confirmed', 1900, 'EUR', 1)"""


@pytest.fixture
async def settlers(database_url: str, pool: Pool, show: ShowId) -> AsyncIterator[list[Any]]:
    """Three connections, each with a transaction of its own."""
    await set_stage(pool, show)
    opened = [await asyncpg.connect(database_url) for _ in range(3)]
    yield opened
    for one in opened:
        await one.close()


async def place(connection: Any, show: ShowId) -> str:
    order = str(uuid4())
    await connection.execute(INSERT, order, show, b"b" * 16, uuid4())
    return order


async def poll(rows: OrderRows, show: ShowId, cursor: str | None) -> tuple[list[str], str]:
    page = await rows.list(OrderQuery(show=show), cursor=cursor)
    return [row.view.order for row in page.orders], page.cursor


async def test_order_that_commits_late_is_not_passed_over(
    settlers: list[Any], pool: Pool, show: ShowId
) -> None:
    """The second is told only behind the first, and a poller sees both, once."""
    rows = OrderRows(pool)
    early, late, _ = settlers
    slow, quick = early.transaction(), late.transaction()
    await slow.start()
    first = await place(early, show)
    await quick.start()
    second = await place(late, show)
    await quick.commit()

    seen, cursor = await poll(rows, show, None)
    assert seen == []
    page = await rows.list(OrderQuery(show=show, sorting=Sorting.NEWEST))
    assert [row.view.order for row in page.orders] == [second]  # a person need not wait
    await slow.commit()
    seen, cursor = await poll(rows, show, cursor)

    assert seen == [first, second]
    assert (await poll(rows, show, cursor))[0] == []


async def test_settler_that_began_long_ago_takes_a_late_place(
    settlers: list[Any], pool: Pool, show: ShowId
) -> None:
    """The start of its transaction is older than what was read; its position is not."""
    rows = OrderRows(pool)
    early, late, _ = settlers
    slow = early.transaction()
    await slow.start()
    await early.fetchval("SELECT now()")
    second = await place(late, show)
    seen, cursor = await poll(rows, show, None)
    assert seen == [second]

    first = await place(early, show)
    await slow.commit()
    assert (await poll(rows, show, cursor))[0] == [first]


async def test_settler_that_gives_up_keeps_nobody_waiting(
    settlers: list[Any], pool: Pool, show: ShowId
) -> None:
    """Its positions are gaps, and a gap is not waited for."""
    rows = OrderRows(pool)
    failing, other, _ = settlers
    doomed = failing.transaction()
    await doomed.start()
    await place(failing, show)
    kept = await place(other, show)
    await doomed.rollback()

    assert (await poll(rows, show, None))[0] == [kept]


async def test_orders_from_before_positions_come_first(pool: Pool, show: ShowId) -> None:
    """Rows of an older version have none: in their old order, then the others."""
    await set_stage(pool, show)
    old = []
    for age in (3, 2, 1):
        old.append(await place(pool, show))
        await pool.execute(
            """UPDATE orders SET position = NULL,
                   created_at = now() - make_interval(hours => $2) WHERE id = $1""",
            old[-1],
            age,
        )
    new = await place(pool, show)
    rows, seen, cursor = OrderRows(pool), [], None
    for _ in range(5):
        page = await rows.list(OrderQuery(show=show), cursor=cursor, limit=1)
        seen += [row.view.order for row in page.orders]
        cursor = page.cursor

    assert seen == [*old, new]


async def test_cursor_is_there_before_the_first_order_and_behind_the_last(
    pool: Pool, redis_url: str, show: ShowId
) -> None:
    """A poller keeps one word, and `next` still says when to stop."""
    async with open_stage(pool, redis_url) as stage:
        await begin(stage, show)
        empty = await _list(stage, show, "")
        first = await place(pool, show)
        one = await _list(stage, show, empty["cursor"])
        none = await _list(stage, show, one["cursor"])
        second = await place(pool, show)
        other = await _list(stage, show, none["cursor"])

        path = f"/v1/shows/{show}/audit-log?cursor="
        log = (await stage.call("GET", path)).json()
        behind = (await stage.call("GET", path + log["cursor"])).json()
        assert (await stage.call("POST", f"/v1/shows/{show}/pause")).status_code == 200
        more = (await stage.call("GET", path + behind["cursor"])).json()

    assert [page["next"] for page in (empty, one, none, other)] == [None] * 4
    told = [[order["order"] for order in page["items"]] for page in (empty, one, none, other)]
    assert told == [[], [first], [], [second]]
    assert behind["items"] == []
    assert [action["action"] for action in more["items"]] == ["show.pause"]


async def _list(stage: Stage, show: ShowId, cursor: str) -> dict[str, Any]:
    answer = await stage.call("GET", f"/v1/orders?show={show}&cursor={cursor}")
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found

"""Goods that come back without money: they cost nothing, or their money went back before."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import orjson
import pytest

from live.base.errors import BadField, Conflict
from live.domain.hold import Line
from live.domain.ids import OrderId, ShowId
from live.domain.order import OrderState
from live.ledger.db.pool import Pool
from tests.support.ledger_kit import PRICE, wish
from tests.support.refund_kit import ask, look, paid_order, proof, work
from tests.support.sale_kit import Sale, open_sale
from tests.support.sandbox import SandboxServer


@pytest.fixture
async def sale(
    pool: Pool, redis_url: str, server: SandboxServer, show: ShowId
) -> AsyncIterator[Sale]:
    """Two offers of ten units."""
    async with open_sale(pool, redis_url, server, show, units=(10, 10)) as sale:
        yield sale
    await server.misbehave()


async def shelf(sale: Sale) -> list[int]:
    rows = await sale.pool.fetch("SELECT on_hand FROM products ORDER BY sku")
    return [row["on_hand"] for row in rows]


async def free_order(sale: Sale, *lines: Line) -> OrderId:
    """An order of these lines that costs nothing."""
    room = sale.followed.followed[sale.show]
    assert room.state is not None
    free = tuple(replace(one, price_minor=0) for one in room.state.offers)
    room.state = replace(room.state, offers=free)
    await sale.pool.execute("UPDATE offers SET price_minor = 0")
    return await paid_order(sale, *lines)


async def refunded_order(sale: Sale) -> OrderId:
    """All its money is back, its units are not."""
    order = await paid_order(sale, Line(0, 3), Line(1, 2))
    await ask(sale, order, wish())
    await work(sale)
    return order


@pytest.mark.parametrize("amount", [None, 0])
async def test_order_that_cost_nothing_comes_back_whole(sale: Sale, amount: int | None) -> None:
    """Without naming units: all of them, once."""
    order = await free_order(sale, Line(0, 3), Line(1, 2))

    await ask(sale, order, wish(amount, restock=True))
    with pytest.raises(Conflict, match="no units are left"):
        await ask(sale, order, wish(amount, restock=True))

    assert await shelf(sale) == [13, 12]
    assert await look(sale, order) == (OrderState.PAID, 0, [])
    assert (await proof(sale)).findings == ()


async def test_goods_come_back_after_their_money(sale: Sale) -> None:
    """A part of them, then the rest, and never one more; the money stays as it is."""
    order = await refunded_order(sale)
    first, second = sale.offers
    before = await look(sale, order)

    await ask(sale, order, wish(0, restock=True, **{first: 2}))
    wrong: list[dict[str, int]] = [{first: 2}, {second: 3}, {"another": 1}]
    for units in wrong:
        with pytest.raises(Conflict, match="cannot come back"):
            await ask(sale, order, wish(0, restock=True, **units))
    await ask(sale, order, wish(0, restock=True))

    assert await shelf(sale) == [13, 12]
    assert await look(sale, order) == before
    assert await sale.money() == (5 * PRICE, 5 * PRICE)
    assert (await proof(sale)).findings == ()


async def test_goods_come_back_before_their_money(sale: Sale) -> None:
    """While money is left, a return of units alone names them and calls no failed refund off."""
    order = await paid_order(sale)
    await sale.server.misbehave(refunds="failed")
    await ask(sale, order, wish(PRICE))
    await work(sale)
    await sale.server.misbehave()
    with pytest.raises(BadField, match=r"^items: "):
        await ask(sale, order, wish(0, restock=True))
    with pytest.raises(BadField, match="amount_minor"):
        await ask(sale, order, wish(0))

    await ask(sale, order, wish(0, restock=True, **{sale.offers[0]: 2}))

    assert await shelf(sale) == [12, 10]
    assert [one.value for one in (await look(sale, order))[2]] == ["failed"]
    await ask(sale, order, wish(restock=True))
    await work(sale)
    assert await shelf(sale) == [15, 10]
    assert (await proof(sale)).findings == ()


async def test_return_with_one_key_is_done_once(sale: Sale) -> None:
    """Also four at once; the key does not serve for something else, of units or of money."""
    order, offer = await refunded_order(sale), sale.offers[0]
    some = wish(0, restock=True, **{offer: 1})

    await asyncio.gather(*(ask(sale, order, some, key="monday") for _ in range(4)))
    for other in (wish(0, restock=True, **{offer: 2}), wish(7), wish()):
        with pytest.raises(Conflict, match="asked for another refund before"):
            await ask(sale, order, other, key="monday")
    await ask(sale, order, some, key="tuesday")

    assert await shelf(sale) == [12, 10]
    assert (await proof(sale)).findings == ()


async def test_hosts_log_tells_of_a_return_without_money(sale: Sale) -> None:
    """What came back and that no money went; the log is whole."""
    order = await free_order(sale, Line(0, 3))

    await ask(sale, order, wish(restock=True, **{sale.offers[0]: 1}))

    text = await sale.pool.fetchval("SELECT detail FROM host_actions WHERE action = 'order.refund'")
    detail = orjson.loads(text)
    assert (detail["amount_minor"], detail["items"]) == (0, {sale.offers[0]: 1})
    assert (await proof(sale)).findings == ()

"""A buyer's orders at connect when Redis has lost their log: read from the ledger, and only
then."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from functools import partial

import pytest

from live.base.errors import Busy
from live.buying.me import ORDERS_MAX, Me
from live.domain.ids import BuyerId, ShowId
from live.domain.order import OrderView
from live.ledger.db.asked_together import asked_together
from live.ledger.db.pool import Pool
from tests.support.sale_kit import Sale, open_sale, viewer
from tests.support.sandbox import SandboxServer


@pytest.fixture
async def sale(
    pool: Pool, redis_url: str, server: SandboxServer, show: ShowId
) -> AsyncIterator[Sale]:
    async with open_sale(pool, redis_url, server, show, units=(100,)) as opened:
        yield opened


class LostLog:
    async def read_personal(self, show: ShowId, buyer: BuyerId) -> list[bytes]:
        return []


class Ledger:
    """The ledger's answers, counted."""

    def __init__(self, sale: Sale) -> None:
        self.queries = 0
        self._latest_of = partial(sale.orders.latest_of, latest=ORDERS_MAX)
        self.together = asked_together(self._query)

    async def _query(
        self, buyers: Sequence[tuple[ShowId, BuyerId]]
    ) -> dict[tuple[ShowId, BuyerId], tuple[OrderView, ...]]:
        self.queries += 1
        return await self._latest_of(buyers)

    async def __call__(self, show: ShowId, buyer: BuyerId) -> tuple[OrderView, ...]:
        return await self.together.ask((show, buyer))


async def test_crowd_of_buyers_reads_its_orders_with_few_queries(sale: Sale) -> None:
    """Each gets their own and nobody else's, in one query for many."""
    buyers = [viewer() for _ in range(12)]
    for buyer in buyers:
        await sale.pay(buyer, await sale.hold(buyer))
    ledger = Ledger(sale)
    me = Me(sale.stock, sale.book, LostLog(), ledger)

    views = await asyncio.gather(*(me.view(buyer, sale.show) for buyer in buyers))
    await ledger.together.close()

    holds = [[order.hold for order in view.orders] for view in views]
    assert all(len(mine) == 1 for mine in holds)
    assert len({mine[0] for mine in holds}) == len(buyers)
    assert ledger.queries <= 3


async def test_buyer_without_a_sale_asks_nothing(sale: Sale) -> None:
    """A hold is no sale, and most viewers have neither."""
    holder, looker = viewer(), viewer()
    await sale.hold(holder)
    ledger = Ledger(sale)
    me = Me(sale.stock, sale.book, LostLog(), ledger)

    views = [await me.view(one, sale.show) for one in (holder, looker)]

    assert [view.orders for view in views] == [(), ()]
    assert ledger.queries == 0


async def test_buyer_comes_in_without_postgres(sale: Sale) -> None:
    """What they may do needs no ledger; their orders are there when they come again."""
    buyer = viewer()
    await sale.pay(buyer, await sale.hold(buyer))

    async def away(show: ShowId, buyer: BuyerId) -> tuple[OrderView, ...]:
        raise Busy("the ledger does not answer")

    view = await Me(sale.stock, sale.book, LostLog(), away).view(buyer, sale.show)

    assert view.orders == ()

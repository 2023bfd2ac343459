"""Stock on a real cluster: shows on three nodes sell as on one, wherever a slot goes.

Method: buyers press, slots move, and the books are held against what the buyers were told.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator

import pytest

from live.base.errors import Busy, OutboxLost
from live.domain.hold import Line
from live.domain.ids import ShowId
from live.domain.offer import Stock
from live.domain.outcomes import Outcome
from live.domain.stock import ShowStock
from live.ledger.audit.run import audit
from live.ledger.db.pool import Pool
from live.ledger.settle.rebuild import rebuild_show
from live.stock.engine import StockEngine
from live.stock.outbox import Outbox
from tests.support.cluster import Cluster
from tests.support.crowd import Crowd
from tests.support.ledger_kit import Sale, close_sale, new_buyer, open_sale
from tests.support.stock_kit import buyer, key, one, terms

UNITS = 300
CROWD = 2_000


@pytest.fixture
async def engine(cluster: Cluster) -> AsyncIterator[StockEngine]:
    engine = StockEngine(cluster.url)
    await engine.open()
    yield engine
    await engine.close()


@pytest.fixture
async def shows(cluster: Cluster, engine: StockEngine) -> list[ShowId]:
    """A show with an open offer on each node."""
    found = [cluster.show_on(node) for node in cluster.primaries]
    for show in found:
        await engine.install_show(show, stock_epoch=1)
        await engine.apply_offer(terms(show, allotted=UNITS, quantity=UNITS))
    return found


@pytest.fixture
async def sales(pool: Pool, cluster: Cluster) -> AsyncIterator[list[Sale]]:
    """The same with a ledger: two offers of 10 and 5 units on each node."""
    names = [cluster.show_on(node) for node in cluster.primaries]
    found = [await open_sale(pool, cluster.url, name, 10, 5) for name in names]
    yield found
    for sale in found:
        await close_sale(sale)


async def test_burst_over_all_nodes_sells_each_unit_once(
    engine: StockEngine, shows: list[ShowId]
) -> None:
    """One engine, three nodes, six thousand buyers: every unit is held, none twice."""
    answers = await asyncio.gather(
        *(engine.hold(show, buyer(n), key(), one()) for n in range(CROWD) for show in shows)
    )

    assert Counter(answer.outcome for answer in answers) == {
        Outcome.HELD: UNITS * len(shows),
        Outcome.SOLD_OUT: (CROWD - UNITS) * len(shows),
    }
    for show in shows:
        assert (await engine.figures(show)).offers[0] == Stock(0, UNITS, 0)
    assert len(engine._batcher._lanes) == len(shows)


async def test_repeated_hold_gets_its_first_answer(
    engine: StockEngine, shows: list[ShowId]
) -> None:
    """A buyer's key means the same on every node, and another thing in every show."""
    mine = key()
    for show in shows:
        first = await engine.hold(show, buyer(1), mine, one())
        again = await engine.hold(show, buyer(1), mine, one())
        assert (first.repeat, again.repeat) == (False, True)
        assert first.expires_at == again.expires_at
        assert (await engine.figures(show)).offers[0].held == 1


async def test_sales_on_all_nodes_are_settled_by_one_settler(
    pool: Pool, sales: list[Sale], cluster: Cluster
) -> None:
    """Hold, pay, confirm on three nodes; one settler takes them all and the audit agrees."""
    stop = asyncio.Event()
    settling = asyncio.create_task(sales[0].settler.run(stop))

    for sale in sales:
        for _ in range(4):
            await sale.buy(new_buyer(), Line(0, 1))
        await sale.hold(new_buyer(), Line(1, 2))
    async with asyncio.timeout(60):
        while await pool.fetchval("SELECT count(*) FROM orders") < 12:  # noqa: ASYNC110  # asks
            await asyncio.sleep(0.02)
    for sale in sales:
        assert await sale.outbox.first_unsettled(sale.show) is None
        await sale.capture_all()
    stop.set()
    await settling

    report = await audit(pool, sales[0].engine, sales[0].outbox, [])
    assert report.ok, report
    assert sorted((one.sold, one.held) for one in report.offers) == [(0, 2)] * 3 + [(4, 0)] * 3


async def test_outbox_of_a_lost_show_stops_no_other(
    engine: StockEngine, shows: list[ShowId], cluster: Cluster
) -> None:
    """Shows in two slots of one node are read together; one without a stream is named."""
    outbox = Outbox(cluster.url)
    await outbox.open()
    here = shows[0]
    lost = cluster.show_on(cluster.primaries[0])
    assert outbox.place_of(here) == outbox.place_of(lost) != outbox.place_of(shows[1])

    with pytest.raises(OutboxLost) as raised:
        await outbox.read([here, lost], consumer="c", entries_max=9, block_ms=1)
    assert raised.value.show == lost
    reading = asyncio.create_task(outbox.read([here], consumer="c", entries_max=9, block_ms=5_000))
    await engine.hold(here, buyer(1), key(), one())
    async with asyncio.timeout(1):  # long before the read would end by itself
        found = await reading
    assert [(batch.show, len(batch.movements)) for batch in found] == [(here, 1)]
    await outbox.close()


async def test_slot_that_moves_in_mid_sale_oversells_nothing(
    pool: Pool, cluster: Cluster, sales: list[Sale]
) -> None:
    """Buyers read "press again" until the show is rebuilt on its new node; then it sells on."""
    moving = cluster.show_on(cluster.primaries[0])
    source, target = cluster.primaries[0], cluster.primaries[2]
    sale = await open_sale(pool, cluster.url, moving, 100_000)
    kept = new_buyer()
    await sale.buy(kept)
    crowd = Crowd(sale)
    await crowd.reached(held=200)

    await asyncio.to_thread(cluster.begin_move, moving, target)
    await crowd.reached(held=crowd.held + 200)  # all its keys are still here: it goes on selling
    await asyncio.to_thread(cluster.finish_move, moving, target)
    await crowd.reached(busy=1)
    before = crowd.held
    with pytest.raises(Busy):
        await sale.engine.figures(moving)
    await sales[1].hold(new_buyer())  # a show of another node has noticed nothing
    assert crowd.held == before, "nothing is sold before the rebuild"
    assert await rebuild_show(
        pool, moving, stock=sale.engine, outbox=sale.outbox, settler=sale.settler
    )
    await crowd.reached(held=before + 200)
    await crowd.stop()

    assert cluster.owner(moving) is target is not source
    figures = (await sale.engine.figures(moving)).offers[0]
    assert (figures.allotted, figures.sold) == (100_000, 1)
    # Who was cancelled in the middle of a call may have a hold that they never heard of.
    assert crowd.held <= figures.held <= crowd.held + 20
    for each in (sale, sales[1]):
        await each.settle()
    await sale.capture_all()
    assert await pool.fetchval("SELECT count(*) FROM holds WHERE show = $1", moving) > crowd.held
    report = await audit(pool, sale.engine, sale.outbox, [])
    assert report.ok, report
    await close_sale(sale)


async def test_show_that_moves_empty_handed_needs_a_rebuild_too(
    cluster: Cluster, engine: StockEngine, shows: list[ShowId]
) -> None:
    """Its data came along whole, but the new node's run is another: no guess is made."""
    show, target = shows[1], cluster.primaries[0]
    await engine.hold(show, buyer(1), key(), one())
    await asyncio.to_thread(cluster.begin_move, show, target)
    await asyncio.to_thread(cluster.finish_move, show, target)

    with pytest.raises(Busy):
        await engine.hold(show, buyer(2), key(), one())
    offers = (terms(show, allotted=UNITS, quantity=UNITS),)
    stock = ShowStock(show=show, stock_epoch=2, offers=offers, holds=(), waiting=())
    await engine.load_show(show, stock)

    assert (await engine.hold(show, buyer(2), key(), one())).outcome is Outcome.HELD
    assert (await engine.figures(show)).offers[0] == Stock(UNITS - 1, 1, 0)

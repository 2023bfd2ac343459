"""Orders that are cancelled because their money could not be taken: where their units go."""

from collections.abc import AsyncIterator

import asyncpg
import pytest

from live.domain.hold import Line, MovementKind
from live.domain.ids import ShowId
from live.ledger.audit.run import audit
from live.ledger.db.pool import Pool
from live.ledger.settle import sql as settle_sql
from live.ledger.settle.offers_by_slot import OffersBySlot
from live.ledger.settle.rebuild import read_show_stock
from live.ledger.settle.settlement import settle
from tests.support.ledger_kit import Sale, StreamOutbox, close_sale, new_buyer, open_sale


@pytest.fixture
async def sale(pool: Pool, redis_url: str, show: ShowId) -> AsyncIterator[Sale]:
    """Two offers of 10 and 5 units."""
    found = await open_sale(pool, redis_url, show, 10, 5)
    yield found
    await close_sale(found)


async def project(sale: Sale) -> None:
    """As the keeper does where Postgres has a newer version."""
    for terms in (await read_show_stock(sale.pool, sale.show)).offers:
        await sale.engine.apply_offer(terms)


async def close_offers(sale: Sale) -> None:
    """Close everything through the stream; what was not sold is back at the product."""
    await sale.pool.execute("UPDATE offers SET phase = 'closing', version = version + 1")
    await project(sale)
    await sale.engine.close_offers(sale.show)
    await sale.settle()
    await project(sale)


async def shelf(sale: Sale) -> list[tuple[object, ...]]:
    """(phase, allotted, sold, allotted of the product) of each offer."""
    rows = await sale.pool.fetch(
        """SELECT f.phase, f.allotted, f.sold, p.allotted AS of_product
           FROM offers f JOIN products p USING (sku) ORDER BY slot"""
    )
    return [tuple(row) for row in rows]


async def assert_sound(sale: Sale) -> None:
    report = await audit(sale.pool, sale.engine, sale.outbox, (), wait_seconds=0)
    assert report.findings == ()


async def test_units_cancelled_after_the_close_go_back_to_the_product(sale: Sale) -> None:
    """The offer is closed, so nobody else can buy them there: another offer may have them."""
    kept, cancelled = new_buyer(), new_buyer()
    await sale.buy(kept, Line(0, 1))
    await sale.buy(cancelled, Line(0, 2), Line(1, 3))
    await sale.settle()
    await close_offers(sale)
    before = await shelf(sale)
    version = await sale.pool.fetchval("SELECT version FROM shows")

    await sale.engine.cancel(sale.show, cancelled.id, cancelled.key)
    await sale.settle()

    assert before == [("closed", 3, 3, 3), ("closed", 3, 3, 3)]
    assert await shelf(sale) == [("closed", 1, 1, 1), ("closed", 0, 0, 0)]
    assert await sale.pool.fetchval("SELECT version FROM shows") > version, "to be carried"
    moved = await sale.pool.fetch(
        """SELECT offer, qty FROM stock_movements
           WHERE kind = 'given_back' AND order_id IS NOT NULL ORDER BY offer"""
    )
    assert [row["qty"] for row in moved] == [-2, -3]
    await project(sale)
    await assert_sound(sale)


async def test_redelivered_cancellation_gives_back_once(sale: Sale) -> None:
    """The same entry settled twice moves the units once."""
    buyer = new_buyer()
    await sale.buy(buyer, Line(0, 2))
    await sale.settle()
    await close_offers(sale)
    await sale.engine.cancel(sale.show, buyer.id, buyer.key)
    await sale.settle()

    await sale.outbox.recreate_group(sale.show)
    await sale.settle()

    assert (await shelf(sale))[0] == ("closed", 0, 0, 0)
    await project(sale)
    await assert_sound(sale)


async def test_freed_units_may_be_sold_again_in_the_same_batch(sale: Sale) -> None:
    """A settler that was busy reads a cancellation and who bought its units as one batch."""
    first = [new_buyer() for _ in range(3)]
    for buyer, units in zip(first, (5, 4, 1), strict=True):
        await sale.buy(buyer, Line(0, units))
    await sale.settle()
    assert (await shelf(sale))[0] == ("open", 10, 10, 10)

    second = [new_buyer() for _ in range(3)]
    for gone, buyer, units in zip(first, second, (5, 4, 1), strict=True):
        await sale.engine.cancel(sale.show, gone.id, gone.key)
        await sale.buy(buyer, Line(0, units))
    again = new_buyer()  # units that are sold, cancelled and sold again, all before they are read
    await sale.engine.cancel(sale.show, second[0].id, second[0].key)
    await sale.buy(again, Line(0, 5))
    await sale.settle()

    states = await sale.pool.fetch("SELECT buyer, state FROM orders")
    stands = {row["buyer"] for row in states if row["state"] == "confirmed"}
    assert stands == {again.id, second[1].id, second[2].id}
    assert {row["state"] for row in states} == {"confirmed", "cancelled"}
    assert sale.mismatches.shows == []
    assert (await shelf(sale))[0] == ("open", 10, 10, 10)
    await assert_sound(sale)


async def test_units_cancelled_before_the_close_are_on_sale_again(sale: Sale) -> None:
    """While the offer is open they stay with it, and its close gives them back as unsold."""
    buyer = new_buyer()
    await sale.buy(buyer, Line(0, 2))
    await sale.settle()

    await sale.engine.cancel(sale.show, buyer.id, buyer.key)
    await sale.settle()
    during = (await shelf(sale))[0]
    await close_offers(sale)

    assert during == ("open", 10, 0, 10)
    assert (await shelf(sale))[0] == ("closed", 0, 0, 0)
    await assert_sound(sale)


async def test_batch_locks_its_offers_in_one_statement(sale: Sale, outbox: StreamOutbox) -> None:
    """Sales and cancellations together: two batches that mix them crosswise cannot deadlock."""
    movements = [
        outbox.move(sale.show, MovementKind.CONFIRMED, new_buyer(), Line(1, 1)),
        outbox.move(sale.show, MovementKind.CANCELLED, new_buyer(), Line(0, 1)),
    ]
    offers = await OffersBySlot(sale.pool).of(sale.show, {0, 1})
    locked: list[list[int]] = []

    def note(query: asyncpg.connection.LoggedQuery) -> None:
        if query.query == settle_sql.LOCK_OFFERS:
            locked.append(sorted(query.args[1]))

    async with sale.pool.acquire() as connection, connection.transaction():
        with connection.query_logger(note):
            await settle(connection, sale.show, movements, offers)

    assert locked == [[0, 1]]

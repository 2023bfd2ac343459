"""Products in a real Postgres: stock on hand moves by deltas only, each applied once."""

import asyncio

import asyncpg
import pytest

from live.base.errors import Conflict, NotFound
from live.domain.ids import ShowId, Sku
from live.ledger.db.pool import Pool
from live.ledger.hosting.catalogue import Catalogue
from live.ledger.hosting.offer_rows import OfferRows
from tests.support.shows_kit import HOST, offer, product, set_stage

LAMP = Sku("lamp")


async def movements(pool: Pool) -> list[tuple[str, int]]:
    rows = await pool.fetch("SELECT kind, qty FROM stock_movements ORDER BY id")
    return [(row["kind"], row["qty"]) for row in rows]


async def test_created_product_has_its_stock_as_a_movement(pool: Pool) -> None:
    """The first level is a movement like any other, so the figures can be added up again."""
    created = await Catalogue(pool).create(product(on_hand=7))

    assert (created.on_hand, created.available, created.sold) == (7, 7, 0)
    assert await movements(pool) == [("adjusted", 7)]


async def test_second_creation_of_a_product_is_a_conflict(pool: Pool) -> None:
    """A SKU is created once; nothing of the second call is kept."""
    await Catalogue(pool).create(product(on_hand=7))

    with pytest.raises(Conflict):
        await Catalogue(pool).create(product(on_hand=9))

    assert (await Catalogue(pool).get(LAMP)).on_hand == 7


async def test_unknown_product_is_not_found(pool: Pool) -> None:
    """Reading and adjusting name what is missing."""
    with pytest.raises(NotFound):
        await Catalogue(pool).get(LAMP)
    with pytest.raises(NotFound):
        await Catalogue(pool).adjust(LAMP, delta=1, reason="found", key="k1")


async def test_adjustment_is_applied_once_by_key(pool: Pool) -> None:
    """Twenty calls with one key at once move the stock once."""
    catalogue = Catalogue(pool)
    await catalogue.create(product(on_hand=10))

    async with asyncio.TaskGroup() as group:
        for _ in range(20):
            group.create_task(catalogue.adjust(LAMP, delta=-3, reason="broken", key="k1"))

    assert (await catalogue.get(LAMP)).on_hand == 7
    assert await movements(pool) == [("adjusted", 10), ("adjusted", -3)]


async def test_adjustment_key_used_for_another_change_is_a_conflict(pool: Pool) -> None:
    """The same key with another delta or product changes nothing."""
    catalogue = Catalogue(pool)
    await catalogue.create(product(on_hand=10))
    await catalogue.create(product("vase", on_hand=10))
    await catalogue.adjust(LAMP, delta=1, reason="found", key="k1")

    with pytest.raises(Conflict):
        await catalogue.adjust(LAMP, delta=2, reason="found", key="k1")
    with pytest.raises(Conflict):
        await catalogue.adjust(Sku("vase"), delta=1, reason="found", key="k1")

    assert (await catalogue.get(LAMP)).on_hand == 11
    assert (await catalogue.get(Sku("vase"))).on_hand == 10


async def test_adjustment_stops_at_what_is_allotted(pool: Pool, show: ShowId) -> None:
    """Down to what offers were allotted is allowed, one unit further is not."""
    await set_stage(pool, show, on_hand=10)
    await OfferRows(pool).create(show, offer(quantity=6), HOST)
    catalogue = Catalogue(pool)

    with pytest.raises(Conflict):
        await catalogue.adjust(LAMP, delta=-5, reason="broken", key="k1")
    changed = await catalogue.adjust(LAMP, delta=-4, reason="broken", key="k2")

    assert (changed.on_hand, changed.available) == (6, 0)


async def test_import_keeps_the_stock_of_known_products(pool: Pool) -> None:
    """A feed renews texts and prices; its levels count for new products only."""
    catalogue = Catalogue(pool)
    await catalogue.create(product(on_hand=10))

    done = await catalogue.upsert([product("vase", on_hand=4), product(on_hand=99)])

    assert (done.created, done.kept) == (1, 1)
    assert (await catalogue.get(LAMP)).on_hand == 10
    assert (await catalogue.get(Sku("vase"))).on_hand == 4


async def test_products_are_paged_by_sku(pool: Pool) -> None:
    """Pages meet without a gap or a repeat."""
    catalogue = Catalogue(pool)
    await catalogue.upsert([product(f"p{number:02}") for number in range(5)])

    first = await catalogue.page(limit=3)
    second = await catalogue.page(after=first[-1].sku, limit=3)

    assert [one.sku for one in first + second] == [f"p{number:02}" for number in range(5)]


async def test_movements_cannot_be_changed(pool: Pool) -> None:
    """The journal is append only, whoever asks."""
    await Catalogue(pool).create(product())

    with pytest.raises(asyncpg.RaiseError):
        await pool.execute("UPDATE stock_movements SET qty = 0")

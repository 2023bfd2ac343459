"""What a lost key leaves in the ledger: a doubt at once, one place in a line, no more than a limit.

Method: a small sale on the real engine; rows are written as a service wrote them that went on
deciding without what Redis had lost.
"""

import asyncio
from uuid import UUID, uuid4

import pytest

from live.base.errors import StockLost
from live.domain.hold import Line
from live.domain.ids import HoldKey, OfferId
from live.ledger.audit.run import audit
from live.ledger.settle.doubts import Doubts
from live.ledger.settle.rebuild import raise_epoch, read_show_stock
from live.ledger.settle.waitlist import WaitlistRows
from live.stock.engine import StockEngine
from live.stock.keys import show_keys
from tests.integration.test_ledger_rebuild import rebuild
from tests.integration.test_ledger_repair import findings, mend
from tests.support.ledger_kit import Buyer, Sale, new_buyer

SHORT = 1  # the slot whose five units are gone


async def wait_in_line(sale: Sale, buyer: Buyer) -> None:
    offer = OfferId(f"{sale.show}-offer-{SHORT}")
    await WaitlistRows(sale.pool).ask(sale.show, offer, buyer.id, buyer.sub, buyer.key, 1)
    await sale.engine.join_waitlist(sale.show, buyer.id, buyer.key, Line(SHORT, 1))


async def two_in_line(sale: Sale) -> tuple[Buyer, Buyer, Buyer]:
    """Who has all units, who waits first, who waits second."""
    owner, first, second = new_buyer(), new_buyer(), new_buyer()
    await sale.hold(owner, Line(SHORT, 5))
    await wait_in_line(sale, first)
    await wait_in_line(sale, second)
    await sale.settle()
    return owner, first, second


async def take_another_place(sale: Sale, buyer: Buyer) -> HoldKey:
    """As it was written where Redis had lost the place that this buyer had already."""
    key = uuid4()
    await sale.pool.execute(
        """INSERT INTO waitlist (show, offer, buyer, sub, key, qty, state, seq)
           SELECT show, offer, buyer, sub, $2, 1, 'waiting', 1 + (SELECT max(seq) FROM waitlist)
           FROM waitlist WHERE buyer = $1""",
        buyer.id,
        key,
    )
    return HoldKey(key.bytes)


async def test_repair_leaves_each_buyer_one_place_in_a_line(sale: Sale) -> None:
    """The first one: nobody comes before those who came earlier, or stands in their way."""
    owner, first, second = await two_in_line(sale)
    again = await take_another_place(sale, first)
    assert any("where its buyer has a place" in line for line in await findings(sale))

    await mend(sale)

    assert await findings(sale) == ()
    assert await mend(sale) == []
    state = await sale.engine.buyer_state(sale.show, second.id)
    assert [place.position for place in state.waiting] == [2]
    row = "SELECT state FROM waitlist WHERE key = $1"
    assert await sale.pool.fetchval(row, UUID(bytes=again)) == "left"
    await sale.engine.release(sale.show, owner.id, owner.key)
    held = await sale.engine.buyer_state(sale.show, first.id)
    assert [hold.key for hold in held.holds] == [first.key]


async def test_repair_mends_a_line_that_was_rebuilt_with_both_places(sale: Sale) -> None:
    """Also where Redis was given the two by an older version of the service."""
    _, first, _ = await two_in_line(sale)
    await take_another_place(sale, first)
    stock = await read_show_stock(sale.pool, sale.show)
    await sale.engine.stop_show(sale.show)
    await sale.pool.execute("UPDATE shows SET stock_epoch = stock_epoch + 1")
    twice = await read_show_stock(sale.pool, sale.show)
    assert len(stock.waiting) == len(twice.waiting) == 3
    await sale.engine.load_show(sale.show, twice)
    assert await findings(sale) != ()

    await mend(sale)

    assert await findings(sale) == ()
    assert (await sale.engine.figures(sale.show)).waiting[SHORT] == 2


async def test_places_in_different_lines_are_kept(sale: Sale) -> None:
    """Of one buyer, and of others in the same line."""
    _, first, second = await two_in_line(sale)
    other = await take_another_place(sale, first)
    await sale.pool.execute(
        "UPDATE waitlist SET offer = $2 WHERE key = $1",
        UUID(bytes=other),
        f"{sale.show}-offer-0",
    )

    found = await raise_epoch(sale.pool, sale.show)

    assert {one.key for one in found.waiting} == {first.key, second.key, other}


async def test_units_above_the_limit_of_a_buyer_are_found(sale: Sale) -> None:
    """Told to a person with the offer, the buyer and what they may have; not while it is being
    cancelled."""
    twice = [new_buyer("greedy"), new_buyer("greedy")]
    payments = [await sale.buy(one, Line(SHORT, 2)) for one in twice]
    await sale.buy(new_buyer(), Line(SHORT, 1), Line(0, 2))
    await sale.settle()
    assert await findings(sale) == ()
    await sale.pool.execute("UPDATE offers SET per_buyer_limit = 3")
    await sale.engine.apply_offer((await read_show_stock(sale.pool, sale.show)).offers[SHORT])

    report = await audit(sale.pool, sale.engine, sale.outbox, (), wait_seconds=0)
    limits = [one for one in report.mend if one.code == "buyer_limit"]

    assert [one.who for one in limits] == ["person"]
    expected = f"sold 4 units to buyer {twice[0].id.hex()}, who may have 3"
    assert limits[0].line == f"P1 offer {sale.show}-offer-{SHORT}: {expected}"
    await sale.pool.execute(
        "UPDATE money_jobs SET state = 'failed' WHERE kind = 'capture' AND payment = $1",
        payments[1].id,
    )
    report = await audit(sale.pool, sale.engine, sale.outbox, (), wait_seconds=0)
    assert not [one for one in report.mend if one.code == "buyer_limit"]


async def doubted(sale: Sale) -> bool:
    return bool(await sale.pool.fetchval("SELECT count(*) FROM stock_doubts"))


async def until_doubted(sale: Sale) -> None:
    async with asyncio.timeout(60):
        while not await doubted(sale):  # noqa: ASYNC110  # a row is no event
            await asyncio.sleep(0.02)


async def test_loss_that_a_script_found_is_doubted_once(sale: Sale, redis_url: str) -> None:
    """By whoever was refused, without waiting for the keeper; many refusals are one row."""
    doubts = Doubts(sale.pool)
    engine = StockEngine(redis_url, on_lost=doubts.note)
    await engine.open()
    await engine._calls.send(b"DEL", show_keys(sale.show).buyers)
    for _ in range(3):
        buyer = new_buyer()
        with pytest.raises(StockLost):
            await engine.begin(sale.show, buyer.id, buyer.key, window_ms=1)

    await until_doubted(sale)
    await rebuild(sale)
    assert not await doubted(sale)
    await engine.close()
    await doubts.close()


@pytest.mark.parametrize("case", ["another life", "being rebuilt"])
async def test_loss_that_is_mended_already_is_not_doubted(sale: Sale, case: str) -> None:
    """Who tells it late would have a whole show made again for nothing."""
    doubts, other = Doubts(sale.pool), f"{sale.show}-other"
    await sale.pool.execute(
        "INSERT INTO shows (id, title, status, currency) VALUES ($1, 'Test', 'live', 'EUR')", other
    )
    if case == "another life":
        await sale.pool.execute("UPDATE shows SET stock_epoch = 2 WHERE id = $1", sale.show)
    else:
        await sale.pool.execute(
            "INSERT INTO leases VALUES ($1, 1, now() + interval '1 minute')",
            f"rebuild:{sale.show}",
        )

    doubts.note(sale.show, 1)
    doubts.note(type(sale.show)(other), 1)  # the same statement: when it is there, both were asked

    await until_doubted(sale)
    assert await sale.pool.fetchval("SELECT show FROM stock_doubts") == other
    await doubts.close()

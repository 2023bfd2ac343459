"""A settler's passes: what it reads, claims, closes and tells, and in which order."""

import asyncio

from live.domain.channels import ChannelKind
from live.domain.events import HoldEvent
from live.domain.hold import Line, MovementKind
from live.domain.ids import ShowId
from live.ledger.db.pool import Pool
from live.ledger.money.payments import PaymentRows
from live.ledger.settle.settler import Settler
from tests.support.ledger_kit import (
    Announced,
    Mismatches,
    Sale,
    StreamOutbox,
    close_sale,
    make_settler,
    make_show,
    new_buyer,
    open_sale,
    pay,
    read_all,
)

K = MovementKind
ORDERS = "SELECT count(*) FROM orders WHERE show = $1"


async def test_closed_waits_for_everything_before_it(
    pool: Pool, outbox: StreamOutbox, show: ShowId
) -> None:
    """`closed` gives the rest back only when another settler's earlier entry is settled."""
    await make_show(pool, show, 5)
    await outbox.install(show)
    rows, buyer = PaymentRows(pool), new_buyer()
    await pay(rows, show, buyer)
    await outbox.add(outbox.move(show, K.CONFIRMED, buyer))
    slow = await outbox.read([show], consumer="slow", entries_max=1, block_ms=1)
    await outbox.add(outbox.move(show, K.CLOSED, None, Line(0, 0)))
    settler, other = (
        Settler(pool, outbox, Announced(), Mismatches(), claim_idle_ms_min=60_000) for _ in range(2)
    )

    await settler.run_once()
    (before,) = await pool.fetch("SELECT allotted, phase FROM offers")
    await other.settle_batches(slow)
    await settler.run_once()

    assert tuple(before) == (5, "open")
    (after,) = await pool.fetch(
        "SELECT f.allotted, f.sold, f.phase, p.allotted FROM offers f JOIN products p USING (sku)"
    )
    assert tuple(after) == (1, 1, "closed", 1)
    assert (await outbox.backlog(show)).pending == 0
    given = await pool.fetchval("SELECT qty FROM stock_movements WHERE kind = 'given_back'")
    assert given == -4


async def test_entry_may_close_several_offers(
    pool: Pool, outbox: StreamOutbox, show: ShowId
) -> None:
    """A show that ends closes all its offers in one call of the engine: one entry for all."""
    await make_show(pool, show, 5, 3)
    await outbox.install(show)
    await outbox.add(
        outbox.move(show, K.CLOSED, None, Line(0, 0)), outbox.move(show, K.CLOSED, None, Line(1, 0))
    )

    await make_settler(pool, outbox).run_once()

    rows = await pool.fetch("SELECT phase, allotted FROM offers")
    assert [tuple(row) for row in rows] == [("closed", 0), ("closed", 0)]
    assert (await outbox.backlog(show)).pending == 0


async def test_expiry_and_grant_are_told_before_ack(
    pool: Pool, outbox: StreamOutbox, show: ShowId
) -> None:
    """The buyer hears of their expired or granted hold on their own channel, with one key each."""
    offers = await make_show(pool, show, 5)
    await outbox.install(show)
    late, lucky, announce = new_buyer(), new_buyer(), Announced()
    await outbox.add(
        outbox.move(show, K.EXPIRED, late, Line(0, 2)),
        outbox.move(show, K.GRANTED, lucky, expires_at=1_800_000_000_000),
    )
    settler = make_settler(pool, outbox, announce=announce)
    batches = await read_all(outbox, show)

    await settler.settle_batches(batches)
    await settler.settle_batches(batches)

    events = list(announce.by_key().values())
    assert [event.type for event in events] == ["hold.expired", "hold.granted"]
    assert isinstance(events[0], HoldEvent)
    assert events[0].hold.items[0].offer == offers[0]
    assert {channel.kind for channel, _, _ in announce.events} == {ChannelKind.PERSONAL}
    assert [channel.buyer for channel, _, _ in announce.events[:2]] == [late.id, lucky.id]


async def test_settler_claims_what_a_dead_one_left(
    pool: Pool, outbox: StreamOutbox, show: ShowId
) -> None:
    """An entry that was delivered to a consumer that is gone is settled by the next one."""
    await make_show(pool, show, 5)
    await outbox.install(show)
    rows, buyer = PaymentRows(pool), new_buyer()
    await pay(rows, show, buyer)
    await outbox.add(outbox.move(show, K.CONFIRMED, buyer))
    await outbox.read([show], consumer="dead", entries_max=1, block_ms=1)

    await make_settler(pool, outbox).run_once()

    assert await pool.fetchval(ORDERS, show) == 1
    assert (await outbox.backlog(show)).pending == 0


async def test_show_without_outbox_stops_no_other(sale: Sale) -> None:
    """A show that Redis does not know yet, or lost, leaves the settlement of others alone."""
    await make_show(sale.pool, ShowId(f"{sale.show}-lost"), 1)
    await make_show(sale.pool, ShowId(f"{sale.show}-new"), 1)
    await sale.buy(new_buyer())

    await sale.settler.run_once()

    assert await sale.pool.fetchval(ORDERS, sale.show) == 1


async def test_new_show_is_noticed_by_a_running_settler(sale: Sale, redis_url: str) -> None:
    """A running settler notices a show that was installed after it had started."""
    stop = asyncio.Event()
    running = asyncio.create_task(sale.settler.run(stop))
    later = await open_sale(sale.pool, redis_url, ShowId(f"{sale.show}-later"), 3)
    await later.buy(new_buyer())

    async with asyncio.timeout(60):
        while not await sale.pool.fetchval("SELECT count(*) FROM orders"):  # noqa: ASYNC110  # rows tell no one
            await asyncio.sleep(0.05)

    stop.set()
    await running
    await close_sale(later)

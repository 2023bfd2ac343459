"""Rebuild on the real stock engine: what Postgres knows is in Redis again, each hold once."""

import asyncio
from dataclasses import replace

import pytest
import redis.asyncio

from live.base.errors import Busy, NotFound
from live.domain.hold import HoldState, Line
from live.domain.ids import ShowId
from live.domain.offer import Stock
from live.domain.outcomes import Outcome
from live.domain.payment import PaymentState
from live.ledger.audit.run import audit
from live.ledger.db import metrics
from live.ledger.db.pool import Pool
from live.ledger.settle.rebuild import (
    Rebuilder,
    needs_rebuild,
    raise_epoch,
    read_show_stock,
    rebuild_show,
)
from live.ledger.settle.waitlist import WaitlistRows
from live.stock.engine import StockEngine
from live.stock.keys import show_keys
from tests.support.ledger_kit import Buyer, Sale, new_buyer, new_payment, pay


async def rebuild(sale: Sale, *, force: bool = False) -> bool:
    return await rebuild_show(
        sale.pool,
        sale.show,
        stock=sale.engine,
        outbox=sale.outbox,
        settler=sale.settler,
        force=force,
    )


async def wipe(sale: Sale, redis_url: str) -> None:
    """Redis loses everything about the show."""
    client = redis.asyncio.from_url(redis_url)
    await client.delete(*[getattr(show_keys(sale.show), name) for name in _KEYS])
    await client.aclose()


_KEYS = ("meta", "offers", "buyers", "outbox", "deadlines", "wait", "guests", "refused")


async def test_rebuild_counts_each_hold_once(sale: Sale, redis_url: str) -> None:
    """Sold, paying, held and waiting come back as they were; ended holds give their units back."""
    sold, paying, held, gone, cancelled, waiting = (new_buyer() for _ in range(6))
    await sale.buy(sold, Line(0, 2), Line(1, 1))
    await sale.buy(cancelled)
    await sale.hold(paying, Line(0, 1))
    await sale.engine.begin(sale.show, paying.id, paying.key, window_ms=60_000)
    await pay(sale.rows, sale.show, paying, Line(0, 1))
    await sale.hold(held, Line(1, 4))
    await sale.hold(gone, Line(0, 1))
    await sale.engine.release(sale.show, gone.id, gone.key)
    await sale.engine.cancel(sale.show, cancelled.id, cancelled.key)
    offer = await sale.pool.fetchval("SELECT id FROM offers WHERE slot = 1")
    await WaitlistRows(sale.pool).ask(
        sale.show, offer, waiting.id, waiting.sub, waiting.key, 2
    )  # fmt: skip
    await sale.engine.join_waitlist(sale.show, waiting.id, waiting.key, Line(1, 2))
    deadline = (await sale.engine.buyer_state(sale.show, held.id)).holds[0].expires_at
    await sale.settle()
    before = await sale.engine.figures(sale.show)

    await wipe(sale, redis_url)
    lost = await needs_rebuild(sale.engine, sale.show)
    done = await rebuild(sale)

    assert lost and done
    after = await sale.engine.figures(sale.show)
    assert after.offers == before.offers == {0: Stock(7, 1, 2), 1: Stock(0, 4, 1)}
    assert after.waiting == before.waiting == {0: 0, 1: 1}
    mine = (await sale.engine.buyer_state(sale.show, held.id)).holds
    assert [(one.key, one.expires_at) for one in mine] == [(held.key, deadline)]
    moved = await sale.engine.confirm(sale.show, paying.id, paying.key, [Line(0, 1)])
    assert (moved.done, moved.state) == (True, HoldState.CONFIRMED)
    await sale.engine.release(sale.show, held.id, held.key)
    granted = (await sale.engine.buyer_state(sale.show, waiting.id)).holds
    assert [one.key for one in granted] == [waiting.key]
    await sale.settle()
    report = await audit(sale.pool, sale.engine, sale.outbox, (), wait_seconds=0)
    assert report.findings == ()
    assert await sale.pool.fetchval("SELECT count(*) FROM orders WHERE state='confirmed'") == 2


async def test_rebuild_keeps_limits_per_buyer(sale: Sale, redis_url: str) -> None:
    """Who has bought their ten units cannot buy an eleventh after Redis was wiped."""
    await sale.pool.execute("UPDATE offers SET per_buyer_limit = 2")
    buyer, again = new_buyer("greedy"), new_buyer("greedy")
    await sale.buy(buyer, Line(0, 2))
    await sale.settle()

    await wipe(sale, redis_url)
    await rebuild(sale)

    refused = await sale.engine.hold(sale.show, again.id, again.key, (Line(0, 1),))
    assert refused.outcome is Outcome.LIMIT_REACHED


async def test_rebuild_drains_what_survived(sale: Sale) -> None:
    """A restart that kept the stream loses nothing: its entries are settled before the read."""
    buyer, held = new_buyer(), new_buyer()
    await sale.buy(buyer)
    await sale.hold(held)
    before = await sale.engine.figures(sale.show)
    await sale.outbox.read([sale.show], consumer="dead", entries_max=1, block_ms=1)

    await rebuild(sale, force=True)

    assert (await sale.engine.figures(sale.show)).offers == before.offers
    assert await sale.pool.fetchval("SELECT count(*) FROM orders") == 1
    assert await sale.pool.fetchval("SELECT stock_epoch FROM shows") == 2


async def test_two_rebuilds_at_once_end_in_one_life(sale: Sale, redis_url: str) -> None:
    """The second one finds the work done and leaves it alone."""
    await sale.buy(new_buyer())
    await sale.settle()
    await wipe(sale, redis_url)

    done = await asyncio.gather(rebuild(sale), rebuild(sale), rebuild(sale))

    assert sorted(done) == [False, False, True]
    assert await sale.pool.fetchval("SELECT stock_epoch FROM shows") == 2
    assert (await sale.engine.figures(sale.show)).offers[0] == Stock(9, 0, 1)


async def test_show_is_busy_until_it_is_loaded(sale: Sale) -> None:
    """Between stop and swap nobody hears "sold out": everything is temporary."""
    await sale.engine.stop_show(sale.show)
    buyer = new_buyer()

    with pytest.raises(Busy):
        await sale.engine.hold(sale.show, buyer.id, buyer.key, (Line(0, 1),))
    await rebuild(sale)

    answer = await sale.engine.hold(sale.show, buyer.id, buyer.key, (Line(0, 1),))
    assert answer.outcome is Outcome.HELD


async def test_overcommitted_offer_comes_back_paused(sale: Sale, redis_url: str) -> None:
    """More promised than allotted: the offer stays paused with an alarm and sells nothing."""
    for _ in range(4):
        await sale.hold(new_buyer(), Line(1, 1))
    await sale.settle()
    for buyer in (new_buyer(), new_buyer()):
        await sale.rows.open_payment(new_payment(sale.show, buyer, Line(1, 1)))

    alarms = metrics.OVERCOMMITTED._value.get()

    await wipe(sale, redis_url)
    await rebuild(sale)
    await rebuild(sale, force=True)

    assert metrics.OVERCOMMITTED._value.get() == alarms + 2
    other = new_buyer()
    refused = await sale.engine.hold(sale.show, other.id, other.key, (Line(1, 1),))
    assert refused.outcome is Outcome.PAUSED
    assert await sale.pool.fetchval("SELECT phase FROM offers WHERE slot = 1") == "paused"


async def test_declined_payment_leaves_its_hold_live(sale: Sale) -> None:
    """After a decline the buyer may try again: the hold counts once, as held."""
    buyer = new_buyer()
    await sale.hold(buyer)
    await sale.engine.begin(sale.show, buyer.id, buyer.key, window_ms=60_000)
    new = new_payment(sale.show, buyer)
    await sale.rows.open_payment(new)
    await sale.settle()
    before = (await read_show_stock(sale.pool, sale.show)).holds

    await sale.rows.record(new.id, PaymentState.DECLINED)

    after = (await read_show_stock(sale.pool, sale.show)).holds
    assert [one.state for one in before] == [HoldState.PAYING]
    assert [one.state for one in after] == [HoldState.HELD]


async def test_payment_that_fails_after_a_rebuild_gains_no_time(sale: Sale, redis_url: str) -> None:
    """The payment's row remembers until when its hold was promised."""
    buyer = new_buyer()
    await sale.hold(buyer)
    began = await sale.engine.begin(sale.show, buyer.id, buyer.key, window_ms=900_000)
    new = replace(new_payment(sale.show, buyer), held_until=began.held_until)
    await sale.rows.open_payment(new)
    await sale.settle()

    await wipe(sale, redis_url)
    await rebuild(sale)
    again = await sale.engine.begin(sale.show, buyer.id, buyer.key, window_ms=900_000)
    await sale.engine.revert(sale.show, buyer.id, buyer.key, held_until=again.held_until)

    assert (again.held_until, again.expires_at) == (began.held_until, began.expires_at)
    [live] = (await sale.engine.buyer_state(sale.show, buyer.id)).holds
    assert live.expires_at == began.held_until


async def test_epoch_of_an_unknown_show_is_not_found(pool: Pool) -> None:
    """There is nothing to rebuild."""
    with pytest.raises(NotFound):
        await raise_epoch(pool, ShowId("nowhere"))
    with pytest.raises(NotFound):
        await read_show_stock(pool, ShowId("nowhere"))


async def test_rejected_order_gives_its_units_back_alone(sale: Sale) -> None:
    """Whoever rejected it may have died: it is undone later, and nobody else's stock is stopped."""
    buyer, other = new_buyer(), new_buyer()
    await sale.hold(buyer)
    await sale.hold(other)
    await sale.engine.begin(sale.show, buyer.id, buyer.key, window_ms=60_000)
    await sale.engine.confirm(sale.show, buyer.id, buyer.key, [Line(0, 1)])
    await sale.settle()
    wrong = (await sale.engine.figures(sale.show)).offers[0]

    rebuilder = Rebuilder(sale.pool, stock=sale.engine, outbox=sale.outbox, settler=sale.settler)
    again = await sale.engine.begin(sale.show, other.id, other.key, window_ms=60_000)
    rebuilt = [await rebuilder.rebuild(sale.show) for _ in range(2)]
    await sale.settle()

    assert await sale.pool.fetchval("SELECT state FROM orders") == "rejected"
    assert wrong == Stock(8, 1, 1)
    assert (again.outcome, rebuilt) == (Outcome.HELD, [False, False])
    assert (await sale.engine.figures(sale.show)).offers[0] == Stock(9, 1, 0)
    assert await sale.pool.fetchval("SELECT count(*) FROM sales_to_undo") == 0
    assert (await rebuild(sale), await repeat(sale, buyer)) == (False, Outcome.ALREADY_RELEASED)


async def test_sale_beyond_the_ledger_is_answered_by_a_rebuild(sale: Sale) -> None:
    """Redis had more units than there are: no single sale is the wrong one."""
    buyer = new_buyer()
    await sale.buy(buyer)
    await sale.pool.execute("UPDATE offers SET allotted = 0 WHERE slot = 0")
    await sale.settle()
    assert await sale.pool.fetchval("SELECT state FROM orders") == "rejected"

    done = await rebuild(sale)
    again = await rebuild(sale)

    assert (done, again) == (True, False)
    assert (await sale.engine.figures(sale.show)).offers[0] == Stock(0, 0, 0)
    assert await sale.pool.fetchval("SELECT count(*) FROM stock_doubts") == 0


async def repeat(sale: Sale, buyer: Buyer, *lines: Line) -> Outcome:
    """What the buyer's old key is answered."""
    units = lines or (Line(0, 1),)
    return (await sale.engine.hold(sale.show, buyer.id, buyer.key, units)).outcome


async def test_repeats_are_told_the_same_after_a_rebuild(sale: Sale) -> None:
    """Released, expired, cancelled and rejected: the new life knows the keys of the old one."""
    given, expired, cancelled, rejected = (new_buyer() for _ in range(4))
    for buyer in (given, expired):
        await sale.hold(buyer)
    await sale.engine.release(sale.show, given.id, given.key)
    began = await sale.engine.begin(sale.show, expired.id, expired.key, window_ms=1)
    await sale.engine.revert(sale.show, expired.id, expired.key, held_until=began.held_until)
    await make_due(sale.engine, sale.show, expired)
    await sale.buy(cancelled)
    await sale.settle()
    await sale.engine.cancel(sale.show, cancelled.id, cancelled.key)
    await sale.hold(rejected)
    await sale.engine.begin(sale.show, rejected.id, rejected.key, window_ms=60_000)
    await sale.engine.confirm(sale.show, rejected.id, rejected.key, [Line(0, 1)])
    await sale.settle()

    await rebuild(sale, force=True)

    told = [await repeat(sale, buyer) for buyer in (given, expired, cancelled, rejected)]
    gone = Outcome.ALREADY_RELEASED
    assert told == [gone, Outcome.EXPIRED, gone, gone]
    assert (await sale.engine.figures(sale.show)).offers[0] == Stock(10, 0, 0)


async def make_due(engine: StockEngine, show: ShowId, buyer: Buyer) -> None:
    await engine.begin(show, buyer.id, buyer.key, window_ms=60_000)
    await engine.revert(show, buyer.id, buyer.key, held_until=1)
    assert await engine.reap(show) == 1


async def test_expired_hold_with_open_money_is_no_units_after_a_rebuild(sale: Sale) -> None:
    """Its units were sold to others meanwhile: nothing is overcommitted, nobody is paused, and its
    money finds nothing to take, as it would without the rebuild."""
    late, others = new_buyer(), new_buyer()
    await sale.hold(late, Line(0, 1))
    await sale.engine.begin(sale.show, late.id, late.key, window_ms=60_000)
    await pay(sale.rows, sale.show, late, Line(0, 1))
    await make_due(sale.engine, sale.show, late)
    await sale.buy(others, Line(0, 10))
    await sale.settle()

    await rebuild(sale, force=True)

    assert (await sale.engine.figures(sale.show)).offers[0] == Stock(0, 0, 10)
    assert await sale.pool.fetchval("SELECT phase FROM offers WHERE slot = 0") == "open"
    assert not (await sale.engine.retake(sale.show, late.id, late.key, [Line(0, 1)])).done
    assert await repeat(sale, late) is Outcome.EXPIRED


async def test_reading_the_stock_changes_nothing(sale: Sale) -> None:
    """Also where more is promised than there is: only a rebuild may pause for that."""
    await sale.buy(new_buyer(), Line(0, 2))
    await sale.settle()
    await sale.pool.execute("ALTER TABLE offers DROP CONSTRAINT offers_never_oversold")
    await sale.pool.execute("UPDATE offers SET allotted = 1 WHERE slot = 0")
    dump = "SELECT (SELECT array_agg(f ORDER BY id) FROM offers f), (SELECT s FROM shows s)"
    before = await sale.pool.fetchrow(dump)

    await read_show_stock(sale.pool, sale.show)

    assert await sale.pool.fetchrow(dump) == before


async def test_entry_put_aside_is_answered_by_the_next_rebuild(sale: Sale) -> None:
    """The same where a record cannot be settled at all; its redelivery asks for nothing more."""
    buyer = new_buyer()
    await sale.buy(buyer)
    await sale.pool.execute("UPDATE payments SET order_id = payments.id, amount_minor = 0")
    await sale.pool.execute("ALTER TABLE orders ADD CHECK (total_minor > 0)")
    await sale.settle()

    done = await rebuild(sale)
    again = await rebuild(sale)

    assert await sale.pool.fetchval("SELECT count(*) FROM poison") == 1
    assert (done, again) == (True, False)

"""The outbox: each entry reaches a settler at least once and stays until nobody needs it."""

import asyncio

import pytest

from live.base.errors import Busy, OutboxLost
from live.domain.hold import Line, MovementKind
from live.domain.ids import ShowId
from live.stock.engine import StockEngine
from live.stock.keys import show_keys
from live.stock.outbox import Outbox
from tests.support.stock_kit import buyer, key, now_ms, one, terms


async def test_movement_tells_everything_about_a_hold(
    engine: StockEngine, show: ShowId, outbox: Outbox
) -> None:
    """Buyer, key, lines, deadline and time are those of the answer."""
    await engine.apply_offer(terms(show, 0))
    await engine.apply_offer(terms(show, 1, hold_seconds=30))
    mine, lines = key(), (Line(1, 1), Line(0, 2))
    answer = await engine.hold(show, buyer(1), mine, lines)

    [batch] = await outbox.read([show], consumer="c", entries_max=9, block_ms=10)

    [movement] = batch.movements
    assert movement.kind is MovementKind.HELD and movement.entry == batch.entry
    assert (movement.show, movement.buyer, movement.key) == (show, buyer(1), mine)
    assert (movement.lines, movement.expires_at) == (lines, answer.expires_at)
    assert movement.at + 30_000 == movement.expires_at


async def test_unacknowledged_entries_come_back_through_claim(
    engine: StockEngine, show: ShowId, outbox: Outbox
) -> None:
    """A settler that died leaves its entries to the next one; acknowledged ones are gone."""
    await engine.apply_offer(terms(show))
    for n in range(3):
        await engine.hold(show, buyer(n), key(), one())
    taken = await outbox.read([show], consumer="dead", entries_max=9, block_ms=10)
    await outbox.ack(show, [taken[0].entry])
    assert (await outbox.backlog(show)).pending == 2

    claimed = await outbox.claim(show, consumer="next", idle_ms_min=0, entries_max=9)

    assert claimed == taken[1:]
    assert await outbox.claim(show, consumer="x", idle_ms_min=60_000, entries_max=9) == []


async def test_reads_share_entries_between_settlers_and_shows(
    engine: StockEngine, show: ShowId, outbox: Outbox
) -> None:
    """Two settlers never get the same entry; one read serves several shows."""
    second = ShowId(f"{show}b")
    await engine.install_show(second, stock_epoch=1)
    for each in (show, second):
        await engine.apply_offer(terms(each))
        for n in range(3):
            await engine.hold(each, buyer(n), key(), one())

    one_read = await outbox.read([show, second], consumer="a", entries_max=2, block_ms=10)
    other_read = await outbox.read([show, second], consumer="b", entries_max=9, block_ms=10)

    assert [batch.show for batch in one_read] == [show, show, second, second]
    assert len({(batch.show, batch.entry) for batch in (*one_read, *other_read)}) == 6


async def test_read_waits_for_the_next_entry(
    engine: StockEngine, show: ShowId, outbox: Outbox
) -> None:
    """A blocked read wakes up with the movement; an idle one returns nothing in time."""
    await engine.apply_offer(terms(show))
    assert await outbox.read([show], consumer="c", entries_max=9, block_ms=20) == []

    reading = asyncio.create_task(outbox.read([show], consumer="c", entries_max=9, block_ms=5_000))
    await outbox.backlog(show)  # one round trip, so that the read is under way
    await engine.hold(show, buyer(1), key(), one())

    async with asyncio.timeout(2):
        assert len(await reading) == 1


async def test_cancelled_read_leaves_no_late_reply_behind(
    engine: StockEngine, show: ShowId, outbox: Outbox
) -> None:
    """A settler that stops while it waits can read again on the same object."""
    await engine.apply_offer(terms(show))
    reading = asyncio.create_task(outbox.read([show], consumer="c", entries_max=9, block_ms=5_000))
    await outbox.backlog(show)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    await engine.hold(show, buyer(1), key(), one())

    fresh = await outbox.read([show], consumer="c", entries_max=9, block_ms=1_000)
    fresh += await outbox.claim(show, consumer="c", idle_ms_min=0, entries_max=9)

    assert len({batch.entry for batch in fresh}) == 1


@pytest.mark.parametrize("lost", ["group", "stream"])
async def test_lost_group_is_told_and_can_be_made_again(
    engine: StockEngine, show: ShowId, outbox: Outbox, lost: str
) -> None:
    """After a wipe the settler hears Busy, and a rebuild drains what survived from its start."""
    await engine.apply_offer(terms(show))
    await engine.hold(show, buyer(1), key(), one())
    await outbox.read([show], consumer="c", entries_max=9, block_ms=10)
    stream = show_keys(show).outbox
    if lost == "group":
        await engine._calls.send(b"XGROUP", b"DESTROY", stream, b"settlers")
    else:
        await engine._calls.send(b"UNLINK", stream)

    for call in (
        outbox.read([show], consumer="c", entries_max=9, block_ms=10),
        outbox.claim(show, consumer="c", idle_ms_min=0, entries_max=9),
        outbox.backlog(show),
        outbox.trim(show),
    ):
        with pytest.raises(Busy):
            await call
    healthy = ShowId(f"{show}h")
    await engine.install_show(healthy, stock_epoch=1)
    with pytest.raises(OutboxLost) as lost_one:
        await outbox.read([healthy, show], consumer="c", entries_max=9, block_ms=10)
    assert lost_one.value.show == show
    await outbox.recreate_group(show)

    survived = await outbox.read([show], consumer="c", entries_max=9, block_ms=10)
    assert len(survived) == (1 if lost == "group" else 0)


async def test_recreated_group_delivers_everything_again(
    engine: StockEngine, show: ShowId, outbox: Outbox
) -> None:
    """An intact restart drains from 0: acknowledged entries come again and do nothing there."""
    await engine.apply_offer(terms(show))
    await engine.hold(show, buyer(1), key(), one())
    [batch] = await outbox.read([show], consumer="c", entries_max=9, block_ms=10)
    await outbox.ack(show, [batch.entry])

    await outbox.recreate_group(show)

    assert await outbox.read([show], consumer="c", entries_max=9, block_ms=10) == [batch]


async def test_trim_keeps_what_is_unsettled_or_still_to_expire(
    engine: StockEngine, show: ShowId, outbox: Outbox
) -> None:
    """Neither an unacknowledged entry nor a batch with a deadline to come is freed."""
    length = [b"XLEN", show_keys(show).outbox]
    await engine.apply_offer(terms(show, hold_seconds=1))
    mine = key()
    answer = await engine.hold(show, buyer(1), mine, one())
    batches = await outbox.read([show], consumer="c", entries_max=9, block_ms=10)
    assert await outbox.trim(show) == 0  # not acknowledged
    await outbox.ack(show, [batch.entry for batch in batches])
    assert await outbox.trim(show) == 0  # acknowledged, but the reaper will read it
    assert await engine._calls.send(*length) == 1

    await asyncio.sleep(max(0, answer.expires_at + 5 - now_ms()) / 1000)
    assert await engine.reap(show) == 1
    assert answer.expires_at <= (await engine.figures(show)).at
    batches = await outbox.read([show], consumer="c", entries_max=9, block_ms=10)
    await outbox.ack(show, [batch.entry for batch in batches])

    assert await outbox.trim(show) == 1
    assert (await engine.figures(show)).last_entry == batches[-1].entry
    assert (await outbox.backlog(show)).length == 0


async def test_entry_that_cannot_be_read_blocks_nobody(
    engine: StockEngine, show: ShowId, outbox: Outbox
) -> None:
    """It comes with its fault and without movements; the next ones are whole."""
    await engine.apply_offer(terms(show))
    await engine._calls.send(b"XADD", show_keys(show).outbox, b"*", b"h", b"nonsense")
    await engine.hold(show, buyer(1), key(), one())

    broken, whole = await outbox.read([show], consumer="c", entries_max=9, block_ms=10)

    assert broken.fault and broken.movements == ()
    assert not whole.fault and len(whole.movements) == 1

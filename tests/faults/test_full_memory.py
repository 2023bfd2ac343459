"""Redis' memory is full: nothing new is taken, what ends goes on ending, and so room is made.

Method: a server of its own with a real `maxmemory`, set to less than it uses.
"""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from live.base.errors import Busy
from live.domain.hold import HoldState
from live.domain.ids import HoldKey, ShowId
from live.domain.offer import Phase, Stock
from live.domain.outcomes import Outcome
from live.stock.engine import StockEngine
from live.stock.outbox import Outbox
from tests.support.servers import Valkey, redis_binaries
from tests.support.stock_kit import buyer, key, make_due, one, terms

BEYOND_BYTES = 100_000  # more than a test frees


@pytest.fixture(scope="module", params=list(redis_binaries()))
def small_server(request: pytest.FixtureRequest, scratch: Path) -> Iterator[Valkey]:
    directory = scratch / f"full-memory-{request.param}"
    directory.mkdir(exist_ok=True)
    server = Valkey(directory, "--appendonly", "no", binary=redis_binaries()[request.param])
    server.start()
    yield server
    server.close()


@pytest.fixture
async def engine(small_server: Valkey, show: ShowId) -> AsyncIterator[StockEngine]:
    engine = StockEngine(small_server.url)
    await engine.open()
    await engine.install_show(show, stock_epoch=1)
    await engine.apply_offer(terms(show, allotted=50, per_buyer_limit=50))
    yield engine
    await make_room(engine)
    await engine.close()


async def fill(engine: StockEngine) -> None:
    """From now on every command that may take memory is refused."""
    send = engine._calls.send
    info = await send(b"INFO", b"memory")
    assert isinstance(info, bytes)
    used = int(info.split(b"used_memory:")[1].split()[0])
    await send(b"CONFIG", b"SET", b"maxmemory", b"%d" % (used - BEYOND_BYTES))
    with pytest.raises(Busy, match="OOM"):
        await send(b"SET", b"ballast", b"1")


async def make_room(engine: StockEngine) -> None:
    await engine._calls.send(b"CONFIG", b"SET", b"maxmemory", b"0")


async def held(engine: StockEngine, show: ShowId, number: int) -> HoldKey:
    mine = key()
    assert (await engine.hold(show, buyer(number), mine, one())).outcome is Outcome.HELD
    return mine


async def paying(engine: StockEngine, show: ShowId, number: int) -> HoldKey:
    mine = await held(engine, show, number)
    await engine.begin(show, buyer(number), mine, window_ms=60_000)
    return mine


async def test_new_holds_wait_while_memory_is_full(engine: StockEngine, show: ShowId) -> None:
    """They are told to come back, and nothing of them is written."""
    await fill(engine)

    with pytest.raises(Busy):
        await engine.hold(show, buyer(1), key(), one())

    assert (await engine.figures(show)).offers[0] == Stock(50, 0, 0)


async def test_what_ends_goes_on_ending_in_full_memory(engine: StockEngine, show: ShowId) -> None:
    """Expiry, release, failed, late and refused payments, a sale, a cancelled one, a close."""
    due, given = await held(engine, show, 1), await held(engine, show, 2)
    failed = await paying(engine, show, 3)
    sold, cancelled, late = [await paying(engine, show, n) for n in range(4, 7)]
    await make_due(engine, show, 1, due)
    await engine.confirm(show, buyer(5), cancelled, one())
    await fill(engine)

    assert await engine.reap(show) == 1
    assert (await engine.release(show, buyer(2), given)).done
    assert (await engine.revert(show, buyer(3), failed, held_until=1)).done
    assert (await engine.confirm(show, buyer(4), sold, one())).done
    assert (await engine.cancel(show, buyer(5), cancelled)).done
    assert (await engine.retake(show, buyer(6), late, one())).state is HoldState.CONFIRMED
    assert await engine.refuse(show, buyer(7), key(), one(), payment="p")
    assert await engine.reap(show) == 1
    closing = terms(show, allotted=50, per_buyer_limit=50, phase=Phase.CLOSING, version=2)
    await engine.apply_offer(closing)
    assert await engine.close_offers(show) == 1

    assert (await engine.figures(show)).offers[0] == Stock(48, 0, 2)


async def test_settled_entries_leave_full_memory(
    engine: StockEngine, show: ShowId, small_server: Valkey
) -> None:
    """The outbox is read, acknowledged and trimmed: this is what makes room for new holds."""
    outbox = Outbox(small_server.url)
    await outbox.open()
    ended = [await held(engine, show, n) for n in range(1, 40)]
    for n, mine in enumerate(ended, 1):
        await make_due(engine, show, n, mine)
    await fill(engine)
    assert await engine.reap(show) == len(ended)

    batches = await outbox.read([show], consumer="c", entries_max=500, block_ms=100)
    await outbox.ack(show, [batch.entry for batch in batches])
    await outbox.trim(show)

    kept = await outbox.read([show], consumer="c", entries_max=500, block_ms=1)
    assert batches and not kept
    assert (await outbox.backlog(show)).length <= 1
    await outbox.close()

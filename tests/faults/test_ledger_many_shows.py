"""Redis restarts under many shows at once: the settler makes every one of them again.

Method: the settler's own wiring on a Redis of the test, which is killed while its keeper leads.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from live.base.errors import Busy
from live.domain.ids import ShowId
from live.ledger.db.pool import POOL_SIZE_MAX, Pool, make_pool
from live.ledger.hosting.catalogue import Catalogue
from live.ledger.hosting.offer_rows import OfferRows
from live.ledger.hosting.shows import ShowRows
from live.ledger.settle import rebuild as rebuilding
from live.ledger.settle.rebuild import REBUILDS_AT_ONCE_MAX, Rebuilder
from live.stock.engine import StockEngine
from live.wiring.settler import run_settler
from tests.support.api_kit import open_stage, settings
from tests.support.ledger_kit import Sale
from tests.support.servers import Valkey
from tests.support.shows_kit import HOST, new_show, offer, product

SHOWS = 2 * POOL_SIZE_MAX
BACK_SECONDS = 60.0


@pytest.fixture
def own_valkey(scratch: Path, show: ShowId) -> Iterator[Valkey]:
    directory = scratch / f"v-{show}"
    directory.mkdir()
    server = Valkey(directory)
    server.start()
    yield server
    server.close()


@pytest.fixture
async def shows(pool: Pool, own_valkey: Valkey, show: ShowId) -> list[ShowId]:
    """Live shows with an open offer each: more than the settler has connections."""
    names = [ShowId(f"{show}-{number}") for number in range(SHOWS)]
    await Catalogue(pool).create(product(on_hand=10 * SHOWS))
    async with open_stage(pool, own_valkey.url) as stage:
        for name in names:
            await ShowRows(pool).create(new_show(name), HOST)
            state = await ShowRows(pool).start(name, HOST)
            await stage.projector.project(state, fresh=True)
            new = offer()
            await OfferRows(pool).create(name, new, HOST)
            await stage.projector.project(await OfferRows(pool).open(new.id, HOST))
    return names


@pytest.fixture
async def engine(own_valkey: Valkey) -> AsyncIterator[StockEngine]:
    found = StockEngine(own_valkey.url)
    await found.open()
    yield found
    await found.close()


async def led(pool: Pool) -> None:
    """Wait until there is a keeper; all shows are its own then."""
    query = "SELECT count(*) FROM leases WHERE starts_with(name, 'keeper:') AND until > now()"
    async with asyncio.timeout(BACK_SECONDS):
        while not await pool.fetchval(query):  # noqa: ASYNC110  # another task's lease
            await asyncio.sleep(0.05)


async def knows(engine: StockEngine, show: ShowId) -> bool:
    try:
        await engine.figures(show)
    except Busy:
        return False
    return True


async def test_every_show_is_back_after_a_restart_of_redis(
    pool: Pool,
    database_url: str,
    own_valkey: Valkey,
    engine: StockEngine,
    shows: list[ShowId],
) -> None:
    """More shows than connections are rebuilt at once: none waits for another for ever."""
    stop = asyncio.Event()
    wiring = replace(settings(), redis_url=own_valkey.url, database_url=database_url)
    running = asyncio.create_task(run_settler(wiring, stop))
    await led(pool)

    own_valkey.kill()
    own_valkey.start()
    gone = set(shows)
    try:
        async with asyncio.timeout(BACK_SECONDS):
            while gone:
                gone -= {name for name in gone if await knows(engine, name)}
                await asyncio.sleep(0.05)  # another task's work, which tells nobody
    finally:
        stop.set()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    assert not gone
    assert await pool.fetchval("SELECT min(stock_epoch) FROM shows") == 2


async def test_rebuilds_of_one_process_wait_for_each_other(
    sale: Sale, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many are asked for, so few run that connections are left for their work."""
    running, most, full = 0, 0, asyncio.Event()

    async def rebuild_show(*_: object, **__: object) -> bool:
        nonlocal running, most
        running += 1
        most = max(most, running)
        if running == REBUILDS_AT_ONCE_MAX:
            full.set()
        await full.wait()  # so that each could meet all who may run beside it
        running -= 1
        return True

    monkeypatch.setattr(rebuilding, "rebuild_show", rebuild_show)
    rebuilder = Rebuilder(sale.pool, stock=sale.engine, outbox=sale.outbox, settler=sale.settler)

    await asyncio.gather(*(rebuilder.rebuild(ShowId(f"s{n}")) for n in range(SHOWS)))

    assert most == REBUILDS_AT_ONCE_MAX < POOL_SIZE_MAX // 2


async def test_connection_that_nobody_gives_back_is_not_waited_for_for_ever(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pool is empty: who asks is refused within a bound, however they ask."""
    monkeypatch.setattr("live.ledger.db.pool.ACQUIRE_TIMEOUT_SECONDS", 0.05)
    async with make_pool(database_url, size=1) as pool, pool.acquire():
        with pytest.raises(TimeoutError):
            await pool.fetchval("SELECT 1")
        with pytest.raises(TimeoutError):
            await pool.acquire()

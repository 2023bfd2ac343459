"""Redis dies, freezes, forgets or goes back in time: what was answered is kept or told as lost.

Method: buyers press while the fault happens and every answer is recorded; then the show is rebuilt
from a ledger that knows nothing but the outbox, and the books are held against the answers.
"""

import asyncio
import os
import shutil
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from live.base.errors import Busy, CallError
from live.domain.hold import HoldDecision, HoldState, Movement, MovementKind
from live.domain.ids import BuyerId, HoldKey, ShowId
from live.domain.offer import OfferTerms, Stock
from live.domain.outcomes import Outcome
from live.domain.stock import BeginAnswer, RebuiltHold, ShowStock, Transition
from live.stock.engine import StockEngine
from live.stock.outbox import Outbox
from tests.support.servers import Valkey, redis_binaries
from tests.support.stock_kit import buyer, key, one, terms
from tests.support.stock_proxy import Proxy

UNITS = 3_000
STATES = {
    MovementKind.HELD: HoldState.HELD,
    MovementKind.BEGAN: HoldState.PAYING,
    MovementKind.REVERTED: HoldState.HELD,
    MovementKind.CONFIRMED: HoldState.CONFIRMED,
}


@pytest.fixture(params=list(redis_binaries()))
def binary(request: pytest.FixtureRequest) -> Path:
    return redis_binaries()[request.param]


@pytest.fixture
def server(scratch: Path, binary: Path, show: ShowId) -> Iterator[Valkey]:
    directory = scratch / show
    directory.mkdir()
    server = Valkey(directory, binary=binary)
    server.start()
    yield server
    server.close()


@pytest.fixture
async def engine(server: Valkey, show: ShowId) -> AsyncIterator[StockEngine]:
    engine = StockEngine(server.url)
    await engine.open()
    await engine.install_show(show, stock_epoch=1)
    await engine.apply_offer(terms(show, allotted=UNITS, quantity=UNITS))
    yield engine
    await engine.close()


class Buyers:
    """Press as fast as they are answered; remember each key and what was said about it."""

    def __init__(self, engine: StockEngine, show: ShowId, count: int = 200) -> None:
        self.engine, self.show = engine, show
        self.asked: list[tuple[BuyerId, HoldKey]] = []
        self.held: set[tuple[BuyerId, HoldKey]] = set()
        self.busy: list[tuple[BuyerId, HoldKey]] = []
        self._stop = False
        self._tasks = [asyncio.create_task(self._buy()) for _ in range(count)]

    async def _buy(self) -> None:
        while not self._stop:
            who = BuyerId(os.urandom(16)), key()
            self.asked.append(who)
            try:
                answer = await self.engine.hold(self.show, *who, one())
            except Busy:
                self.busy.append(who)
                await asyncio.sleep(0.02)
            else:
                if answer.outcome is Outcome.HELD:
                    self.held.add(who)

    async def reached(self, held: int) -> None:
        async with asyncio.timeout(60):
            while len(self.held) < held:  # noqa: ASYNC110  # progress of others, no event to await
                await asyncio.sleep(0.001)

    async def told_to_repeat(self, times: int = 1) -> None:
        """Until so many more were answered "repeat later"."""
        wanted = len(self.busy) + times
        async with asyncio.timeout(60):
            while len(self.busy) < wanted:  # noqa: ASYNC110  # progress of others
                await asyncio.sleep(0.001)

    async def stop(self) -> None:
        self._stop = True
        await asyncio.gather(*self._tasks)


class Ledger:
    """What Postgres would know: the latest movement of each hold, by seq."""

    def __init__(self, show: ShowId) -> None:
        self.show = show
        self.rows: dict[tuple[BuyerId, HoldKey], Movement] = {}

    async def drain(self, url: str) -> None:
        outbox = Outbox(url)
        await outbox.open()
        await outbox.recreate_group(self.show)
        while batches := await outbox.read([self.show], consumer="c", entries_max=99, block_ms=1):
            for movement in (each for batch in batches for each in batch.movements):
                row = self.rows.get((movement.buyer, movement.key))
                if row is None or movement.seq > row.seq:
                    self.rows[movement.buyer, movement.key] = movement
        await outbox.close()

    def stock(self, epoch: int, offer: OfferTerms) -> ShowStock:
        holds = tuple(
            RebuiltHold(who, mine, STATES[row.kind], row.lines, row.expires_at)
            for (who, mine), row in self.rows.items()
        )
        return ShowStock(
            show=self.show, stock_epoch=epoch, offers=(offer,), holds=holds, waiting=()
        )


async def rebuild(server: Valkey, ledger: Ledger, show: ShowId) -> StockEngine:
    """The steps of a rebuild, on whatever server answers at the URL now."""
    fresh = StockEngine(server.url)
    await fresh.open()
    await fresh.stop_show(show)
    await ledger.drain(server.url)
    await fresh.load_show(show, ledger.stock(2, terms(show, allotted=UNITS, quantity=UNITS)))
    return fresh


async def still_held(engine: StockEngine, show: ShowId, who: tuple[BuyerId, HoldKey]) -> bool:
    state = await engine.buyer_state(show, who[0])
    return [hold.key for hold in state.holds] == [who[1]]


@pytest.mark.parametrize("fsync", ["always", "everysec"])
async def test_kill_in_mid_burst_loses_no_answered_hold(
    scratch: Path, binary: Path, show: ShowId, fsync: str
) -> None:
    """kill -9 with both ways of writing the log: every answered hold is there after a rebuild."""
    directory = scratch / show
    directory.mkdir()
    server = Valkey(directory, "--appendonly", "yes", "--appendfsync", fsync, binary=binary)
    server.start()
    engine = StockEngine(server.url)
    await engine.open()
    await engine.install_show(show, stock_epoch=1)
    await engine.apply_offer(terms(show, allotted=UNITS, quantity=UNITS))
    buyers = Buyers(engine, show)
    await buyers.reached(500)

    server.kill()
    await buyers.told_to_repeat()
    server.start()
    await buyers.told_to_repeat()
    await buyers.stop()

    with pytest.raises(Busy):  # another run: nothing is decided before the rebuild
        await engine.figures(show)
    assert buyers.held
    ledger = Ledger(show)
    fresh = await rebuild(server, ledger, show)
    assert buyers.held <= set(ledger.rows) <= set(buyers.asked)
    figures = (await fresh.figures(show)).offers[0]
    assert figures == Stock(UNITS - len(ledger.rows), len(ledger.rows), 0)
    assert all([await still_held(fresh, show, who) for who in list(buyers.held)[:50]])
    for who in buyers.busy[:50]:  # told to repeat: the repeat is decided once
        assert (await engine.hold(show, *who, one())).outcome in (Outcome.HELD, Outcome.SOLD_OUT)
    after = (await fresh.figures(show)).offers[0]
    assert after.allotted == UNITS and after.left >= 0
    await engine.close()
    await fresh.close()
    server.close()


async def test_flushall_is_told_as_rebuilding_and_never_as_sold_out(
    server: Valkey, engine: StockEngine, show: ShowId
) -> None:
    """A wipe under fire: from then on Busy only, until the ledger has rebuilt the show."""
    ledger = Ledger(show)
    kept = BuyerId(os.urandom(16)), key()
    await engine.hold(show, *kept, one())
    await ledger.drain(server.url)
    buyers = Buyers(engine, show)
    await buyers.reached(300)

    await engine._calls.send(b"FLUSHALL")
    count = len(buyers.held)
    await asyncio.sleep(0.2)
    await buyers.stop()

    assert len(buyers.held) <= count + 2 * 512, "what was in flight before the wipe, no more"
    assert buyers.busy
    fresh = await rebuild(server, ledger, show)
    assert (await fresh.figures(show)).offers[0] == Stock(UNITS - 1, 1, 0)
    assert await still_held(fresh, show, kept)
    lost = next(iter(buyers.held))
    assert not await still_held(fresh, show, lost)
    await fresh.close()


async def test_frozen_redis_is_answered_with_busy_and_nothing_counts_twice(
    server: Valkey, engine: StockEngine, show: ShowId
) -> None:
    """SIGSTOP: each call ends while it is frozen, and repeats find what was done."""
    buyers = Buyers(engine, show)
    await buyers.reached(200)

    server.signal(signal.SIGSTOP)
    try:
        with pytest.raises(Busy):
            await engine.figures(show)
        await buyers.told_to_repeat(200)  # as many as press at once
    finally:
        server.signal(signal.SIGCONT)
    await buyers.reached(len(buyers.held) + 1)
    await buyers.stop()

    repeats = await asyncio.gather(*(engine.hold(show, *who, one()) for who in buyers.busy))
    known = buyers.held | {
        who
        for who, answer in zip(buyers.busy, repeats, strict=True)
        if answer.outcome is Outcome.HELD
    }
    figures = (await engine.figures(show)).offers[0]
    assert figures == Stock(UNITS - len(known), len(known), 0)


async def test_swallowed_reply_is_repeated_with_the_same_keys(
    server: Valkey, engine: StockEngine, show: ShowId, scratch: Path
) -> None:
    """The batch ran, nobody heard: its repeat gets the first answer and stock moves once."""
    proxy = Proxy(scratch / f"{show}.sock", server.socket)
    await proxy.start()
    client = StockEngine(proxy.url)
    await client.open()
    await client.hold(show, buyer(1), key(), one())
    mine = [key() for _ in range(100)]

    proxy.swallow.set()
    holds = asyncio.gather(
        *(client.hold(show, buyer(n), mine[n], one()) for n in range(2, 100)),
        return_exceptions=True,
    )
    # It ran, and its reply went nowhere.
    while (await engine.figures(show)).offers[0].held < 99 or not proxy.swallowed:
        assert not holds.done()
    proxy.swallow.clear()
    answers = await holds

    assert all(isinstance(a, HoldDecision) and a.outcome is Outcome.HELD for a in answers)
    assert (await engine.figures(show)).offers[0] == Stock(UNITS - 99, 99, 0)
    await client.close()
    await proxy.close()


@pytest.mark.parametrize("command", ["begin", "confirm", "release", "sell"])
async def test_swallowed_reply_of_a_step_moves_units_once(
    server: Valkey, engine: StockEngine, show: ShowId, scratch: Path, command: str
) -> None:
    """Each step repeats itself after a lost reply and answers what the first call did."""
    mine, who = key(), buyer(1)
    offer = terms(show, 1, mode="first_paid", allotted=5)
    await engine.apply_offer(offer)
    if command != "sell":
        await engine.hold(show, who, mine, one())
    if command == "confirm":
        await engine.begin(show, who, mine, window_ms=60_000)
    proxy = Proxy(scratch / f"{show}.sock", server.socket)
    await proxy.start()
    client = StockEngine(proxy.url)
    await client.open()
    await client.figures(show)
    steps: dict[str, Callable[[], Awaitable[BeginAnswer | HoldDecision | Transition]]] = {
        "begin": lambda: client.begin(show, who, mine, window_ms=60_000),
        "confirm": lambda: client.confirm(show, who, mine, one()),
        "release": lambda: client.release(show, who, mine),
        "sell": lambda: client.sell(show, who, mine, one(1)),
    }
    before = (await engine.figures(show)).last_entry

    proxy.swallow.set()
    step = asyncio.ensure_future(steps[command]())
    while (await engine.figures(show)).last_entry == before:
        assert not step.done()
    after = (await engine.figures(show)).last_entry
    proxy.swallow.clear()
    answer = await step

    if isinstance(answer, Transition):
        assert answer.done
    else:
        assert answer.outcome in (Outcome.HELD, Outcome.CONFIRMED)
    assert (await engine.figures(show)).last_entry == after
    await client.close()
    await proxy.close()


async def test_older_file_is_recognised_by_its_run(
    server: Valkey, engine: StockEngine, show: ShowId
) -> None:
    """A restored file has the right epoch and old stock: nothing of it is sold before a rebuild."""
    ledger = Ledger(show)
    for n in range(10):
        await engine.hold(show, buyer(n), key(), one())
    saved = server.directory / "saved"
    shutil.copytree(server.directory / "appendonlydir", saved)
    later = [(buyer(n), key()) for n in range(10, 30)]
    for who in later:
        await engine.hold(show, *who, one())
    await ledger.drain(server.url)

    server.kill()
    shutil.rmtree(server.directory / "appendonlydir")
    saved.rename(server.directory / "appendonlydir")
    server.start()

    with pytest.raises(CallError):
        await engine.hold(show, buyer(99), key(), one())
    fresh = await rebuild(server, ledger, show)
    assert (await fresh.figures(show)).offers[0] == Stock(UNITS - 30, 30, 0)
    assert all([await still_held(fresh, show, who) for who in later])
    # The gateway that lived through it follows without a restart.
    assert (await engine.hold(show, buyer(99), key(), one())).outcome is Outcome.HELD
    await fresh.close()


async def test_full_memory_is_busy_and_loses_nothing(
    server: Valkey, engine: StockEngine, show: ShowId
) -> None:
    """OOM with noeviction: writes are refused whole, reads go on, later it works again."""
    await engine.hold(show, buyer(1), key(), one())
    await engine._calls.send(b"CONFIG", b"SET", b"maxmemory", b"1mb")

    with pytest.raises(Busy):
        await engine.hold(show, buyer(2), key(), one())

    await engine._calls.send(b"CONFIG", b"SET", b"maxmemory", b"0")
    assert (await engine.figures(show)).offers[0] == Stock(UNITS - 1, 1, 0)
    assert (await engine.hold(show, buyer(2), key(), one())).outcome is Outcome.HELD


async def test_two_rebuilds_at_once_end_in_one_life(
    server: Valkey, engine: StockEngine, show: ShowId
) -> None:
    """Both load the same epoch; one swap counts and the books are right."""
    ledger = Ledger(show)
    for n in range(20):
        await engine.hold(show, buyer(n), key(), one())
    await engine.stop_show(show)
    await ledger.drain(server.url)
    stock = ledger.stock(2, terms(show, allotted=UNITS))

    await asyncio.gather(
        engine.load_show(show, stock),
        engine.load_show(show, replace(stock, stock_epoch=3)),
        return_exceptions=True,
    )

    assert (await engine.figures(show)).offers[0] == Stock(UNITS - 20, 20, 0)

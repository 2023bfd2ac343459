"""The disk is full, for Postgres and for Valkey: nothing acknowledged is lost, and all goes on.

Method: each engine on a small file system of its own, and a file that takes the rest of the room.
Needs root, for mounting; elsewhere it is skipped.
"""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from live.base.errors import Busy, EngineError
from live.domain.hold import Line
from live.domain.ids import ShowId
from live.domain.outcomes import Outcome
from live.ledger.audit.run import audit
from live.ledger.db import metrics
from live.ledger.db.migrate import migrate
from live.ledger.db.pool import Pool, open_pool
from live.ledger.settle.rebuild import rebuild_show
from live.ledger.settle.settler import Settler
from live.tools.engines import process
from tests.support.ledger_kit import (
    Announced,
    Buyer,
    Mismatches,
    Sale,
    close_sale,
    new_buyer,
    open_sale,
    pay,
)
from tests.support.servers import Postgres, Valkey, scratch_directory

RECOVERY_SECONDS = 30
HOLDS_MAX = 2_000  # far more than the room that is left takes


@contextmanager
def small_disk(megabytes: int) -> Iterator[Path]:
    """A directory with so much room; skips the test where nothing can be mounted."""
    directory = scratch_directory()
    place = directory / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=755", "tmpfs", str(place)]
    try:
        done = subprocess.run(mount, capture_output=True, check=False)
        if done.returncode:
            pytest.skip(f"a small file system cannot be mounted here: {done.stderr.decode()!r}")
        try:
            yield place
        finally:
            subprocess.run(["umount", "--lazy", str(place)], check=True)
    except FileNotFoundError:
        pytest.skip("there is no mount command here")
    finally:
        shutil.rmtree(directory)


def fill(place: Path, *, leave_bytes: int = 0) -> Path:
    """Take all room but so many bytes."""
    room = os.statvfs(place)
    path = place / "filler"
    with path.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, room.f_bavail * room.f_frsize - leave_bytes)
    return path


@pytest.fixture
def cluster() -> Iterator[tuple[Postgres, Path]]:
    with small_disk(160) as place:
        (place / "pg").mkdir()
        server = Postgres(place / "pg")
        server.init()
        server.start("max_wal_size=32MB", "min_wal_size=32MB")
        yield server, place
        server.close()


@pytest.fixture
async def fragile(
    cluster: tuple[Postgres, Path], redis_url: str, show: ShowId
) -> AsyncIterator[Sale]:
    """A sale whose ledger lies on the small disk."""
    await migrate(cluster[0].url())
    pool = await open_pool(cluster[0].url(), size=3, command_timeout_seconds=2)
    sale = await open_sale(pool, redis_url, show, 50)
    yield sale
    await close_sale(sale)
    pool.terminate()


async def test_settlement_waits_for_room_on_the_disk_of_postgres(
    fragile: Sale, cluster: tuple[Postgres, Path]
) -> None:
    """Orders that cannot be written stay in the outbox, and are written once there is room."""
    server, place = cluster
    buyers = [new_buyer() for _ in range(20)]
    for buyer in buyers:
        await fragile.hold(buyer)
        await fragile.engine.begin(fragile.show, buyer.id, buyer.key, window_ms=60_000)
        await pay(fragile.rows, fragile.show, buyer)
    filler = fill(place)
    for buyer in buyers:
        assert (await fragile.engine.confirm(fragile.show, buyer.id, buyer.key, [Line(0, 1)])).done
    failures = metrics.FAILURES.labels("settler")
    before = failures._value.get()
    stop = asyncio.Event()
    settler = Settler(fragile.pool, fragile.outbox, Announced(), Mismatches())
    running = asyncio.create_task(settler.run(stop))
    async with asyncio.timeout(RECOVERY_SECONDS):
        while failures._value.get() == before:  # noqa: ASYNC110  # a metric wakes nobody
            await asyncio.sleep(0.02)

    filler.unlink()
    async with asyncio.timeout(RECOVERY_SECONDS):
        while await fragile.outbox.first_unsettled(fragile.show) is not None:
            start_again(server)  # no room for its log: Postgres ends itself, at a time of its own
            await asyncio.sleep(0.05)
    stop.set()
    await asyncio.wait_for(running, RECOVERY_SECONDS)

    assert await fragile.pool.fetchval("SELECT count(*) FROM orders") == 20
    assert await fragile.pool.fetchval("SELECT count(*) FROM poison") == 0
    report = await audit(fragile.pool, fragile.engine, fragile.outbox, (), wait_seconds=5)
    assert report.findings == ()


def start_again(server: Postgres | Valkey) -> None:
    """What a supervisor does; nothing where the server lives."""
    assert server.process is not None
    if server.process.poll() is not None:
        server.start()


@pytest.fixture(params=["always", "everysec"])
def cramped(request: pytest.FixtureRequest) -> Iterator[tuple[Valkey, Path]]:
    with small_disk(8) as place:
        server = Valkey(place, "--appendonly", "yes", "--appendfsync", request.param)
        server.start()
        yield server, place
        server.close()


async def hold_until_refused(sale: Sale) -> list[Buyer]:
    """Buyers who were told that they hold a unit, until one was told to come back later."""
    told: list[Buyer] = []
    for _ in range(HOLDS_MAX):
        buyer = new_buyer()
        try:
            answer = await sale.engine.hold(sale.show, buyer.id, buyer.key, (Line(0, 1),))
        except Busy:
            return told
        assert answer.outcome is Outcome.HELD
        told.append(buyer)
    raise AssertionError("the disk was never full")


async def test_no_acknowledged_hold_is_lost_when_the_disk_of_valkey_is_full(
    pool: Pool, cramped: tuple[Valkey, Path], show: ShowId
) -> None:
    """Holds are refused with 111 while nothing can be written; those that were answered stand.

    With `always` the server ends itself and is started again; with `everysec` it lives on, and
    what it could not write is still in its memory.
    """
    server, place = cramped
    sale = await open_sale(pool, server.url, show, 5_000)
    filler = fill(place, leave_bytes=64 * 1024)
    told = await hold_until_refused(sale)

    filler.unlink()
    async with asyncio.timeout(RECOVERY_SECONDS):
        while True:
            start_again(server)
            try:
                await rebuild_show(
                    pool, show, stock=sale.engine, outbox=sale.outbox, settler=sale.settler
                )
                break
            except Busy:
                await asyncio.sleep(0.1)

    assert told
    for buyer in told:
        state = await sale.engine.buyer_state(show, buyer.id)
        assert [hold.key for hold in state.holds] == [buyer.key]
    held = (await sale.engine.figures(show)).offers[0].held
    assert len(told) <= held <= len(told) + 1  # the last one was not answered, and may stand
    await close_sale(sale)


def test_operator_is_told_that_the_disk_is_full() -> None:
    """An engine's own last words may be about anything; the reason comes first."""
    with small_disk(4) as place:
        apart = place.parent
        server = process.start(
            process.Launch(
                name="Valkey",
                command=(sys.executable, "-c", "raise SystemExit(1)"),
                directory=place,
                log=apart / "log",
                lock=apart / "lock",
                stop_signal=signal.SIGTERM,
                force_signal=signal.SIGKILL,
            )
        )
        server.child.wait(10)
        with pytest.raises(EngineError, match=r"^Valkey ended with status 1 "):
            server.must_run()
        fill(place)
        with pytest.raises(EngineError, match=r"^the disk of .* is full: Valkey ended "):
            server.must_run()
        server.stop()

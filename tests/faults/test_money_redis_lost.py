"""Redis comes back without what it knew - wiped, from an older file, as a lagging replica - and the
real ledger and settler make the sale again.

Method: orders and holds before and after the moment that Redis returns to, the last hold known to
Redis alone; then the loss and the rebuild. Every confirmed order is there once, the hold that
nobody journaled is told as lost, and no more is sold than was allotted.
"""

import asyncio
import shutil
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from redis.asyncio import Redis

from live.base.errors import Busy
from live.domain.caller import Caller
from live.domain.hold import Line
from live.domain.ids import HoldKey, ShowId
from live.domain.offer import Stock
from live.domain.outcomes import Outcome
from live.ledger.audit.run import audit
from live.ledger.db.pool import Pool
from live.ledger.settle.rebuild import Rebuilder
from tests.support.cluster import free_ports
from tests.support.ledger_kit import PRICE
from tests.support.sale_kit import SETTLED_SECONDS, Sale, new_key, open_sale, viewer
from tests.support.sandbox import running_sandbox
from tests.support.servers import Valkey
from tests.support.stock_proxy import Proxy

UNITS = 8
DURABLE = ("--appendonly", "yes", "--appendfsync", "always")


@dataclass(frozen=True, slots=True)
class Servers:
    """Redis and its replica; clients know the proxy's address only."""

    primary: Valkey
    replica: Valkey
    address: Proxy

    async def tell(self, server: Valkey, *command: str) -> object:
        async with Redis.from_url(server.url) as client:
            return await client.execute_command(*command)  # type: ignore[no-untyped-call]


@pytest.fixture
def engines(scratch: Path, show: ShowId) -> Iterator[tuple[Valkey, Valkey]]:
    """A server and its replica, which follows it by TCP."""
    port = str(free_ports(1)[0])
    roles = {"p": ("--port", port), "r": ("--replicaof", f"127.0.0.1 {port}")}
    started = []
    for name, role in roles.items():
        directory = scratch / f"{name}-{show}"
        directory.mkdir()
        server = Valkey(directory, *DURABLE, "--bind", "127.0.0.1", *role)
        server.start()
        started.append(server)
    primary, replica = started
    yield primary, replica
    replica.signal(signal.SIGCONT)
    replica.close()
    primary.close()


@pytest.fixture
async def servers(
    engines: tuple[Valkey, Valkey], scratch: Path, show: ShowId
) -> AsyncIterator[Servers]:
    primary, replica = engines
    proxy = Proxy(scratch / f"{show}.sock", primary.socket)
    await proxy.start()
    yield Servers(primary, replica, proxy)
    await proxy.close()


@pytest.fixture
async def sale(pool: Pool, servers: Servers, scratch: Path, show: ShowId) -> AsyncIterator[Sale]:
    with running_sandbox(scratch / f"sandbox-{show}") as server:
        async with open_sale(
            pool, servers.address.url, server, show, units=(UNITS,), settling=False
        ) as sale:
            yield sale


# Three ways to lose what was decided after a certain moment: what to do then, and the loss.


async def nothing(servers: Servers) -> None:
    pass


async def flush(servers: Servers) -> None:
    await servers.tell(servers.primary, "FLUSHALL")


async def save(servers: Servers) -> None:
    directory = servers.primary.directory
    shutil.copytree(directory / "appendonlydir", directory / "saved")


async def restore(servers: Servers) -> None:
    directory = servers.primary.directory
    servers.primary.kill()
    shutil.rmtree(directory / "appendonlydir")
    (directory / "saved").rename(directory / "appendonlydir")
    servers.primary.start()


async def cut_off(servers: Servers) -> None:
    """The replica knows all so far, and nothing of what follows."""
    async with Redis.from_url(servers.primary.url) as client, asyncio.timeout(SETTLED_SECONDS):
        # WAIT counts replicas that have everything; before the first sync there is none.
        while not await client.wait(1, 100):
            pass
    servers.replica.signal(signal.SIGSTOP)
    await servers.tell(servers.primary, "CLIENT", "KILL", "TYPE", "replica")


async def fail_over(servers: Servers) -> None:
    servers.primary.kill()
    servers.replica.signal(signal.SIGCONT)
    await servers.tell(servers.replica, "REPLICAOF", "NO", "ONE")
    servers.address.point_to(servers.replica.socket)


Step = Callable[[Servers], Awaitable[None]]
LOSSES: dict[str, tuple[Step, Step]] = {
    "wiped": (nothing, flush),
    "older file": (save, restore),
    "lagging replica": (cut_off, fail_over),
}


@dataclass(frozen=True, slots=True)
class Hold:
    caller: Caller
    key: HoldKey


async def take(sale: Sale) -> Hold:
    caller = viewer()
    return Hold(caller, await sale.hold(caller))


async def pay(sale: Sale, hold: Hold) -> Outcome:
    return (await sale.pay(hold.caller, hold.key)).outcome


@asynccontextmanager
async def settling(sale: Sale) -> AsyncIterator[None]:
    """A settler at work; at the end it has settled everything, and stops."""
    stop = asyncio.Event()
    running = asyncio.create_task(sale.settler.run(stop))
    yield
    async with asyncio.timeout(SETTLED_SECONDS):
        # A task of its own, which tells nobody how far it is.
        while await sale.outbox.first_unsettled(sale.show) is not None:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    stop.set()
    await running


async def rebuild(sale: Sale) -> None:
    """As the keeper does, and as gateways hear of it: the show is in another life."""
    rebuilder = Rebuilder(sale.pool, stock=sale.stock, outbox=sale.outbox, settler=sale.settler)
    assert await rebuilder.rebuild(sale.show)
    room = sale.followed.followed[sale.show]
    assert room.state is not None
    epoch = await sale.pool.fetchval("SELECT stock_epoch FROM shows")
    room.state = replace(room.state, stock_epoch=epoch)


async def capture_all(sale: Sale, orders: int) -> None:
    async with asyncio.timeout(SETTLED_SECONDS):
        while await sale.payment_states() != [("captured", "paid")] * orders:
            await sale.worker.run_once()


@pytest.mark.parametrize("loss", LOSSES)
async def test_sale_goes_on_after_redis_lost_the_end_of_it(
    sale: Sale, servers: Servers, loss: str
) -> None:
    """What was confirmed or journaled is there, what only Redis knew is told as lost."""
    mark, strike = LOSSES[loss]
    async with settling(sale):
        before = [await pay(sale, await take(sale)) for _ in range(2)]
        early = await take(sale)
    await mark(servers)
    async with settling(sale):
        after = await pay(sale, await take(sale))
        late = await take(sale)
    lost = await take(sale)

    await strike(servers)
    with pytest.raises(Busy):
        await sale.stock.figures(sale.show)
    await rebuild(sale)

    assert {*before, after} == {Outcome.CONFIRMED}
    assert await sale.figures() == Stock(left=UNITS - 5, held=2, sold=3)
    async with settling(sale):
        assert await pay(sale, lost) is Outcome.HOLD_LOST
        assert await pay(sale, early) is Outcome.CONFIRMED
        assert await pay(sale, late) is Outcome.CONFIRMED
        crowd = [await sale.try_hold(viewer(), new_key(), Line(0, 1)) for _ in range(UNITS)]
    assert [answer.outcome for answer in crowd].count(Outcome.HELD) == UNITS - 5
    await capture_all(sale, 5)
    assert await sale.money() == (5 * PRICE, 0)
    report = await audit(
        sale.pool, sale.stock, sale.outbox, [sale.provider], wait_seconds=SETTLED_SECONDS
    )
    assert report.findings == ()
    assert await sale.pool.fetchval("SELECT sold FROM offers") == 5

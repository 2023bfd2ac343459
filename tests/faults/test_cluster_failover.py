"""A primary of a cluster dies and its replica, which lagged, takes over by itself.

Method: the replica is stopped and cut off, the primary goes on selling and talking, then it is
killed: what it said meanwhile is exactly what the promoted replica does not know.
"""

import asyncio
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from live.base.errors import Busy, CallError
from live.domain.hold import Line
from live.domain.ids import ShowId
from live.domain.offer import Stock
from live.domain.outcomes import Outcome
from live.ledger.audit.run import audit
from live.ledger.db.pool import Pool
from live.ledger.settle.rebuild import rebuild_show
from live.protocol import codes
from live.showlog.store import Retention
from tests.support.cluster import Cluster, wait_for
from tests.support.crowd import Crowd
from tests.support.ledger_kit import Buyer, Sale, close_sale, new_buyer, open_sale
from tests.support.realtime_parts import dial, gateway

pytestmark = pytest.mark.timeout(90)

UNITS = 20
KEEP = Retention(1_000)


@pytest.fixture
def cluster(scratch: Path, show: ShowId) -> Iterator[Cluster]:
    """One of its own, with a replica of the first primary."""
    servers = Cluster(scratch / f"cluster-{show}", replica=True)
    try:
        servers.start()
        yield servers
    finally:
        servers.close()


def cut_off(cluster: Cluster) -> None:
    """From now on the replica hears nothing of its primary."""
    assert cluster.replica is not None
    cluster.primaries[0].ask("WAIT", 1, 1_000)
    cluster.replica.signal(signal.SIGSTOP)
    cluster.primaries[0].ask("CLIENT", "KILL", "TYPE", "replica")


def promoted(cluster: Cluster) -> None:
    """Let the replica hear again; the cluster puts it in the dead primary's place by itself."""
    replica = cluster.replica
    assert replica is not None
    replica.signal(signal.SIGCONT)
    nodes = (replica, *cluster.primaries[1:])
    wait_for(lambda: all(node.knows("ok") for node in nodes))
    wait_for(lambda: all(replica.port in node.primary_ports() for node in nodes))


@pytest.fixture
async def sales(pool: Pool, cluster: Cluster) -> AsyncIterator[list[Sale]]:
    """A show on the primary that dies, and one on another."""
    names = [cluster.show_on(node) for node in cluster.primaries[:2]]
    found = [await open_sale(pool, cluster.url, name, UNITS) for name in names]
    yield found
    for sale in found:
        await close_sale(sale)


async def rebuild_surely(pool: Pool, sale: Sale) -> None:
    """Try until Redis answers in time, as the keeper does."""
    async with asyncio.timeout(60):
        while True:
            try:
                await rebuild_show(
                    pool, sale.show, stock=sale.engine, outbox=sale.outbox, settler=sale.settler
                )
                return
            except Busy:
                await asyncio.sleep(0.05)


async def hold_many(sale: Sale, count: int) -> list[Buyer]:
    buyers = [new_buyer() for _ in range(count)]
    for one in buyers:
        await sale.hold(one)
    return buyers


async def is_held(sale: Sale, one: Buyer) -> bool:
    state = await sale.engine.buyer_state(sale.show, one.id)
    return [hold.key for hold in state.holds] == [one.key]


async def test_lagging_replica_keeps_what_was_journaled(
    pool: Pool, cluster: Cluster, sales: list[Sale]
) -> None:
    """Orders and settled holds survive, other holds are told as lost, nothing is oversold."""
    sale, other = sales
    await sale.buy(new_buyer())
    known = await hold_many(sale, 3)
    await asyncio.to_thread(cut_off, cluster)
    bought = new_buyer()
    await sale.buy(bought)
    journaled = await hold_many(sale, 3)
    await sale.settle()
    lost = await hold_many(sale, 4)

    cluster.primaries[0].kill()
    await other.hold(new_buyer())  # other nodes have not even noticed
    with pytest.raises(Busy):  # nobody has its slots yet
        await sale.engine.hold(sale.show, new_buyer().id, new_buyer().key, [Line(0, 1)])
    await asyncio.to_thread(promoted, cluster)
    with pytest.raises(CallError, match="rebuilt"):
        await sale.engine.figures(sale.show)
    with pytest.raises(Busy):
        await sale.engine.hold(sale.show, new_buyer().id, new_buyer().key, [Line(0, 1)])
    await rebuild_surely(pool, sale)

    figures = (await sale.engine.figures(sale.show)).offers[0]
    assert figures == Stock(left=UNITS - 8, held=6, sold=2)
    assert all([await is_held(sale, one) for one in known + journaled])
    assert not any([await is_held(sale, one) for one in lost])
    crowd = [new_buyer() for _ in range(UNITS)]
    answers = await asyncio.gather(
        *(sale.engine.hold(sale.show, one.id, one.key, [Line(0, 1)]) for one in crowd)
    )
    outcomes = [answer.outcome for answer in answers]
    assert outcomes.count(Outcome.HELD) == UNITS - 8
    assert outcomes.count(Outcome.SOLD_OUT) == 8
    for each in sales:
        await each.settle()
        await each.capture_all()
    report = await audit(pool, sale.engine, sale.outbox, [])
    assert report.ok, report


async def test_frozen_primary_strands_no_buyer(
    pool: Pool, cluster: Cluster, sales: list[Sale]
) -> None:
    """It stops answering without closing a connection, and comes back after it was replaced."""
    assert cluster.replica is not None
    frozen, other = cluster.primaries[0], sales[1]
    sale = await open_sale(pool, cluster.url, cluster.show_on(frozen), 100_000)
    crowd = Crowd(sale)
    await crowd.reached(held=100)

    frozen.signal(signal.SIGSTOP)
    await crowd.reached(busy=1)
    await other.hold(new_buyer())
    await asyncio.to_thread(promoted, cluster)
    before = crowd.busy
    await crowd.reached(busy=before + 20)  # by now all of them were told by the new one
    for each in (sale, sales[0]):
        await rebuild_surely(pool, each)
    frozen.signal(signal.SIGCONT)
    await asyncio.to_thread(
        wait_for, lambda: frozen.info("replication").get("master_link_status") == "up"
    )
    await crowd.reached(held=crowd.held + 100)
    await crowd.stop()

    assert crowd.slowest < 10
    figures = (await sale.engine.figures(sale.show)).offers[0]
    assert figures.allotted == 100_000
    # Batches on their way when it froze may have run there and come along with the outbox.
    assert crowd.held <= figures.held <= crowd.held + crowd.busy + 20
    for each in (sale, other):
        await each.settle()
    report = await audit(pool, sale.engine, sale.outbox, [])
    assert report.ok, report
    await close_sale(sale)


async def test_dead_node_costs_its_own_shows_only(
    pool: Pool, cluster: Cluster, sales: list[Sale]
) -> None:
    """No replica takes over; buyers, viewers and the settler of other nodes go on as before."""
    living, dead = sales
    await dead.buy(new_buyer())
    stop = asyncio.Event()
    settling = asyncio.create_task(living.settler.run(stop))
    async with gateway(cluster.url, living.show) as hall, gateway(cluster.url, dead.show) as other:
        phone, lonely = dial(hall), dial(other)
        for one in (phone, lonely):
            await one.ask("connect")
            await one.ask("subscribe", channel="room")
        cluster.primaries[1].kill()

        took: list[float] = []
        clock = asyncio.get_running_loop().time
        for number in range(10):
            began = clock()
            paid = await living.buy(new_buyer())
            async with asyncio.timeout(60):
                while await living.outbox.first_unsettled(living.show):  # noqa: ASYNC110  # asks
                    await asyncio.sleep(0.02)
            assert await pool.fetchval("SELECT true FROM orders WHERE id = $1", paid.order)
            store = hall.log.store
            await store.append(living.show, "x:room", b'{"n":%d}' % number, retention=KEEP)
            took.append(clock() - began)
        await phone.until(lambda phone: phone.offsets("room") == list(range(1, 11)))
        with pytest.raises(Busy):
            await dead.engine.figures(dead.show)
        with pytest.raises(Busy):
            await other.log.store.append(dead.show, "x:room", b"{}", retention=KEEP)

        # A settler that waited for the dead node would take two seconds for most of them.
        assert sorted(took)[5] < 1.9
        assert await hall.log.viewers(living.show) == 1
        assert phone.closed is None
    stop.set()
    await settling


async def test_viewers_of_a_log_that_went_back_start_over(cluster: Cluster) -> None:
    """Offsets that the old primary gave out are given out again: nobody may keep their position."""
    here, there = (cluster.show_on(node) for node in cluster.primaries[:2])
    async with AsyncExitStack() as stack:
        opened = (gateway(cluster.url, show) for show in (here, there))
        halls = [await stack.enter_async_context(one) for one in opened]
        phones = [dial(hall) for hall in halls]
        for phone in phones:
            await phone.ask("connect")
            await phone.ask("subscribe", channel="room")
        store, followed = halls[0].log.store, halls[0].follower.current(here)
        assert followed is not None
        epoch = followed.epoch

        async def say(show: ShowId, number: int) -> int:
            return await store.append(show, "x:room", b'{"n":%d}' % number, retention=KEEP)

        assert [await say(here, number) for number in range(3)] == [1, 2, 3]
        await asyncio.to_thread(cut_off, cluster)
        assert [await say(here, number) for number in range(10, 12)] == [4, 5]
        await phones[0].until(lambda phone: phone.offsets("room")[-1:] == [5])
        cluster.primaries[0].kill()
        await asyncio.to_thread(promoted, cluster)

        await phones[0].until(lambda phone: phone.closed)
        assert phones[0].closed == codes.INSUFFICIENT_STATE
        again = dial(halls[0])
        await again.ask("connect")
        reply = await again.ask("subscribe", channel="room", recover=True, offset=5, epoch=epoch)
        result = reply["subscribe"]
        assert isinstance(result, dict)
        assert "recovered" not in result and result["epoch"] != epoch
        assert await say(here, 20) == 4
        await again.until(lambda phone: phone.offsets("room") == [4])

        assert await say(there, 1) == 1
        await phones[1].until(lambda phone: phone.offsets("room") == [1])
        assert phones[1].closed is None

"""A whole service on a Redis cluster and a Postgres of its own: shows of two nodes sell."""

import asyncio
import json
from collections.abc import AsyncIterator
from uuid import uuid4

import pytest

from tests.acceptance.conftest import Service, Stage, on_air
from tests.support.cluster import Cluster
from tests.support.servers import scratch_directory

pytestmark = pytest.mark.timeout(180)  # it starts and stops a whole service beside a cluster


@pytest.fixture
async def spread(cluster: Cluster, database_url: str) -> AsyncIterator[Service]:
    """`live serve` that is told where its engines are."""
    urls = {"LIVE_REDIS_URL": cluster.url, "LIVE_DATABASE_URL": database_url}
    ways = {"LIVE_PROVIDERS": "invoice", "LIVE_GUESTS": "watch"}
    found = Service(scratch_directory(), environment=urls | ways)
    await asyncio.to_thread(found.live, "migrate")
    await asyncio.to_thread(found.start)
    yield found
    await asyncio.to_thread(found.stop)


async def buy(stage: Stage, offer: str) -> str:
    """One viewer's way from joining to the confirmed order; returns its id."""
    async with await stage.viewer() as viewer, asyncio.timeout(60):
        assert viewer.hello["data"]["show"]["id"] == stage.show
        held = await viewer.hold(offer)
        assert held["outcome"] == "held", held
        request = {"hold": held["hold"], "provider": "invoice", "key": str(uuid4())}
        contact = {"name": "Ada", "address": "1 Mill Lane"}
        paid = await viewer.rpc("hold.checkout", request | {"contact": contact})
        assert paid["outcome"] in ("confirmed", "processing"), paid
        told = await viewer.event("order.confirmed")
        return str(told["order"]["order"])


async def test_shows_on_two_nodes_sell_in_one_service(spread: Service, cluster: Cluster) -> None:
    """Join, hold, checkout, order.confirmed on both nodes; the audit finds nothing."""
    here, there = (cluster.show_on(node) for node in cluster.primaries[:2])
    async with on_air(spread, here) as first, on_air(spread, there) as second:
        stages = (first, second)
        offers = [await stage.offer(5) for stage in stages]

        pairs = list(zip(stages, offers, strict=True))
        orders = await asyncio.gather(*(buy(*pair) for pair in pairs for _ in range(3)))

        assert len(set(orders)) == 6

        for stage in stages:
            found = (await stage.http.get(f"/v1/orders?show={stage.show}")).json()["items"]
            assert [one["state"] for one in found] == ["confirmed"] * 3  # nobody has paid yet
            for one in found:
                path = f"/v1/orders/{one['order']}/paid"
                paid = await stage.post(path, {"reference": f"cash {one['order']}"})
                assert paid.json()["state"] == "paid", paid.text
        for stage, offer in pairs:
            looked = await stage.look(offer)
            assert (looked["left"], looked["held"], looked["sold"]) == (2, 0, 3)
        done = await asyncio.to_thread(spread.live, "audit", "--json")
        report = json.loads(done.stdout)
        assert done.returncode == 0 and report["ok"], report
        assert sorted(one["sold"] for one in report["offers"]) == [3, 3]
    doctor = await asyncio.to_thread(spread.live, "doctor")
    assert b"a cluster of 3 nodes" in doctor.stdout, doctor.stdout


async def test_service_rebuilds_a_show_whose_slot_moved(spread: Service, cluster: Cluster) -> None:
    """The keeper notices by itself; a viewer who stays connected reads 111, then buys."""
    show, target = cluster.show_on(cluster.primaries[0]), cluster.primaries[1]
    async with on_air(spread, show) as stage, await stage.viewer() as viewer:
        offer = await stage.offer(2)
        assert (await viewer.hold(offer))["outcome"] == "held"
        await asyncio.to_thread(cluster.begin_move, show, target)
        await asyncio.to_thread(cluster.finish_move, show, target)

        key, refused = str(uuid4()), 0
        async with asyncio.timeout(60):
            while "error" in (answer := await viewer.hold(offer, key=key)):
                assert answer["error"]["code"] == 111, answer
                refused += 1
                await asyncio.sleep(0.05)
        assert answer["outcome"] == "held" and refused > 0
        assert (await viewer.hold(offer))["outcome"] == "limit_reached"
        looked = await stage.look(offer)
        assert (looked["left"], looked["held"]) == (0, 2)
        await stage.post(f"/v1/shows/{show}/announcements", {"text": "We are back"})
        async with asyncio.timeout(60):
            assert (await viewer.event("announcement"))["text"] == "We are back"

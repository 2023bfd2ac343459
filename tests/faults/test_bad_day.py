"""A bad day: a sale to a crowd while processes are killed and frozen, keys lost, memory filled and
workers flooded, by dice; then the reckoning.

Method: `live serve` with engines of its own, a second settler beside it, and the demo's buyers, who
write down what they were told for each of their keys: ok, refused or unknown; among them hostile
ones, who send anything. When the faults end, the ledger is held against that record: everything
acknowledged is there once, everything unknown at most once, nothing that was refused, no more units
than were allotted or one person may have, no order rejected, and the audit has no findings.

The long mode (`--long --seeds 20`) plays as many days, with 2,000 buyers each.
"""

import asyncio
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from random import Random
from uuid import uuid4

import httpx
import orjson
import psutil
import pytest

from live.domain.caller import Role
from live.domain.ids import ShowId
from live.tools.demo.crowd import CrowdShares, plan_viewer
from live.tools.demo.host import Host
from live.tools.demo.stage import Stage as Evening
from live.tools.demo.viewer import DemoViewer
from tests.acceptance.conftest import Service, Stage
from tests.faults.bad_day import BadDay, runs
from tests.faults.hostile_crowd import HostileBuyer
from tests.faults.reckoning import faults_of
from tests.support.servers import scratch_directory

CROWD = CrowdShares(buyers=0.95, abandon=0.1, waits=0.4, reaction_ms_max=16_000, think_ms_max=2_000)
BUYERS, BUYERS_LONG = 500, 2_000
HOSTILE = 12  # persons
LIMIT = 2
HOLD_SECONDS = 10
AFTERGLOW_SECONDS = 3.0
ENOUGH = 25  # orders of which buyers have heard: a day without any proves little
ENOUGH_SECONDS = 60.0  # for them, when all is well again
FINISH_SECONDS = 30.0  # for the buyers to get their answers when all is well again
CALM_SECONDS = 60.0  # until nothing is under way any more


def days(long: bool, seeds: int) -> list[tuple[int, int]]:
    """(seed, buyers) of each day to be played."""
    if long:
        return [(seed, BUYERS_LONG) for seed in range(1, (seeds or 20) + 1)]
    return [(1, BUYERS)]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    option = metafunc.config.getoption
    played = days(option("--long"), option("--seeds"))
    metafunc.parametrize(("seed", "buyers"), played, ids=[f"seed{seed}" for seed, _ in played])


@pytest.fixture
async def own_stage() -> AsyncIterator[Stage]:
    """A service of its own, because it will be harmed, with a show on air."""
    service = Service(scratch_directory(), options=("--workers", "2"))
    try:
        service.start()
    except RuntimeError:
        service.stop()
        raise
    headers = {"Authorization": f"Bearer {service.token(Role.HOST, 'host')}"}
    async with httpx.AsyncClient(
        base_url=service.url, headers=headers, trust_env=False, timeout=20
    ) as http:
        stage = Stage(service, http, "bad-day")
        made = {"id": stage.show, "title": "A bad day", "currency": "USD"}
        assert (await stage.post("/v1/shows", made)).status_code == 201
        assert (await stage.post(f"/v1/shows/{stage.show}/start")).status_code == 200
        yield stage
    service.stop()
    shutil.rmtree(service.data)


@pytest.mark.timeout(300)
async def test_bad_day_keeps_every_promise(own_stage: Stage, seed: int, buyers: int) -> None:
    """Whatever was done to it: acknowledged once, unknown at most once, never oversold."""
    service, units = own_stage.service, {}
    for mode in ("hold", "first_paid"):
        offer = await own_stage.offer(
            buyers // 2, opened=False, per_buyer_limit=LIMIT, hold_seconds=HOLD_SECONDS, mode=mode
        )
        units[offer] = buyers // 2
    held, direct = units
    evening, cast = invite(service, own_stage.show, held, seed, buyers)
    hostile = invite_hostile(service, own_stage.show, [held, direct], seed)
    watching = [asyncio.create_task(viewer.run()) for viewer in cast]
    watching += [asyncio.create_task(buyer.run(evening.stop)) for buyer in hostile]
    for offer in units:
        await demand(own_stage, f"/v1/offers/{offer}/open")
    with second_settler(service) as (environment, second):
        roots = [psutil.Process(process.pid) for process in (service.process, second) if process]
        redis_url = environment["LIVE_REDIS_URL"]
        day = BadDay(roots, redis_url, own_stage.show, service.port, seed)
        await day.go_on()
        await end_of_sale(own_stage, list(units), evening, cast)
        await asyncio.gather(*watching)
        report = await calm_audit(service)
    async with Host(service.url, service.token(Role.HOST, "reckoner")) as host:
        bought = [one for offer in units for one in await host.orders(own_stage.show, offer)]
    orders = list({order.order: order for order in bought}.values())

    keys = [buyer.keys for buyer in hostile]
    assert faults_of(evening.told, orders, units, keys, LIMIT) == [], (
        day.done,
        evening.tally.failures,
    )
    assert [order for order in orders if order.state == "rejected"] == [], day.done
    assert report["findings"] == [], day.done
    told = Counter(one.verdict for one in evening.told)
    theirs = Counter(order.state for order in orders if order.hold in set().union(*keys))
    sent = sum(buyer.sent for buyer in hostile)
    print(f"seed {seed}: {day.done}, told {told}, hostile {sent} sent, orders {theirs}")  # noqa: T201  # the record of a long run
    assert len(orders) - theirs.total() >= ENOUGH, (day.done, evening.tally.outcomes)
    assert theirs.total(), "hostile buyers who buy nothing prove nothing"


@contextmanager
def second_settler(service: Service) -> Iterator[tuple[dict[str, str], subprocess.Popen[bytes]]]:
    """Another one on the service's own engines, as on another machine; its environment, and it."""
    assert service.process is not None
    first = [
        child
        for child in psutil.Process(service.process.pid).children()
        if runs(child, "run-settler")
    ]
    environment = first[0].environ()
    command = [sys.executable, "-m", "live", "serve", "--role", "settler", "--ops-port", "0"]
    with (service.data / "second-log").open("ab") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        yield environment, process
    finally:
        process.terminate()
        process.wait(FINISH_SECONDS)


def invite_hostile(
    service: Service, show: str, offers: Sequence[str], seed: int
) -> list[HostileBuyer]:
    return [
        HostileBuyer(
            service.socket_url,
            service.token(Role.VIEWER, f"hostile-{seed}-{index}", show),
            show,
            offers,
            Random(f"{seed} {index}"),
        )
        for index in range(HOSTILE)
    ]


def invite(
    service: Service, show: str, offer: str, seed: int, buyers: int
) -> tuple[Evening, list[DemoViewer]]:
    evening = Evening(
        url=service.socket_url,
        show=ShowId(show),
        offer=offer,
        per_buyer_limit=LIMIT,
        sale_seconds=15.0,
        gate=asyncio.Semaphore(64),
    )
    cast = []
    for index in range(buyers):
        sub = f"buyer-{seed}-{index}"
        plan = plan_viewer(CROWD, seed=seed, index=index, per_buyer_limit=LIMIT)
        token = service.token(Role.VIEWER, sub, show)
        cast.append(DemoViewer(evening, plan, sub, token, seed=index))
    return evening, cast


async def demand(stage: Stage, path: str) -> None:
    """Call until it is done, always with one key: a crowd is coming in, answers may be lost."""
    key = {"Idempotency-Key": uuid4().hex}
    async with asyncio.timeout(FINISH_SECONDS):
        while True:
            try:
                if (await stage.http.post(path, json={}, headers=key)).status_code == 200:
                    return
            except httpx.HTTPError:
                pass
            await asyncio.sleep(0.1)


async def end_of_sale(
    stage: Stage, offers: Sequence[str], evening: Evening, cast: Sequence[DemoViewer]
) -> None:
    """Close the offers when enough was sold; let the buyers hear how their purchases ended."""
    loop = asyncio.get_running_loop()
    await asyncio.sleep(AFTERGLOW_SECONDS)  # the last buyers come when all is well again
    deadline = loop.time() + ENOUGH_SECONDS
    while evening.tally.confirmed < ENOUGH and loop.time() < deadline:  # noqa: ASYNC110  # buyers count
        await asyncio.sleep(0.1)
    deadline = loop.time() + FINISH_SECONDS
    for offer in offers:
        while loop.time() < deadline:
            try:
                if (await stage.post(f"/v1/offers/{offer}/close")).status_code in (200, 409):
                    break
            except httpx.HTTPError:
                await asyncio.sleep(0.5)  # still coming back
    while loop.time() < deadline and not all_settled(cast):  # noqa: ASYNC110  # many tasks settle
        await asyncio.sleep(0.1)
    evening.stop.set()


def all_settled(cast: Sequence[DemoViewer]) -> bool:
    return all(purchase.settled for viewer in cast for purchase in viewer.purchases.values())


async def calm_audit(service: Service) -> dict[str, list[str]]:
    """The audit when nothing is in flight any more, or the last one when it never gets calm."""
    report: dict[str, list[str]] = {}
    loop = asyncio.get_running_loop()
    deadline = loop.time() + CALM_SECONDS
    while loop.time() < deadline:
        done = await asyncio.to_thread(service.live, "audit", "--json", timeout=60)
        report = orjson.loads(done.stdout)
        if not report["in_flight"] and not report["findings"]:
            break
        await asyncio.sleep(0.5)
    return report

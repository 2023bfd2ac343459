"""No settler is alive: gateways say so, in /readyz and figures, and so does `live doctor`.

Method: a gateway alone beside settlers; these are frozen, then killed, while a buyer has a hold.
"""

import asyncio
import re
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from uuid import uuid4

import httpx
import psutil
import pytest

from live.base.settings import Settings
from live.run.doctor import Diagnosis, examine
from tests.acceptance.conftest import Service, Stage, on_air, until
from tests.support.servers import Valkey, scratch_directory

pytestmark = pytest.mark.timeout(240)

SOON_SECONDS = 60  # nothing here takes so long, on any machine


@pytest.fixture
def engines(valkey: Valkey, database_url: str) -> dict[str, str]:
    return {"LIVE_REDIS_URL": valkey.url, "LIVE_DATABASE_URL": database_url}


@pytest.fixture
def settler(engines: dict[str, str]) -> Iterator[Service]:
    options = ("--role", "settler", "--ops-port", "0")
    found = Service(scratch_directory(), options, engines)
    found.start()
    yield found
    _signal(found, signal.SIGCONT)
    found.stop()


@pytest.fixture
async def stage(engines: dict[str, str], settler: Service) -> AsyncIterator[Stage]:
    gateway = Service(scratch_directory(), ("--role", "gateway", "--workers", "1"), engines)
    gateway.start()
    async with on_air(gateway, f"s{uuid4().hex[:10]}") as found:
        yield found
        _signal(settler, signal.SIGCONT)
    gateway.stop()


def _signal(service: Service, number: signal.Signals) -> None:
    """To the whole tree of a service, the parent first, so that it starts nobody anew."""
    assert service.process is not None
    if service.process.poll() is not None:
        return
    parent = psutil.Process(service.process.pid)
    for one in (parent, *parent.children(recursive=True)):
        one.send_signal(number)


async def figure(service: Service, name: str) -> float:
    async with httpx.AsyncClient(base_url=service.url, trust_env=False, timeout=10) as http:
        text = (await http.get("/metrics")).text
    found = re.search(rf"^{name} (\S+)$", text, re.MULTILINE)
    assert found, f"{name} is not told"
    return float(found[1])


async def _warns(service: Service) -> bool:
    async with httpx.AsyncClient(base_url=service.url, trust_env=False, timeout=10) as http:
        answer = await http.get("/readyz")
    assert answer.status_code == 200  # a gateway that goes sells nothing, and settles nothing
    return "settlement" in answer.json()["warnings"]


async def test_gateway_tells_that_nobody_settles(
    stage: Stage, settler: Service, tmp_path: Path
) -> None:
    """Frozen settlers, whose connections all stand; it ends when they go on."""
    offer = await stage.offer(5)
    assert not await _warns(stage.service)
    assert (await _doctor(stage.service, tmp_path)).ok

    _signal(settler, signal.SIGSTOP)
    async with await stage.viewer() as buyer:
        assert (await buyer.hold(offer))["outcome"] == "held"
    await until(lambda: _warns(stage.service), seconds=SOON_SECONDS)
    assert await figure(stage.service, "live_ledger_settlement_lag_seconds") > 5
    found = await _doctor(stage.service, tmp_path)
    assert not found.ok and not found.stops and "settler" in found.fix

    _signal(settler, signal.SIGCONT)
    await until(lambda: _settled(stage.service), seconds=SOON_SECONDS)


async def _settled(service: Service) -> bool:
    return not await _warns(service)


async def test_living_settler_renews_its_beat(settler: Service) -> None:
    """The alarm looks at it."""
    first = await figure(settler, "live_ledger_settler_beat_seconds")

    async def later() -> bool:
        return await figure(settler, "live_ledger_settler_beat_seconds") > first

    await until(later, seconds=SOON_SECONDS)


async def _doctor(service: Service, tmp_path: Path) -> Diagnosis:
    settings = Settings.from_env(service.env | {"LIVE_DATA_DIR": str(tmp_path)})
    found = await asyncio.to_thread(examine, settings)
    return {one.name: one for one in found}["settlement"]

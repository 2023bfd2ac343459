"""A service far from its Redis: it starts, sells, says so when it is cut off, and comes back."""

import asyncio
from collections.abc import Iterator

import httpx
import pytest

from tests.acceptance.conftest import Service, on_air, until
from tests.support.servers import Postgres, Valkey, scratch_directory
from tests.support.slow_link import SlowLink

pytestmark = pytest.mark.timeout(240)


@pytest.fixture
def link(own_valkey: Valkey) -> Iterator[SlowLink]:
    with SlowLink(own_valkey.socket, one_way_seconds=0.04) as found:
        yield found


@pytest.fixture
def far(link: SlowLink, own_postgres: Postgres) -> Iterator[Service]:
    found = Service(
        scratch_directory(),
        environment={
            "LIVE_REDIS_URL": f"redis://127.0.0.1:{link.port}",
            "LIVE_DATABASE_URL": own_postgres.url(),
            "LIVE_SANDBOX_URL": "http://127.0.0.1:1",
            "LIVE_SANDBOX_KEY": "nobody is asked",
        },
    )
    found.start()
    yield found
    found.stop()


async def readiness(service: Service) -> dict[str, str]:
    """Why it is not ready; empty: it is."""
    async with httpx.AsyncClient(base_url=service.url, trust_env=False, timeout=10) as http:
        faults: dict[str, str] = (await http.get("/readyz")).json()["faults"]
        return faults


async def test_service_far_from_redis_is_cut_off_and_comes_back(
    far: Service, link: SlowLink
) -> None:
    """At 80 ms; while nothing can be sold it is not ready and names the reason."""
    async with on_air(far, "far") as stage:
        offer = await stage.offer(10)
        async with await stage.viewer() as viewer:
            assert (await viewer.hold(offer))["outcome"] == "held"

        link.cut()
        async with asyncio.timeout(60):
            while not (faults := await readiness(far)):
                continue
        assert faults["redis"].removeprefix("no answer: ").strip(), "without a reason"
        link.heal()

        async def ready() -> bool:
            return not await readiness(far)

        await until(ready, seconds=60)
        async with await stage.viewer() as viewer:
            assert (await viewer.hold(offer))["outcome"] == "held"

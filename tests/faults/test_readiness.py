"""What load balancers and Prometheus are told while an engine is away (F5).

Each test harms engines of its own.
"""

import shutil
import signal
from collections.abc import Iterator

import httpx
import pytest

from live.api.ops import Probe
from live.ledger.db.migrate import migrate
from live.ledger.db.pool import make_pool
from live.stock.engine import StockEngine
from tests.acceptance.conftest import Service, until
from tests.support.servers import Postgres, Valkey, scratch_directory


@pytest.fixture(scope="module")
def engines() -> Iterator[tuple[Valkey, Postgres]]:
    directory = scratch_directory()
    for name in ("valkey", "pg"):
        (directory / name).mkdir()
    valkey, postgres = Valkey(directory / "valkey"), Postgres(directory / "pg")
    valkey.start()
    postgres.init()
    postgres.start()
    yield valkey, postgres
    valkey.close()
    postgres.close()
    shutil.rmtree(directory)


@pytest.fixture(scope="module", params=["gateway", "settler"])
def role(request: pytest.FixtureRequest, engines: tuple[Valkey, Postgres]) -> Iterator[Service]:
    """One role alone, with its port; whoever harms its engines lets it come back."""
    valkey, postgres = engines
    found = Service(
        scratch_directory(),
        options=("--role", request.param, "--ops-port", "0"),
        environment={"LIVE_REDIS_URL": valkey.url, "LIVE_DATABASE_URL": postgres.url()},
    )
    found.start()
    yield found
    found.stop()


async def reasons(service: Service) -> tuple[int, set[str]]:
    """The status of /readyz and the engines that it names."""
    async with httpx.AsyncClient(base_url=service.url, trust_env=False, timeout=10) as http:
        answer = await http.get("/readyz")
        assert (await http.get("/healthz")).status_code == 200  # it lives, whoever is away
        # Anybody may ask: where the engines are is told to nobody.
        assert not any(sign in answer.text for sign in (".sock", "/tmp", "Error"))
    return answer.status_code, set(answer.json()["faults"])


async def test_every_port_is_guarded(role: Service) -> None:
    """A name that a foreign page was led here by is refused, on a settler's port as well."""
    async with httpx.AsyncClient(base_url=role.url, trust_env=False, timeout=10) as http:
        foreign = {"host": "evil.example"}
        assert (await http.get("/metrics", headers=foreign)).status_code == 400
        assert (await http.get("/metrics")).status_code == 200
        assert (await http.get("/readyz", headers=foreign)).status_code == 200


async def test_readiness_names_the_engine_that_is_away(
    role: Service, engines: tuple[Valkey, Postgres]
) -> None:
    """Frozen Redis, then stopped Postgres: 503 with the reason, 200 when it is back."""
    valkey, postgres = engines
    assert await reasons(role) == (200, set())

    valkey.signal(signal.SIGSTOP)
    try:
        await until(lambda: _is(role, 503, {"redis"}), seconds=30)
    finally:
        valkey.signal(signal.SIGCONT)
    await until(lambda: _is(role, 200, set()), seconds=30)

    postgres.stop()
    try:
        await until(lambda: _is(role, 503, {"postgres"}), seconds=30)
    finally:
        postgres.start()
    await until(lambda: _is(role, 200, set()), seconds=30)


async def _is(service: Service, status: int, names: set[str]) -> bool:
    return await reasons(service) == (status, names)


async def test_process_on_its_way_out_is_not_ready(engines: tuple[Valkey, Postgres]) -> None:
    """With both engines well: who drains says so, and gets no new traffic."""
    await migrate(engines[1].url())
    async with make_pool(engines[1].url()) as pool:
        stock = StockEngine(engines[0].url)
        await stock.open()
        probe = Probe(pool, stock)
        ready = await probe.faults()
        probe.draining = True
        draining = await probe.faults()
        await stock.close()

    assert (ready, draining) == ({}, {"gateway": "draining"})


async def test_role_that_runs_alone_tells_its_metrics(role: Service) -> None:
    """A settler without a gateway beside it is seen by Prometheus, too."""
    async with httpx.AsyncClient(base_url=role.url, trust_env=False, timeout=10) as http:
        text = (await http.get("/metrics")).text

    assert "live_ledger_settlement_lag_seconds" in text

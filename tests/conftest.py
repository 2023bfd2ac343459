"""Shared fixtures: one Valkey and one Postgres per test run, a fresh database and show per test."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from uuid import uuid4

import hypothesis
import pytest

from live.domain.ids import ShowId
from live.ledger.db.migrate import migrate
from live.ledger.db.pool import Pool, open_pool
from live.tools.engines.process import forget_libpq
from tests.support.cluster import Cluster
from tests.support.servers import Postgres, Valkey, redis_binaries, scratch_directory

MIGRATED = "migrated"

# The machine may be busy: how long an example takes says nothing about what is tested.
PATIENT = hypothesis.settings(
    deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow], database=None
)
# The normal run judges a tree, so it says the same of the same tree; the long one searches anew.
hypothesis.settings.register_profile("judging", PATIENT, derandomize=True)
hypothesis.settings.register_profile("searching", PATIENT, max_examples=5_000)
forget_libpq()  # whatever Postgres the shell is about, it is none of the tests'


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="run the tests that take minutes, too")
    parser.addoption("--backwards", action="store_true", help="run the last test first")
    parser.addoption("--seeds", type=int, default=0, help="seeds of the long simulations")


def pytest_configure(config: pytest.Config) -> None:
    hypothesis.settings.load_profile("searching" if config.getoption("--long") else "judging")


def pytest_report_header() -> str:
    return f"stock engine tests run on: {', '.join(redis_binaries())}"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--backwards"):
        items.reverse()
    if config.getoption("--long"):
        return
    skip = pytest.mark.skip(reason="long: run with --long")
    for item in items:
        # By marker: a keyword also matches a parameter that happens to be called "long".
        if item.get_closest_marker("long") is not None:
            item.add_marker(skip)


@pytest.fixture(scope="session")
def scratch() -> Iterator[Path]:
    directory = scratch_directory()
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="session")
def valkey(scratch: Path) -> Iterator[Valkey]:
    (scratch / "valkey").mkdir()
    server = Valkey(scratch / "valkey")
    server.start()
    yield server
    server.close()


@pytest.fixture
def redis_url(valkey: Valkey) -> str:
    """The shared Valkey; tests keep apart by the names of their shows."""
    return valkey.url


@pytest.fixture(scope="session")
def cluster(scratch: Path) -> Iterator[Cluster]:
    """Three primaries; tests may move slots, and kill nothing."""
    servers = Cluster(scratch / "cluster")
    try:
        servers.start()
        yield servers
    finally:
        servers.close()


@pytest.fixture(scope="session", params=list(redis_binaries()))
def stock_server(request: pytest.FixtureRequest, scratch: Path) -> Iterator[Valkey]:
    """Each server that the stock engine must run on; tests keep apart by the names of shows."""
    # A new directory each time: pytest sets a parameter up again for a worker's next file.
    directory = scratch / f"stock-{request.param}-{uuid4().hex[:8]}"
    directory.mkdir()
    server = Valkey(directory, binary=redis_binaries()[request.param])
    server.start()
    yield server
    server.close()


@pytest.fixture(scope="session")
def postgres(scratch: Path) -> Iterator[Postgres]:
    (scratch / "pg").mkdir()
    server = Postgres(scratch / "pg")
    server.init()
    server.start("fsync=off")
    asyncio.run(_make_template(server))
    yield server
    server.close()


async def _make_template(server: Postgres) -> None:
    """One migrated database for all tests to copy: migrating each takes three times as long."""
    await server.execute(f"CREATE DATABASE {MIGRATED}")
    await migrate(server.url(MIGRATED))


@pytest.fixture
async def database_url(postgres: Postgres, request: pytest.FixtureRequest) -> AsyncIterator[str]:
    """A fresh database: migrated where the test uses `pool`, too, else empty."""
    name = f"t{uuid4().hex}"
    await postgres.copy(MIGRATED if "pool" in request.fixturenames else "template1", name)
    yield postgres.url(name)
    await postgres.drop(name)


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    """A pool on a fresh database with all migrations applied."""
    found = await open_pool(database_url, command_timeout_seconds=20)
    yield found
    await found.close()


@pytest.fixture
def show() -> ShowId:
    """A show id that no other test uses."""
    return ShowId(f"s{uuid4().hex[:12]}")

"""A dump of Postgres is the whole backup: restored beside an empty Redis the service goes on."""

import asyncio
import subprocess
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import asyncpg
import pytest

from tests.acceptance.conftest import Service, on_air, until
from tests.support.sandbox import KEY, SandboxServer
from tests.support.servers import Postgres, Valkey, scratch_directory

pytestmark = pytest.mark.timeout(240)


@pytest.fixture
def place() -> Iterator[tuple[Path, SandboxServer]]:
    found = scratch_directory()
    (found / "sandbox").mkdir()
    sandbox = SandboxServer(found / "sandbox")
    sandbox.start()
    yield found, sandbox
    sandbox.kill()


async def fresh_database(postgres: Postgres) -> str:
    name = f"t{uuid4().hex}"
    admin = await asyncpg.connect(postgres.url())
    await admin.execute(f"CREATE DATABASE {name}")
    await admin.close()
    return name


def engines(place: Path, sandbox: SandboxServer, database_url: str) -> tuple[Valkey, Service]:
    """A Valkey with nothing in it and a service on it."""
    directory = place / uuid4().hex[:8]
    directory.mkdir()
    valkey = Valkey(directory)
    valkey.start()
    environment = {"LIVE_REDIS_URL": valkey.url, "LIVE_DATABASE_URL": database_url}
    environment |= {"LIVE_SANDBOX_URL": f"unix://{sandbox.uds}", "LIVE_SANDBOX_KEY": KEY}
    return valkey, Service(directory, environment=environment)


def pg(postgres: Postgres, *command: str) -> None:
    done = subprocess.run(
        [postgres.bin / command[0], "-h", postgres.directory, "-U", "live", *command[1:]],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


async def test_dump_restored_beside_an_empty_redis_sells_on(
    postgres: Postgres, place: tuple[Path, SandboxServer]
) -> None:
    """What was sold is sold, what was left is for sale, and every promise holds."""
    first, second = await fresh_database(postgres), await fresh_database(postgres)
    dump = place[0] / "dump"
    valkey, service = engines(*place, postgres.url(first))
    await asyncio.to_thread(service.start)
    async with on_air(service, "evening") as stage:
        offer = await stage.offer(3)
        async with await stage.viewer() as viewer:
            held = await viewer.hold(offer)
            assert (await viewer.checkout(held["hold"]))["outcome"] == "confirmed"
        await asyncio.to_thread(pg, postgres, "pg_dump", "-Fc", "-f", str(dump), first)
    await asyncio.to_thread(service.stop)
    valkey.close()

    await asyncio.to_thread(pg, postgres, "pg_restore", "-d", second, str(dump))
    valkey, service = engines(*place, postgres.url(second))
    await asyncio.to_thread(service.start)
    try:
        stage.service = service
        stage.http.base_url = service.url

        async def sells() -> bool:
            try:
                async with await stage.viewer() as viewer:
                    return bool((await viewer.hold(offer, 2))["outcome"] == "held")
            except (AssertionError, KeyError, OSError):
                return False

        await until(sells, seconds=60)
        async with await stage.viewer() as late:
            refused = await late.hold(offer)
        audited = await asyncio.to_thread(service.live, "audit", "--json")
    finally:
        await asyncio.to_thread(service.stop)
        valkey.close()

    assert refused["outcome"] == "sold_out"  # three were for sale: one sold, two held
    assert audited.returncode == 0, audited.stdout

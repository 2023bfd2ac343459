"""`live audit` from another shell, on configured engines: money is compared, or told as unread."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import asyncpg
import pytest

from tests.acceptance.conftest import Service
from tests.support.servers import Postgres, Valkey, scratch_directory

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def sold(scratch: Path, postgres: Postgres) -> Iterator[Service]:
    """A data directory and configured engines on which `live demo` has run."""
    name = f"t{uuid4().hex}"
    asyncio.run(_execute(postgres.url(), f'CREATE DATABASE "{name}"'))
    directory = scratch / f"valkey-{name}"
    directory.mkdir()
    valkey = Valkey(directory)
    valkey.start()
    engines = {"LIVE_REDIS_URL": valkey.url, "LIVE_DATABASE_URL": postgres.url(name)}
    found = Service(scratch_directory(), (), engines)
    options = ("--once", "--json", "--viewers", "20", "--seconds", "6", "--port", "0")
    done = found.live("demo", "--data", str(found.data), *options, timeout=90)
    assert done.returncode == 0, done.stderr
    yield found
    valkey.close()


async def _execute(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url)
    await connection.execute(statement)
    await connection.close()


def test_audit_compares_the_demos_books_on_engines_of_ones_own(sold: Service) -> None:
    """Its sandbox is read again from the data directory; from another one it is told as unread."""
    here = sold.live("audit", "--json")
    sold.data = scratch_directory()
    elsewhere = sold.live("audit", "--json")

    report = json.loads(here.stdout)
    assert (here.returncode, report["findings"]) == (0, [])
    assert report["payments"]["captured"] > 0
    (finding,) = json.loads(elsewhere.stdout)["findings"]
    assert elsewhere.returncode == 1
    assert "sandbox" in finding and "LIVE_SANDBOX_URL" in finding and "LIVE_DATA_DIR" in finding

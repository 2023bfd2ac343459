"""An outbox, a small sale and the sandbox provider for the tests of this folder."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from live.domain.ids import ShowId
from live.ledger.db.pool import Pool
from tests.support.ledger_kit import Sale, StreamOutbox, close_sale, open_sale
from tests.support.sandbox import SandboxServer, running_sandbox


@pytest.fixture(scope="module")
def server(scratch: Path) -> Iterator[SandboxServer]:
    """The sandbox provider, as a process that the tests of a file share."""
    with running_sandbox(scratch / f"sandbox-{uuid4().hex[:8]}") as found:
        yield found


@pytest.fixture
async def outbox(redis_url: str) -> AsyncIterator[StreamOutbox]:
    found = StreamOutbox(redis_url)
    yield found
    await found.close()


@pytest.fixture
async def sale(pool: Pool, redis_url: str, show: ShowId) -> AsyncIterator[Sale]:
    """A live show with two open offers of 10 and 5 units, on the real stock engine."""
    found = await open_sale(pool, redis_url, show, 10, 5)
    yield found
    await close_sale(found)

"""An outbox and a small sale for the tests of this folder."""

from collections.abc import AsyncIterator

import pytest

from live.domain.ids import ShowId
from live.ledger.pool import Pool
from tests.ledger_kit import Sale, StreamOutbox, close_sale, open_sale


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

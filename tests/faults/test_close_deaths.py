"""Closing an offer goes through four processes' hands; whichever of them dies, it closes once.

Method: the gateway or the keeper dies at a boundary, the settlers' part is in
test_ledger_deaths.py; then another keeper and a settler finish it.
"""

import asyncio
from collections.abc import AsyncIterator

import pytest

from live.base.failpoint import DIED
from live.domain.ids import ShowId
from live.ledger.db.pool import Pool
from tests.faults.test_api_calls_die import Desk, open_desk
from tests.faults.test_ledger_deaths import EXIT_SECONDS, SETTLE_SECONDS, die, spawn_ledger


@pytest.fixture
async def desk(pool: Pool, redis_url: str, database_url: str, show: ShowId) -> AsyncIterator[Desk]:
    async with open_desk(pool, redis_url, database_url, show) as found:
        yield found


@pytest.mark.parametrize("point", ["host.committed", "carry.applied", "close.entered"])
async def test_closing_is_finished_by_whoever_comes_next(desk: Desk, point: str) -> None:
    """Committed and not in Redis, in Redis and not closed, closed there and not settled."""
    path = f"/v1/offers/{desk.offer}/close"
    if point == "close.entered":
        await desk.stage.call("POST", path, {})
        dying = await spawn_ledger("keep", desk.database_url, desk.redis_url, desk.show, point)
        async with asyncio.timeout(EXIT_SECONDS):
            assert await dying.wait() == DIED
    else:
        await desk.die_calling(path, {}, failpoint=point)
    pool = desk.stage.pool
    assert await pool.fetchval("SELECT phase FROM offers WHERE id = $1", desk.offer) == "closing"

    heirs = [
        await spawn_ledger(what, desk.database_url, desk.redis_url, desk.show)
        for what in ("keep", "settle")
    ]
    try:
        async with asyncio.timeout(SETTLE_SECONDS):
            while await _phase(pool, desk.offer) != "closed":  # noqa: ASYNC110  # other processes
                await asyncio.sleep(0.05)
    finally:
        for heir in heirs:
            await die(heir)

    given_back = "SELECT array_agg(qty) FROM stock_movements WHERE kind = 'given_back'"
    assert await pool.fetchval(given_back) == [-2]
    assert await pool.fetchval("SELECT allotted FROM products WHERE sku = 'lamp'") == 5


async def _phase(pool: Pool, offer: str) -> str:
    return str(await pool.fetchval("SELECT phase FROM offers WHERE id = $1", offer))

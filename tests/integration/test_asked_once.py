"""A host's call on an offer asks the ledger for each thing once."""

from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from live.domain.ids import ShowId
from live.ledger.db.pool import Pool
from tests.integration.test_api_shows import begin
from tests.support.api_kit import Stage, open_stage

ASKS = ("fetch", "fetchrow", "fetchval", "execute")


@pytest.fixture
async def stage(pool: Pool, redis_url: str) -> AsyncIterator[Stage]:
    async with open_stage(pool, redis_url) as opened:
        yield opened


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Statements with their arguments, by how often they were sent."""
    counted: Counter[str] = Counter()

    def counting(name: str) -> Any:
        plain = getattr(asyncpg.Connection, name)

        async def ask(self: asyncpg.Connection, query: str, *args: object, **rest: Any) -> object:
            counted[f"{' '.join(query.split())} {args}"] += 1
            return await plain(self, query, *args, **rest)

        return ask

    for name in ASKS:
        monkeypatch.setattr(asyncpg.Connection, name, counting(name))
    return counted


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [("POST", "/open", None), ("GET", "", None), ("PATCH", "", {"price_minor": 1_700})],
    ids=["open", "look", "edit"],
)
async def test_offer_call_asks_nothing_twice(
    stage: Stage, show: ShowId, asked: Counter[str], method: str, path: str, body: Any
) -> None:
    """Whose offer it is was known when the caller's rights were looked at."""
    name = await begin(stage, show)
    asked.clear()

    answer = await stage.call(method, f"/v1/offers/{name}{path}", body)

    assert answer.status_code == 200, answer.text
    if method != "PATCH":  # checked against the state before it, answered with the one after it
        assert [query for query, times in asked.items() if times > 1] == []
    assert asked[f"SELECT show FROM offers WHERE id = $1 ('{name}',)"] == 1

"""Gateways that die between a command's commit and its answer: a repeat finds that it was done.

Method: the call runs in a process that dies at that place; then the host's client repeats it with
the same key and body, when the dead call's key may be taken over.
"""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from live.base.failpoint import DIED
from live.domain.ids import ShowId
from live.ledger.db.pool import Pool
from tests.integration.test_api_shows import LAMP, begin, offer
from tests.support.api_kit import Stage, open_stage
from tests.support.ledger_kit import failpoint_environment

EXIT_SECONDS = 60
KEY = {"idempotency-key": "one key"}


@dataclass(frozen=True, slots=True)
class Desk:
    """A show on air with an open offer of 2 lamps; more are on hand."""

    stage: Stage
    show: ShowId
    offer: str
    database_url: str
    redis_url: str

    async def die_calling(
        self, path: str, body: dict[str, Any], *, failpoint: str = "api.before_answer"
    ) -> None:
        """Make the call in a process that dies before it answers."""
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.faults.api_process",
            self.database_url, self.redis_url, path, json.dumps(body), KEY["idempotency-key"],
            env=failpoint_environment(failpoint),
        )  # fmt: skip
        async with asyncio.timeout(EXIT_SECONDS):
            assert await child.wait() == DIED

    async def repeat(self, path: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """What the client does when the key of the dead call is free again."""
        await self.stage.pool.execute(
            "UPDATE idempotency SET created_at = created_at - interval '31 seconds'"
        )
        answer = await self.stage.call("POST", path, body, headers=KEY)
        return answer.status_code, answer.json()

    async def figures(self) -> list[Any]:
        """Everything that a command can move twice."""
        rows = await self.stage.pool.fetch(
            """SELECT (SELECT jsonb_agg(o ORDER BY id) FROM offers o) AS offers,
                      (SELECT jsonb_agg(s ORDER BY id) FROM shows s) AS shows,
                      (SELECT jsonb_agg(p ORDER BY sku) FROM products p) AS products,
                      (SELECT jsonb_agg(b ORDER BY sub) FROM bans b) AS bans,
                      (SELECT count(*) FROM host_actions) AS actions,
                      (SELECT count(*) FROM stock_movements) AS movements"""
        )
        return [tuple(row) for row in rows]


@asynccontextmanager
async def open_desk(
    pool: Pool, redis_url: str, database_url: str, show: ShowId
) -> AsyncIterator[Desk]:
    async with open_stage(pool, redis_url) as stage:
        await begin(stage, show)
        more = {"sku": "lamp", "delta": 100, "reason": "in", "key": "setup"}
        await stage.call("POST", "/v1/stock/adjustments", more)
        made = await stage.call(
            "POST", f"/v1/shows/{show}/offers", offer(quantity=2, duration_seconds=600)
        )
        name = made.json()["id"]
        await stage.call("POST", f"/v1/offers/{name}/open")
        yield Desk(stage, show, name, database_url, redis_url)


@pytest.fixture
async def desk(pool: Pool, redis_url: str, database_url: str, show: ShowId) -> AsyncIterator[Desk]:
    async with open_desk(pool, redis_url, database_url, show) as found:
        yield found


CALLS: list[tuple[str, dict[str, Any], int]] = [
    ("/v1/offers/{offer}/restock", {"quantity": 2}, 200),
    ("/v1/offers/{offer}/extend", {"seconds": 60}, 200),
    ("/v1/offers/{offer}/pause", {}, 200),
    ("/v1/offers/{offer}/close", {}, 200),
    ("/v1/shows/{show}/offers", offer(quantity=1), 201),
    ("/v1/shows/{show}/offers", offer(quantity=1, id="named"), 201),
    ("/v1/shows/{show}/announcements", {"text": "hi"}, 200),
    ("/v1/shows/{show}/pins", {"skus": ["lamp"]}, 200),
    ("/v1/shows/{show}/pause", {}, 200),
    ("/v1/shows/{show}/end", {}, 200),
    ("/v1/shows/{show}/moderation", {"action": "mute", "sub": "ada"}, 202),
    ("/v1/shows/{show}/moderation", {"action": "unban", "sub": "ada"}, 202),
    ("/v1/shows/{show}/moderation", {"action": "delete", "message": "1-0"}, 202),
    ("/v1/shows", {"title": "Sunday", "currency": "EUR"}, 201),
    ("/v1/products", LAMP | {"sku": "vase"}, 201),
    ("/v1/stock/adjustments", {"sku": "lamp", "delta": 3, "reason": "in", "key": "k"}, 200),
]


@pytest.mark.parametrize(("path", "body", "status"), CALLS)
async def test_repeat_after_a_death_before_the_answer_does_nothing_again(
    desk: Desk, path: str, body: dict[str, Any], status: int
) -> None:
    """The same key and body: the answer of one command that was done once."""
    path = path.format(show=desk.show, offer=desk.offer)
    before = await desk.figures()
    await desk.die_calling(path, body)
    done = await desk.figures()

    answered, told = await desk.repeat(path, body)

    assert answered == status, told
    assert await desk.figures() == done != before
    assert await desk.repeat(path, body) == (status, told)

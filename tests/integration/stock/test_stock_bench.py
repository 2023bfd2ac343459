"""`live bench stock`, made small: it measures, reports and cleans up."""

import pytest
import redis.asyncio

from live.base.errors import EngineError
from live.domain.ids import ShowId
from live.tools.bench.stock import run
from live.tools.bench.stock_rivals import Naive, Postgres
from tests.support.answers import Json
from tests.support.servers import Valkey

GOALS = {
    "stock.vs_naive_500",
    "stock.vs_naive_5000",
    "stock.vs_postgres_hot_row",
    "stock.redis_cpu_vs_floor",
    "stock.bytes_per_hold",
}


async def test_bench_reports_rows_and_goals_and_leaves_nothing(
    stock_server: Valkey, database_url: str, show: ShowId
) -> None:
    """The object of the public contract, with every goal; no key of the bench stays."""
    report: Json = await run(stock_server.url, database_url, rounds=1, scale=20)

    assert report["bench"] == "stock" and report["machine"]
    rows = {row["name"]: row for row in report["rows"]}
    for name in ("engine_500", "naive_redis_py_500", "postgres_skip_locked_500"):
        assert rows[name]["holds_per_second"] > 0
    assert 80 < rows["memory"]["bytes_per_hold"] < 200
    goals = report["goals"]
    assert {goal["id"] for goal in goals} == GOALS
    client = redis.asyncio.Redis.from_url(stock_server.url)
    assert await client.keys("live:{bench*") == []
    await client.aclose()


async def test_rival_that_has_nothing_left_ends_the_measurement(
    database_url: str, stock_server: Valkey
) -> None:
    """A refusal is faster than a sale: counted as one, it would make a rival look quick."""
    rival = await Postgres.open(database_url, units=2)
    naive = Naive(stock_server.url, 1)
    await naive.prepare()

    for click in (rival.skip_locked, rival.hot_row, naive.click):
        await click(b"a" * 16)
    await rival.skip_locked(b"b" * 16)
    with pytest.raises(EngineError, match="ran out"):
        await rival.skip_locked(b"c" * 16)
    await rival.restock()
    await rival.skip_locked(b"d" * 16)
    await rival._pool.execute(f"UPDATE {rival._schema}.offers SET available = 0")
    with pytest.raises(EngineError, match="ran out"):
        await rival.hot_row(b"e" * 16)
    await naive._redis.hset(f"{naive._prefix}offer", "left", 0)
    with pytest.raises(EngineError, match="ran out"):
        await naive.click(b"f" * 16)

    await naive.close()
    await rival.close()

"""`live bench stock`, made small: it measures, reports and cleans up."""

import redis.asyncio

from live.bench.stock import run
from live.domain.ids import ShowId
from tests.servers import Valkey

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
    report = await run(stock_server.url, database_url, rounds=1, scale=20)

    assert report["bench"] == "stock" and report["machine"]
    rows = {row["name"]: row for row in report["rows"]}  # type: ignore[attr-defined]  # a list
    assert rows["engine_500"]["holds_per_second"] > rows["naive_redis_py_500"]["holds_per_second"]
    assert 80 < rows["memory"]["bytes_per_hold"] < 200
    goals = report["goals"]
    assert {goal["id"] for goal in goals} == GOALS  # type: ignore[attr-defined]  # a list
    client = redis.asyncio.Redis.from_url(stock_server.url)
    assert await client.keys("live:{bench*") == []
    await client.aclose()

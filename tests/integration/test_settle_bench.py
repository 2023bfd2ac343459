"""`live bench settle`, made small: it measures, reports and cleans up."""

from typing import cast

import asyncpg
import redis.asyncio

from live.tools.bench.settle import run
from tests.support.answers import Json


async def test_bench_reports_both_ways_and_leaves_nothing(
    redis_url: str, database_url: str
) -> None:
    """The object of the public contract; neither a database nor a key of the bench stays."""
    before = await kept(redis_url)  # of other measurements, if any
    report: Json = await run(redis_url, database_url, rounds=1, scale=50)

    rows = {row["name"]: row for row in report["rows"]}
    assert rows["copy_100"]["orders_per_second"] > 0
    assert rows["settle_100"]["orders_per_second"] > 0
    paced, rebuilt = rows["sale_at_1000_per_second"], rows["rebuild_100k"]
    assert paced["orders"] == 100
    assert paced["begun_per_second"] >= paced["confirmed_per_second"] > 0
    assert rebuilt["orders"] == 2_000
    assert rebuilt["work_s"] >= rebuilt["read_seconds"] > 0
    (goal,) = report["goals"]
    assert goal["id"] == "settle.vs_copy" and goal["value"] > 0
    assert await kept(redis_url) == before
    admin = await asyncpg.connect(database_url)
    assert await admin.fetch("SELECT FROM pg_database WHERE datname LIKE 'bench\\_%'") == []
    await admin.close()


async def kept(redis_url: str) -> set[bytes]:
    """The keys of all measurements but heartbeats, which come late and end by themselves."""
    async with redis.asyncio.Redis.from_url(redis_url) as client:
        found = await client.keys("live:{bench-*")
    return {key for key in cast(list[bytes], found) if not key.endswith(b":viewers")}

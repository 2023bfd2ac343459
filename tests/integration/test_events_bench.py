"""`live bench events` measures what it says, on a small scale."""

from live.tools.bench.events import run
from tests.support.servers import Postgres


async def test_bench_writes_places_and_sends(postgres: Postgres) -> None:
    """Both rows are there, with what went out of each."""
    report = await run("", postgres.url("postgres"), rounds=1, scale=100)

    rows = report["rows"]
    assert isinstance(rows, list)
    assert [row["name"] for row in rows] == ["endpoints_0", "endpoints_3"]
    assert rows[0]["placed_per_second"] > 0 and rows[1]["sent_per_second"] > 0
    assert rows[1]["us_per_order"] > 0

"""`live bench floods` in miniature: each flood is run beside a bystander who is answered."""

from live.tools.bench import floods
from live.tools.bench.flooder import floods as kinds
from tests.support.answers import Json
from tests.support.servers import Postgres


async def test_floods_bench_reports_each_flood(
    redis_url: str, postgres: Postgres, database_url: str
) -> None:
    """A row for each kind, and a goal for what the bystander waits."""
    report: Json = await floods.run(redis_url, database_url, seconds=0.3, calm=0.2)

    names = list(kinds("show"))
    rows = {row["name"]: row for row in report["rows"]}
    assert list(rows) == names
    assert all(row["p50_ms"] > 0 and row["sent_mb"] > 0 for row in rows.values())
    goals = [goal["id"] for goal in report["goals"]]
    assert goals == [f"floods.bystander_p99_ms_{name}" for name in names]

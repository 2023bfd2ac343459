"""`live bench fanout` and `purchase` in miniature: they measure what they say they measure."""

from live.tools.bench import fanout, purchase
from live.tools.bench.purchase import RANDOM_CLICKS
from tests.support.servers import Postgres


async def test_fanout_bench_reports_both_sides(
    redis_url: str, postgres: Postgres, database_url: str
) -> None:
    """Each phase has a row for either side; the goals are those of the contract."""
    report = await fanout.run(redis_url, database_url, sizes=(40,))
    rows = report["rows"]
    assert isinstance(rows, list)
    phases = ("connect", "lone", "burst", "saturated")
    named = {row["name"]: row for row in rows}
    sides = {f"{side}_{phase}_40" for side in ("ours", "packed", "naive") for phase in phases}
    assert set(named) == sides | {"ratios"}
    assert all(named[name]["bottleneck"] in ("server", "generator") for name in sides)
    assert named["ratios"]["upgrades"] > 0
    # How many bytes a message has is no matter of speed, so it can be judged here.
    assert 200 < named["ours_lone_40"]["bytes_per_message"] < 300
    # Far below the plain ones; how far varies with what the messages say.
    assert named["packed_lone_40"]["bytes_per_message"] < 120
    assert named["ours_burst_40"]["p99_ms"] > 0
    assert _goals(report) == [
        "fanout.burst_vs_naive",
        "fanout.lone_vs_naive",
        "fanout.upgrades_per_second",
        "fanout.kb_per_viewer",
        "fanout.bare_upgrades_per_second",
        "fanout.upgrades_vs_naive",
        "fanout.compressed_bytes",
        "fanout.compressed_vs_plain_cpu",
    ]


async def test_purchase_bench_reports_both_sides(
    redis_url: str, postgres: Postgres, database_url: str
) -> None:
    """Closed loops and the one instant for either side, random clicks for ours; each was a hold."""
    report = await purchase.run(redis_url, database_url, rounds=1, scale=100)
    rows = report["rows"]
    assert isinstance(rows, list)
    named = {row["name"]: row for row in rows}
    for side in ("ours", "naive"):
        assert {f"{side}_closed_500", f"{side}_closed_5000", f"{side}_instant_5000"} <= set(named)
    at_random = named["ours_random_2000"]
    assert at_random["holds"] + at_random["refused"] == 20 * RANDOM_CLICKS
    assert 0 < at_random["p50_ms"] <= at_random["p99_ms"]
    assert at_random["late_p99_ms"] >= 0
    assert _goals(report) == [
        "purchase.holds_per_second",
        "purchase.vs_naive",
        "purchase.holds_per_second_500",
        "purchase.cpu_vs_naive_500",
        "purchase.cpu_vs_naive_5000",
        "purchase.instant_ms",
        "purchase.instant_vs_naive",
        "purchase.random_p99_ms",
    ]


def _goals(report: dict[str, object]) -> list[str]:
    goals = report["goals"]
    assert isinstance(goals, list)
    return [goal["id"] for goal in goals]

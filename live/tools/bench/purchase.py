"""`live bench purchase`: a hold through the WebSocket, from click to answer.

Method: buyers with a token and a connection each press Buy against the whole gateway, and against a
naive handler (Starlette, one script call for each message through redis-py). `instant` is one click
of everybody at once, timed from that instant; `closed` presses again as soon as it is answered. The
two sides take turns in one run; the cost is the server process' CPU, so holds a second are those of
one gateway core. `random` is ours alone: clicks at instants of their own, whether or not the last
ones are answered, at a rate that the naive handler cannot take. Redis and the crowd have processes
of their own.
"""

from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from statistics import median
from typing import Final

from rich.console import Console
from rich.progress import Progress

from live.base.errors import EngineError
from live.tools.bench.gateways import (
    KINDS,
    BenchStage,
    Cost,
    Kind,
    Side,
    open_side,
    raise_file_limit,
    set_stage,
)
from live.tools.bench.link import Figures
from live.tools.bench.report import Goal, bottleneck, make_report, print_report

CROWDS: Final = (500, 5_000)
INSTANT: Final = 5_000
ROUNDS: Final = 3
# Within the commands of a connection and the 16 live holds of a buyer: the limits stay on.
CLICKS: Final[dict[Kind, dict[int, int]]] = {
    "ours": {500: 15, 5_000: 8},
    "naive": {500: 10, 5_000: 2},
}
RANDOM_CROWD: Final = 2_000
RANDOM_CLICKS: Final = 14  # of each: 1.4 s at this rate, within the 16 live holds of a buyer
RANDOM_RATE: Final = 20_000  # clicks a second
HOLDERS: Final = 500  # Redis connections of the naive handler; more only make it slower
FILES_MIN: Final = INSTANT + HOLDERS + 200

Measured = dict[str, list[Figures]]


async def run(
    redis_url: str, database_url: str, *, rounds: int = ROUNDS, scale: int = 1
) -> dict[str, object]:
    """Measure, print a table to standard error, return the object of `live bench --json`.

    `scale` divides the crowds, for a test of the bench itself. Raises EngineError.
    """
    console = Console(stderr=True)
    if raise_file_limit() < FILES_MIN // scale:
        raise EngineError(f"too few open files are allowed: {FILES_MIN} are needed (ulimit -n)")
    measured: Measured = {}
    async with set_stage(redis_url, database_url) as stage:
        with Progress(console=console, transient=True) as progress:
            task = progress.add_task("purchase", total=rounds * 7 + 2)
            await _measure(stage, measured, rounds, scale, lambda: progress.advance(task))
    rows = {name: _row(several) for name, several in measured.items()}
    ratios = _ratios(measured)
    rows["ratios"] = {name: round(value, 2) for name, value in ratios.items()}
    goals = _goals(rows, ratios)
    columns = ("holds_per_core_second", "cpu_us", "p50_ms", "p99_ms", "all_answered_ms")
    print_report(console, "live bench purchase", rows, goals, columns)
    return make_report("purchase", rows, goals)


async def _measure(
    stage: BenchStage, measured: Measured, rounds: int, scale: int, step: Callable[[], None]
) -> None:
    async with AsyncExitStack() as stack:
        sides: list[Side] = []
        for kind in KINDS:
            holders = HOLDERS
            side = await stack.enter_async_context(open_side(stage, kind, holders=holders))
            sides.append(side)
            step()
        for _ in range(rounds):
            for crowd in CROWDS:
                for side in sides:
                    clicks = CLICKS[side.kind][crowd]
                    name = f"{side.kind}_closed_{crowd}"
                    figures = await _press(side, crowd // scale, clicks)
                    measured.setdefault(name, []).append(figures)
                    step()
            for side in sides:
                name = f"{side.kind}_instant_{INSTANT}"
                measured.setdefault(name, []).append(await _press(side, INSTANT // scale, 1))
                step()
            ours = sides[0]
            measured.setdefault(f"ours_random_{RANDOM_CROWD}", []).append(
                await _press(ours, RANDOM_CROWD // scale, RANDOM_CLICKS, rate=RANDOM_RATE // scale)
            )
            step()


async def _press(side: Side, buyers: int, clicks: int, *, rate: int = 0) -> Figures:
    """New buyers come, press so often, and leave; with a rate they press at random."""
    await side.crowd.ask("connect", number=buyers, port=side.port)
    await side.crowd.ask("join")
    await side.crowd.ask("load", number=clicks)
    cost = Cost(side)
    await cost.begin()
    if rate:
        pressed = await side.crowd.ask("press_at_random", number=clicks, rate=rate)
        names = ("holds", "refused", "offered_per_second", "late_p99_ms")
        more = {name: pressed[name] for name in names}
    else:
        pressed, more = await side.crowd.ask("press"), {}
    spent = await cost.end()
    await side.crowd.ask("leave")
    return more | {
        "holds_per_core_second": pressed["holds"] / spent["server_cpu_seconds"],
        "cpu_us": 1e6 * spent["server_cpu_seconds"] / pressed["holds"],
        "p50_ms": pressed["p50_ms"],
        "p99_ms": pressed["p99_ms"],
        "all_answered_ms": 1000 * pressed["seconds"],
        "wall_holds_per_second": pressed["holds"] / pressed["seconds"],
        "server_busy": spent["server_busy"],
        "crowd_busy": spent["crowd_busy"],
    }


def _row(several: list[Figures]) -> dict[str, float | str]:
    """Medians over the rounds."""
    figures = {name: median(one[name] for one in several) for name in several[0]}
    rounded: dict[str, float | str] = {name: round(value, 2) for name, value in figures.items()}
    return rounded | {"bottleneck": bottleneck(figures)}


def _ratios(measured: Measured) -> dict[str, float]:
    """Medians of the ratios in each round, so that a busy moment hits both sides."""

    def ratio(name: str, figure: str) -> float:
        pairs = zip(measured[f"naive_{name}"], measured[f"ours_{name}"], strict=True)
        return median(naive[figure] / ours[figure] for naive, ours in pairs)

    cheaper = {f"closed_{n}_cpu": ratio(f"closed_{n}", "cpu_us") for n in CROWDS}
    return cheaper | {"instant_sooner": ratio(f"instant_{INSTANT}", "all_answered_ms")}


def _goals(rows: Mapping[str, Mapping[str, float | str]], ratios: Figures) -> list[Goal]:
    def figure(row: str, name: str) -> float:
        return float(rows[row][name])

    few, many = CROWDS
    at_once = f"ours_instant_{INSTANT}"
    return [
        Goal(
            "purchase.holds_per_second",
            figure(f"ours_closed_{many}", "holds_per_core_second"),
            60_000,
            higher=True,
        ),
        # The least of its three faces: sooner in one instant, cheaper at either crowd.
        Goal("purchase.vs_naive", min(ratios.values()), 12, higher=True),
        Goal(
            f"purchase.holds_per_second_{few}",
            figure(f"ours_closed_{few}", "holds_per_core_second"),
            80_000,
            higher=True,
        ),
        Goal(f"purchase.cpu_vs_naive_{few}", ratios[f"closed_{few}_cpu"], 12, higher=True),
        Goal(f"purchase.cpu_vs_naive_{many}", ratios[f"closed_{many}_cpu"], 20, higher=True),
        Goal("purchase.instant_ms", figure(at_once, "all_answered_ms"), 120, higher=False),
        Goal("purchase.instant_vs_naive", ratios["instant_sooner"], 12, higher=True),
        Goal(
            "purchase.random_p99_ms",
            figure(f"ours_random_{RANDOM_CROWD}", "p99_ms"),
            3,
            higher=False,
        ),
    ]

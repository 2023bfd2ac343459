"""`live bench fanout`: what one publication costs on its way to thousands of phones.

Method: the whole gateway, the same with compression (`packed`) and the naive Starlette loop, each
with a show and a crowd of its own, take turns in one run at the same sizes. Cost is the server
process' CPU time per delivery: wall time depends on who else uses the machine, CPU time hardly
does. Upgrades a second are per second of server CPU, that is, of one core. `lone` is one
publication each 100 ms, `burst` is 50 at once each second, `saturated` sends the next batch when
everybody has the last one.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Final

import orjson
import redis.asyncio
from rich.console import Console
from rich.progress import Progress

from live.base.errors import EngineError
from live.domain.channels import Channel, ChannelKind
from live.domain.events import AnnouncementEvent
from live.tools.bench.gateways import (
    BenchStage,
    Cost,
    Kind,
    Side,
    open_side,
    raise_file_limit,
    set_stage,
)
from live.tools.bench.link import Figures
from live.tools.bench.naive import naive_channel
from live.tools.bench.report import Goal, bottleneck, make_report, print_report

KINDS: Final[tuple[Kind, ...]] = ("ours", "packed", "naive")
SIZES: Final = (1_000, 5_000, 10_000)  # connections; those that the limit of open files allows
SPARE_FILES: Final = 200
LONE_GAP_SECONDS: Final = 0.1
LONE_COUNT: Final = 20
BURST: Final = 50
BURSTS: Final = 2
SATURATED_SECONDS: Final = 1.5
SATURATED_BATCH: Final[dict[Kind, int]] = {"ours": 90, "packed": 90, "naive": 5}
MESSAGE_BYTES: Final = 200
WORDS: Final = (
    "lamp walnut copenhagen only left now offer hold shipping today colour green please love size"
    " where from nice is it the a of for and warm light host show"
).split()

Rows = dict[str, dict[str, float | str]]


async def run(
    redis_url: str, database_url: str, *, sizes: tuple[int, ...] = SIZES
) -> dict[str, object]:
    """Measure, print a table to standard error, return the object of `live bench --json`.

    Raises EngineError where it cannot be measured.
    """
    console = Console(stderr=True)
    limit = raise_file_limit()
    sizes = tuple(size for size in sizes if size + SPARE_FILES <= limit)
    if not sizes:
        raise EngineError("too few open files are allowed (ulimit -n)")
    rows: Rows = {}
    async with AsyncExitStack() as stack:
        # A show for each side: what is published for one must not cost the others anything.
        stages = {
            kind: await stack.enter_async_context(set_stage(redis_url, database_url))
            for kind in KINDS
        }
        with Progress(console=console, transient=True) as progress:
            task = progress.add_task("fanout", total=4 * len(KINDS) * len(sizes))
            for size in sizes:
                rows |= await _measure(stages, size, lambda: progress.advance(task))
    ratios = _ratios(rows, sizes[-1])
    goals = _goals(rows, ratios, sizes[-1])
    rows["ratios"] = {name: round(value, 3) for name, value in ratios.items()}
    columns = ("cpu_us", "bytes_per_message", "p50_ms", "p99_ms", "deliveries_per_second")
    print_report(console, "live bench fanout", rows, goals, columns)
    return make_report("fanout", rows, goals)


async def _measure(stages: dict[Kind, BenchStage], size: int, step: Callable[[], None]) -> Rows:
    """One size: all sides stand side by side, phases alternate between them."""
    rows: Rows = {}
    publish = Publisher(stages["naive"].redis_url)
    async with AsyncExitStack() as stack:
        sides: list[Side] = []
        for kind in KINDS:
            side = await stack.enter_async_context(open_side(stages[kind], kind))
            rows[f"{kind}_connect_{size}"] = await _connect(side, size)
            sides.append(side)
            step()
        stack.push_async_callback(publish.close)
        for name, phase in (("lone", _lone), ("burst", _burst), ("saturated", _saturated)):
            for side in sides:
                rows[f"{side.kind}_{name}_{size}"] = await _phase(side, size, publish, phase)
                step()
    return rows


class Publisher:
    """Sends the same event to either side: through the show log, or bare through pub/sub."""

    def __init__(self, redis_url: str) -> None:
        self._redis = redis.asyncio.Redis.from_url(redis_url)

    async def close(self) -> None:
        await self._redis.aclose()

    async def __call__(self, side: Side, count: int) -> None:
        """Publish `count` events back to back."""
        stage = side.stage
        if side.kind == "naive":
            pipeline = self._redis.pipeline(transaction=False)
            for _ in range(count):
                pipeline.publish(naive_channel(stage.show), orjson.dumps(_event()))
            await pipeline.execute()
        else:
            channel = Channel(ChannelKind.SHOW, stage.show)
            send = [stage.log.publish(channel, _event()) for _ in range(count)]
            await asyncio.gather(*send)


Phase = Callable[[Side, int, Publisher], Awaitable[Figures]]


def _event() -> AnnouncementEvent:
    """200 bytes with the instant in them; words by chance, so that they compress as words do."""
    words = " ".join(random.choices(WORDS, k=MESSAGE_BYTES // 4))
    text = f"T@{time.monotonic_ns():018d} {words}"[: MESSAGE_BYTES - 72]
    return AnnouncementEvent(at=time.time_ns() // 1_000_000, text=text, until=None)


async def _connect(side: Side, size: int) -> dict[str, float | str]:
    """Everybody comes: handshakes, then connects with a token; then they sit there, idle."""
    empty = await side.server.ask("settle")
    upgraded, cost = await _timed(side, "connect", number=size, port=side.port)
    joined, joining = await _timed(side, "join")
    idle = await side.server.ask("settle")
    upgrade_cpu, join_cpu = cost["server_cpu_seconds"], joining["server_cpu_seconds"]
    return {
        "upgrades_per_second": round(size / upgrade_cpu),
        "upgraded_and_joined_per_second": round(size / (upgrade_cpu + join_cpu)),
        "wall_upgrades_per_second": round(size / upgraded["seconds"]),
        "wall_joins_per_second": round(size / joined["seconds"]),
        "kb_per_viewer": round((idle["rss_bytes"] - empty["rss_bytes"]) / size / 1024, 2),
        "lag_max_ms": max(cost["lag_max_ms"], joining["lag_max_ms"]),
        "bottleneck": bottleneck(cost),
    }


async def _timed(side: Side, do: str, *, number: int = 0, port: int = 0) -> tuple[Figures, Figures]:
    cost = Cost(side)
    await cost.begin()
    answer = await side.crowd.ask(do, number=number, port=port)
    return answer, await cost.end()


async def _phase(side: Side, size: int, publish: Publisher, phase: Phase) -> dict[str, float | str]:
    cost = Cost(side)
    await cost.begin()
    heard = await phase(side, size, publish)
    spent = await cost.end()
    cpu_us = 1e6 * spent["server_cpu_seconds"] / heard["deliveries"]
    # The naive side writes each publication by itself.
    writes = spent["writes"] or heard["deliveries"]
    return {
        "cpu_us": round(cpu_us, 3),
        "cpu_us_per_write": round(1e6 * spent["server_cpu_seconds"] / writes, 3),
        "p50_ms": round(heard["p50_ms"], 1),
        "p99_ms": round(heard["p99_ms"], 1),
        "bytes_per_message": round(heard["bytes"] / heard["deliveries"], 1),
        "deliveries_per_second": round(heard["deliveries"] / spent["seconds"]),
        "deliveries_per_core_second": round(1e6 / cpu_us),
        "lag_p99_ms": spent["lag_p99_ms"],
        "lag_max_ms": spent["lag_max_ms"],
        "server_busy": spent["server_busy"],
        "crowd_busy": spent["crowd_busy"],
        "bottleneck": bottleneck(spent),
    }


async def _lone(side: Side, size: int, publish: Publisher) -> Figures:
    due = time.perf_counter()
    for _ in range(LONE_COUNT):
        await publish(side, 1)
        due += LONE_GAP_SECONDS
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
    return await side.crowd.ask("wait", number=LONE_COUNT * size)


async def _burst(side: Side, size: int, publish: Publisher) -> Figures:
    due = time.perf_counter()
    for _ in range(BURSTS):
        await publish(side, BURST)
        due += 1.0
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
    return await side.crowd.ask("wait", number=BURSTS * BURST * size)


async def _saturated(side: Side, size: int, publish: Publisher) -> Figures:
    """The next batch leaves when everybody has the last one, so nobody falls behind for good."""
    batch, end = SATURATED_BATCH[side.kind], time.perf_counter() + SATURATED_SECONDS
    while True:
        await publish(side, batch)
        heard = await side.crowd.ask("wait", number=batch * size)
        if time.perf_counter() >= end:
            return heard


def _ratios(rows: Rows, size: int) -> Figures:
    """What the goals compare, of the largest crowd."""

    def figure(row: str, name: str) -> float:
        return float(rows[f"{row}_{size}"][name])

    return {
        "burst": figure("naive_burst", "cpu_us") / figure("ours_burst", "cpu_us"),
        "lone": figure("ours_lone", "cpu_us") / figure("naive_lone", "cpu_us"),
        "upgrades": figure("ours_connect", "upgrades_per_second")
        / figure("naive_connect", "upgrades_per_second"),
        # By writes: on a busy machine either side may join publications that the other does not.
        "packed_cpu": figure("packed_lone", "cpu_us_per_write")
        / figure("ours_lone", "cpu_us_per_write"),
        "packed_bytes": figure("packed_lone", "bytes_per_message")
        / figure("ours_lone", "bytes_per_message"),
    }


def _goals(rows: Rows, ratios: Figures, size: int) -> list[Goal]:
    connect = rows[f"ours_connect_{size}"]
    joined, memory = connect["upgraded_and_joined_per_second"], connect["kb_per_viewer"]
    bare = float(connect["upgrades_per_second"])
    packed_bytes = float(rows[f"packed_lone_{size}"]["bytes_per_message"])
    return [
        Goal("fanout.burst_vs_naive", ratios["burst"], 60, higher=True),
        Goal("fanout.lone_vs_naive", ratios["lone"], 0.5, higher=False),
        Goal("fanout.upgrades_per_second", float(joined), 10_000, higher=True),
        Goal("fanout.kb_per_viewer", float(memory), 4, higher=False),
        Goal("fanout.bare_upgrades_per_second", bare, 15_000, higher=True),
        Goal("fanout.upgrades_vs_naive", ratios["upgrades"], 8, higher=True),
        Goal("fanout.compressed_bytes", packed_bytes, 75, higher=False),
        Goal("fanout.compressed_vs_plain_cpu", ratios["packed_cpu"], 1.1, higher=False),
    ]

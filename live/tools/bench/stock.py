"""`live bench stock`: holds a second, and how many times more than the ways that everybody writes.

Method: closed loops of 500 and 5,000 buyers, each pressing again as soon as they are answered, each
click a new buyer; engine and rivals take turns in several rounds on the same servers, and medians
count. The Redis at `redis_url` must be ours alone while it runs: its CPU time is read.
"""

import asyncio
import gc
import os
import platform
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from itertools import count
from random import Random
from secrets import token_bytes, token_hex
from statistics import median
from typing import Final

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from live.base.errors import CallError, EngineError
from live.domain.hold import HoldDecision, Line
from live.domain.ids import BuyerId, HoldKey, ShowId
from live.domain.outcomes import Outcome
from live.stock.calls import StockCalls
from live.stock.engine import StockEngine
from live.stock.keys import show_keys
from live.stock.records import pack_request
from live.stock.replies import as_list, as_number
from live.tools.bench.offer import endless_offer
from live.tools.bench.stock_rivals import (
    Click,
    Floor,
    Naive,
    Postgres,
    cpu_seconds,
    info,
    unlink_shows,
)

ROUNDS: Final = 3
CROWDS: Final = (500, 5_000)
SECONDS: Final = 2.0  # of each closed loop; the whole run stays under three minutes
RANDOM_RATE: Final = 50_000
SUBMITTED_AT_ONCE: Final = 512
CALL_SIZE: Final = 128  # holds a call in the comparison with bare movement
CALLS: Final = 1_000
CALLS_IN_TURN: Final = 20  # short turns, so that a busy moment of the machine hits both sides
MEMORY_HOLDS: Final = 100_000
ONE: Final = (Line(0, 1),)

Figures = dict[str, float]


@dataclass
class Measured:
    """One closed loop: what it did and what it cost."""

    holds_per_second: float
    p50_ms: float
    p99_ms: float
    client_cpu_us: float
    redis_cpu_us: float

    def figures(self) -> Figures:
        return {name: round(getattr(self, name), 3) for name in self.__dataclass_fields__}


async def run(
    redis_url: str, database_url: str, *, rounds: int = ROUNDS, scale: int = 1
) -> dict[str, object]:
    """Measure, print a table to standard error, return the object of `live bench --json`.

    `scale` divides crowds and times, for a test of the bench itself.
    """
    console = Console(stderr=True)
    engine = StockEngine(redis_url)
    await engine.open()
    commands = StockCalls(redis_url)
    await commands.open()
    bench = _Bench(engine, commands, rounds, scale)
    naive = {crowd: Naive(redis_url, crowd // scale) for crowd in CROWDS}
    postgres = await Postgres.open(database_url)
    try:
        with Progress(console=console, transient=True) as progress:
            task = progress.add_task("stock", total=rounds * 7 + 2)
            for each in naive.values():
                await each.prepare()
            await bench.closed_loops(naive, postgres, lambda: progress.advance(task))
            await bench.against_floor(lambda: progress.advance(task))
            await bench.random_arrivals()
            progress.advance(task)
            await bench.memory()
            progress.advance(task)
    finally:
        for each in naive.values():
            await each.close()
        await postgres.close()
        await unlink_shows(commands, bench.prefix.encode())
        server = await info(commands, b"server")
        await engine.close()
        await commands.close()
    report = bench.report(server)
    _print(console, report)
    return report


class _Bench:
    def __init__(self, engine: StockEngine, commands: StockCalls, rounds: int, scale: int) -> None:
        self.engine, self.commands, self.rounds, self.scale = engine, commands, rounds, scale
        self.seconds = SECONDS / scale
        self.names = map(_name, count(1))  # of buyers, each of whom presses once
        self.prefix = f"bench-{token_hex(4)}-"
        self.loops: dict[str, list[Measured]] = {}
        self.rows: dict[str, Figures] = {}

    async def show(self) -> ShowId:
        """A fresh show with one offer that does not run out."""
        show = ShowId(self.prefix + token_hex(4))
        await self.engine.install_show(show, stock_epoch=1)
        await self.engine.apply_offer(endless_offer(show))
        await self.engine.hold(show, BuyerId(os.urandom(16)), HoldKey(os.urandom(16)), ONE)
        return show

    async def closed_loops(
        self, naive: dict[int, Naive], pg: Postgres, advance: Callable[[], None]
    ) -> None:
        for _ in range(self.rounds):
            for crowd in CROWDS:
                buyers = crowd // self.scale
                self._add(f"engine_{crowd}", await self._engine_loop(await self.show(), buyers))
                advance()
                self._add(f"naive_redis_py_{crowd}", await self._loop(naive[crowd].click, buyers))
                advance()
            buyers = CROWDS[0] // self.scale
            self._add(f"postgres_hot_row_{CROWDS[0]}", await self._loop(pg.hot_row, buyers))
            advance()
            await pg.restock()
            self._add(f"postgres_skip_locked_{CROWDS[0]}", await self._loop(pg.skip_locked, buyers))
            advance()

    def _add(self, name: str, measured: Measured) -> None:
        self.loops.setdefault(name, []).append(measured)

    async def _engine_loop(self, show: ShowId, buyers: int) -> Measured:
        engine, clock, names = self.engine, time.perf_counter, self.names
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[None] = loop.create_future()
        latencies: list[float] = []
        running = buyers
        stop_at = clock() + self.seconds

        def press() -> None:
            name, start = next(names), clock()

            def done(answer: HoldDecision | CallError) -> None:
                nonlocal running
                now = clock()
                latencies.append(now - start)
                if isinstance(answer, CallError) or answer.outcome is not Outcome.HELD:
                    if not ended.done():
                        ended.set_exception(EngineError(f"a hold was answered {answer}"))
                elif now < stop_at:
                    press()
                else:
                    running -= 1
                    if running == 0 and not ended.done():
                        ended.set_result(None)

            engine.submit_hold(show, BuyerId(name), HoldKey(name), ONE, done)

        async def all_pressed() -> None:
            for _ in range(buyers):
                press()
            await ended

        return await self._measure(all_pressed, latencies)

    async def _loop(self, click: Click, buyers: int) -> Measured:
        clock = time.perf_counter
        latencies: list[float] = []
        stop_at = clock() + self.seconds

        async def buyer() -> None:
            while True:
                start = clock()
                await click(next(self.names))
                now = clock()
                latencies.append(now - start)
                if now >= stop_at:
                    return

        async def all_pressed() -> None:
            await asyncio.gather(*(buyer() for _ in range(buyers)))

        return await self._measure(all_pressed, latencies)

    async def _measure(
        self, work: Callable[[], Awaitable[None]], latencies: list[float]
    ) -> Measured:
        gc.collect()
        gc.freeze()  # as the gateway does: a full collection is no part of a hold
        redis, client = await cpu_seconds(self.commands), time.process_time()
        start = time.perf_counter()
        await work()
        took = time.perf_counter() - start
        client = time.process_time() - client
        redis = await cpu_seconds(self.commands) - redis
        gc.unfreeze()
        latencies.sort()
        number = len(latencies)
        return Measured(
            holds_per_second=number / took,
            p50_ms=1000 * latencies[number // 2],
            p99_ms=1000 * latencies[number * 99 // 100],
            client_cpu_us=1e6 * client / number,
            redis_cpu_us=1e6 * redis / number,
        )

    async def against_floor(self, advance: Callable[[], None]) -> None:
        """The engine's own script and bare movement, 128 holds a call, in short turns."""
        floor = Floor(self.commands)
        await floor.prepare()
        show = await self.show()
        ours: list[float] = []
        bare: list[float] = []
        for _ in range(self.rounds):
            for _ in range(CALLS // CALLS_IN_TURN // self.scale):
                blobs = [self._blob() for _ in range(CALLS_IN_TURN)]
                bare.append(await self._cpu_us(floor.move, blobs))
                blobs = [self._blob() for _ in range(CALLS_IN_TURN)]
                ours.append(
                    await self._cpu_us(lambda blob: _decide(self.commands, show, blob), blobs)
                )
            advance()
        await floor.close()
        self.rows["engine_128_a_call"] = {"redis_cpu_us": round(median(ours), 3)}
        self.rows["bare_movement_128_a_call"] = {"redis_cpu_us": round(median(bare), 3)}
        times = round(median(ours) / median(bare), 3)
        self.rows["engine_128_a_call"]["times_bare_movement"] = times

    def _blob(self, size: int = CALL_SIZE) -> bytes:
        """Requests of new buyers."""
        names = [next(self.names) for _ in range(size)]
        return b"".join([pack_request(BuyerId(name), HoldKey(name), ONE) for name in names])

    async def _cpu_us(
        self, call: Callable[[bytes], Awaitable[object]], blobs: list[bytes]
    ) -> float:
        before = await cpu_seconds(self.commands)
        for blob in blobs:
            await call(blob)
        return 1e6 * (await cpu_seconds(self.commands) - before) / (len(blobs) * CALL_SIZE)

    async def random_arrivals(self) -> None:
        """Clicks at random instants; latency counts from the instant, not from our turn."""
        show, clock, random = await self.show(), time.perf_counter, Random(1)
        latencies: list[float] = []
        submitted = 0
        next_at = start = clock()
        end = start + self.seconds
        while next_at < end:
            # A slow machine must not keep us here: late clicks count as late, the loop goes on.
            for _ in range(SUBMITTED_AT_ONCE):
                if next_at > clock() or next_at >= end:
                    break
                self._press_at(show, next_at, latencies)
                submitted += 1
                next_at += random.expovariate(RANDOM_RATE)
            await asyncio.sleep(0)
        while len(latencies) < submitted:  # noqa: ASYNC110  # the last answers, no event for them
            await asyncio.sleep(0.001)
        took = clock() - start
        latencies.sort()
        self.rows["engine_random_50000_a_second"] = {
            "holds_per_second": round(submitted / took, 1),
            "p50_ms": round(1000 * latencies[submitted // 2], 3),
            "p99_ms": round(1000 * latencies[submitted * 99 // 100], 3),
        }

    def _press_at(self, show: ShowId, instant: float, latencies: list[float]) -> None:
        name, clock = next(self.names), time.perf_counter

        def done(answer: HoldDecision | CallError) -> None:
            latencies.append(clock() - instant)

        self.engine.submit_hold(show, BuyerId(name), HoldKey(name), ONE, done)

    async def memory(self) -> None:
        """Bytes of data that a hold leaves behind, its outbox entry included."""
        show = await self.show()
        before = int((await info(self.commands, b"memory"))["used_memory_dataset"])
        for _ in range(MEMORY_HOLDS // 512):
            await _decide(self.commands, show, self._blob(512))
        after = int((await info(self.commands, b"memory"))["used_memory_dataset"])
        holds = MEMORY_HOLDS // 512 * 512
        self.rows["memory"] = {"bytes_per_hold": round((after - before) / holds, 1)}

    def report(self, server: dict[str, str]) -> dict[str, object]:
        rows: dict[str, Figures] = {
            name: {
                figure: round(median(getattr(measured, figure) for measured in several), 3)
                for figure in Measured.__dataclass_fields__
            }
            for name, several in self.loops.items()
        }
        rows |= self.rows
        ratios = {f"vs_naive_{n}": self._ratio(f"naive_redis_py_{n}", n) for n in CROWDS}
        ratios["vs_postgres_hot_row"] = self._ratio("postgres_hot_row_500", 500)
        for n in CROWDS:
            rival, ours = rows[f"naive_redis_py_{n}"], rows[f"engine_{n}"]
            ratios[f"p99_vs_naive_{n}"] = round(rival["p99_ms"] / ours["p99_ms"], 1)
        rows["ratios"] = ratios
        floor = rows["engine_128_a_call"]["times_bare_movement"]
        goals = [
            _goal("stock.vs_naive_500", ratios["vs_naive_500"], 25, higher=True),
            _goal("stock.vs_naive_5000", ratios["vs_naive_5000"], 50, higher=True),
            _goal("stock.vs_postgres_hot_row", ratios["vs_postgres_hot_row"], 200, higher=True),
            _goal("stock.redis_cpu_vs_floor", floor, 1.25, higher=False),
            _goal("stock.bytes_per_hold", rows["memory"]["bytes_per_hold"], 135, higher=False),
        ]
        machine = {
            "cpus": os.cpu_count(),
            "system": platform.platform(),
            "python": platform.python_version(),
            "server": _server_name(server),
        }
        listed = [{"name": name, **figures} for name, figures in rows.items()]
        return {"bench": "stock", "machine": machine, "rows": listed, "goals": goals}

    def _ratio(self, rival: str, buyers: int) -> float:
        """Median over the rounds, so that a busy moment of the machine hits both sides."""
        pairs = zip(self.loops[f"engine_{buyers}"], self.loops[rival], strict=True)
        return round(median(a.holds_per_second / b.holds_per_second for a, b in pairs), 1)


def _goal(name: str, value: float, goal: float, *, higher: bool) -> dict[str, object]:
    ok = value >= goal if higher else value <= goal
    better = "higher" if higher else "lower"
    return {"id": name, "value": value, "goal": goal, "better": better, "ok": ok}


_NAMES = token_bytes(8)


def _server_name(server: Mapping[str, str]) -> str:
    """Valkey says in `redis_version` which Redis it equals, and its own version beside it."""
    name = server.get("server_name", "redis")
    return f"{name} {server.get(f'{name}_version', server['redis_version'])}"


def _name(number: int) -> bytes:
    """16 bytes; cheap, because drawing them at random would cost a third of a hold."""
    return _NAMES + number.to_bytes(8, "big")


async def _decide(commands: StockCalls, show: ShowId, blob: bytes) -> int:
    """One call of the engine's script, without the batcher around it."""
    k = show_keys(show)
    keys = (k.meta, k.offers, k.buyers, k.outbox, k.deadlines, k.guests)
    return as_number(
        as_list(await commands.run("hold", show, keys, blob, b"%d" % (len(blob) // 37)))[1]
    )


def _print(console: Console, report: dict[str, object]) -> None:
    table = Table(title="live bench stock")
    columns = ("holds_per_second", "p50_ms", "p99_ms", "client_cpu_us", "redis_cpu_us")
    for column in ("name", *columns, "other"):
        table.add_column(column, justify="left" if column in ("name", "other") else "right")
    for row in as_list(report["rows"]):
        assert isinstance(row, dict)
        others = {k: v for k, v in row.items() if k not in ("name", *columns)}
        cells = [f"{row[column]:,.2f}" if column in row else "" for column in columns]
        table.add_row(row["name"], *cells, "  ".join(f"{k} {v}" for k, v in others.items()))
    console.print(table)
    for goal in as_list(report["goals"]):
        assert isinstance(goal, dict)
        sign = "≥" if goal["better"] == "higher" else "≤"
        verdict = "met" if goal["ok"] else "missed"
        console.print(f"{goal['id']}: {goal['value']} (goal {sign} {goal['goal']}): {verdict}")

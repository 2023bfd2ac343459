"""The scripts against the plain model: every answer and every record, for random commands."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import uvloop

from live.domain.hold import MovementKind
from live.domain.ids import ShowId
from live.redis import scripts
from live.stock import batcher, calls
from live.stock.engine import StockEngine
from tests.support.servers import Valkey, redis_binaries
from tests.support.stock_clock import prepare_scripts
from tests.support.stock_simulator import Simulator

OPERATIONS = 50_000
OPERATIONS_A_SEED = 25_000
MUST_COVER = (
    "apply closing, apply draft, apply open, apply paused, apply scheduled, begin E, begin P, "
    "begin R, begin S, begin u, begin X, buyer True, cancel H, cancel u, cancel X, close 1, "
    "confirm E, confirm H, confirm S, confirm X, hold d, hold H, hold l, hold m, hold n, hold o, "
    "hold u, hold c, hold i, hold e, hold t, hold r, hold s, hold w, join d, join H, join l, "
    "join m, join n, join o, join W, join c, join t, leave True, peek H, peek l, peek o, peek i, "
    "reap True, rebuild False, rebuild True, release E, release R, release S, release X, "
    "retake d, retake E, retake R, retake S, retake X, confirm d, refuse True, refuse False, "
    "hold g, hold k, join g, joined twice, refused for good, late money is off, "
    "addresses have enough, guests have enough, revert E, revert H, revert R, revert S, "
    "revert u, revert X, sell d, sell l, sell m, sell o, sell S, "
    "sell s, records full, records dropped, waiters first, grants in steps, looks in steps, "
    "reserved while refused, grant over the limit, holds asked again, "
    "lost buyers, lost deadlines, lost guests"
)


@pytest.fixture(scope="module", params=list(redis_binaries()))
def quick_server(request: pytest.FixtureRequest, scratch: Path) -> Iterator[Valkey]:
    """A server of its own without a log: the clock's key belongs to this test alone."""
    directory = scratch / f"model-{request.param}"
    directory.mkdir()
    server = Valkey(directory, "--appendonly", "no", binary=redis_binaries()[request.param])
    server.start()
    yield server
    server.close()


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    prepare_scripts(monkeypatch)
    monkeypatch.setattr(batcher, "LANES", 1)
    # A machine that is busy with other things must not make an answer "repeat later" here.
    for module, name in (
        (calls, "CALL_SECONDS"),
        (calls, "ATTEMPT_SECONDS"),
        (batcher, "DEADLINE_SECONDS"),
        (batcher, "ATTEMPT_SECONDS"),
    ):
        monkeypatch.setattr(module, name, 60.0)
    yield
    scripts.read_scripts.cache_clear()


def simulate(url: str, seed: int, operations: int) -> Simulator:
    async def run() -> Simulator:
        engine = StockEngine(url)
        await engine.open()
        simulator = Simulator(engine, ShowId(f"seed{seed}"), seed)
        try:
            await simulator.run(operations)
            await engine._calls.send(b"FLUSHALL")
        finally:
            await engine.close()
        return simulator

    return uvloop.run(run())


@pytest.mark.timeout(7_200)  # --seeds 400 is ten million operations
def test_random_commands_are_decided_as_the_model_decides(
    quick_server: Valkey, request: pytest.FixtureRequest
) -> None:
    """No answer, record, deadline or outbox entry differs from the model's."""
    seeds = range(1, 1 + (request.config.getoption("--seeds") or OPERATIONS // OPERATIONS_A_SEED))
    seen = 0
    covered: set[str] = set()
    kinds: set[MovementKind] = set()
    for seed in seeds:
        simulator = simulate(quick_server.url, seed, OPERATIONS_A_SEED)
        seen += simulator.operations
        covered |= set(simulator.seen)
        kinds |= simulator.kinds

    assert seen >= len(seeds) * OPERATIONS_A_SEED
    assert covered >= {answer for answer in MUST_COVER.split(", ")}
    assert kinds == set(MovementKind)

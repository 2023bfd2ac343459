"""No sequence of client commands makes the ledger reject a sale, in millions (--seeds)."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvloop

from live.domain.ids import ShowId
from live.redis import scripts
from live.stock import batcher, calls
from live.stock.engine import StockEngine
from tests.support.hostile_simulator import HostileBuyers
from tests.support.servers import Valkey, redis_binaries
from tests.support.stock_clock import prepare_scripts

OPERATIONS_A_SEED = 10_000
SEEDS = 2
MUST_COVER = {"paid before", "money for nothing"}


@pytest.fixture(scope="module", params=list(redis_binaries()))
def quick_server(request: pytest.FixtureRequest, scratch: Path) -> Iterator[Valkey]:
    """A server of its own without a log: the clock's key belongs to this test alone."""
    directory = scratch / f"hostile-{request.param}"
    directory.mkdir(exist_ok=True)
    server = Valkey(directory, "--appendonly", "no", binary=redis_binaries()[request.param])
    server.start()
    yield server
    server.close()


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    prepare_scripts(monkeypatch)
    # A machine that is busy with other things must not make an answer "repeat later" here.
    for module in (calls, batcher):
        monkeypatch.setattr(module, "ATTEMPT_SECONDS", 60.0)
    monkeypatch.setattr(calls, "CALL_SECONDS", 60.0)
    monkeypatch.setattr(batcher, "DEADLINE_SECONDS", 60.0)
    yield
    scripts.read_scripts.cache_clear()


def simulate(url: str, seed: int) -> HostileBuyers:
    async def run() -> HostileBuyers:
        engine = StockEngine(url)
        await engine.open()
        hostile = HostileBuyers(engine, ShowId(f"hostile{seed}"), seed)
        try:
            await hostile.run(OPERATIONS_A_SEED)
            await engine._calls.send(b"FLUSHALL")
        finally:
            await engine.close()
        return hostile

    return uvloop.run(run())


@pytest.mark.timeout(36_000)  # --seeds 1000 is ten million operations
def test_no_sequence_of_client_commands_causes_a_rejection(
    quick_server: Valkey, request: pytest.FixtureRequest
) -> None:
    """Whatever is sent, in whatever order the steps of the checkouts come, across rebuilds."""
    seen: Counter[str] = Counter()
    orders = cancelled = 0
    for seed in range(1, 1 + (request.config.getoption("--seeds") or SEEDS)):
        hostile = simulate(quick_server.url, seed)
        seen.update(hostile.till.seen)
        orders += len(hostile.till.orders)
        cancelled += sum(order.cancelled for order in hostile.till.orders.values())

    assert orders > cancelled > 0
    assert set(+seen) >= MUST_COVER

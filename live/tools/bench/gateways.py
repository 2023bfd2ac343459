"""What `live bench fanout` and `purchase` share: a show on sale, both servers with their crowds.

Always: the two sides see the same show, the same tokens and the same clients; each has processes of
its own. Where the servers' CPU share is above the crowd's, the server was the bottleneck.
"""

import resource
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from secrets import token_hex
from typing import Final, Literal

from live.domain.ids import ShowId
from live.domain.offer import OfferTerms
from live.domain.show import ShowState, ShowStatus
from live.ledger.db.migrate import migrate
from live.showlog.log import ShowLog
from live.stock.engine import StockEngine
from live.tools.bench.link import Figures, OrderedChild
from live.tools.bench.offer import endless_offer

Kind = Literal["ours", "packed", "naive"]  # packed: ours with compression, and phones that take it
KINDS: Final[tuple[Kind, ...]] = ("ours", "naive")
WARM_UP: Final = 20  # connections before the first measured one
COMMAND_SECONDS: Final = 10  # what publishes shares its cores with what is measured


@dataclass(frozen=True, slots=True)
class BenchStage:
    """One show with one offer that does not run out."""

    redis_url: str
    database_url: str
    show: ShowId
    secret: str
    log: ShowLog


@asynccontextmanager
async def set_stage(redis_url: str, database_url: str) -> AsyncIterator[BenchStage]:
    """Migrate, put a show on sale, open a log to publish on."""
    await migrate(database_url)
    show = ShowId(f"bench-{token_hex(4)}")
    engine = StockEngine(redis_url)
    log = ShowLog(redis_url, seconds=COMMAND_SECONDS)
    await engine.open()
    await log.open()
    try:
        terms = endless_offer(show)
        await engine.install_show(show, stock_epoch=1)
        await engine.apply_offer(terms)
        await log.publish_state(_state(show, terms), None)
        yield BenchStage(redis_url, database_url, show, token_hex(16), log)
    finally:
        await log.close()
        await engine.close()


@dataclass(frozen=True, slots=True)
class Side:
    """One server with its crowd."""

    kind: Kind
    stage: BenchStage
    server: OrderedChild
    crowd: OrderedChild
    port: int

    async def warm_up(self) -> None:
        """Import, compile and cache what the first connections would pay for."""
        await self.crowd.ask("connect", number=WARM_UP, port=self.port)
        await self.crowd.ask("join")
        await self.crowd.ask("leave")


@asynccontextmanager
async def open_side(stage: BenchStage, kind: Kind, *, holders: int = 1) -> AsyncIterator[Side]:
    """Start both processes; `holders` is how many naive Redis connections there are."""
    where = (stage.redis_url, stage.database_url, stage.secret, stage.show)
    server = await OrderedChild.start("live.tools.bench.served", kind, *where, str(holders))
    crowd = await OrderedChild.start("live.tools.bench.crowd", stage.secret, stage.show, kind)
    try:
        side = Side(kind, stage, server, crowd, int((await server.ask("where"))["port"]))
        await side.warm_up()
        yield side
    finally:
        await crowd.kill()
        await server.kill()


def raise_file_limit() -> int:
    """Allow as many open files as may be, here and in the processes to come; how many that is."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        return hard
    return soft


class Cost:
    """CPU of both processes and wall time between `begin` and `end`."""

    def __init__(self, side: Side) -> None:
        self._side = side
        self._server: Figures = {}
        self._crowd: Figures = {}
        self._at = 0.0

    async def begin(self) -> None:
        self._crowd = await self._side.crowd.ask("reset")
        self._server = await self._side.server.ask("look")
        self._at = time.perf_counter()

    async def end(self) -> Figures:
        took = time.perf_counter() - self._at
        server = await self._side.server.ask("look")
        crowd = await self._side.crowd.ask("reset")
        busy = server["cpu_seconds"] - self._server["cpu_seconds"]
        return {
            "server_cpu_seconds": busy,
            "writes": server["writes"] - self._server["writes"],
            "server_busy": round(busy / took, 2),
            "crowd_busy": round((crowd["cpu_seconds"] - self._crowd["cpu_seconds"]) / took, 2),
            "lag_p99_ms": round(server["lag_p99_ms"], 1),
            "lag_max_ms": round(server["lag_max_ms"], 1),
            "seconds": took,
        }


def _state(show: ShowId, terms: OfferTerms) -> ShowState:
    return ShowState(
        id=show,
        title="Bench",
        status=ShowStatus.LIVE,
        language="en",
        currency="EUR",
        playback_url="",
        pins=(),
        run_order=(),
        announcement=None,
        paid_partnership=False,
        slow_mode_seconds=0,
        frozen=False,
        stock_epoch=1,
        version=1,
        offers=(terms,),
    )

"""A settler, a keeper, or one rebuild, as a process of its own: something that a test can kill.

    python -m tests.faults.ledger_process settle|keep|rebuild|undo DATABASE_URL REDIS_URL SHOW

What it announces goes to a Redis stream, so the test can count what was told.
"""

import asyncio
import sys

import redis.asyncio

from live.domain.channels import Channel
from live.domain.events import Event
from live.domain.ids import ShowId
from live.hosting.projector import Projector
from live.keeping.keeper import Keeper
from live.ledger.db.pool import open_pool
from live.ledger.settle.rebuild import rebuild_show
from live.ledger.settle.settler import Settler
from live.ledger.settle.undo import undo_sales
from live.showlog.log import ShowLog
from live.stock.engine import StockEngine
from live.stock.outbox import Outbox

CLAIM_IDLE_MS_MIN = 100


def told_stream(show: ShowId) -> str:
    return f"live:{{{show}}}:test-told"


async def run(what: str, database_url: str, redis_url: str, show: ShowId) -> None:
    pool = await open_pool(database_url, size=3, command_timeout_seconds=20)
    engine, outbox = StockEngine(redis_url), Outbox(redis_url)
    await engine.open()
    await outbox.open()
    client = redis.asyncio.from_url(redis_url)

    async def announce(channel: Channel, event: Event, *, key: str) -> None:
        await client.xadd(told_stream(show), {"type": event.type, "key": key})

    async def on_mismatch(show: ShowId) -> None:
        raise AssertionError(f"{show} differs from the ledger")

    settler = Settler(pool, outbox, announce, on_mismatch, claim_idle_ms_min=CLAIM_IDLE_MS_MIN)
    if what == "rebuild":
        await rebuild_show(
            pool, show, stock=engine, outbox=outbox, settler=settler, force=True
        )  # fmt: skip
    elif what == "undo":
        await undo_sales(pool, engine, show)
    elif what == "keep":
        log = ShowLog(redis_url)
        await log.open()
        projector = Projector(engine, log)
        keeper = Keeper(pool, projector, backlog=outbox, rebuild=on_mismatch, renew=on_mismatch)
        await keeper.run(asyncio.Event())
    else:
        await settler.run(asyncio.Event())


if __name__ == "__main__":
    asyncio.run(run(sys.argv[1], sys.argv[2], sys.argv[3], ShowId(sys.argv[4])))

"""A gateway or a payment worker as a process of its own, to be killed by LIVE_FAILPOINT.

`buy` holds one unit for a buyer and pays for it; `work` is one pass of the payment worker;
`confirm` is what the server of the shop's own checkout says.
"""

import asyncio
import sys
from contextlib import suppress
from pathlib import Path
from uuid import UUID

from live.base.errors import CallError
from live.buying.shop_checkout import HoldThere
from live.domain.hold import Line
from live.domain.ids import HoldKey, ShowId
from live.domain.offer import Mode
from live.ledger.db.pool import open_pool
from tests.support.sale_kit import open_sale, viewer
from tests.support.sandbox import SandboxServer
from tests.support.shop_kit import own_checkout, paid, shop_desk


async def run(task: str, redis_url: str, database_url: str, provider: str, show: str) -> None:
    pool = await open_pool(database_url, command_timeout_seconds=20)
    server = SandboxServer(Path(provider))
    mode = Mode(await pool.fetchval("SELECT mode FROM offers WHERE show = $1", show))
    async with open_sale(
        pool,
        redis_url,
        server,
        ShowId(show),
        fresh=False,
        settling=False,
        mode=mode,
        more=(own_checkout(pool),),
    ) as sale:
        words = task.split(":")
        if words[0] == "work":
            await sale.worker.run_once()
        elif words[0] == "confirm":
            _, sub, key, reference = words
            there = HoldThere(show=sale.show, sub=sub, hold=HoldKey(UUID(key).bytes))
            with suppress(CallError):
                await shop_desk(sale, answer_seconds=0.2).confirm(there, paid(reference))
        else:
            _, sub, key, token = words
            buyer, hold = viewer(sub), HoldKey(UUID(key).bytes)
            if mode is Mode.FIRST_PAID:
                await sale.buy(buyer, token, key=hold)
            else:
                await sale.try_hold(buyer, hold, Line(0, 1))
                await sale.pay(buyer, hold, token, key=hold)
    await pool.close()


if __name__ == "__main__":
    asyncio.run(run(*sys.argv[1:]))

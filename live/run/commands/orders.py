"""`live orders`: lines of orders for a warehouse, on standard output."""

from typing import IO

from live.base.settings import Settings
from live.base.telemetry import set_up_logs
from live.commerce.order_lines import write_lines
from live.ledger.db.pool import Pool
from live.ledger.orders.orders import OrderRows
from live.ledger.orders.pages import OrderQuery
from live.run.commands.engines import with_pool


def write_orders(settings: Settings, query: OrderQuery, out: IO[str]) -> int:
    """Write the lines of the orders that `query` finds as CSV; how many orders."""
    set_up_logs(role="orders", quiet=True)

    async def work(pool: Pool) -> int:
        return await write_lines(OrderRows(pool), query, out)

    return with_pool(settings, work)

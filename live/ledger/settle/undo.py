"""Sales that the ledger refused: Redis takes their units back, one by one.

Always: a row of `sales_to_undo` is written in the transaction that refuses the sale and deleted
when Redis has the units back, so whoever dies in between leaves it to the next one. A repeat does
nothing: Redis gives a sale back once. Where Redis no longer knows the sale its figures cannot be
put right by it, and the stock is doubted.
Called by: the rebuilder, whoever asks for it (an alarm of the settler, the keeper, a repair).
"""

from uuid import UUID

import structlog

from live.base.errors import NotFound
from live.base.failpoint import failpoint
from live.domain.ids import BuyerId, HoldKey, ShowId
from live.ledger.db.pool import Pool
from live.ledger.ports import StockPort
from live.ledger.settle import sql as settle_sql

SALES_A_CALL_MAX = 100  # the keeper comes back for more

log = structlog.get_logger()


async def undo_sales(pool: Pool, stock: StockPort, show: ShowId) -> int:
    """Give the units of refused sales back; how many. Raises Busy where Redis cannot decide."""
    rows = await pool.fetch(_DUE, show, SALES_A_CALL_MAX)
    for row in rows:
        key = HoldKey(row["key"].bytes)
        try:
            await stock.cancel(show, BuyerId(row["buyer"]), key, payment=row["payment"])
        except NotFound:
            log.error("undo.unknown_sale", show=show, hold=str(UUID(bytes=key)))
            await pool.execute(settle_sql.DOUBT, show, "a refused sale is not known any more")
        failpoint("undo.cancelled")
        await pool.execute(_DONE, show, row["buyer"], row["key"])
        log.warning("undo.done", show=show, hold=str(row["key"]), reason=row["reason"])
    return len(rows)


_DUE = """
SELECT buyer, key, reason, coalesce((
           SELECT id::text FROM payments p
           WHERE p.show = u.show AND p.buyer = u.buyer AND p.hold = u.key
           ORDER BY p.created_at DESC LIMIT 1), '') AS payment
FROM sales_to_undo u WHERE show = $1 ORDER BY created_at LIMIT $2"""

_DONE = "DELETE FROM sales_to_undo WHERE show = $1 AND buyer = $2 AND key = $3"

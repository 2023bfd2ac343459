"""The work of a rebuild: a show of 100,000 orders read from Postgres and written into Redis.

What is timed is what a rebuild does between the drained outbox and the reopened sale: raising the
epoch and reading the ledger, writing the staging keys, swapping them in. Medians of some rounds.
"""

import time
from dataclasses import dataclass
from statistics import median
from typing import Final

from live.base.errors import EngineError
from live.domain.ids import ShowId
from live.ledger.db.pool import Pool
from live.ledger.settle.rebuild import raise_epoch, read_show_stock
from live.stock.calls import StockCalls
from live.stock.engine import StockEngine
from live.stock.loading import stage, swap_in

ORDERS: Final = 100_000
ROUNDS: Final = 3

_SHOW = "INSERT INTO shows (id, title, status, currency) VALUES ($1, 'Rebuild', 'live', 'EUR')"

_PRODUCT = """
INSERT INTO products (sku, title, price_minor, currency, on_hand, allotted)
VALUES ($1, 'Rebuild', 100, 'EUR', $2, $2)"""

_OFFER = """
INSERT INTO offers (id, show, slot, sku, title, price_minor, currency, mode, phase, quantity,
                    allotted, sold, per_buyer_limit, hold_seconds)
VALUES ($1, $1, 0, $1, 'Rebuild', 100, 'EUR', 'hold', 'open', $2, $2, $3, 10, 600)"""

_SOLD = """
WITH made AS (
    INSERT INTO orders (id, show, buyer, sub, key, state, total_minor, currency, seq)
    SELECT gen_random_uuid(), $1, decode(md5(n::text), 'hex'), 'buyer-' || n, gen_random_uuid(),
           'paid', 100, 'EUR', n
    FROM generate_series(1, $2::integer) AS n RETURNING id
)
INSERT INTO order_items (order_id, offer, qty, price_minor) SELECT id, $1, 1, 100 FROM made"""


@dataclass(frozen=True, slots=True)
class Rebuilt:
    orders: int
    read_seconds: float
    write_seconds: float
    swap_seconds: float

    def row(self) -> dict[str, object]:
        return {
            "name": "rebuild_100k",
            "orders": self.orders,
            "read_seconds": round(self.read_seconds, 3),
            "write_seconds": round(self.write_seconds, 3),
            "swap_seconds": round(self.swap_seconds, 3),
            "work_s": round(self.read_seconds + self.write_seconds + self.swap_seconds, 3),
        }


async def rebuild(
    pool: Pool, engine: StockEngine, calls: StockCalls, show: ShowId, *, scale: int
) -> Rebuilt:
    """Sell in the ledger alone, then make Redis' stock of it. Raises EngineError."""
    orders = ORDERS // scale
    await _sell(pool, show, orders)
    await engine.install_show(show, stock_epoch=1)
    for terms in (await read_show_stock(pool, show)).offers:
        await engine.apply_offer(terms)
    rounds = [await _once(pool, calls, show) for _ in range(ROUNDS)]
    figures = (await engine.figures(show)).offers[0]
    if (figures.left, figures.held, figures.sold) != (orders, 0, orders):
        raise EngineError(f"rebuilt {figures} of {orders} orders")
    read_seconds, write_seconds, swap_seconds = (
        median(times) for times in zip(*rounds, strict=True)
    )
    return Rebuilt(orders, read_seconds, write_seconds, swap_seconds)


async def _sell(pool: Pool, show: ShowId, orders: int) -> None:
    await pool.execute(_SHOW, show)
    await pool.execute(_PRODUCT, show, 2 * orders)
    await pool.execute(_OFFER, show, 2 * orders, orders)
    await pool.execute(_SOLD, show, orders)
    await pool.execute("ANALYZE orders, order_items")  # as autovacuum does in the course of a sale


async def _once(pool: Pool, calls: StockCalls, show: ShowId) -> tuple[float, float, float]:
    begun = time.perf_counter()
    found = await raise_epoch(pool, show)
    read = time.perf_counter()
    staged = await stage(calls, show, found)
    written = time.perf_counter()
    await swap_in(calls, staged, show, found)
    return read - begun, written - read, time.perf_counter() - written

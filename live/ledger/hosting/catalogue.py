"""Products and their stock on hand.

Owns: rows of `products` as a shop writes them, and the `adjusted` movements.
Always: `on_hand` equals the sum of the product's `adjusted` and `returned` movements; it never
falls below `allotted`. A level is changed by deltas only: whoever writes an absolute level
overwrites what was sold since they read it. What a person does here is in the log of host actions,
under the name of all shows.
Not here: `allotted`, which belongs to the offers (offer_rows.py) and the settler.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import asyncpg

from live.base.errors import Conflict, NotFound
from live.domain.caller import ALL_SHOWS
from live.domain.ids import ShowId, Sku
from live.domain.show import ProductView
from live.ledger.db.idempotency import mark_done
from live.ledger.db.pool import Connection, Pool
from live.ledger.hosting import actions
from live.ledger.hosting.show_command import Actor

PAGE_MAX = 201  # a page of the API and the row that tells of a next one
IMPORT_ROWS_MAX = 50_000  # one transaction; beyond it a feed is better split
DELTA_MAX = 10**9

_CREATE = """
INSERT INTO products
(sku, title, description, image_url, price_minor, currency, on_hand)
VALUES ($1, $2, $3, $4, $5, $6, $7)"""

_LOCK = "SELECT 1 FROM products WHERE sku = $1 FOR NO KEY UPDATE"

_ADJUST = """
UPDATE products SET on_hand = on_hand + $2
WHERE sku = $1 AND on_hand + $2 >= allotted RETURNING sku"""

_MOVE_ONCE = """
INSERT INTO stock_movements (sku, kind, qty, reason, key)
VALUES ($1, 'adjusted', $2, $3, $4) ON CONFLICT (key) DO NOTHING RETURNING id"""

_MOVED_BEFORE = "SELECT sku, qty FROM stock_movements WHERE key = $1"


@dataclass(frozen=True, slots=True, kw_only=True)
class NewProduct:
    sku: Sku
    title: str
    description: str
    image_url: str
    price_minor: int
    currency: str
    on_hand: int


@dataclass(frozen=True, slots=True)
class Imported:
    """`kept` products existed: their texts and price were renewed, their stock was not touched."""

    created: int
    kept: int


_VIEW = """
    SELECT sku, title, description, image_url, price_minor, currency, on_hand, allotted,
           (SELECT coalesce(sum(sold), 0)::bigint FROM offers
            WHERE offers.sku = products.sku) AS sold
    FROM products
"""

# xmax is 0 only on a row that this statement inserted.
_UPSERT = """
    INSERT INTO products (sku, title, description, image_url, price_minor, currency, on_hand)
    SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bigint[],
                         $6::text[], $7::bigint[])
    ON CONFLICT (sku) DO UPDATE SET title = excluded.title, description = excluded.description,
        image_url = excluded.image_url, price_minor = excluded.price_minor,
        currency = excluded.currency
    RETURNING sku, on_hand, xmax = 0 AS created
"""

_MOVEMENTS = """
    INSERT INTO stock_movements (sku, kind, qty, reason)
    SELECT sku, 'adjusted', qty, $3 FROM unnest($1::text[], $2::bigint[]) AS new (sku, qty)
"""


class Catalogue:
    """What shops write about products, over a pool of connections."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def get(self, sku: Sku) -> ProductView:
        """Raises NotFound."""
        row = await self._pool.fetchrow(f"{_VIEW} WHERE sku = $1", sku)
        if row is None:
            raise NotFound(f"unknown product {sku}")
        return _view(row)

    async def page(self, *, after: str = "", limit: int = PAGE_MAX) -> list[ProductView]:
        """Products in the order of their SKUs, beginning behind `after`."""
        rows = await self._pool.fetch(
            f"{_VIEW} WHERE sku > $1 ORDER BY sku LIMIT $2", after, min(limit, PAGE_MAX)
        )
        return [_view(row) for row in rows]

    async def views(self, skus: Sequence[str]) -> list[ProductView]:
        """Those of these products that exist."""
        return [_view(row) for row in await self._pool.fetch(f"{_VIEW} WHERE sku = ANY($1)", skus)]

    async def create(self, product: NewProduct, *, actor: Actor | None = None) -> ProductView:
        """Raises Conflict where the SKU exists: its stock would be counted twice."""
        async with self._pool.acquire() as connection, connection.transaction():
            if not await mark_done(connection, actor.call if actor else None):
                return await self._read(connection, product.sku)
            try:
                await connection.execute(_CREATE, *_columns(product))
            except asyncpg.UniqueViolationError:
                raise Conflict(f"product {product.sku} exists") from None
            await connection.execute(_MOVEMENTS, [product.sku], [product.on_hand], "created")
            detail = {"sku": product.sku, "title": product.title, "on_hand": product.on_hand}
            await _log(connection, actor, "product.create", detail)
        return await self.get(product.sku)

    async def upsert(self, products: Sequence[NewProduct]) -> Imported:
        """Bring in a feed, all of it or nothing.

        `on_hand` counts for new products only: a feed was written some time ago, and what was sold
        since then must stay sold. Duplicate SKUs are the caller's to refuse.
        """
        if len(products) > IMPORT_ROWS_MAX:
            raise Conflict(f"a feed may have {IMPORT_ROWS_MAX} products, this has {len(products)}")
        # In order of SKU, so two imports at once lock the rows in the same order.
        rows = sorted((_columns(product) for product in products), key=lambda row: str(row[0]))
        if not rows:
            return Imported(0, 0)
        async with self._pool.acquire() as connection, connection.transaction():
            written = await connection.fetch(_UPSERT, *map(list, zip(*rows, strict=True)))
            new = [row for row in written if row["created"]]
            await connection.execute(
                _MOVEMENTS, [row["sku"] for row in new], [row["on_hand"] for row in new], "imported"
            )
        return Imported(created=len(new), kept=len(written) - len(new))

    async def adjust(
        self, sku: Sku, *, delta: int, reason: str, key: str, actor: Actor | None = None
    ) -> ProductView:
        """Change the stock on hand by `delta`, once per `key`.

        Raises NotFound, and Conflict where it would fall below what offers were allotted or where
        the key was used for something else.
        """
        async with self._pool.acquire() as connection, connection.transaction():
            found = await connection.fetchval(_LOCK, sku)
            if found is None:
                raise NotFound(f"unknown product {sku}")
            if await self._is_repeat(connection, sku, delta=delta, reason=reason, key=key):
                return await self._read(connection, sku)
            changed = await connection.fetchval(_ADJUST, sku, delta)
            if changed is None:
                raise Conflict(f"{delta} would take {sku} below what offers were allotted")
            detail = {"sku": sku, "delta": delta, "reason": reason}
            await _log(connection, actor, "stock.adjust", detail)
            return await self._read(connection, sku)

    async def _is_repeat(
        self, connection: Connection, sku: Sku, *, delta: int, reason: str, key: str
    ) -> bool:
        """Write the movement, or find that this key wrote it before."""
        # The INSERT waits for another transaction with the same key, so exactly one moves stock.
        written = await connection.fetchval(_MOVE_ONCE, sku, delta, reason, key)
        if written is not None:
            return False
        first = await connection.fetchrow(_MOVED_BEFORE, key)
        if first is None or (first["sku"], first["qty"]) != (sku, delta):
            raise Conflict(f"key {key} was used for another adjustment")
        return True

    async def _read(self, connection: Connection, sku: Sku) -> ProductView:
        row = await connection.fetchrow(f"{_VIEW} WHERE sku = $1", sku)
        assert row is not None, "it exists: no product is ever deleted"
        return _view(row)


async def _log(
    connection: Connection, actor: Actor | None, action: str, detail: dict[str, object]
) -> None:
    """Note what a person did; a command at the terminal (None) has no caller to name."""
    if actor is not None:
        await actions.append(
            connection,
            show=ShowId(ALL_SHOWS),
            caller=actor.sub,
            role=actor.role,
            action=action,
            detail=detail,
            address=actor.address,
        )


def _columns(product: NewProduct) -> tuple[str | int, ...]:
    return (
        product.sku,
        product.title,
        product.description,
        product.image_url,
        product.price_minor,
        product.currency,
        product.on_hand,
    )


def _view(row: asyncpg.Record) -> ProductView:
    return ProductView(**row, available=row["on_hand"] - row["allotted"])

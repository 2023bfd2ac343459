"""Orders as their buyers, hosts and reports read them, and the refunds that hosts ask for.

Always: a refund is asked for once per request key, and all refunds together never pass what was
captured; `restock` puts units back on hand and never changes what an offer sold.
Called by: sales (get), the HTTP API (list, refund, report), the notice sender (views).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

import asyncpg
import orjson

from live.domain.hold import HoldItem
from live.domain.ids import BuyerId, HoldKey, OfferId, OrderId, ShowId, key_text
from live.domain.order import OrderState, OrderView
from live.errors import BadField, Conflict, NotFound
from live.ledger.pool import Connection, Pool, in_transaction
from live.ledger.show_command import Actor, DoneBefore, command_on

PAGE_MAX = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderRow:
    """An order with what the public view leaves out."""

    view: OrderView
    buyer: BuyerId
    sub: str
    reason: str  # why it was rejected, else ""


@dataclass(frozen=True, slots=True)
class OrderPage:
    """`cursor` is where the next page begins; `more` tells whether there is one now."""

    orders: tuple[OrderRow, ...]
    cursor: str
    more: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class OfferReport:
    offer: OfferId
    title: str
    allotted: int
    sold: int
    orders: int
    revenue_minor: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ShowReport:
    """Figures of a show; `revenue_minor` counts orders that stand, less what was refunded."""

    show: ShowId
    currency: str
    holds: int
    orders: int
    revenue_minor: int
    offers: tuple[OfferReport, ...]


class OrderRows:
    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def get(self, order: OrderId) -> OrderRow:
        """Raises NotFound."""
        rows = await self._pool.fetch(f"{_ORDER} WHERE o.id = $1", _order_uuid(order))
        return _only(rows)

    async def of_hold(self, show: ShowId, buyer: BuyerId, hold: HoldKey) -> OrderView | None:
        rows = await self._pool.fetch(
            f"{_ORDER} WHERE o.show = $1 AND o.buyer = $2 AND o.key = $3",
            show,
            buyer,
            UUID(bytes=hold),
        )
        return _order_of(rows[0]).view if rows else None

    async def of_buyer(self, order: OrderId, sub: str) -> OrderView | None:
        """The order if it is this person's; somebody else's looks like a missing one."""
        try:
            row = await self.get(order)
        except NotFound:
            return None
        return row.view if row.sub == sub else None

    async def list(
        self,
        *,
        show: ShowId | None = None,
        sub: str | None = None,
        cursor: str | None = None,
        limit: int = 50,
        newest_first: bool = False,
    ) -> OrderPage:
        """Orders of a show, of a person or of both, the oldest first. Raises BadField.

        The oldest first they are in the order of their positions, and none is told before all that
        come before it are: who goes on from a cursor, whenever that is, misses none.
        """
        beyond, order = ("<", "DESC") if newest_first else (">", "ASC")
        size = min(limit, PAGE_MAX)
        after = None if cursor is None else _cursor_uuid(cursor)
        # A statement of its own: the rows must be read in a younger snapshot.
        whole_to = None if newest_first else await self._pool.fetchval("SELECT orders_whole_to()")
        rows = await self._pool.fetch(
            f"""{_ORDER}
                WHERE ($1::text IS NULL OR o.show = $1) AND ($2::text IS NULL OR o.sub = $2)
                  AND ($3::uuid IS NULL OR (coalesce(o.position, 0), o.created_at, o.id) {beyond}
                       (SELECT coalesce(c.position, 0), c.created_at, c.id
                        FROM orders c WHERE c.id = $3))
                  AND ($5::bigint IS NULL OR coalesce(o.position, 0) <= $5)
                ORDER BY coalesce(o.position, 0) {order}, o.created_at {order}, o.id {order}
                LIMIT $4""",
            show,
            sub,
            after,
            size + 1,
            whole_to,
        )
        orders = tuple(_order_of(row) for row in rows[:size])
        last = orders[-1].view.order if orders else cursor or _BEFORE_ALL
        return OrderPage(orders, last, len(rows) > size)

    async def views(self, ids: Sequence[UUID]) -> dict[str, OrderRow]:
        rows = await self._pool.fetch(f"{_ORDER} WHERE o.id = ANY($1::uuid[])", ids)
        orders = [_order_of(row) for row in rows]
        return {row.view.order: row for row in orders}

    async def request_refund(
        self,
        order: OrderId,
        *,
        amount_minor: int | None,
        reason: str,
        restock: bool,
        request_key: str,
        actor: Actor,
    ) -> OrderRow:
        """Ask for money back; None means the rest. The same key asks once.

        The audit log tells who asked, in the same transaction.

        Raises NotFound, BadField, and Conflict for more than captured - refunded, which is nothing
        for an order without a payment.
        """
        if amount_minor is not None and amount_minor <= 0:
            raise BadField("amount_minor must be above 0")
        wanted = _order_uuid(order)
        show = (await self.get(order)).view.show
        detail: dict[str, object] = {"order": order, "amount_minor": amount_minor}
        detail |= {"reason": reason, "restock": restock}

        async def work(connection: Connection) -> None:
            async with command_on(connection, show, actor, "order.refund", detail) as command:
                command.nothing_done = not await _refund(
                    connection, wanted, amount_minor, reason, restock, f"host:{request_key}"
                )

        try:
            await in_transaction(self._pool, work)
        except DoneBefore:
            pass  # a repeat, of which the answer was lost
        return await self.get(order)

    async def report(self, show: ShowId) -> ShowReport:
        """Figures of a show. Raises NotFound."""
        head = await self._pool.fetchrow(_REPORT, show)
        if head is None:
            raise NotFound(f"unknown show {show}")
        rows = await self._pool.fetch(_REPORT_OFFERS, show)
        return ShowReport(
            show=show,
            currency=head["currency"],
            holds=head["holds"],
            orders=head["orders"],
            revenue_minor=head["revenue_minor"],
            offers=tuple(
                OfferReport(
                    offer=OfferId(row["id"]),
                    title=row["title"],
                    allotted=row["allotted"],
                    sold=row["sold"],
                    orders=row["orders"],
                    revenue_minor=row["revenue_minor"],
                )
                for row in rows
            ),
        )


async def _refund(
    connection: Connection,
    order: UUID,
    amount_minor: int | None,
    reason: str,
    restock: bool,
    request: str,
) -> bool:
    """Write the refund's job; False where this request wrote it before."""
    payment = await connection.fetchrow(
        """SELECT p.id, p.captured_minor, p.refunded_minor, o.state AS order_state
           FROM orders o JOIN payments p ON p.id = o.payment
           WHERE o.id = $1 FOR NO KEY UPDATE OF p""",
        order,
    )
    if payment is None:
        if await connection.fetchval("SELECT EXISTS (SELECT FROM orders WHERE id = $1)", order):
            raise Conflict("nothing was paid for this order")
        raise NotFound(f"unknown order {order}")
    # A statement of its own: its snapshot is younger than the lock.
    jobs = await connection.fetchrow(
        """SELECT coalesce(sum(amount_minor) FILTER (WHERE state = 'due'), 0)::bigint AS due,
                  max(amount_minor) FILTER (WHERE request = $2) AS same
           FROM money_jobs WHERE payment = $1 AND kind = 'refund'""",
        payment["id"],
        request,
    )
    assert jobs is not None, "an aggregate without GROUP BY has one row"
    if jobs["same"] is not None:
        if amount_minor not in (None, jobs["same"]):
            raise Conflict("this key asked for another refund before")
        return False
    rest = payment["captured_minor"] - payment["refunded_minor"] - jobs["due"]
    amount = rest if amount_minor is None else amount_minor
    if amount <= 0 or amount > rest:
        raise Conflict(f"only {rest} minor units are left to refund")
    await connection.execute(
        """INSERT INTO money_jobs (payment, kind, amount_minor, reason, request)
           VALUES ($1, 'refund', $2, $3, $4)""",
        payment["id"],
        amount,
        reason,
        request,
    )
    if restock:
        await connection.execute(_RESTOCK, order, reason)
    return True


def _only(rows: Sequence[asyncpg.Record]) -> OrderRow:
    if not rows:
        raise NotFound("unknown order")
    return _order_of(rows[0])


def _order_of(row: asyncpg.Record) -> OrderRow:
    items = tuple(
        HoldItem(OfferId(item["offer"]), item["qty"], item["price_minor"])
        for item in orjson.loads(row["items"])
    )
    view = OrderView(
        order=OrderId(str(row["id"])),
        hold=key_text(row["key"].bytes),
        show=ShowId(row["show"]),
        state=OrderState(row["state"]),
        items=items,
        total_minor=row["total_minor"],
        refunded_minor=row["refunded_minor"],
        currency=row["currency"],
        created_at=row["created_ms"],
    )
    return OrderRow(view=view, buyer=BuyerId(row["buyer"]), sub=row["sub"], reason=row["reason"])


def _order_uuid(order: str) -> UUID:
    try:
        return UUID(order)
    except ValueError as error:
        raise NotFound("unknown order") from error


_BEFORE_ALL = str(UUID(int=0))  # the cursor of a list that has been empty so far


def _cursor_uuid(cursor: str) -> UUID | None:
    """None: from the beginning."""
    if cursor == _BEFORE_ALL:
        return None
    try:
        return UUID(cursor)
    except ValueError as error:
        raise BadField("cursor is not one that a list gave") from error


_ORDER = """
SELECT o.id, o.key, o.show, o.buyer, o.sub, o.state, o.total_minor, o.refunded_minor, o.currency,
       o.reason, floor(extract(epoch FROM o.created_at) * 1000)::bigint AS created_ms,
       (SELECT coalesce(json_agg(json_build_object('offer', i.offer, 'qty', i.qty,
                                                   'price_minor', i.price_minor)
                                 ORDER BY i.offer), '[]')::text
        FROM order_items i WHERE i.order_id = o.id) AS items
FROM orders o"""

# Units of the order's items come back to the shelf, each order's once.
_RESTOCK = """
WITH items AS (
    SELECT f.sku, i.offer, i.order_id, i.qty
    FROM order_items i JOIN offers f ON f.id = i.offer
    WHERE i.order_id = $1 AND NOT EXISTS (
        SELECT FROM stock_movements m
        WHERE m.order_id = i.order_id AND m.kind IN ('returned', 'cancelled'))
), moved AS (
    INSERT INTO stock_movements (sku, offer, order_id, kind, qty, reason)
    SELECT sku, offer, order_id, 'returned', qty, $2 FROM items
)
UPDATE products p SET on_hand = p.on_hand + n.qty
FROM (SELECT sku, sum(qty) AS qty FROM items GROUP BY sku) n WHERE p.sku = n.sku"""

_REPORT = """
SELECT s.currency,
       (SELECT count(*) FROM holds h WHERE h.show = s.id AND NOT s.rehearsed) AS holds,
       count(o.id) AS orders,
       coalesce(sum(o.total_minor - o.refunded_minor), 0)::bigint AS revenue_minor
FROM shows s
LEFT JOIN orders o ON o.show = s.id AND o.state NOT IN ('cancelled', 'rejected')
WHERE s.id = $1 GROUP BY s.id"""

# Items at their prices; a refund is of the order and lowers the show's revenue only.
_REPORT_OFFERS = """
SELECT f.id, f.title, f.allotted, f.sold, count(o.id) AS orders,
       coalesce(sum(i.qty * i.price_minor) FILTER (WHERE o.id IS NOT NULL), 0)::bigint
           AS revenue_minor
FROM offers f
LEFT JOIN order_items i ON i.offer = f.id
LEFT JOIN orders o ON o.id = i.order_id AND o.state NOT IN ('cancelled', 'rejected')
WHERE f.show = $1 GROUP BY f.id ORDER BY f.slot"""

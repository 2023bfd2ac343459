"""Orders as their buyers and hosts read them, and what hosts do to them.

Always: a host's command on an order is one transaction with its row of the audit log, and is done
once per key of that host.
Called by: the RPC methods (get), the HTTP API (list, refund), the notice sender (views).
Not here: what a refund or a paid invoice changes (refunds.py, goods_back.py), pages
(pages.py), figures (hosting/show_report.py).
"""

from collections.abc import Sequence
from uuid import UUID

import asyncpg

from live.base.errors import BadField, NotFound
from live.domain.ids import BuyerId, HoldKey, OrderId, ShowId
from live.domain.order import OrderContact, OrderView
from live.ledger.db.pool import Connection, Pool
from live.ledger.hosting.show_command import Actor
from live.ledger.hosting.show_report import ShowReport, read_report
from live.ledger.money import refunds
from live.ledger.money.refunds import RefundWish
from live.ledger.orders.command import Changed, OrderWork, run_on_order
from live.ledger.orders.goods_back import pay_invoice
from live.ledger.orders.pages import FoundOrders, OrderQuery, find_orders
from live.ledger.orders.reading import (
    ORDER,
    OrderRow,
    order_of,
    order_uuid,
    read_contacts,
)


class OrderRows:
    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def get(self, order: OrderId) -> OrderRow:
        """Raises NotFound."""
        rows = await self._pool.fetch(f"{ORDER} WHERE o.id = $1", order_uuid(order))
        return _only(rows)

    async def of_hold(self, show: ShowId, buyer: BuyerId, hold: HoldKey) -> OrderView | None:
        rows = await self._pool.fetch(
            f"{ORDER} WHERE o.show = $1 AND o.buyer = $2 AND o.key = $3",
            show,
            buyer,
            UUID(bytes=hold),
        )
        return order_of(rows[0]).view if rows else None

    async def latest_of(
        self, buyers: Sequence[tuple[ShowId, BuyerId]], *, latest: int
    ) -> dict[tuple[ShowId, BuyerId], tuple[OrderView, ...]]:
        """The latest orders of these buyers in these shows, the newest first."""
        rows = await self._pool.fetch(
            _LATEST, [show for show, _ in buyers], [buyer for _, buyer in buyers], latest
        )
        found: dict[tuple[ShowId, BuyerId], list[OrderView]] = {one: [] for one in buyers}
        for order in map(order_of, rows):
            found[order.view.show, order.buyer].append(order.view)
        return {one: tuple(orders) for one, orders in found.items()}

    async def of_buyer(self, order: OrderId, sub: str) -> OrderView | None:
        """The order if it is this person's; somebody else's looks like a missing one."""
        try:
            row = await self.get(order)
        except NotFound:
            return None
        return row.view if row.sub == sub else None

    async def list(
        self, query: OrderQuery, *, cursor: str | None = None, limit: int = 50
    ) -> FoundOrders:
        """A page of orders behind a cursor. Raises BadField."""
        return await find_orders(self._pool, query, cursor=cursor, limit=limit)

    async def contacts(self, orders: Sequence[OrderId]) -> dict[OrderId, OrderContact]:
        """How to reach who bought these. The caller has made sure that the reader may see it."""
        return await read_contacts(self._pool, orders)

    async def views(self, ids: Sequence[UUID]) -> dict[str, OrderRow]:
        rows = await self._pool.fetch(f"{ORDER} WHERE o.id = ANY($1::uuid[])", ids)
        orders = [order_of(row) for row in rows]
        return {row.view.order: row for row in orders}

    async def request_refund(
        self, order: OrderId, wish: RefundWish, *, request_key: str, actor: Actor
    ) -> OrderRow:
        """Ask for money back. The same key of the same actor asks once.

        The audit log tells who asked, in the same transaction.

        Raises NotFound, BadField, and Conflict for more than captured - refunded, which is nothing
        for an order that nobody has paid, and for more units than can come back.
        """
        if wish.amount_minor is not None and wish.amount_minor < (0 if wish.restock else 1):
            raise BadField("amount_minor", "above 0, or 0 where only units come back")
        detail: dict[str, object] = {"reason": wish.reason, "restock": wish.restock}
        if wish.items:
            detail["items"] = {item.offer: item.qty for item in wish.items}
        # A name has no line break, so no two requests are the same text.
        request = f"host:{actor.role.value}:{actor.sub}\n{request_key}"

        async def work(connection: Connection, wanted: UUID) -> Changed:
            amount = await refunds.ask(connection, wanted, wish, request)
            return None if amount is None else {"amount_minor": amount}

        return await self._command(order, "order.refund", detail, actor, work)

    async def call_off_refunds(self, order: OrderId, *, reason: str, actor: Actor) -> OrderRow:
        """Nothing more goes back of the refunds that failed. Raises NotFound, Conflict."""

        async def work(connection: Connection, wanted: UUID) -> Changed:
            await refunds.call_off(connection, wanted)
            return {}

        return await self._command(order, "order.refund.call_off", {"reason": reason}, actor, work)

    async def mark_paid(self, order: OrderId, *, reference: str, actor: Actor) -> OrderRow:
        """An invoice was paid, by this reference; once. Raises NotFound, and Conflict also where
        nothing of it is owed any more."""

        async def work(connection: Connection, wanted: UUID) -> Changed:
            return {} if await pay_invoice(connection, wanted, reference) else None

        return await self._command(order, "order.paid", {"reference": reference}, actor, work)

    async def report(self, show: ShowId) -> ShowReport:
        """Figures of a show. Raises NotFound."""
        return await read_report(self._pool, show)

    async def _command(
        self,
        order: OrderId,
        action: str,
        detail: dict[str, object],
        actor: Actor,
        work: OrderWork,
    ) -> OrderRow:
        await run_on_order(self._pool, order, actor, action, detail, work)
        return await self.get(order)


def _only(rows: Sequence[asyncpg.Record]) -> OrderRow:
    if not rows:
        raise NotFound("unknown order")
    return order_of(rows[0])


_LATEST = f"""
SELECT o.* FROM unnest($1::text[], $2::bytea[]) AS n(show, buyer)
CROSS JOIN LATERAL (
    {ORDER} WHERE o.show = n.show AND o.buyer = n.buyer
    ORDER BY o.created_at DESC, o.id LIMIT $3
) o"""

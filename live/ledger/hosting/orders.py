"""Orders as their buyers, hosts and reports read them, and what hosts do to them.

Always: a host's command on an order is one transaction with its row of the audit log, and is done
once per key of that host.
Called by: the RPC methods (get), the HTTP API (list, refund, report), the notice sender (views).
Not here: what a refund or a paid invoice changes (refunds.py, invoices.py).
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from uuid import UUID

import asyncpg
import orjson

from live.base.errors import BadField, NotFound
from live.domain.hold import HoldItem
from live.domain.ids import BuyerId, HoldKey, OfferId, OrderId, ShowId, key_text
from live.domain.order import OrderState, OrderView
from live.ledger.db.pool import Connection, Pool, in_transaction
from live.ledger.db.states import STANDS
from live.ledger.hosting.show_command import Actor, DoneBefore, command_on
from live.ledger.money import invoices, refunds
from live.ledger.money.invoices import UNPAID
from live.ledger.money.refunds import REFUNDS, RefundWish, views_of

PAGE_MAX = 200

_Changed = dict[str, object] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderRow:
    """An order with what the public view leaves out."""

    view: OrderView
    buyer: BuyerId
    sub: str
    reason: str  # why it was rejected, else ""


@dataclass(frozen=True, slots=True)
class FoundOrders:
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
    """Figures of a show; `revenue_minor` counts orders that stand, less what was refunded and what
    invoices still owe (`unpaid_minor`)."""

    show: ShowId
    currency: str
    holds: int
    orders: int
    revenue_minor: int
    unpaid_minor: int
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

    async def latest_of(
        self, buyers: Sequence[tuple[ShowId, BuyerId]], *, latest: int
    ) -> dict[tuple[ShowId, BuyerId], tuple[OrderView, ...]]:
        """The latest orders of these buyers in these shows, the newest first."""
        rows = await self._pool.fetch(
            _LATEST, [show for show, _ in buyers], [buyer for _, buyer in buyers], latest
        )
        found: dict[tuple[ShowId, BuyerId], list[OrderView]] = {one: [] for one in buyers}
        for order in map(_order_of, rows):
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
        self,
        *,
        show: ShowId | None = None,
        sub: str | None = None,
        cursor: str | None = None,
        limit: int = 50,
        newest_first: bool = False,
    ) -> FoundOrders:
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
        return FoundOrders(orders, last, len(rows) > size)

    async def views(self, ids: Sequence[UUID]) -> dict[str, OrderRow]:
        rows = await self._pool.fetch(f"{_ORDER} WHERE o.id = ANY($1::uuid[])", ids)
        orders = [_order_of(row) for row in rows]
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

        async def work(connection: Connection, wanted: UUID) -> _Changed:
            amount = await refunds.ask(connection, wanted, wish, request)
            return None if amount is None else {"amount_minor": amount}

        return await self._command(order, "order.refund", detail, actor, work)

    async def call_off_refunds(self, order: OrderId, *, reason: str, actor: Actor) -> OrderRow:
        """Nothing more goes back of the refunds that failed. Raises NotFound, Conflict."""

        async def work(connection: Connection, wanted: UUID) -> _Changed:
            await refunds.call_off(connection, wanted)
            return {}

        return await self._command(order, "order.refund.call_off", {"reason": reason}, actor, work)

    async def mark_paid(self, order: OrderId, *, reference: str, actor: Actor) -> OrderRow:
        """An invoice was paid, by this reference; once. Raises NotFound, Conflict."""

        async def work(connection: Connection, wanted: UUID) -> _Changed:
            return {} if await invoices.mark_paid(connection, wanted, reference) else None

        return await self._command(order, "order.paid", {"reference": reference}, actor, work)

    async def _command(
        self,
        order: OrderId,
        action: str,
        detail: dict[str, object],
        actor: Actor,
        work: Callable[[Connection, UUID], Awaitable[_Changed]],
    ) -> OrderRow:
        """Run a host's command on an order, with its row of the audit log; the order afterwards.

        `work` tells what the log should say of what it changed; None where it changed nothing.
        """
        wanted = _order_uuid(order)
        show = (await self.get(order)).view.show
        logged: dict[str, object] = {"order": order, **detail}

        async def run(connection: Connection) -> None:
            async with command_on(connection, show, actor, action, logged) as command:
                changed = await work(connection, wanted)
                command.nothing_done = changed is None
                command.detail |= changed or {}

        try:
            await in_transaction(self._pool, run)
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
            unpaid_minor=head["unpaid_minor"],
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
        refunds=views_of(row["refunds"]),
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
        raise BadField("cursor", "not a cursor of this list") from error


_ORDER = f"""
SELECT o.id, o.key, o.show, o.buyer, o.sub, o.state, o.total_minor, o.refunded_minor, o.currency,
       o.reason, floor(extract(epoch FROM o.created_at) * 1000)::bigint AS created_ms,
       (SELECT coalesce(json_agg(json_build_object('offer', i.offer, 'qty', i.qty,
                                                   'price_minor', i.price_minor)
                                 ORDER BY i.offer), '[]')::text
        FROM order_items i WHERE i.order_id = o.id) AS items,
       {REFUNDS} AS refunds
FROM orders o"""

_LATEST = f"""
SELECT o.* FROM unnest($1::text[], $2::bytea[]) AS n(show, buyer)
CROSS JOIN LATERAL (
    {_ORDER} WHERE o.show = n.show AND o.buyer = n.buyer
    ORDER BY o.created_at DESC, o.id LIMIT $3
) o"""

_REPORT = f"""
SELECT s.currency,
       (SELECT count(*) FROM holds h WHERE h.show = s.id AND NOT s.rehearsed) AS holds,
       count(o.id) AS orders,
       coalesce(sum(o.total_minor - o.refunded_minor) FILTER (WHERE NOT {UNPAID}), 0)::bigint
           AS revenue_minor,
       coalesce(sum(o.total_minor) FILTER (WHERE {UNPAID}), 0)::bigint AS unpaid_minor
FROM shows s
LEFT JOIN orders o ON o.show = s.id AND o.state {STANDS}
WHERE s.id = $1 GROUP BY s.id"""

# Items at their prices; a refund is of the order and lowers the show's revenue only.
_REPORT_OFFERS = f"""
SELECT f.id, f.title, f.allotted, f.sold, count(o.id) AS orders,
       coalesce(sum(i.qty * i.price_minor) FILTER (WHERE o.id IS NOT NULL AND NOT {UNPAID}), 0)
           ::bigint AS revenue_minor
FROM offers f
LEFT JOIN order_items i ON i.offer = f.id
LEFT JOIN orders o ON o.id = i.order_id AND o.state {STANDS}
WHERE f.show = $1 GROUP BY f.id ORDER BY f.slot"""

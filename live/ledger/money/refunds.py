"""Refunds that hosts ask for: how much goes back, which units came back, and what became of it.

Always: all refunds of a payment together never pass what was captured; a failed one is over, is
never repeated by itself, and is answered for by the host: whoever asks anew says what is to go back
now, and so calls off what failed before. Units come back at most as often as they were sold, with
money or without: an order may have cost nothing, and goods may come back weeks after their money.
Called by: orders.py, inside the transaction of a host's command.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

import asyncpg
import orjson

from live.base.errors import BadField, Conflict, NotFound
from live.domain.ids import OfferId
from live.domain.order import RefundState, RefundView
from live.domain.orders.fulfilment import units_text
from live.ledger.db.pool import Connection


@dataclass(frozen=True, slots=True)
class Returned:
    """So many units of the offer that a buyer sent back."""

    offer: OfferId
    qty: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RefundWish:
    """What a host asks for. `amount_minor` None: the rest; 0: units only, no money.

    `restock` without `items`: every unit that has not come back yet, which only a refund of all the
    money can mean.
    """

    amount_minor: int | None
    reason: str
    restock: bool
    items: tuple[Returned, ...] = ()


async def ask(connection: Connection, order: UUID, wish: RefundWish, request: str) -> int | None:
    """Write the refund's job, and take back its units; how much money that is.

    None where this request asked before. Raises BadField, NotFound, and Conflict for more money or
    more units than are left, and for a request that asked for something else before.
    """
    payment = await lock_order(connection, order)
    if payment is None:
        raise Conflict("nothing was paid for this order")
    # A statement of its own: its snapshot is younger than the lock.
    jobs = await connection.fetchrow(_JOBS, payment["id"], request)
    assert jobs is not None, "an aggregate without GROUP BY has one row"
    returned = await connection.fetch(_SAME_UNITS, order, request)
    if jobs["same"] is not None or returned:
        before = {row["offer"]: row["qty"] for row in returned}
        if not _is_same(wish, jobs["same"] or 0, before):
            raise Conflict("this key asked for another refund before")
        return None
    rest = payment["captured_minor"] - payment["refunded_minor"] - jobs["due"]
    if payment["captured_minor"] == 0 and payment["order_state"] == "confirmed":
        raise Conflict("nothing was paid for this order yet")
    amount = rest if wish.amount_minor is None else wish.amount_minor
    if not 0 <= amount <= rest or (amount == 0 and not wish.restock):
        raise Conflict(f"only {rest} minor units are left to refund")
    if amount:
        await connection.execute(_ASK, payment["id"], amount, wish.reason, request)
    if wish.restock:
        units = await take_back(connection, order, wish, request, whole=amount == rest)
        if not units and not amount:
            raise Conflict("no units are left to come back")
    return amount


def _is_same(wish: RefundWish, amount_minor: int, units: Mapping[OfferId, int]) -> bool:
    """Whether a request that asked for so much money and these units asked for the same."""
    same_money = wish.amount_minor in (None, amount_minor)
    same_units = not wish.items or units == {item.offer: item.qty for item in wish.items}
    return same_money and same_units and (wish.restock or not units)


async def call_off(connection: Connection, order: UUID) -> None:
    """Nothing more is to go back of what failed. Raises NotFound, and Conflict where none did."""
    payment = await lock_order(connection, order)
    if payment is None:
        raise Conflict("nothing was paid for this order")
    gone = await connection.fetch(_CALL_OFF, payment["id"])
    if not gone:
        raise Conflict("no refund of this order has failed")


async def lock_order(connection: Connection, order: UUID) -> asyncpg.Record | None:
    """Lock the payment of an order and the order itself, as everybody does who changes either.

    What is read by a later statement is younger than the locks. None for an order without a
    payment. Raises NotFound.
    """
    payment = await connection.fetchrow(_PAYMENT, order)
    if await connection.fetchrow(_LOCK_ORDER, order) is None:
        raise NotFound("unknown order")
    return payment


async def pay_back(
    connection: Connection,
    order: UUID,
    amount_minor: int | None,
    *,
    at_most_minor: int,
    why: str,
    request: str,
) -> int:
    """Write the job of a refund that follows from goods; how much it is, which may be nothing.

    `amount_minor` None: `at_most_minor`, or as much as is left of what was paid. Called where the
    order is locked, once for each `request`. Unlike a host's refund it answers for no failed one:
    that was for something else. Raises Conflict for more than is left.
    """
    rest: int = await connection.fetchval(_REST, order) or 0
    amount = min(at_most_minor, rest) if amount_minor is None else amount_minor
    if amount > rest:
        raise Conflict(f"only {rest} minor units are left to refund")
    if amount:
        await connection.execute(_PAY_BACK, order, amount, why, request)
    return amount


async def take_back(
    connection: Connection, order: UUID, wish: RefundWish, request: str, *, whole: bool
) -> Mapping[OfferId, int]:
    """Put the units that came back on the shelf; what the offer sold stays sold. Which they are.

    Raises Conflict for more than are outside, BadField where nothing says which.
    """
    outside = {row["offer"]: row["units"] for row in await connection.fetch(_NOT_RETURNED, order)}
    if wish.items:
        units = {item.offer: item.qty for item in wish.items}
        for offer, qty in units.items():
            if qty > outside.get(offer, 0):
                some, left = units_text(qty), outside.get(offer, 0)
                raise Conflict(f"items: {some} of {offer} cannot come back, {left} can")
    elif whole:
        units = outside
    else:
        raise BadField("items", "say which units came back, a part of the money does not tell")
    await connection.execute(
        _RETURN, order, wish.reason, list(units), list(units.values()), request
    )
    return units


def views_of(text: str) -> tuple[RefundView, ...]:
    """Read the JSON that `REFUNDS` makes."""
    found: Sequence[dict[str, object]] = orjson.loads(text)
    return tuple(
        RefundView(
            refund=str(one["refund"]),
            reason=str(one["reason"]),
            amount_minor=int(str(one["amount_minor"])),
            state=RefundState(str(one["state"])),
            failure=str(one["failure"]),
            asked_at=int(str(one["asked_at"])),
        )
        for one in found
    )


# Refunds of the order `o`. Why one was asked for is the host's word; why one failed the provider's.
REFUNDS = """
(SELECT coalesce(json_agg(json_build_object(
            'refund', j.id::text, 'amount_minor', j.amount_minor, 'state', j.state,
            'reason', coalesce(j.asked_why, ''),
            'failure', CASE WHEN j.state IN ('failed', 'called_off') THEN j.reason ELSE '' END,
            'asked_at', floor(extract(epoch FROM j.created_at) * 1000)::bigint)
        ORDER BY j.id), '[]')::text
 FROM money_jobs j WHERE j.payment = o.payment AND j.kind = 'refund')"""

_PAYMENT = """
SELECT p.id, p.captured_minor, p.refunded_minor, o.state AS order_state
FROM orders o JOIN payments p ON p.id = o.payment
WHERE o.id = $1 FOR NO KEY UPDATE OF p"""

_LOCK_ORDER = "SELECT id FROM orders WHERE id = $1 FOR NO KEY UPDATE"

_REST = """
SELECT p.captured_minor - p.refunded_minor - coalesce((
           SELECT sum(j.amount_minor) FROM money_jobs j
           WHERE j.payment = p.id AND j.kind = 'refund' AND j.state = 'due'), 0)::bigint
FROM orders o JOIN payments p ON p.id = o.payment WHERE o.id = $1"""

_PAY_BACK = """
INSERT INTO money_jobs (payment, kind, amount_minor, reason, request, asked_why)
SELECT payment, 'refund', $2, $3, $4, $3 FROM orders WHERE id = $1"""

_JOBS = """
SELECT coalesce(sum(amount_minor) FILTER (WHERE state = 'due'), 0)::bigint AS due,
       max(amount_minor) FILTER (WHERE request = $2) AS same
FROM money_jobs WHERE payment = $1 AND kind = 'refund'"""

_ASK = """
WITH answered AS (
    UPDATE money_jobs SET state = 'called_off'
    WHERE payment = $1 AND kind = 'refund' AND state = 'failed'
)
INSERT INTO money_jobs (payment, kind, amount_minor, reason, request, asked_why)
VALUES ($1, 'refund', $2, $3, $4, $3)"""

_CALL_OFF = """
UPDATE money_jobs SET state = 'called_off'
WHERE payment = $1 AND kind = 'refund' AND state = 'failed' RETURNING id"""

# Units that the buyer has: sold to them, not cancelled, not sent back.
_NOT_RETURNED = """
SELECT offer, sum(CASE WHEN kind = 'returned' THEN -qty ELSE qty END)::bigint AS units
FROM stock_movements
WHERE order_id = $1 AND kind IN ('sold', 'cancelled', 'returned')
GROUP BY offer HAVING sum(CASE WHEN kind = 'returned' THEN -qty ELSE qty END) > 0"""

# Units that this request ($2) brought back. A movement's key is its own: of one request there is
# one for each offer of the order.
_SAME_UNITS = """
SELECT m.offer, m.qty
FROM order_items i
JOIN stock_movements m ON m.key = 'return:' || $1::uuid || ':' || i.offer || ':' || $2::text
WHERE i.order_id = $1"""

# In the order of SKUs: refunds of two orders may give back to the same products.
_RETURN = """
WITH back AS MATERIALIZED (
    SELECT f.sku, n.offer, n.qty
    FROM unnest($3::text[], $4::bigint[]) AS n(offer, qty) JOIN offers f ON f.id = n.offer
), shelves AS MATERIALIZED (
    SELECT sku FROM products WHERE sku IN (SELECT sku FROM back) ORDER BY sku FOR NO KEY UPDATE
), moved AS (
    INSERT INTO stock_movements (sku, offer, order_id, kind, qty, reason, key)
    SELECT sku, offer, $1, 'returned', qty, $2, 'return:' || $1::uuid || ':' || offer || ':' || $5
    FROM back
)
UPDATE products p SET on_hand = p.on_hand + n.qty
FROM (SELECT sku, sum(qty) AS qty FROM back JOIN shelves USING (sku) GROUP BY sku) n
WHERE p.sku = n.sku"""

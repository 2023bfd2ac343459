"""Returns: units that a buyer sends back, from the wish to the decision on money and shelf.

Always: of a line no more is asked back than left the shop and did not come back by itself. Money
and shelf are one decision, taken once, when the units are received; the money is capped by what is
left of it, beside every refund that is on its way. Once the buyer withdrew from the contract no
return of the order is refused.
Called by: fulfilments.py, orders.py and withdraw.py, inside a transaction.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

import asyncpg

from live.base.errors import BadField, Conflict, NotFound
from live.domain.order import NOT_KEPT, OrderState, worth_of
from live.domain.orders.fulfilment import LineQty, ReturnState
from live.ledger.db.pool import Connection
from live.ledger.money import invoices, refunds
from live.ledger.money.refunds import RefundWish, Returned
from live.ledger.orders.parcels import check_items, read_lines, refuse_money_for_nothing
from live.ledger.orders.reading import read_bill


@dataclass(frozen=True, slots=True, kw_only=True)
class ReturnDecision:
    """`refund_minor` None: what the units are worth (`worth_of`), or as much as is left of it; only
    with `received`, as is `restock`."""

    state: ReturnState
    refund_minor: int | None = None
    restock: bool = False


async def ask_back(
    connection: Connection,
    order: UUID,
    items: Sequence[LineQty],
    reason: str,
    *,
    state: ReturnState = ReturnState.REQUESTED,
) -> UUID:
    """Write down that units are to come back; the return's id.

    Without `items`: all that may. Raises NotFound, BadField for a line that is not there, Conflict
    for an order that is over and for more units than were sent.
    """
    await refunds.lock_order(connection, order)
    found = OrderState(await connection.fetchval(_STATE, order))
    if found in NOT_KEPT:
        raise Conflict(f"this order is {found}")
    left = {row["line"]: row["may_return"] for row in await read_lines(connection, order)}
    items = check_items(items, left, "were sent and may come back")
    made: UUID = await connection.fetchval(
        _ASK, order, reason, state, [one.line for one in items], [one.qty for one in items]
    )
    return made


async def decide(
    connection: Connection, order: UUID, wanted: UUID, decision: ReturnDecision
) -> dict[str, object] | None:
    """Move a return on; what of money and units moved with it, None where it was so already.

    Raises NotFound, BadField, and Conflict for a step that there is not, for more money than is
    left, and for units that cannot come back.
    """
    await refunds.lock_order(connection, order)
    row = await connection.fetchrow(_RETURN, order, wanted)
    if row is None:
        raise NotFound("unknown return")
    before = ReturnState(row["state"])
    received = decision.state is ReturnState.RECEIVED
    if not received and (decision.refund_minor is not None or decision.restock):
        name = "restock" if decision.restock else "refund_minor"
        raise BadField(name, "decided when the units are received, with that state")
    if before is decision.state and (not received or _is_same(row, decision)):
        return None
    if before is decision.state:
        raise Conflict("this return was received, with another decision on money or shelf")
    if decision.state not in _NEXT[before]:
        raise Conflict(f"a return that is {before} does not become {decision.state}")
    if decision.state is ReturnState.REFUSED and row["withdrawn"]:
        raise Conflict(
            "the buyer withdrew from this order, so its goods may come back (directive 2011/83/EU,"
            " article 9): say received when they are here"
        )
    moved = await _settle(connection, order, wanted, row["reason"], decision) if received else {}
    await connection.execute(
        _DECIDE, wanted, decision.state, moved.get("refund_minor"), received and decision.restock
    )
    return moved


def _is_same(row: asyncpg.Record, decision: ReturnDecision) -> bool:
    same_money = decision.refund_minor in (None, row["refund_minor"])
    return same_money and row["restocked"] == decision.restock


async def _settle(
    connection: Connection, order: UUID, wanted: UUID, reason: str, decision: ReturnDecision
) -> dict[str, object]:
    """The money and the units of a return that was received."""
    lines = await connection.fetch(_ITEMS, wanted)
    qty = {row["line"]: row["qty"] for row in lines}
    all_lines = await read_lines(connection, order)
    items = [row for row in all_lines if row["line"] in qty]
    kept = units_kept(all_lines) - sum(qty.values())
    goods = sum(row["price_minor"] * qty[row["line"]] for row in items)
    worth = worth_of(
        await read_bill(connection, order),
        goods,
        last=kept == 0,
        before_minor=worth_back(all_lines),
    )
    request = f"return:{wanted}"
    amount = await refunds.pay_back(
        connection,
        order,
        decision.refund_minor,
        at_most_minor=worth,
        why=reason,
        request=request,
    )
    if decision.restock:
        units = tuple(Returned(row["offer"], qty[row["line"]]) for row in items)
        wish = RefundWish(amount_minor=amount, reason=reason, restock=True, items=units)
        await refunds.take_back(connection, order, wish, request, whole=False)
    return {"refund_minor": amount, "restock": decision.restock}


async def pay_invoice(connection: Connection, order: UUID, reference: str) -> bool:
    """Write down that the shop has the money of an invoice; what came back of it is paid back.

    False where that was written before. Raises NotFound, and Conflict as `mark_paid` does, where
    the buyer withdrew, which ends what they owe (directive 2011/83/EU, article 12), and where
    nothing is with them nor to be sent.
    """
    await refunds.lock_order(connection, order)
    if not await invoices.mark_paid(connection, order, reference):
        return False
    if await connection.fetchval(_WITHDRAWN, order):
        raise Conflict("the buyer withdrew, nothing of this order is owed: give back what was paid")
    await refuse_money_for_nothing(connection, order)
    lines = await read_lines(connection, order)
    bill, goods = await read_bill(connection, order), worth_back(lines)
    worth = worth_of(bill, goods, last=False)
    await refunds.pay_back(
        connection, order, None, at_most_minor=worth, why="came back unpaid", request="paid"
    )
    return True


def units_kept(lines: Sequence[asyncpg.Record]) -> int:
    """Units that are with the buyer, or may yet be sent to them."""
    return sum(row["outside"] + row["may_leave"] for row in lines)


def worth_back(lines: Sequence[asyncpg.Record]) -> int:
    """The price of the units that are back for good, in minor units."""
    return sum(
        (row["qty"] - row["outside"] - row["may_leave"]) * row["price_minor"] for row in lines
    )


_NEXT = {
    ReturnState.REQUESTED: (ReturnState.APPROVED, ReturnState.REFUSED, ReturnState.RECEIVED),
    ReturnState.APPROVED: (ReturnState.REFUSED, ReturnState.RECEIVED),
    ReturnState.REFUSED: (),
    ReturnState.RECEIVED: (),
}

_STATE = "SELECT state FROM orders WHERE id = $1"

_WITHDRAWN = "SELECT EXISTS (SELECT FROM withdrawals WHERE order_id = $1)"

_RETURN = """
SELECT state, reason, refund_minor, restocked,
       EXISTS (SELECT FROM withdrawals w WHERE w.order_id = r.order_id) AS withdrawn
FROM returns r WHERE order_id = $1 AND id = $2"""

_ITEMS = "SELECT line, qty FROM return_items WHERE return = $1"

_ASK = """
WITH made AS (
    INSERT INTO returns (order_id, reason, state) VALUES ($1, $2, $3) RETURNING id
), items AS (
    INSERT INTO return_items (return, line, qty)
    SELECT made.id, n.line, n.qty FROM made, unnest($4::integer[], $5::integer[]) AS n(line, qty)
)
SELECT id FROM made"""

_DECIDE = """
UPDATE returns SET state = $2, refund_minor = $3, restocked = $4, updated_at = now()
WHERE id = $1"""

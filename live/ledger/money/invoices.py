"""Invoices: orders for which no provider is asked, so the shop itself says that they were paid.

Always: such an order stays `confirmed`, with a payment that is kept for it (`capturing`) and
nothing captured, until `mark_paid`; until then it is no revenue and nothing of it can be refunded.
Called by: goods_back.py, which knows what of the order is owed.
"""

from uuid import UUID

from live.base.errors import Conflict, NotFound
from live.domain.payment import INVOICE, PaymentState
from live.ledger.db.pool import Connection
from live.ledger.money import payment_sql as sql

UNPAID = f"""(o.state = 'confirmed' AND EXISTS (
    SELECT FROM payments i WHERE i.id = o.payment AND i.provider = '{INVOICE}'))"""
"""A condition on orders `o`: an invoice that nobody has paid."""


async def mark_paid(connection: Connection, order: UUID, reference: str) -> bool:
    """Write down that the shop has the money of this order, by this reference.

    Called inside a transaction. False where it was written before with the same reference. Raises
    NotFound, and Conflict for an order that a provider is asked for, that is over, or that was paid
    by another reference.
    """
    await connection.execute(_LOCK, order)
    row = await connection.fetchrow(_LOOK, order)
    if row is None:
        raise NotFound("unknown order")
    if row["provider"] != INVOICE:
        raise Conflict(f"this order is paid by {row['provider'] or 'nobody'}, not by invoice")
    if row["paid_reference"] is not None:
        if row["paid_reference"] != reference:
            raise Conflict("this order was paid by another reference")
        return False
    if row["state"] != "confirmed":
        raise Conflict(f"this order is {row['state']}")
    arguments = sql.move_arguments(row["payment"], PaymentState.CAPTURED, reason=reference)
    state = await connection.fetchval(sql.MOVE, *arguments)
    if state != PaymentState.CAPTURED:
        raise Conflict(f"the payment of this order is {state}")
    await connection.execute(_PAID, order, reference)
    return True


# As everybody does who moves a payment; what is read afterwards is younger than the lock.
_LOCK = """
SELECT FROM payments WHERE id = (SELECT payment FROM orders WHERE id = $1) FOR NO KEY UPDATE"""

_LOOK = """
SELECT o.state, o.paid_reference, p.id::text AS payment, p.provider
FROM orders o LEFT JOIN payments p ON p.id = o.payment WHERE o.id = $1"""

# A settler of an older version may have asked for a capture.
_PAID = """
WITH paid AS (
    UPDATE orders SET paid_reference = $2 WHERE id = $1 RETURNING id, show, buyer, payment
), captured AS (
    UPDATE money_jobs j SET state = 'done'
    FROM paid WHERE j.payment = paid.payment AND j.kind = 'capture' AND j.state = 'due'
)
INSERT INTO notices (show, buyer, kind, order_id)
SELECT show, buyer, 'order.paid', id FROM paid"""

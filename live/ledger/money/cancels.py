"""A shop's cancellation of an order that has not left it: the promise is taken back, money too.

Always: it is done in the ledger, at once. Redis is not asked: what the offer sold stays sold there
(`shop_cancelled`), and units that come back go to the product's shelf, as after a refund with
restock. So nothing that is cancelled can be sold twice, whatever Redis knows by then.
Called by: orders.py, withdraw.py, inside a transaction that has locked the show.
"""

from uuid import UUID

from live.base.errors import Busy, Conflict
from live.domain.order import NOT_KEPT, OrderState
from live.ledger.db.pool import Connection
from live.ledger.db.states import FINAL, MONEY_MOVED
from live.ledger.money import refunds
from live.ledger.money.invoices import UNPAID
from live.ledger.money.refunds import RefundWish, Returned

REQUEST = "cancel"
"""Names the units that came back by the cancellation; an order is cancelled once."""


async def cancel(
    connection: Connection, order: UUID, *, reason: str, units: tuple[Returned, ...]
) -> int:
    """Cancel the order; how much money goes back of what was captured, in minor units.

    `units` go to the shelf: of those that are here, and no others. Money that is only set aside is
    voided. An invoice that nobody paid may also be cancelled after all that was sent is back.
    Raises NotFound, Conflict for an order that is over or has left the shop, and Busy for one whose
    money was just refused: it is cancelled by itself.
    """
    await refunds.lock_order(connection, order)
    # A statement of its own: its snapshot is younger than the locks.
    row = await connection.fetchrow(_LOOK, order)
    assert row is not None, "locked above"
    state = OrderState(row["state"])
    if state in NOT_KEPT or state is OrderState.REFUNDED:
        raise Conflict(f"this order is {state}")
    if row["outside"] > 0 or (row["shipped"] and not row["unpaid"]):
        raise Conflict(
            "units of this order were shipped: those come back as a return, and what was not sent"
            " by a refund with restock and items"
        )
    if row["refused"]:
        raise Busy("the payment was refused, and the order is being cancelled for it", retry_ms=500)
    asked: int = await connection.fetchval(_CANCEL, order, reason)
    if units:
        wish = RefundWish(amount_minor=None, reason=reason, restock=True, items=units)
        await refunds.take_back(connection, order, wish, REQUEST, whole=False)
    return asked


_LOOK = f"""
SELECT o.state, {UNPAID} AS unpaid, s.units > 0 AS shipped, s.units - r.units AS outside,
       o.state = 'confirmed' AND EXISTS (
           SELECT FROM money_jobs j
           WHERE j.payment = o.payment AND j.kind = 'capture' AND j.state = 'failed') AS refused
FROM orders o
CROSS JOIN LATERAL (
    SELECT coalesce(sum(i.qty), 0) AS units FROM shipments s JOIN shipment_items i
        ON i.shipment = s.id
    WHERE s.order_id = o.id AND s.status <> 'returned_to_sender') s
CROSS JOIN LATERAL (
    SELECT coalesce(sum(i.qty), 0) AS units FROM returns r JOIN return_items i ON i.return = r.id
    WHERE r.order_id = o.id AND r.state = 'received') r
WHERE o.id = $1"""

# As CANCEL_ORDERS does it to orders whose units Redis took back (settle/sql.py): a capture that is
# due is stopped; of one that is at the provider, the money goes back when it arrives.
_CANCEL = f"""
WITH gone AS (
    UPDATE orders SET state = 'cancelled', shop_cancelled = true, reason = $2
    WHERE id = $1 RETURNING id, show, buyer, payment
), stopped AS (
    UPDATE money_jobs j SET state = 'failed', reason = 'order cancelled'
    FROM gone g WHERE j.payment = g.payment AND j.kind = 'capture' AND j.state = 'due'
), rest AS (
    SELECT p.id, p.state, p.amount_minor, p.captured_minor,
           -- What a host asked for is on its way already.
           p.captured_minor - p.refunded_minor - coalesce((
               SELECT sum(j.amount_minor) FROM money_jobs j
               WHERE j.payment = p.id AND j.kind = 'refund' AND j.state = 'due'), 0)::bigint AS due
    FROM gone g JOIN payments p ON p.id = g.payment WHERE p.state NOT IN {FINAL}
), answered AS (
    UPDATE money_jobs j SET state = 'called_off'
    FROM rest r WHERE j.payment = r.id AND j.kind = 'refund' AND j.state = 'failed'
), jobs AS (
    INSERT INTO money_jobs (payment, kind, amount_minor, reason, request, asked_why)
    SELECT id, CASE WHEN captured_minor > 0 THEN 'refund' ELSE 'void' END,
           CASE WHEN captured_minor > 0 THEN due ELSE amount_minor END, 'order cancelled',
           CASE WHEN captured_minor > 0 THEN 'lost' END, $2
    FROM rest WHERE due > 0 OR captured_minor = 0 AND state NOT IN {MONEY_MOVED}  -- 0: it was free
    ON CONFLICT DO NOTHING
), told AS (
    INSERT INTO notices (show, buyer, kind, order_id)
    SELECT show, buyer, 'order.cancelled', id FROM gone
)
SELECT coalesce(max(due) FILTER (WHERE captured_minor > 0), 0)::bigint FROM rest"""

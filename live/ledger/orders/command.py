"""The frame of every command on an order, of hosts and of buyers.

Always: it is one transaction, a host's with its row of the audit log; it is done once per key of
who gave it, and leaves the order with the fulfilment that follows, among those that changed last.
Called by: orders.py, fulfilments.py.
"""

from collections.abc import Awaitable, Callable
from uuid import UUID

from live.base.errors import NotFound
from live.domain.ids import OrderId, ShowId
from live.ledger.db.idempotency import mark_done
from live.ledger.db.pool import Connection, Pool, in_transaction
from live.ledger.hosting.show_command import Actor, DoneBefore, command_on
from live.ledger.orders.reading import order_uuid
from live.ledger.orders.units import NOTE_FULFILMENT

Changed = dict[str, object] | None
"""What the audit log should say of what was changed; None where nothing was."""
OrderWork = Callable[[Connection, UUID], Awaitable[Changed]]
"""Changes an order, by its id, inside a transaction that has locked its show."""

_SHOW = "SELECT show FROM orders WHERE id = $1"


async def run_on_order(
    pool: Pool,
    order: OrderId,
    actor: Actor,
    action: str,
    detail: dict[str, object],
    work: OrderWork,
) -> None:
    """Run a host's command on an order, with its row of the audit log.

    Raises NotFound, and what `work` raises.
    """
    wanted = order_uuid(order)
    show = await pool.fetchval(_SHOW, wanted)
    if show is None:
        raise NotFound("unknown order")
    logged: dict[str, object] = {"order": order, **detail}

    async def run(connection: Connection) -> None:
        async with command_on(connection, ShowId(show), actor, action, dict(logged)) as command:
            changed = await work(connection, wanted)
            command.nothing_done = changed is None
            command.detail |= changed or {}
            if changed is not None:
                await connection.execute(NOTE_FULFILMENT, wanted)

    try:
        await in_transaction(pool, run)
    except DoneBefore:
        pass  # a repeat, of which the answer was lost


async def run_for_buyer(pool: Pool, order: OrderId, actor: Actor, work: OrderWork) -> None:
    """Run what a buyer may do with their own order, which no log of hosts tells of.

    Raises NotFound, and what `work` raises.
    """
    wanted = order_uuid(order)

    async def run(connection: Connection) -> None:
        if await mark_done(connection, actor.call) and await work(connection, wanted) is not None:
            await connection.execute(NOTE_FULFILMENT, wanted)

    await in_transaction(pool, run)

"""A rehearsal: the whole show for a passcode audience, of which nothing stays.

Always: while `shows.rehearsed` is true no payment row can be written (a trigger refuses it), so
there is no order either and `sold` does not move: offers run on their own allotment and have all
of it afterwards. A rehearsal begins only where no offer was ever opened, and its offers are drafts
again at its end. Its holds and places in line end with the life of the stock that they were in:
the keeper has the stock rebuilt, and the transaction that raises the epoch deletes their rows.
Until then nothing may be opened, so no real hold is ever among them.
Called by: shows.py inside a host's command; rebuild.py where it raises the epoch.
"""

from live.base.errors import Conflict
from live.domain.offer import Phase
from live.ledger.db.pool import Connection

_READY = """
SELECT rehearsal_passcode IS NOT NULL AS has_passcode,
       EXISTS (SELECT FROM offers WHERE show = $1 AND opens_at IS NOT NULL) AS has_sold
FROM shows WHERE id = $1"""

_BEGIN = "UPDATE shows SET rehearsed = true WHERE id = $1"

_OPENED = """
SELECT id, sku, phase, quantity FROM offers WHERE show = $1 AND opens_at IS NOT NULL
ORDER BY id FOR NO KEY UPDATE"""

_RESET_OFFER = """
UPDATE offers SET phase = $2, opens_at = NULL, closes_at = NULL,
    version = version + 1 WHERE id = $1"""

_END = """
UPDATE shows SET rehearsed = false
WHERE id = $1 AND rehearsed AND status <> 'rehearsal' RETURNING id"""

_FORGET_HOLDS = "DELETE FROM holds WHERE show = $1"

_FORGET_WAITLIST = "DELETE FROM waitlist WHERE show = $1"

_ALLOT_AGAIN = """
UPDATE products p SET allotted = p.allotted + f.quantity FROM offers f
WHERE p.sku = $1 AND f.id = $2 AND p.on_hand - p.allotted >= f.quantity
RETURNING f.quantity"""

_RESTORE_ALLOTTED = "UPDATE offers SET allotted = quantity WHERE id = $1"

_LOG_ALLOTTED = """
INSERT INTO stock_movements (sku, offer, kind, qty, reason)
VALUES ($1, $2, 'allotted', $3, 'rehearsal ended')"""


async def begin(connection: Connection, show: str) -> None:
    """Mark the show. Raises Conflict without a passcode, or where something was on sale."""
    ready = await connection.fetchrow(_READY, show)
    assert ready is not None, "the command has locked the show"
    if not ready["has_passcode"]:
        raise Conflict("set rehearsal_passcode first: a rehearsal is for those who know it")
    if ready["has_sold"]:
        raise Conflict("an offer of this show was opened before: it cannot be rehearsed any more")
    await connection.execute(_BEGIN, show)


async def leave(connection: Connection, show: str) -> list[str]:
    """Make all that was opened a draft again; the offers that had to stay closed.

    An offer that was closed in the rehearsal has given its units back to the product, and gets
    them again where nobody else has taken them meanwhile.
    """
    opened = await connection.fetch(_OPENED, show)
    lost: list[str] = []
    for offer in opened:
        closed = offer["phase"] == Phase.CLOSED.value
        if closed and not await _allot_again(connection, offer["id"], offer["sku"]):
            lost.append(offer["id"])
        await connection.execute(
            _RESET_OFFER,
            offer["id"],
            Phase.CLOSED.value if offer["id"] in lost else Phase.DRAFT.value,
        )
    return lost


async def forget(connection: Connection, show: str) -> bool:
    """Delete what a rehearsal that is over left behind; False where there was none.

    Called in the transaction that raises the stock epoch: the next life begins without it.
    """
    over = await connection.fetchval(_END, show)
    if over is None:
        return False
    await connection.execute(_FORGET_HOLDS, show)
    await connection.execute(_FORGET_WAITLIST, show)
    return True


async def _allot_again(connection: Connection, offer: str, sku: str) -> bool:
    taken = await connection.fetchval(_ALLOT_AGAIN, sku, offer)
    if taken is None:
        return False
    await connection.execute(_RESTORE_ALLOTTED, offer)
    await connection.execute(_LOG_ALLOTTED, sku, offer, taken)
    return True

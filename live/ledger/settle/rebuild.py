"""Rebuild: a show's stock in Redis made again from the ledger, after Redis lost or changed data.

Always: the show is stopped before anything is read, its outbox is settled to the end, and the
stock epoch is raised in the transaction that reads, so what is loaded is newer than every other
life. A hold counts once, by (show, buyer, key). Two rebuilds of a show wait for each other, by a
lease; one that was frozen and wakes when another was at it is refused at each step that counts: the
stop and the swap by the fence in Redis, the raise by the lease itself.
Called by: the keeper and every start of the service, where the server's run is not the show's;
the settler's `on_mismatch`.
"""

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

import structlog

from live.base.errors import Busy, NotFound
from live.base.failpoint import failpoint
from live.domain.hold import HoldState, Line
from live.domain.ids import BuyerId, HoldKey, OfferId, ShowId, Sku
from live.domain.offer import Mode, OfferTerms, Phase
from live.domain.stock import RebuiltEnd, RebuiltHold, RebuiltWaiting, ShowStock
from live.ledger.db import metrics
from live.ledger.db.leases import Lease, alone
from live.ledger.db.pool import Connection, Pool, in_transaction
from live.ledger.db.states import NOT_KEPT, UNDECIDED, sold
from live.ledger.hosting import rehearsal
from live.ledger.ports import OutboxPort, StockPort
from live.ledger.settle.settler import Settler
from live.ledger.settle.undo import undo_sales

PATIENCE_SECONDS = 60.0  # the other rebuild drains an outbox first
READ_TIMEOUT_SECONDS = 30.0  # 100,000 orders take less than a second
REBUILDS_AT_ONCE_MAX = 2  # each reads up to 100,000 rows; the pool's other connections go on
LATE_MONEY_SECONDS = 86_400  # as lua/_records.lua has it: then a person has looked at the payment
ENDED_MAX = 20_000  # holds that are over: 0.1 s of a rebuild, the last minutes of a big sale
PAYING_GRACE_SECONDS = 60  # a payment under way gets this long before the reaper may take its units

log = structlog.get_logger()

_NEXT_EPOCH = """
UPDATE shows SET stock_epoch = stock_epoch + 1, retired_at = NULL
WHERE id = $1 RETURNING stock_epoch"""

_EPOCH = "SELECT stock_epoch FROM shows WHERE id = $1"


async def needs_rebuild(stock: StockPort, show: ShowId) -> bool:
    """Whether Redis does not know this show in the life and on the run that it was installed."""
    try:
        await stock.figures(show)
    except Busy:
        return True
    return False


async def undo_sales_if_any(pool: Pool, stock: StockPort, show: ShowId) -> None:
    """Where Redis cannot decide, the rebuild that may follow makes this needless."""
    try:
        await undo_sales(pool, stock, show)
    except Busy as busy:
        log.info("undo.later", show=show, reason=str(busy))


class Rebuilder:
    """All rebuilds of one process: however many shows are lost at once, few are made at a time."""

    def __init__(
        self, pool: Pool, *, stock: StockPort, outbox: OutboxPort, settler: Settler
    ) -> None:
        self._pool, self._stock, self._outbox, self._settler = pool, stock, outbox, settler
        self._gate = asyncio.Semaphore(REBUILDS_AT_ONCE_MAX)

    async def rebuild(self, show: ShowId, *, force: bool = False) -> bool:
        """`rebuild_show`, when its turn has come; single sales are undone first, which may do."""
        if not force:
            await undo_sales_if_any(self._pool, self._stock, show)
        async with self._gate:
            return await rebuild_show(
                self._pool,
                show,
                stock=self._stock,
                outbox=self._outbox,
                settler=self._settler,
                force=force,
            )


async def rebuild_show(
    pool: Pool,
    show: ShowId,
    *,
    stock: StockPort,
    outbox: OutboxPort,
    settler: Settler,
    force: bool = False,
) -> bool:
    """Make the show's stock again where Redis lost it or it is doubted, in any case with `force`;
    False if another rebuild had just done it.

    Raises Busy while Redis does not answer, NotFound for an unknown show; all of it may be
    repeated from any point.
    """

    async def work(lease: Lease) -> bool:
        row = await pool.fetchrow(_DOUBTED, show)
        assert row is not None, "a row without a table"
        began, doubted = row
        if not (force or doubted or await needs_rebuild(stock, show)):
            return False
        await _rebuild(pool, show, lease, stock, outbox, settler, began)
        return True

    return await alone(pool, f"rebuild:{show}", work, patience_seconds=PATIENCE_SECONDS)


async def _rebuild(
    pool: Pool,
    show: ShowId,
    lease: Lease,
    stock: StockPort,
    outbox: OutboxPort,
    settler: Settler,
    began: datetime,
) -> None:
    await stock.stop_show(show, fence=lease.fence)
    failpoint("rebuild.stopped")
    await outbox.recreate_group(show)
    failpoint("rebuild.grouped")
    await settler.drain(show)
    failpoint("rebuild.drained")
    found = await raise_epoch(pool, show, lease, drained_since=began)
    failpoint("rebuild.raised")
    await stock.load_show(show, found, fence=lease.fence)
    failpoint("rebuild.loaded")
    metrics.REBUILDS.inc()
    log.warning(
        "rebuild.done",
        show=show,
        stock_epoch=found.stock_epoch,
        holds=len(found.holds),
        waiting=len(found.waiting),
    )


async def raise_epoch(
    pool: Pool,
    show: ShowId,
    lease: Lease | None = None,
    *,
    drained_since: datetime | None = None,
) -> ShowStock:
    """Raise the stock epoch and read the stock that belongs to it. Raises NotFound, Fenced.

    What was put aside, and not again since `drained_since`, was settled or is out of the world.
    """

    async def work(connection: Connection) -> ShowStock:
        if lease is not None:
            await lease.demand(connection)
        raised = await connection.fetchval(_NEXT_EPOCH, show)
        if raised is None:
            raise NotFound(f"unknown show {show}")
        await rehearsal.forget(connection, show)
        await connection.execute(_TRUST, show)
        if drained_since is not None:
            await connection.execute(_DECIDE, show, drained_since)
        await connection.execute(_UNDONE, show)
        await connection.execute(_ONE_PLACE, show, timeout=READ_TIMEOUT_SECONDS)
        found = await _read(connection, show, raised)
        over = _overcommitted(found)
        if not over:
            return found
        # More is promised than there is; nothing more may be sold until a host has looked.
        metrics.OVERCOMMITTED.inc(len(over))
        log.error("rebuild.overcommitted", show=show, slots=over)
        await connection.execute(_PAUSE, show, over)
        return replace(found, offers=await read_terms(connection, show))

    return await in_transaction(pool, work, isolation="repeatable_read")


def _overcommitted(found: ShowStock) -> list[int]:
    taken: Counter[int] = Counter()
    for hold in found.holds:
        for line in hold.lines:
            taken[line.slot] += line.qty
    return [terms.slot for terms in found.offers if taken[terms.slot] > terms.allotted]


async def read_show_stock(pool: Pool, show: ShowId) -> ShowStock:
    """What the ledger says about a show's stock now; changes nothing. Raises NotFound."""

    async def work(connection: Connection) -> ShowStock:
        epoch = await connection.fetchval(_EPOCH, show)
        if epoch is None:
            raise NotFound(f"unknown show {show}")
        return await _read(connection, show, epoch)

    return await in_transaction(pool, work, isolation="repeatable_read")


async def _read(connection: Connection, show: ShowId, epoch: int) -> ShowStock:
    """Called inside a REPEATABLE READ transaction: all reads see one instant."""
    holds = await _read_holds(connection, show)
    ended = await _read_ended(connection, show, holds)
    offers = await read_terms(connection, show)
    rows = await connection.fetch(_WAITING, show, timeout=READ_TIMEOUT_SECONDS)
    waiting = tuple(
        RebuiltWaiting(
            BuyerId(row["buyer"]), HoldKey(row["key"]), Line(row["slot"], row["qty"]), row["seq"]
        )
        for row in rows
    )
    return ShowStock(
        show=show, stock_epoch=epoch, offers=offers, holds=holds, waiting=waiting, ended=ended
    )


async def _read_holds(connection: Connection, show: ShowId) -> tuple[RebuiltHold, ...]:
    found: list[RebuiltHold] = []
    # Nearly all holds are for the same few numbers of units: sharing their lines saves half of the
    # objects, and with them the garbage collector's passes over 100,000 holds.
    shared: dict[tuple[tuple[int, ...], tuple[int, ...]], tuple[Line, ...]] = {}
    for state, query in (
        (HoldState.CONFIRMED, _SOLD),
        (HoldState.PAYING, _PAYING),
        (HoldState.HELD, _HELD),
    ):
        arguments = (show, PAYING_GRACE_SECONDS) if state is HoldState.PAYING else (show,)
        rows = await connection.fetch(query, *arguments, timeout=READ_TIMEOUT_SECONDS)
        for buyer, key, slots, quantities, expires_ms, held_until_ms in rows:
            units = (tuple(slots), tuple(quantities))
            lines = shared.get(units)
            if lines is None:
                lines = shared[units] = tuple(map(Line, slots, quantities))
            found.append(RebuiltHold(buyer, key, state, lines, expires_ms, held_until_ms))
    return tuple(found)


async def _read_ended(
    connection: Connection, show: ShowId, holds: Sequence[RebuiltHold]
) -> tuple[RebuiltEnd, ...]:
    """Of those that money knows all, of the others the newest; no key that is live or sold."""
    known = {(hold.buyer, hold.key) for hold in holds}
    found: list[RebuiltEnd] = []
    for query, arguments in ((_VOIDED, ()), (_LATE, (LATE_MONEY_SECONDS,)), (_ENDED, (ENDED_MAX,))):
        rows = await connection.fetch(query, show, *arguments, timeout=READ_TIMEOUT_SECONDS)
        for buyer, key, slots, quantities, state, cancelled, late in rows:
            if (buyer, key) not in known:
                known.add((buyer, key))
                lines = tuple(map(Line, slots, quantities))
                found.append(RebuiltEnd(buyer, key, HoldState(state), lines, cancelled, late))
    return tuple(reversed(found))


async def read_terms(connection: Connection, show: ShowId) -> tuple[OfferTerms, ...]:
    """What hosts decided about the offers that were ever opened; changes nothing."""
    rows = await connection.fetch(_OFFERS, show)
    return tuple(
        OfferTerms(
            id=OfferId(row["id"]),
            show=show,
            slot=row["slot"],
            sku=Sku(row["sku"]),
            title=row["title"],
            image_url=row["image_url"],
            price_minor=row["price_minor"],
            currency=row["currency"],
            mode=Mode(row["mode"]),
            phase=Phase(row["phase"]),
            quantity=row["quantity"],
            allotted=row["allotted"],
            per_buyer_limit=row["per_buyer_limit"],
            hold_seconds=row["hold_seconds"],
            waitlist=row["waitlist"],
            guests=row["guests"],
            opens_at=row["opens_ms"],
            closes_at=row["closes_ms"],
            version=row["version"],
        )
        for row in rows
    )


_DOUBTED = "SELECT now(), EXISTS (SELECT FROM stock_doubts WHERE show = $1)"

# What was doubted is gone with the old life: its outbox was settled to the end before.
_TRUST = "DELETE FROM stock_doubts WHERE show = $1"

_DECIDE = """
UPDATE poison SET decided_at = now() WHERE show = $1 AND decided_at IS NULL AND tried_at < $2"""

_UNDONE = "DELETE FROM sales_to_undo WHERE show = $1"

# A buyer has one place in a line. Redis gives no second one while it knows the first; where it did,
# having lost that, the place that they took first counts.
_ONE_PLACE = """
UPDATE waitlist w SET state = 'left'
WHERE w.show = $1 AND w.state = 'waiting'
  AND EXISTS (SELECT FROM waitlist o
              WHERE o.show = $1 AND o.buyer = w.buyer AND o.offer = w.offer
                AND o.state = 'waiting' AND o.seq < w.seq)"""

_PAUSE = """
WITH paused AS (
    UPDATE offers SET phase = 'paused', version = version + 1
    WHERE show = $1 AND slot = ANY($2::integer[]) AND phase = 'open' RETURNING id
)
UPDATE shows SET version = version + 1 WHERE id = $1 AND EXISTS (SELECT FROM paused)"""

_OFFERS = """
SELECT id, slot, sku, title, image_url, price_minor, currency, mode, phase, quantity, allotted,
       per_buyer_limit, hold_seconds, waitlist, guests, version,
       floor(extract(epoch FROM opens_at) * 1000)::bigint AS opens_ms,
       floor(extract(epoch FROM closes_at) * 1000)::bigint AS closes_ms
FROM offers WHERE show = $1 AND phase <> 'draft' ORDER BY slot"""

# 1. An order that stands is sold, whatever else is known about its hold; and so is one that the
# shop cancelled: its units went to the product's shelf.
_SOLD = f"""
SELECT o.buyer, uuid_send(o.key) AS key, array_agg(f.slot ORDER BY f.slot) AS slots,
       array_agg(i.qty ORDER BY f.slot) AS quantities, 0 AS expires_ms,
       0 AS held_until_ms
FROM orders o JOIN order_items i ON i.order_id = o.id JOIN offers f ON f.id = i.offer
WHERE o.show = $1 AND {sold("o")}
GROUP BY o.id"""

# 2. A payment under way keeps its units. In first_paid mode it has none before it is authorised
# and sold, so there a sale that Redis forgot is simply tried again by the payment worker. An offer
# closes when nothing of it is held any more: who still pays for a closed one has no units.
_PAYING = f"""
SELECT p.buyer, uuid_send(p.hold) AS key, p.slots, p.quantities,
       (floor(extract(epoch FROM greatest(h.expires_at, now() + make_interval(secs => $2)))
              * 1000))::bigint AS expires_ms,
       coalesce(p.held_until, 0) AS held_until_ms
FROM payments p
LEFT JOIN holds h ON h.show = p.show AND h.buyer = p.buyer AND h.key = p.hold
WHERE p.show = $1 AND p.mode = 'hold'
  AND p.state IN {UNDECIDED}
  AND NOT EXISTS (SELECT FROM orders o
                  WHERE o.show = p.show AND o.buyer = p.buyer AND o.key = p.hold)
  AND NOT EXISTS (SELECT FROM money_jobs j WHERE j.payment = p.id AND j.kind = 'void')
  AND NOT EXISTS (SELECT FROM offers f WHERE f.show = p.show AND f.slot = ANY(p.slots)
                  AND f.phase = 'closed')
  AND (h.state IS NULL OR h.state NOT IN ('released', 'cancelled', 'expired'))"""

# 3. A hold that has not ended keeps its deadline.
_HELD = f"""
SELECT h.buyer, uuid_send(h.key) AS key, h.slots, h.quantities,
       floor(extract(epoch FROM h.expires_at) * 1000)::bigint AS expires_ms,
       0 AS held_until_ms
FROM holds h
WHERE h.show = $1 AND h.state IN ('held', 'paying')
  AND NOT EXISTS (SELECT FROM orders o
                  WHERE o.show = h.show AND o.buyer = h.buyer AND o.key = h.key)
  AND NOT EXISTS (
      SELECT FROM payments p
      WHERE p.show = h.show AND p.buyer = h.buyer AND p.hold = h.key AND p.mode = 'hold'
        AND p.state IN {UNDECIDED}
        AND NOT EXISTS (SELECT FROM money_jobs j WHERE j.payment = p.id AND j.kind = 'void'))"""

# 4. Keys whose order is no more: nothing is sold for them again.
_VOIDED = f"""
SELECT o.buyer, uuid_send(o.key) AS key, array_agg(f.slot ORDER BY f.slot) AS slots,
       array_agg(i.qty ORDER BY f.slot) AS quantities, 'released' AS state, true AS cancelled,
       0 AS late_ms
FROM orders o JOIN order_items i ON i.order_id = o.id JOIN offers f ON f.id = i.offer
WHERE o.show = $1 AND o.state IN {NOT_KEPT} AND NOT o.shop_cancelled
GROUP BY o.id ORDER BY o.seq DESC"""

# 5. Holds that expired while they were paid: the units may be somebody else's by now, so the
# payment worker takes them again only where they are left, as it would without a rebuild.
_LATE = f"""
SELECT p.buyer, uuid_send(p.hold) AS key, p.slots, p.quantities, 'expired' AS state,
       false AS cancelled,
       floor(extract(epoch FROM now() + make_interval(secs => $2)) * 1000)::bigint AS late_ms
FROM payments p JOIN holds h ON h.show = p.show AND h.buyer = p.buyer AND h.key = p.hold
WHERE p.show = $1 AND p.mode = 'hold' AND h.state = 'expired'
  AND p.state IN {UNDECIDED}
  AND NOT EXISTS (SELECT FROM money_jobs j WHERE j.payment = p.id AND j.kind = 'void')
ORDER BY h.seq DESC"""

# 6. Others that are over, for repeats of their keys: those come soon after the first.
_ENDED = """
SELECT buyer, uuid_send(key) AS key, slots, quantities,
       CASE WHEN state = 'expired' THEN state ELSE 'released' END AS state,
       state = 'cancelled' AS cancelled, 0 AS late_ms
FROM holds WHERE show = $1 AND state IN ('released', 'expired', 'cancelled')
ORDER BY seq DESC LIMIT $2"""

_WAITING = """
SELECT w.buyer, uuid_send(w.key) AS key, f.slot, w.qty, w.seq
FROM waitlist w JOIN offers f ON f.id = w.offer
WHERE w.show = $1 AND w.state = 'waiting' AND f.phase NOT IN ('closing', 'closed')
ORDER BY w.seq"""

"""The notice sender: what committed rows say about a buyer reaches their own channel.

Always: a notice is published at least once after its row was committed, with its id as
idempotency key, so the channel's log holds it once; it is deleted only after that. A notice that
cannot be published waits longer each time and never holds up another one; it is given up, with an
alarm, only after `TRIES_MAX` rounds in which others were published.
Runs on: one task per process; several processes share the table by leases.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import get_args
from uuid import UUID

import asyncpg
import orjson
import structlog

from live.aio.loops import Backoff, pause, repeat
from live.base.faults import tell_fault
from live.domain.channels import Channel, ChannelKind
from live.domain.events import OrderEvent, OrderEventType, PaymentFailed
from live.domain.ids import BuyerId, ShowId
from live.ledger.db import metrics
from live.ledger.db.pool import Pool
from live.ledger.orders.orders import OrderRows
from live.ledger.orders.reading import OrderRow
from live.ledger.ports import PublishPort

TAKE_MAX = 500
LEASE_SECONDS = 10.0  # of notices being published; what a dead sender left is taken again after it
TRIES_MAX = 50  # over an hour of lease after lease while others are told; then it is the notice
PUBLISHING_MAX = 32  # at once
IDLE_SECONDS = 0.5  # a look at the table where nobody woke us (notices of other processes)
BACKOFF = Backoff(0.1, seconds_max=5.0)

log = structlog.get_logger()

_DELETE = "DELETE FROM notices WHERE id = ANY($1::bigint[])"


class NoticeSender:
    def __init__(
        self, pool: Pool, announce: PublishPort, *, lease_seconds: float = LEASE_SECONDS
    ) -> None:
        self._pool = pool
        self._publish = announce
        self._lease_seconds = lease_seconds
        self._orders = OrderRows(pool)
        self._awake = asyncio.Event()

    def wake(self) -> None:
        """Something was committed: look now."""
        self._awake.set()

    async def run(self, stop: asyncio.Event) -> None:
        """Publish until `stop`; what a failure leaves is taken again when its lease has run out."""

        async def turn() -> None:
            self._awake.clear()
            if not await self.send_due():
                await pause(IDLE_SECONDS, self._awake, stop)

        count = metrics.FAILURES.labels("notices").inc
        await repeat("notices", turn, stop, backoff=BACKOFF, on_failure=count)

    async def send_due(self) -> int:
        """Publish what is due, up to a bound; the number of notices taken."""
        rows = await self._pool.fetch(_TAKE, TAKE_MAX, self._lease_seconds, TRIES_MAX)
        if not rows:
            return 0
        orders = await self._orders.views([row["order_id"] for row in rows if row["order_id"]])
        done: list[int] = []
        failed: list[asyncpg.Record] = []
        gate = asyncio.Semaphore(PUBLISHING_MAX)
        # The notices of one buyer follow each other; those of different buyers do not wait.
        by_buyer: dict[bytes, list[asyncpg.Record]] = {}
        for row in sorted(rows, key=lambda row: row["id"]):
            by_buyer.setdefault(row["buyer"], []).append(row)
        await asyncio.gather(
            *(self._send_in_order(mine, orders, done, failed, gate) for mine in by_buyer.values())
        )
        await self._pool.execute(_DELETE, done)
        metrics.NOTICES.labels("sent").inc(len(done))
        await self._count_tries(rows, done, failed)
        return len(rows)

    async def _count_tries(
        self, rows: Sequence[asyncpg.Record], done: list[int], failed: list[asyncpg.Record]
    ) -> None:
        """A try counts against a notice only where it failed and others did not."""
        blamed = {row["id"]: row["tries"] for row in failed} if done else {}
        settled = {*blamed, *done}
        spared = [row["id"] for row in rows if row["id"] not in settled]
        if spared:
            await self._pool.execute(_GIVE_BACK, spared)
        lost = [notice for notice, tries in blamed.items() if tries >= TRIES_MAX]
        if lost:
            metrics.NOTICES_GIVEN_UP.inc(len(lost))
            log.error("notices.given_up", notices=lost)

    async def _send_in_order(
        self,
        rows: Sequence[asyncpg.Record],
        orders: dict[str, OrderRow],
        done: list[int],
        failed: list[asyncpg.Record],
        gate: asyncio.Semaphore,
    ) -> None:
        async with gate:
            for row in rows:
                try:
                    await self._send(row, orders)
                except Exception as error:
                    # another package's code; the lease brings the notice back, and the later ones
                    # of this buyer with it.
                    metrics.NOTICES.labels("failed").inc()
                    tell_fault("notices.unsent", error, show=row["show"], notice=row["id"])
                    failed.append(row)
                    return
                done.append(row["id"])

    async def _send(self, row: asyncpg.Record, orders: dict[str, OrderRow]) -> None:
        show, key = ShowId(row["show"]), f"notice:{row['id']}"
        event = _event_of(row, orders)
        if event is None:
            log.error("notices.unreadable", notice=row["id"], kind=row["kind"])
            return
        # A buyer hears of a refund that failed only where they were told that it was done.
        failed = event.type == "refund.failed"
        told = row["body"] is not None
        if not failed or told:
            await self._publish(
                Channel(ChannelKind.PERSONAL, show, BuyerId(row["buyer"])), event, key=key
            )
        if isinstance(event, OrderEvent) and not (failed and told):
            await self._publish(Channel(ChannelKind.DESK, show), event, key=key)


def _event_of(
    row: asyncpg.Record, orders: dict[str, OrderRow]
) -> OrderEvent | PaymentFailed | None:
    at = int(time.time() * 1000)
    if row["kind"] == "payment.failed":
        body = orjson.loads(row["body"])
        return PaymentFailed(at=at, hold=body["hold"], reason=body["reason"])
    order = orders.get(str(_order_id(row)))
    if order is None or row["kind"] not in _ORDER_KINDS:
        return None
    return OrderEvent(type=_ORDER_KINDS[row["kind"]], at=at, order=order.view)


def _order_id(row: asyncpg.Record) -> UUID | None:
    found: UUID | None = row["order_id"]
    return found


_ORDER_KINDS: Mapping[str, OrderEventType] = {kind: kind for kind in get_args(OrderEventType)}

_TAKE = """
UPDATE notices n SET due_at = now() + make_interval(secs => $2 * least(n.tries + 1, 8)),
       tries = n.tries + 1
FROM (SELECT id FROM notices WHERE due_at <= now() AND tries < $3
      ORDER BY due_at LIMIT $1 FOR UPDATE SKIP LOCKED) due
WHERE n.id = due.id
RETURNING n.id, n.show, n.buyer, n.kind, n.order_id, n.body::text AS body, n.tries"""

_GIVE_BACK = "UPDATE notices SET tries = tries - 1 WHERE id = ANY($1::bigint[]) AND tries > 0"

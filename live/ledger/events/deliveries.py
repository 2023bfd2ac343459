"""Deliveries as their sender takes them, and what it writes of how they went.

Always: a delivery is taken under a lease that ends by Postgres' clock; a repeat of a record changes
nothing that a later holder of the lease did. Of one subject to one endpoint only the oldest that is
due is ever taken, so they arrive in their order, whichever process sends them; the next one is due
when the one before it is done. An endpoint is disabled here, for the reason that it then shows.
An endpoint that is back catches up: what waits for a later try is taken ahead of its time, once, in
the order of those times. No row is changed for that, however many wait: the endpoint has a mark up
to where it went, and a try ahead that fails leaves the schedule as it was.
Called by: the sender (live/outgoing/sender.py), through `DeliveryPort`.
"""

from collections.abc import Callable, Sequence
from uuid import UUID

import asyncpg
import orjson
import structlog

from live.base.failpoint import failpoint
from live.domain.ids import OrderId
from live.domain.order import OrderContact
from live.domain.outgoing.deliveries import Attempted, Backlog, DueDelivery
from live.domain.outgoing.retries import FAILING_SECONDS_MAX
from live.domain.outgoing.webhooks import ATTEMPTS_MAX, DeliveryState, WebhookFormat
from live.ledger.db.pool import Connection, Pool, in_transaction
from live.ledger.events import delivery_sql as sql
from live.ledger.orders.reading import read_contacts

LOOK_MAX = 100  # endpoints with something due, of one look: as many as a shop may have
LEASE_SECONDS = 30.0  # longer than one call may take, so nobody else sends it meanwhile
NO_ORDER = OrderId("")
BEHIND_HOURS = 27  # longer than any pause: whoever is behind is let go when the one before is done
BACKLOG_MAX = 1_000_000  # counted; more is as bad
# A good answer after so long means that the endpoint is back. Less is no outage: where one event is
# refused again and again among others that are taken, each of those would have it tried again.
OUTAGE_SECONDS = 10.0
AWAY_SECONDS = 2.0  # of catching up without a good answer, and it ends: the endpoint is not back

log = structlog.get_logger()


def _no_time() -> float:
    return 0.0


class DeliveryRows:
    """`ahead_seconds`: how far a test's clock is ahead of Postgres'."""

    def __init__(self, pool: Pool, *, ahead_seconds: Callable[[], float] = _no_time) -> None:
        self._pool = pool
        self._ahead = ahead_seconds

    async def due_endpoints(self) -> list[str]:
        """Those for which something can be sent now."""
        rows = await self._pool.fetch(sql.DUE_ENDPOINTS, self._ahead(), LOOK_MAX)
        return [str(row["id"]) for row in rows]

    async def take(self, webhook: str, *, limit: int) -> list[DueDelivery]:
        """Up to so many that are due and in whose line nothing stands before them."""
        endpoint, ahead = UUID(webhook), self._ahead()
        rows = await self._pool.fetch(sql.TAKE, endpoint, limit, ahead, LEASE_SECONDS)
        left = limit - len(rows)
        early: list[asyncpg.Record] = []
        if left and await self._pool.fetchval(sql.CATCHES_UP, endpoint):
            early = await self._take_ahead(endpoint, left)
        failpoint("webhooks.taken")
        return [*await self._due(rows, early=False), *await self._due(early, early=True)]

    async def _take_ahead(self, endpoint: UUID, limit: int) -> list[asyncpg.Record]:
        """Up to so many of those that wait for a later time, from where the last call ended."""

        async def work(connection: Connection) -> list[asyncpg.Record]:
            mark = await connection.fetchrow(sql.CAUGHT_UP, endpoint)
            if mark is None:
                return []
            found = await connection.fetch(
                sql.TAKE_AHEAD, endpoint, limit, self._ahead(), LEASE_SECONDS, *mark
            )
            last: tuple[object, int] = (None, 0)
            if len(found) == limit:  # else that was the end
                last = max((row["due_at"], row["id"]) for row in found)
            await connection.execute(sql.GO_ON, endpoint, *last)
            return found

        return await in_transaction(self._pool, work)

    async def _due(self, rows: Sequence[asyncpg.Record], *, early: bool) -> list[DueDelivery]:
        wanted = {row["id"]: OrderId(row["order_id"]) for row in rows if row["order_id"]}
        contacts = await read_contacts(self._pool, list(wanted.values())) if wanted else {}
        return [
            _due_of(row, contacts.get(wanted.get(row["id"], NO_ORDER)), early=early) for row in rows
        ]

    async def record(self, ends: Sequence[Attempted]) -> list[Exception | None]:
        """Write how tries went; an endpoint that this disables is told to the log."""

        async def work(connection: Connection) -> list[asyncpg.Record]:
            await _record_tries(connection, ends, self._ahead())
            return await _judge_endpoints(connection, ends, self._ahead())

        disabled = await in_transaction(self._pool, work)
        failpoint("webhooks.recorded")
        for row in disabled:
            log.error("webhooks.disabled", webhook=str(row["id"]), reason=row["reason"])
        return [None] * len(ends)

    async def backlog(self) -> Backlog:
        row = await self._pool.fetchrow(sql.BACKLOG, self._ahead(), BACKLOG_MAX)
        assert row is not None, "figures have one row"
        oldest = max(0.0, row["oldest_seconds"] or 0.0)
        return Backlog(row["events"], row["deliveries"], oldest, row["disabled"])


async def _record_tries(connection: Connection, ends: Sequence[Attempted], ahead: float) -> None:
    await connection.execute(
        sql.RECORD,
        [one.delivery for one in ends],
        [one.state.value for one in ends],
        [one.pause_seconds or 0.0 for one in ends],
        [one.lease for one in ends],
        [_attempt(one) for one in ends],
        ahead,
        ATTEMPTS_MAX,
        [one.ahead for one in ends],
    )
    waits = [one.delivery for one in ends if one.state is DeliveryState.DUE]
    if waits:
        await connection.execute(sql.MAKE_WAIT, waits, BEHIND_HOURS)
    lines = {(one.webhook, one.subject) for one in ends if one.state is not DeliveryState.DUE}
    if lines:
        # In an order, so that two processes lock them in the same one.
        webhooks, subjects = zip(*sorted(lines), strict=True)
        await connection.execute(sql.LET_NEXT, [UUID(one) for one in webhooks], subjects, ahead)


async def _judge_endpoints(
    connection: Connection, ends: Sequence[Attempted], ahead: float
) -> list[asyncpg.Record]:
    """What the tries say of their endpoints; those that are disabled by it."""
    # In the order of ids, so that two processes lock them in the same order.
    webhooks = sorted({one.webhook for one in ends})
    mine = [[one for one in ends if one.webhook == webhook] for webhook in webhooks]
    rests = [max((one.rest_seconds or 0.0 for one in group), default=0.0) for group in mine]
    return await connection.fetch(
        sql.JUDGE,
        [UUID(webhook) for webhook in webhooks],
        [any(one.good for one in group) for group in mine],
        [any(one.gone for one in group) for group in mine],
        rests,
        ahead,
        FAILING_SECONDS_MAX,
        [any(one.good and one.test for one in group) for group in mine],
        OUTAGE_SECONDS,
        AWAY_SECONDS,
    )


def _attempt(one: Attempted) -> str:
    told = {"at": one.at, "status": one.status, "ms": one.ms, "answer": one.answer}
    return orjson.dumps([told]).decode()


def _due_of(row: asyncpg.Record, contact: OrderContact | None, *, early: bool) -> DueDelivery:
    return DueDelivery(
        delivery=row["id"],
        webhook=str(row["webhook"]),
        subject=row["subject"],
        type=row["type"],
        event=row["event"],
        at_us=row["at_us"],
        data=row["data"],
        contact=None if contact is None else orjson.dumps(contact).decode(),
        tries=row["tries"],
        # What was never tried begins its schedule whenever that is.
        ahead=early and row["tries"] > 0,
        throttles=row["throttles"],
        lease=row["leased_until"],
        url=row["url"],
        format=WebhookFormat(row["format"]),
        secrets=tuple(row["secrets"]),
    )

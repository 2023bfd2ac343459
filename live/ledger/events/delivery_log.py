"""What was delivered to an endpoint, and having it once more.

Always: only what the endpoint may hear of is repeated; a replay of a span is noted here and done
bit by bit by the sequencer, so no call makes more rows than it names.
Called by: the HTTP API, `live webhooks`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID, uuid4

import asyncpg
import orjson

from live.base.errors import BadField, Conflict, NotFound
from live.domain.outgoing.event_types import TEST_TYPE
from live.domain.outgoing.webhooks import (
    AttemptView,
    DeliveryState,
    DeliveryView,
    EndpointState,
    EndpointView,
    ReplayView,
    name_event,
    name_test,
)
from live.ledger.db.pool import Connection, Pool
from live.ledger.events import endpoint_sql as sql
from live.ledger.events.endpoints import Shows, change_endpoint
from live.ledger.hosting.show_command import Actor

REPEATED_MAX = 200  # deliveries of one call
REPLAYS_MAX = 10  # of one endpoint, that are not done yet
COUNTED_MAX = 20_000  # rows that a count looks at
LATE_MS = 60_000  # by which events may have got their positions out of the order of their times


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Events from `since` until before `until`, Unix ms; of these types of the endpoint's own."""

    since: int
    until: int
    types: tuple[str, ...]


class DeliveryLog:
    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def page(
        self, webhook: str, *, state: DeliveryState | None, before: int, limit: int
    ) -> list[DeliveryView]:
        """The newest first; `before`: the last number of the page before, 0 for none."""
        wanted = None if state is None else state.value
        rows = await self._pool.fetch(sql.DELIVERIES, UUID(webhook), wanted, before, limit)
        return [_view(row) for row in rows]

    async def test(self, webhook: str, actor: Actor, shows: Shows = None) -> DeliveryView:
        """Have a test sent. Raises NotFound, and Conflict where nothing is sent now."""

        async def work(
            connection: Connection, known: EndpointView, _fresh: bool
        ) -> asyncpg.Record | None:
            if known.state is not EndpointState.ACTIVE:
                raise Conflict(f"this endpoint is {known.state.value}: make it active first")
            # A subject of its own: it waits for nothing, and nothing for it.
            subject = f"test:{uuid4()}"
            made = await connection.fetchval(sql.TEST, UUID(known.webhook), TEST_TYPE, subject)
            return await connection.fetchrow(sql.DELIVERY, made)

        row = await change_endpoint(self._pool, webhook, shows, "webhook.test", {}, actor, work)
        assert row is not None, "it was made just now"
        return _view(row)

    async def waiting(self, webhook: str) -> int:
        """Deliveries that are not done, counted up to COUNTED_MAX."""
        return int(await self._pool.fetchval(sql.WAITING, UUID(webhook), COUNTED_MAX))

    async def repeat(
        self, webhook: str, deliveries: Sequence[int], actor: Actor, shows: Shows = None
    ) -> ReplayView:
        """Make these due again, whatever became of them. Raises NotFound."""

        async def work(connection: Connection, known: EndpointView, fresh: bool) -> ReplayView:
            endpoint, ids = UUID(known.webhook), list(set(deliveries))
            if await connection.fetchval(sql.KNOWN, endpoint, ids) < len(ids):
                raise NotFound("unknown delivery")
            if fresh:
                await connection.execute(sql.REPEAT, endpoint, ids)
            return ReplayView(deliveries=len(ids), more=False, state=known.state)

        detail: dict[str, object] = {"deliveries": len(deliveries)}
        return await change_endpoint(
            self._pool, webhook, shows, "webhook.replay", detail, actor, work
        )

    async def replay(
        self, webhook: str, span: Span, actor: Actor, shows: Shows = None
    ) -> ReplayView:
        """Note that these events are wanted once more. Raises NotFound, Conflict."""

        async def work(connection: Connection, known: EndpointView, fresh: bool) -> ReplayView:
            endpoint = UUID(known.webhook)
            begin = await _position_of(connection, span.since - LATE_MS)
            if not fresh:
                return await _counted(connection, span, known, begin)
            if await connection.fetchval(sql.WAITING_REPLAYS, endpoint) >= REPLAYS_MAX:
                raise Conflict(f"{REPLAYS_MAX} replays of this endpoint are not done yet")
            await connection.execute(
                sql.REPLAY, endpoint, list(span.types), span.since, span.until, begin
            )
            return await _counted(connection, span, known, begin)

        detail: dict[str, object] = {"from": span.since, "to": span.until}
        return await change_endpoint(
            self._pool, webhook, shows, "webhook.replay", detail, actor, work
        )


async def _counted(
    connection: Connection, span: Span, known: EndpointView, begin: int
) -> ReplayView:
    """How many events are in the span, as far as COUNTED_MAX rows tell."""
    found = await connection.fetchrow(
        sql.COUNT_SPAN,
        begin,
        span.since,
        span.until,
        list(span.types),
        list(known.shows),
        COUNTED_MAX,
    )
    assert found is not None, "an aggregate has one row"
    more = found["looked_at"] == COUNTED_MAX and found["last_ms"] < span.until + LATE_MS
    return ReplayView(deliveries=found["found"], more=more, state=known.state)


async def _position_of(connection: Connection, at_ms: int) -> int:
    """The position behind which all events of this time or later stand, by halving."""
    ends = await connection.fetchrow(sql.ENDS)
    assert ends is not None, "an aggregate has one row"
    low: int = ends["first"]
    high: int = ends["last"] + 1
    while low < high:
        middle = (low + high) // 2
        there = await connection.fetchval(sql.TIME_AT, middle)
        if there is None or there >= at_ms:
            high = middle
        else:
            low = middle + 1
    return max(0, low - 1)


def read_delivery_id(text: str) -> int:
    """Raises BadField for what no delivery is called."""
    if not (text.isascii() and text.isdecimal()) or len(text) > 18:
        raise BadField("deliveries", "ids of deliveries")
    return int(text)


def _view(row: asyncpg.Record) -> DeliveryView:
    name = name_test if row["event"] is None else name_event
    return DeliveryView(
        delivery=str(row["id"]),
        webhook=str(row["webhook"]),
        event=name(row["id"] if row["event"] is None else row["event"], row["at_us"]),
        type=row["type"],
        state=DeliveryState(row["state"]),
        attempts=tuple(AttemptView(**one) for one in orjson.loads(row["attempts"])),
        next_at=row["next_ms"],
    )

"""The sequencer: gives each event its position and its data, and says who gets it.

Always: one at a time, by a lease and by the row lock on `event_sequence`; positions have no gap
and follow the events' ids, so whoever reads on from a position misses none. An event becomes
visible with its transaction, and takes its place behind those that were visible before; of one
subject the ids follow the row lock of its subject, so its events keep their order.
Runs on: one task of the settler role.
Not here: sending (live/outgoing/).
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import asyncpg
import orjson

from live.aio.loops import Backoff, pause, repeat
from live.base.failpoint import failpoint
from live.base.faults import tell_fault
from live.domain.outgoing.event_types import match_types
from live.ledger.db import metrics
from live.ledger.db.leases import Fenced, Lease, take, under
from live.ledger.db.pool import DATABASE_ERRORS, Connection, Pool, in_transaction
from live.ledger.events import replays
from live.ledger.events.render import EventRow, Renderer

LEASE = "events"
PLACED_MAX = 1_000  # events of one transaction
IDLE_SECONDS = 0.2  # a look at the table where nobody woke us
LEASE_ASKED_SECONDS = 1.0  # how often the others look whether it is free
BACKOFF = Backoff(0.1, seconds_max=5.0)
PLACE_TIMEOUT_SECONDS = 10.0


def _no_time() -> float:
    return 0.0


@dataclass(frozen=True, slots=True)
class _Reader:
    webhook: object  # a UUID, as asyncpg takes it
    types: frozenset[str]
    shows: frozenset[str]

    def wants(self, event: EventRow) -> bool:
        return event.type in self.types and (not self.shows or event.show in self.shows)


class Sequencer:
    """`on_placed` is called where there is something to send; `ahead_seconds` is how far a test's
    clock is ahead of Postgres'."""

    def __init__(
        self,
        pool: Pool,
        *,
        on_placed: Callable[[], None],
        ahead_seconds: Callable[[], float] = _no_time,
    ) -> None:
        self._pool = pool
        self._renderer = Renderer(pool)
        self._on_placed = on_placed
        self._ahead = ahead_seconds
        self._awake = asyncio.Event()

    def wake(self) -> None:
        """Something was committed: look now."""
        self._awake.set()

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop`, while no other process is at it."""

        async def turn() -> None:
            lease = await take(self._pool, LEASE)
            if lease is None:
                await pause(LEASE_ASKED_SECONDS, stop)
                return
            held = lease
            await under(self._pool, held, lambda: self._place_until(stop, held))

        count = metrics.FAILURES.labels("events").inc
        await repeat("events", turn, stop, backoff=BACKOFF, on_failure=count)

    async def _place_until(self, stop: asyncio.Event, lease: Lease) -> None:
        while not stop.is_set():
            self._awake.clear()
            if not await self.place(lease):
                await pause(IDLE_SECONDS, self._awake, stop)

    async def place(self, lease: Lease | None = None) -> int:
        """Place what waits, up to a bound, and a part of a replay; how many deliveries and events
        that were. Raises DATABASE_ERRORS, and Fenced where another process has taken over."""
        rows = await self._pool.fetch(_UNPLACED, PLACED_MAX)
        events = [_event_of(row) for row in rows]
        data = await self._render(events)

        async def work(connection: Connection) -> int:
            if lease is not None:
                await lease.demand(connection)
            last = await connection.fetchval(_LOCK)
            await _write(connection, events, data, last)
            readers = await _readers(connection)
            made = await self._deliver(connection, events, readers)
            made += await replays.go_on(connection, self._ahead())
            failpoint("events.placed")
            return made

        made = await in_transaction(self._pool, work)
        if made:
            self._on_placed()
        return made + len(events)

    async def _render(self, events: Sequence[EventRow]) -> list[bytes]:
        """All at once; one by one where that fails, so that a fault of one stops no other."""
        try:
            return await self._renderer.render(events)
        except DATABASE_ERRORS:
            raise
        except Exception as error:  # of a row that nobody thought of
            tell_fault("events.unrendered", error)
        return [await self._render_alone(event) for event in events]

    async def _render_alone(self, event: EventRow) -> bytes:
        try:
            return (await self._renderer.render([event]))[0]
        except DATABASE_ERRORS:
            raise
        except Exception as error:  # as above: it is told with what its row says
            tell_fault("events.unrendered", error, id=event.id, type=event.type)
            kind, _, name = event.subject.partition(":")
            return orjson.dumps({kind: name})

    async def _deliver(
        self, connection: Connection, events: Sequence[EventRow], readers: Sequence[_Reader]
    ) -> int:
        wanted = [
            (reader.webhook, one) for one in events for reader in readers if reader.wants(one)
        ]
        if not wanted:
            return 0
        await connection.execute(
            replays.DELIVER,
            [webhook for webhook, _ in wanted],
            [one.id for _, one in wanted],
            [one.type for _, one in wanted],
            [one.subject for _, one in wanted],
            self._ahead(),
            timeout=PLACE_TIMEOUT_SECONDS,
        )
        return len(wanted)


async def _write(
    connection: Connection, events: Sequence[EventRow], data: Sequence[bytes], last: int
) -> None:
    if not events:
        return
    placed = await connection.fetchval(
        _PLACE,
        [one.id for one in events],
        [one.decode() for one in data],
        last,
        timeout=PLACE_TIMEOUT_SECONDS,
    )
    if placed != len(events):
        raise Fenced(LEASE)  # somebody placed them since they were read
    await connection.execute(_ADVANCE, last + placed)


async def _readers(connection: Connection) -> list[_Reader]:
    rows = await connection.fetch(_READERS)
    return list(_known(rows))


def _known(rows: Sequence[asyncpg.Record]) -> Iterator[_Reader]:
    for row in rows:
        try:
            types = match_types(row["types"])
        except ValueError as error:  # of a version to come: it gets what this one knows of it
            tell_fault("webhooks.unknown_type", error, webhook=str(row["id"]))
            continue
        yield _Reader(row["id"], types, frozenset(row["shows"]))


def _event_of(row: asyncpg.Record) -> EventRow:
    detail = {} if row["detail"] is None else orjson.loads(row["detail"])
    return EventRow(row["id"], row["type"], row["show"], row["subject"], detail)


_UNPLACED = """
SELECT id, type, show, subject, detail::text AS detail FROM events
WHERE position IS NULL ORDER BY id LIMIT $1"""

_LOCK = "SELECT position FROM event_sequence FOR UPDATE"

_PLACE = """
WITH placed AS (
    UPDATE events e SET position = $3 + n.place, data = n.data::json
    FROM unnest($1::bigint[], $2::text[]) WITH ORDINALITY AS n(id, data, place)
    WHERE e.id = n.id AND e.position IS NULL RETURNING 1
)
SELECT count(*) FROM placed"""

_ADVANCE = "UPDATE event_sequence SET position = $1"

_READERS = "SELECT id, types, shows FROM webhooks WHERE state <> 'disabled'"

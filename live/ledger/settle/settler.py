"""The settler: outbox entries become ledger rows, then announcements, then acknowledgements.

Always: an entry is acknowledged only after the transaction that settled it; settling one twice
does nothing, so a settler may die anywhere and another one claims what it left. An entry that
can never be settled is put aside with an alarm and blocks nobody. The shows of one Redis server
never wait for those of another.
Runs on: one task per Redis server and process; several processes share one consumer group.
Not here: what a movement means in rows (settlement.py, journal.py) and to its buyer (hold_news.py),
and when an offer is closed (closings.py).
"""

import asyncio
import os
import secrets
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby

import orjson
import structlog

from live.aio.loops import Backoff, repeat
from live.aio.tasks import Tasks
from live.base.errors import Busy, OutboxLost
from live.base.failpoint import failpoint
from live.domain.hold import Movement
from live.domain.ids import ShowId
from live.domain.stock import OutboxBatch
from live.ledger.db import metrics
from live.ledger.db.pool import Connection, Pool, in_transaction, is_transient
from live.ledger.hosting.show_lists import LATE, MOVING
from live.ledger.ports import OnMismatch, OutboxPort, PublishPort
from live.ledger.settle import sql
from live.ledger.settle.closings import Closings, entry_key
from live.ledger.settle.hold_news import HoldNews
from live.ledger.settle.offers_by_slot import OfferFacts, OffersBySlot
from live.ledger.settle.settlement import Settled, settle

SHOWS_EVERY_SECONDS = 0.2  # with BLOCK_MS: a new show is noticed within 0.5 s
BLOCK_MS = 200
CLOSING_BLOCK_MS = 20  # while an offer waits for its turn to close
LATE_SHOWS_EVERY_SECONDS = 5.0  # ended ones, where at most a cancellation can still come
ABSENT_SECONDS = 0.5  # until we look again for an outbox that was not there
LOST_A_READ_MAX = 64  # outboxes that are gone, found one by one; then each show is read alone
SHOWS_A_TURN_MAX = 500  # claimed from and trimmed at once: a thousand shows must not stop the reads
READ_ENTRIES_MIN = 64  # an entry of holds carries up to 512 movements
READ_ENTRIES_MAX = 1_024  # an entry of a checkout carries one; read more of these at once
CHUNK_MOVEMENTS = (
    1_000  # of one transaction; twice as many at most (docs/measurements.md, settlement)
)
CLAIM_EVERY_SECONDS = 1.0
CLAIM_IDLE_MS_MIN = 5_000  # far above one transaction, so a living settler keeps its entries
CLAIM_ENTRIES_MAX = 64
DRAIN_ROUNDS_MAX = 10_000  # x 64 entries: far more than any outbox keeps
TRIM_EVERY_SECONDS = 5.0
CONSUMERS_EVERY_SECONDS = 60.0
CONSUMER_SILENT_MS = 600_000  # a living one reads several times a second
BACKOFF = Backoff(0.05, seconds_max=2.0)  # after a failed pass

log = structlog.get_logger()


def _nothing() -> None:
    pass


@dataclass(slots=True)
class _Place:
    """The shows of one Redis server, and where the reading of them stands."""

    shows: list[ShowId] = field(default_factory=list)
    left: list[OutboxBatch] = field(default_factory=list)  # what a failed pass read: it comes first
    next: dict[str, float] = field(default_factory=dict)  # when a duty is due, monotonic
    wanted: int = READ_ENTRIES_MIN  # entries of the next read
    turns: dict[str, int] = field(default_factory=dict)  # where a duty goes on among the shows
    gone: asyncio.Event = field(default_factory=asyncio.Event)  # it has no shows any more

    def due(self, what: str, every_seconds: float) -> bool:
        now = time.monotonic()
        if now < self.next.get(what, 0.0):
            return False
        self.next[what] = now + every_seconds
        return True

    def turn(self, what: str, shows: Sequence[ShowId]) -> list[ShowId]:
        """The next ones of these shows for a duty; all of them, where they are few."""
        begin = self.turns.get(what, 0) % max(1, len(shows))
        self.turns[what] = begin + SHOWS_A_TURN_MAX
        return [*shows[begin:], *shows[:begin]][:SHOWS_A_TURN_MAX]


class Settler:
    """`on_settled` is called after each commit that wrote notices (it wakes their sender)."""

    def __init__(
        self,
        pool: Pool,
        outbox: OutboxPort,
        announce: PublishPort,
        on_mismatch: OnMismatch,
        *,
        on_settled: Callable[[], None] = _nothing,
        consumer: str = "",
        claim_idle_ms_min: int = CLAIM_IDLE_MS_MIN,
        chunk_movements: int = CHUNK_MOVEMENTS,
    ) -> None:
        self._pool = pool
        self._outbox = outbox
        self._news = HoldNews(announce)
        self._on_mismatch = on_mismatch
        self._on_settled = on_settled
        self.consumer = consumer or f"{os.getpid()}-{secrets.token_hex(4)}"
        self._claim_idle_ms_min = claim_idle_ms_min
        self._chunk_movements = chunk_movements
        self._offers = OffersBySlot(pool)
        self._shows: list[ShowId] = []
        self._late_shows: list[ShowId] = []
        self._all = _Place()  # duties about no place
        self._places: dict[str, _Place] = {}
        self._absent: dict[ShowId, float] = {}  # until when we do not look again
        self._closings = Closings(pool, outbox)
        self._mismatches: set[ShowId] = set()  # being answered
        self._answers = Tasks()

    async def run(self, stop: asyncio.Event) -> None:
        """Settle until `stop`; survives every failure of Postgres and Redis."""
        running: dict[str, asyncio.Task[None]] = {}
        # What a failed pass read stays pending and comes back by claim.
        again = partial(
            repeat, "settler", backoff=BACKOFF, on_failure=metrics.FAILURES.labels("settler").inc
        )
        async with asyncio.TaskGroup() as group:

            async def look() -> None:
                await self._look_for_shows()
                metrics.BEAT.set_to_current_time()
                for name, place in self._places.items():
                    if name not in running or running[name].done():
                        work = again(partial(self._pass, place), stop, place.gone)
                        running[name] = group.create_task(work)

            await again(look, stop, every_seconds=SHOWS_EVERY_SECONDS)
        await self._answers.close()

    def shows(self) -> list[ShowId]:
        """Whose outboxes this settler reads; while Postgres is away, the last ones known."""
        return list(dict.fromkeys([*self._shows, *self._late_shows]))

    async def run_once(self) -> int:
        """One pass over all shows. Returns the number of entries settled."""
        await self._look_for_shows()
        if not self._places:
            await asyncio.sleep(SHOWS_EVERY_SECONDS)
        return sum([await self._pass(place) for place in list(self._places.values())])

    async def _pass(self, place: _Place) -> int:
        """One pass of a place: read, claim, settle, close, trim."""
        shows = self._readable(place)
        if not shows:
            await asyncio.sleep(SHOWS_EVERY_SECONDS)
            return 0
        batches = place.left or await self._read(place, shows)
        if not place.left and place.due("claim", CLAIM_EVERY_SECONDS):
            batches = [*await self._claimed(place.turn("claim", shows)), *batches]
        place.left = batches
        await self.settle_batches(batches)
        place.left = []
        await self._closings.attempt(shows)
        if place.due("trim", TRIM_EVERY_SECONDS):
            await self._trim(place.turn("trim", shows))
        if place.due("consumers", CONSUMERS_EVERY_SECONDS):
            for show in place.turn("consumers", shows):
                await self._outbox.forget_consumers(show, idle_ms=CONSUMER_SILENT_MS)
        return len(batches)

    async def _look_for_shows(self) -> None:
        if self._all.due("late shows", LATE_SHOWS_EVERY_SECONDS):
            self._late_shows = await self._list(LATE)
        if self._all.due("shows", SHOWS_EVERY_SECONDS):
            self._shows = await self._list(MOVING)
        self._sort()

    async def _list(self, query: str) -> list[ShowId]:
        return [ShowId(row["id"]) for row in await self._pool.fetch(query)]

    def _sort(self) -> None:
        """Give each show to the place where its outbox is now; a place without shows goes."""
        shows_of: dict[str, list[ShowId]] = {}
        for show in self.shows():
            shows_of.setdefault(self._outbox.place_of(show), []).append(show)
        for name in self._places.keys() - shows_of.keys():
            self._places[name].gone.set()
        self._places = {name: self._places.get(name) or _Place() for name in shows_of}
        for name, shows in shows_of.items():
            self._places[name].shows = shows

    def _readable(self, place: _Place) -> list[ShowId]:
        """Active shows whose outbox is there, as far as we know."""
        now = time.monotonic()
        self._absent = {show: until for show, until in self._absent.items() if until > now}
        return [show for show in place.shows if show not in self._absent]

    async def _read(self, place: _Place, shows: Sequence[ShowId]) -> list[OutboxBatch]:
        """New entries of all shows. A show that Redis lost must not stop the others."""
        block_ms = CLOSING_BLOCK_MS if self._closings.waiting else BLOCK_MS
        rest = list(shows)
        for _ in range(LOST_A_READ_MAX):
            try:
                return list(await self._read_some(place, rest, block_ms)) if rest else []
            except OutboxLost as lost:
                gone = ShowId(lost.show)
                self._leave_out(gone)
                rest.remove(gone)
        found: list[OutboxBatch] = []
        for show in rest:
            try:
                found += await self._read_some(place, [show], 1)
            except Busy:
                self._leave_out(show)
        return found

    async def _read_some(
        self, place: _Place, shows: Sequence[ShowId], block_ms: int
    ) -> Sequence[OutboxBatch]:
        found = await self._outbox.read(
            shows, consumer=self.consumer, entries_max=place.wanted, block_ms=block_ms
        )
        # One transaction's worth a read: far more entries of checkouts than of holds.
        size = sum(len(batch.movements) for batch in found)
        if size > 2 * self._chunk_movements:
            place.wanted = max(READ_ENTRIES_MIN, place.wanted // 2)
        elif len(found) >= place.wanted and size < self._chunk_movements:
            place.wanted = min(READ_ENTRIES_MAX, 2 * place.wanted)
        return found

    def _leave_out(self, show: ShowId) -> None:
        """Not installed yet, or lost: the keeper sees it and has it rebuilt, so look later."""
        self._absent[show] = time.monotonic() + ABSENT_SECONDS
        metrics.FAILURES.labels("absent outbox").inc()

    async def drain(self, show: ShowId) -> None:
        """Take the show's outbox to its end, whoever held what; for a rebuild, which stopped it.

        Raises Busy if the end does not come within a bound.
        """
        place = _Place()
        for _ in range(DRAIN_ROUNDS_MAX):
            claimed = await self._outbox.claim(
                show, consumer=self.consumer, idle_ms_min=0, entries_max=CLAIM_ENTRIES_MAX
            )
            fresh = await self._read_some(place, [show], 1)
            await self.settle_batches([*claimed, *fresh])
            await self._closings.attempt([show])
            if await self._outbox.first_unsettled(show) is None:
                return
        raise Busy("the outbox of this show does not come to its end")

    async def settle_batches(self, batches: Sequence[OutboxBatch]) -> None:
        """Settle, announce and acknowledge entries of any shows; those of a show in order."""
        in_order = sorted(batches, key=lambda batch: (batch.show, entry_key(batch.entry)))
        for show, of_show in groupby(in_order, key=lambda batch: batch.show):
            chunk: list[OutboxBatch] = []
            size = 0
            for batch in of_show:
                chunk.append(batch)
                size += len(batch.movements)
                if size >= self._chunk_movements:
                    await self._settle_chunk(show, chunk)
                    chunk, size = [], 0
            if chunk:
                await self._settle_chunk(show, chunk)

    async def _settle_chunk(self, show: ShowId, chunk: Sequence[OutboxBatch]) -> None:
        for batch in chunk:
            if batch.fault:
                await self._put_aside(show, batch.entry, 0, batch.fault, batch.fault)
        movements = [one for batch in chunk for one in batch.movements]
        slots = {line.slot for one in movements for line in one.lines}
        offers = await self._offers.of(show, slots)
        started = time.perf_counter()
        try:
            done = await self._commit(show, movements, offers)
        except Exception as error:
            # Whatever it is, the entries behind this one must not wait for it.
            if is_transient(error):
                raise
            done = await self._one_by_one(show, movements, offers)
        metrics.BATCH.observe(time.perf_counter() - started)
        failpoint("settle.committed")
        self._count(show, movements, done)
        await self._news.tell(movements, offers)
        failpoint("settle.announced")
        await self._closings.acknowledge(show, chunk)

    async def _commit(
        self, show: ShowId, movements: Sequence[Movement], offers: dict[int, OfferFacts]
    ) -> Settled:
        async def work(connection: Connection) -> Settled:
            done = await settle(connection, show, movements, offers)
            failpoint("settle.before_commit")
            return done

        return await in_transaction(self._pool, work)

    async def _one_by_one(
        self, show: ShowId, movements: Sequence[Movement], offers: dict[int, OfferFacts]
    ) -> Settled:
        """Something in the batch is refused for good: find it, put it aside, keep the rest."""
        total = Settled()
        for one in movements:
            try:
                done = await self._commit(show, [one], offers)
            except Exception as error:  # the same, for one movement
                if is_transient(error):
                    raise
                await self._put_aside(show, one.entry, one.seq, _body(one), repr(error), error)
            else:
                total.orders += done.orders
                total.rejected += done.rejected
                total.cancelled += done.cancelled
        return total

    async def _put_aside(
        self,
        show: ShowId,
        entry: str,
        seq: int,
        body: str,
        why: str,
        cause: Exception | None = None,
    ) -> None:
        fresh = await self._pool.fetchval(sql.POISON, show, entry, seq, body, why)
        if fresh is None:
            return  # a redelivery; the alarm was raised, and its answer may be what redelivers
        metrics.POISON.inc()
        log.error("settler.poison", show=show, entry=entry, seq=seq, error=why, exc_info=cause)
        self._alarm(show)

    def _count(self, show: ShowId, movements: Sequence[Movement], done: Settled) -> None:
        for kind, count in Counter(one.kind for one in movements).items():
            metrics.MOVEMENTS.labels(kind.value).inc(count)
        metrics.SETTLED.labels("confirmed").inc(done.orders)
        metrics.SETTLED.labels("cancelled").inc(done.cancelled)
        if done.rejected:
            metrics.REJECTED.inc(done.rejected)
            log.error("settler.rejected", show=show, orders=done.rejected)
            self._alarm(show)
        if done.orders or done.rejected or done.cancelled:
            self._on_settled()

    def _alarm(self, show: ShowId) -> None:
        # A task of its own: the answer to a mismatch is a rebuild, which waits for this settler.
        if show not in self._mismatches:
            self._mismatches.add(show)
            self._answers.start("on_mismatch", self._call_mismatch(show), show=show)

    async def _call_mismatch(self, show: ShowId) -> None:
        try:
            await self._on_mismatch(show)
        except Exception:
            metrics.FAILURES.labels("on_mismatch").inc()
            raise
        finally:
            self._mismatches.discard(show)

    async def _claimed(self, shows: Sequence[ShowId]) -> list[OutboxBatch]:
        """Entries that a dead settler left, and our own that failed."""
        found: list[OutboxBatch] = []
        for show in shows:
            try:
                batches = await self._outbox.claim(
                    show,
                    consumer=self.consumer,
                    idle_ms_min=self._claim_idle_ms_min,
                    entries_max=CLAIM_ENTRIES_MAX,
                )
            except Busy:
                self._leave_out(show)
                continue
            found += [one for one in batches if (show, one.entry) not in self._closings.waiting]
        return found

    async def _trim(self, shows: Sequence[ShowId]) -> None:
        for show in shows:
            try:
                await self._outbox.trim(show)
            except Busy:
                self._leave_out(show)


def _body(one: Movement) -> str:
    """A movement as text, for whoever looks into the table of what was put aside."""
    body = {
        "kind": one.kind,
        "buyer": one.buyer.hex(),
        "key": one.key.hex(),
        "lines": [[line.slot, line.qty] for line in one.lines],
        "at": one.at,
        "expires_at": one.expires_at,
    }
    return orjson.dumps(body).decode()

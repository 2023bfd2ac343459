"""The keeper: makes time pass for every show, and brings Redis up to what Postgres says.

Owns no truth. Always: each duty may run twice at once and may be left out for a while; what is due
is then late, never wrong. A show may be over at any await, so no duty takes it for granted.
Deadlines are judged by Redis (holds) and Postgres (offers), not here.

| duty     | every  | does                                                                     |
|----------|--------|--------------------------------------------------------------------------|
| lead     | 500 ms | lists shows with something to do, takes its share of them                |
| reap     | 100 ms | ends holds that are due, grants what came free                           |
| mend     | 100 ms | asks for a rebuild where a script found a part of the stock lost         |
| schedule | 100 ms | opens and closes offers by the clock                                     |
| catch up | 500 ms | carries a newer version to Redis; asks for a rebuild where stock is      |
|          |        | doubted, or where a rehearsal is over                                    |
| watch    | 1 s    | looks whether Redis lost a part of a show that moves, and says so        |
| close    | 500 ms | ends closing offers of which nothing is held                             |
| pulse    | 200 ms | tells viewers the figures, sold out and restocked                        |
| desk     | 1 s    | tells hosts theirs                                                       |
| retire   | 5 s    | gives what Redis has of a show that is over and settled an end           |
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

import orjson
import structlog

from live.aio.loops import repeat
from live.base.errors import Busy, StockLost
from live.base.failpoint import failpoint
from live.chat.store import lasting_keys
from live.domain.channels import Channel, ChannelKind
from live.domain.events import DeskFigures
from live.domain.ids import ShowId
from live.domain.offer import Phase
from live.domain.show import ShowState, ShowStatus
from live.hosting.metrics import LOST_PARTS, WHOLE_RUN
from live.hosting.projector import Projector
from live.hosting.pulse import Pulses, offers_of
from live.keeping.duty import Duty
from live.keeping.leadership import Leadership
from live.ledger.db.pool import Pool
from live.ledger.hosting.offer_rows import OfferRows
from live.ledger.hosting.shows import ActiveShow, ShowRows
from live.stock.outbox import Outbox

log = structlog.get_logger()

LEAD_EVERY_SECONDS = 0.5  # how late the other duties may hear of a new offer
REAP_EVERY_SECONDS = 0.1  # a freed unit reaches the next buyer within this
MEND_EVERY_SECONDS = 0.1
SCHEDULE_EVERY_SECONDS = 0.1
CATCH_UP_EVERY_SECONDS = 0.5
CLOSE_EVERY_SECONDS = 0.5
PULSE_EVERY_SECONDS = 0.2
DESK_EVERY_SECONDS = 1.0
WATCH_EVERY_SECONDS = 1.0
RETIRE_EVERY_SECONDS = 5.0
RETIRED_SECONDS = 3_600  # what Redis has of a show stays for so long when nothing needs it any more
LOST_AFTER_SECONDS = 0.5  # busy for longer while Redis answers: look whether a rebuild is needed

Rebuild = Callable[[ShowId], Awaitable[object]]


class Keeper:
    """`rebuild` makes a show's stock in Redis again, after looking whether that is needed.

    `renew` does so in any case: a rehearsal is over, and its holds must go.
    """

    def __init__(
        self,
        pool: Pool,
        projector: Projector,
        *,
        backlog: Outbox,
        rebuild: Rebuild,
        renew: Rebuild,
    ) -> None:
        self._shows = ShowRows(pool)
        self._offers = OfferRows(pool)
        self._projector = projector
        self._stock = projector.stock
        self._log = projector.log
        self._backlog = backlog
        self._rebuild = rebuild
        self._renew = renew
        self._leadership = Leadership(pool)
        self._led: dict[ShowId, ActiveShow] = {}
        self._states: dict[ShowId, ShowState] = {}  # as last carried to Redis from here
        self._busy_since: dict[ShowId, float] = {}
        self._lost: set[ShowId] = set()  # a script said so; of those that we lead
        self._mending: set[ShowId] = set()  # a duty is at it, so the others need not be
        self._pulses: dict[ShowId, Pulses] = {}

    async def run(self, stop: asyncio.Event) -> None:
        """Do all duties until `stop` is set, then give the shows up."""
        duties = [
            Duty("reap", REAP_EVERY_SECONDS, self._selling, self._reap),
            Duty("mend", MEND_EVERY_SECONDS, self._incomplete, self._mend),
            Duty("schedule", SCHEDULE_EVERY_SECONDS, self._due, self._schedule),
            Duty("catch_up", CATCH_UP_EVERY_SECONDS, self._all, self._catch_up),
            Duty("watch", WATCH_EVERY_SECONDS, self._moving, self._watch),
            Duty("close", CLOSE_EVERY_SECONDS, self._closing, self._close),
            Duty("pulse", PULSE_EVERY_SECONDS, self._watched, self._pulse),
            Duty("desk", DESK_EVERY_SECONDS, self._watched, self._desk),
            Duty("retire", RETIRE_EVERY_SECONDS, self._over, self._retire),
        ]
        try:
            async with asyncio.TaskGroup() as group:
                # Without Postgres nobody leads; duties that need Redis alone go on as before.
                group.create_task(
                    repeat("lead", self.lead_once, stop, every_seconds=LEAD_EVERY_SECONDS)
                )
                for duty in duties:
                    group.create_task(duty.run(stop))
        finally:
            await self._leadership.give_up()

    # Who is looked after

    async def _all(self) -> list[ShowId]:
        return list(self._led)

    async def _selling(self) -> list[ShowId]:
        return [show for show, active in self._led.items() if active.selling]

    async def _due(self) -> list[ShowId]:
        # One question for all shows, ten times a second.
        return [show for show in await self._offers.due() if show in self._led]

    async def _moving(self) -> list[ShowId]:
        return [show for show, active in self._led.items() if active.selling or active.running]

    async def _incomplete(self) -> list[ShowId]:
        return list(self._lost)

    async def _watched(self) -> list[ShowId]:
        return [show for show in await self._moving() if show in self._states]

    async def _over(self) -> list[ShowId]:
        return [show for show, active in self._led.items() if active.over]

    async def _closing(self) -> list[ShowId]:
        return [
            show
            for show in await self._selling()
            if show in self._states
            and any(terms.phase is Phase.CLOSING for terms in self._states[show].offers)
        ]

    async def lead_once(self) -> None:
        """List the active shows and settle which of them are ours."""
        active = {found.id: found for found in await self._shows.active()}
        led = await self._leadership.settle(active)
        self._led = {show: active[show] for show in active if show in led}
        for memory in (self._states, self._busy_since, self._pulses):
            for show in [show for show in memory if show not in led]:
                del memory[show]
        self._lost &= self._led.keys()

    # Duties

    async def _reap(self, show: ShowId) -> None:
        try:
            await self._stock.reap(show)
        except StockLost:
            self._lost.add(show)  # not made again here: others' holds are due meanwhile
            raise

    async def _mend(self, show: ShowId) -> None:
        self._lost.discard(show)
        await self._look_for_loss(show, sure=True)

    async def _schedule(self, show: ShowId) -> None:
        state = await self._offers.advance(show)
        if state is not None:
            await self._project(state)

    async def _catch_up(self, show: ShowId) -> None:
        """Carry what Redis lacks; have the stock made again where somebody asked for that."""
        led = self._led.get(show)
        if led is not None and led.rehearsed:
            await self._clear(show)
        elif led is not None and led.doubted:
            await self._rebuild_doubted(show)
        led = self._led.get(show)
        known = self._states.get(show)
        if led is None or led.over or (known is not None and led.version <= known.version):
            return
        state = await self._shows.read_state(show)
        try:
            await self._project(state)
        except Busy as busy:
            await self._look_for_loss(show, sure=isinstance(busy, StockLost))
            raise
        self._busy_since.pop(show, None)

    async def _watch(self, show: ShowId) -> None:
        """Notice what Redis lost although nobody asks for it: any key of the show alone, too."""
        try:
            await self._stock.figures(show)
        except Busy as busy:
            await self._look_for_loss(show, sure=isinstance(busy, StockLost))
            raise
        self._busy_since.pop(show, None)
        stored = await self._log.stored_version(show)
        known = self._states.get(show)
        if known is not None and (stored is None or stored < known.version):
            log.warning("state_lost", show=show)
            LOST_PARTS.labels("state").inc()
            await self._project(await self._shows.read_state(show))

    async def _clear(self, show: ShowId) -> None:
        """End the life of a rehearsal's stock, and what its audience left in the figures."""
        # Viewers first: no page may show an offer whose stock is gone.
        await self._project(await self._shows.read_state(show))
        await self._renew(show)
        await self._log.forget_reactions(show)
        self._note_new_epoch(show)
        self._states.pop(show, None)

    def _note_new_epoch(self, show: ShowId) -> None:
        """What asked for one when the show was listed is done; it may not be ours any more."""
        led = self._led.get(show)
        if led is not None:
            self._led[show] = replace(led, rehearsed=False, doubted=False)

    async def _look_for_loss(self, show: ShowId, *, sure: bool) -> None:
        """Have what Redis lost of the show made again. `sure`: a script said that some of it is;
        else it may only have been made, restarted or rebuilt a moment ago."""
        if show in self._mending:
            return
        self._mending.add(show)
        try:
            # Raises Busy itself where Redis does not answer at all: then nothing is known to be
            # lost.
            lost = await self._stock.missing(show)
            now = time.monotonic()
            busy_since = self._busy_since.setdefault(show, now)
            if not (sure and lost) and now - busy_since < LOST_AFTER_SECONDS:
                return
            parts = lost or (WHOLE_RUN,)
            _tell_lost(show, parts)
            await self._shows.doubt(show, f"Redis lost its {', '.join(parts)}")
            await self._make_again(show)
        finally:
            self._mending.discard(show)

    async def _rebuild_doubted(self, show: ShowId) -> None:
        if show in self._mending:
            return
        self._mending.add(show)
        try:
            _tell_lost(show, await self._stock.missing(show))  # why a gateway may doubt it
            await self._make_again(show)
        finally:
            self._mending.discard(show)

    async def _make_again(self, show: ShowId) -> None:
        try:
            await self._rebuild(show)
        finally:
            self._busy_since.pop(show, None)
        self._note_new_epoch(show)
        self._states.pop(show, None)  # what viewers see may be lost as well

    async def _project(self, state: ShowState) -> None:
        await self._projector.project(state)
        self._states[state.id] = state
        if _is_quiet(state):
            await self._shows.note_carried(state.id, state.version)

    async def _retire(self, show: ShowId) -> None:
        """Whoever asks for the show later has it made again from the ledger."""
        led = self._led.get(show)
        if led is None or await self._log.viewers(show):
            return
        done = await self._stock.retire_show(
            show, stock_epoch=led.stock_epoch, seconds=RETIRED_SECONDS
        )  # fmt: skip
        if done is None:
            await self._renew(show)  # drains the outbox
        elif done:
            await self._log.retire(show, seconds=RETIRED_SECONDS, also=lasting_keys(show))
            await self._shows.note_retired(show, led.stock_epoch)

    async def _close(self, show: ShowId) -> None:
        if await self._stock.close_offers(show):
            failpoint("close.entered")

    async def _pulse(self, show: ShowId) -> None:
        state = self._states.get(show)
        if state is None:
            return
        pulses = self._pulses.setdefault(show, Pulses())
        figures = await self._stock.figures(show)
        for notice in pulses.notices(state, figures):
            channel = Channel(ChannelKind.SHOW, show)
            await self._log.publish(channel, notice.event, key=notice.key)
        viewers = await self._log.viewers(show)
        reactions = await self._log.reactions(show)
        pulse = pulses.next_pulse(state, figures, viewers, reactions)
        if pulse is not None:
            await self._log.publish_pulse(show, pulse)

    async def _desk(self, show: ShowId) -> None:
        state = self._states.get(show)
        if state is None:
            return
        figures = await self._stock.figures(show)
        orders, revenue_minor = await self._shows.sum_orders(show)
        backlog = await self._backlog.backlog(show)
        offers = offers_of(state, figures)
        desk = DeskFigures(
            at=figures.at,
            viewers=await self._log.viewers(show),
            offers=offers,
            holds=sum(offer.held for offer in offers),
            orders=orders,
            revenue_minor=revenue_minor,
            currency=state.currency,
            settlement_lag_ms=backlog.oldest_ms,
        )
        await self._log.publish_figures(show, ChannelKind.DESK.value, orjson.dumps(desk))
        await self._log.publish_figures(
            show, ChannelKind.STAFF.value, orjson.dumps(replace(desk, revenue_minor=None))
        )


def _tell_lost(show: ShowId, parts: Sequence[str]) -> None:
    if parts:
        log.warning("stock_lost", show=show, lost=parts)
    for part in parts:
        LOST_PARTS.labels(part).inc()


def _is_quiet(state: ShowState) -> bool:
    """Nothing of it moves until a host's next command, or any more."""
    waits = state.status in (ShowStatus.SCHEDULED, ShowStatus.ENDED)
    return waits and all(terms.phase in (Phase.DRAFT, Phase.CLOSED) for terms in state.offers)

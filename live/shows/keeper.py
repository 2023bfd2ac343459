"""The keeper: makes time pass for every show, and brings Redis up to what Postgres says.

Owns no truth. Always: each duty may run twice at once and may be left out for a while; what is due
is then late, never wrong. A show may be over at any await, so no duty takes it for granted.
Deadlines are judged by Redis (holds) and Postgres (offers), not here.

| duty     | every  | does                                                                     |
|----------|--------|--------------------------------------------------------------------------|
| lead     | 500 ms | lists active shows, takes or gives up their locks                        |
| reap     | 100 ms | ends holds that are due, grants what came free                           |
| schedule | 100 ms | opens and closes offers by the clock                                     |
| catch up | 500 ms | carries a newer version to Redis; asks for a rebuild where stock is lost |
|          |        | or doubted, or where a rehearsal is over                                 |
| close    | 500 ms | ends closing offers of which nothing is held                             |
| pulse    | 200 ms | tells viewers the figures, sold out and restocked                        |
| desk     | 1 s    | tells hosts theirs                                                       |
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace

import orjson
import structlog

from live.domain.channels import Channel, ChannelKind
from live.domain.events import DeskFigures
from live.domain.ids import ShowId
from live.domain.offer import Phase
from live.domain.show import ShowState, ShowStatus
from live.errors import Busy
from live.failpoint import failpoint
from live.ledger.offer_rows import OfferRows
from live.ledger.pool import Pool
from live.ledger.shows import ActiveShow, ShowRows
from live.shows.carry import Carrier
from live.shows.duty import SURVIVABLE, Duty
from live.shows.leadership import Leadership
from live.shows.ports import BacklogPort
from live.shows.pulse import Pulses, offers_of

log = structlog.get_logger()

LEAD_EVERY_S = 0.5  # how late the other duties may hear of a new offer
REAP_EVERY_S = 0.1  # a freed unit reaches the next buyer within this
SCHEDULE_EVERY_S = 0.1
CATCH_UP_EVERY_S = 0.5
CLOSE_EVERY_S = 0.5
PULSE_EVERY_S = 0.2
DESK_EVERY_S = 1.0
FULL_CHECK_S = 10.0  # compare with Redis even where Postgres did not change: Redis may have lost it
LOST_AFTER_S = 0.5  # busy for longer while Redis answers: look whether a rebuild is needed

Rebuild = Callable[[ShowId], Awaitable[object]]


class Keeper:
    """`rebuild` makes a show's stock in Redis again, after looking whether that is needed.

    `renew` does so in any case: a rehearsal is over, and its holds must go.
    """

    def __init__(
        self,
        pool: Pool,
        carrier: Carrier,
        *,
        backlog: BacklogPort,
        rebuild: Rebuild,
        renew: Rebuild,
    ) -> None:
        self._shows = ShowRows(pool)
        self._offers = OfferRows(pool)
        self._carrier = carrier
        self._stock = carrier.stock
        self._broker = carrier.broker
        self._backlog = backlog
        self._rebuild = rebuild
        self._renew = renew
        self._leadership = Leadership(pool)
        self._led: dict[ShowId, ActiveShow] = {}
        self._states: dict[ShowId, ShowState] = {}  # as last carried to Redis from here
        self._checked: dict[ShowId, float] = {}  # monotonic, of the last comparison with Redis
        self._busy_since: dict[ShowId, float] = {}
        self._pulses: dict[ShowId, Pulses] = {}

    async def run(self, stop: asyncio.Event) -> None:
        """Do all duties until `stop` is set, then give the shows up."""
        duties = [
            Duty("reap", REAP_EVERY_S, self._selling, self._reap),
            Duty("schedule", SCHEDULE_EVERY_S, self._due, self._schedule),
            Duty("catch_up", CATCH_UP_EVERY_S, self._all, self._catch_up),
            Duty("close", CLOSE_EVERY_S, self._closing, self._close),
            Duty("pulse", PULSE_EVERY_S, self._watched, self._pulse),
            Duty("desk", DESK_EVERY_S, self._watched, self._desk),
        ]
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._lead(stop))
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
        return await self._offers.due(list(self._led)) if self._led else []

    async def _watched(self) -> list[ShowId]:
        return [
            show
            for show, active in self._led.items()
            if (active.selling or active.running) and show in self._states
        ]

    async def _closing(self) -> list[ShowId]:
        return [
            show
            for show in await self._selling()
            if show in self._states
            and any(terms.phase is Phase.CLOSING for terms in self._states[show].offers)
        ]

    async def _lead(self, stop: asyncio.Event) -> None:
        failing = False
        while not stop.is_set():
            try:
                await self.lead_once()
            except SURVIVABLE as error:
                # Without Postgres nobody leads; duties that need Redis alone go on as before.
                if not failing:
                    log.warning("keeper_failing", duty="lead", error=repr(error))
                failing = True
            else:
                failing = False
            try:
                await asyncio.wait_for(stop.wait(), LEAD_EVERY_S)
            except TimeoutError:
                pass  # the usual end of a wait

    async def lead_once(self) -> None:
        """List the active shows and settle which of them are ours."""
        active = {found.id: found for found in await self._shows.active()}
        led = await self._leadership.settle(active)
        self._led = {show: active[show] for show in active if show in led}
        for memory in (self._states, self._checked, self._busy_since, self._pulses):
            for show in [show for show in memory if show not in led]:
                del memory[show]

    # Duties

    async def _reap(self, show: ShowId) -> None:
        try:
            await self._stock.reap(show)
        except Busy:
            self._checked.pop(show, None)  # perhaps the stock is lost: catch up looks at once
            raise

    async def _schedule(self, show: ShowId) -> None:
        state = await self._offers.advance(show)
        if state is not None:
            await self._carry(state)

    async def _catch_up(self, show: ShowId) -> None:
        """Carry what Redis lacks; find out whether Redis lost the show's stock."""
        now = time.monotonic()
        led = self._led.get(show)
        if led is not None and led.rehearsed:
            await self._clear(show)
        elif led is not None and led.doubted:
            await self._rebuild(show)
            self._note_new_life(show)
        led = self._led.get(show)
        if led is None:
            return
        known = self._states.get(show)
        checked = now - self._checked.get(show, -FULL_CHECK_S) < FULL_CHECK_S
        if known is not None and checked and led.version <= known.version:
            return
        state = await self._shows.read_state(show)
        try:
            await self._carry(state)
        except Busy:
            await self._look_for_loss(show, now)
            raise
        self._busy_since.pop(show, None)
        self._checked[show] = now

    async def _clear(self, show: ShowId) -> None:
        """End the life of a rehearsal's stock, and what its audience left in the figures."""
        # Viewers first: no page may show an offer whose stock is gone.
        await self._carry(await self._shows.read_state(show))
        await self._renew(show)
        await self._broker.forget_reactions(show)
        self._note_new_life(show)
        self._states.pop(show, None)

    def _note_new_life(self, show: ShowId) -> None:
        """What asked for one when the show was listed is done; it may not be ours any more."""
        led = self._led.get(show)
        if led is not None:
            self._led[show] = replace(led, rehearsed=False, doubted=False)

    async def _look_for_loss(self, show: ShowId, now: float) -> None:
        # Raises Busy itself where Redis does not answer at all: then nothing is known to be lost.
        await self._broker.viewers(show)
        since = self._busy_since.setdefault(show, now)
        if now - since < LOST_AFTER_S:
            return
        log.warning("stock_lost", show=show)
        self._states.pop(show, None)
        await self._rebuild(show)
        self._busy_since.pop(show, None)

    async def _carry(self, state: ShowState) -> None:
        await self._carrier.carry(state)
        self._states[state.id] = state
        if state.status is ShowStatus.ENDED:
            await self._shows.note_carried(state.id, state.version)

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
            await self._broker.publish(channel, notice.event, key=notice.key)
        viewers = await self._broker.viewers(show)
        reactions = await self._broker.reactions(show)
        pulse = pulses.next_pulse(state, figures, viewers, reactions)
        if pulse is not None:
            await self._broker.publish_pulse(show, pulse)

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
            viewers=await self._broker.viewers(show),
            offers=offers,
            holds=sum(offer.held for offer in offers),
            orders=orders,
            revenue_minor=revenue_minor,
            currency=state.currency,
            settlement_lag_ms=backlog.oldest_ms,
        )
        await self._broker.publish_figures(show, ChannelKind.DESK.value, orjson.dumps(desk))
        await self._broker.publish_figures(
            show, ChannelKind.STAFF.value, orjson.dumps(replace(desk, revenue_minor=None))
        )

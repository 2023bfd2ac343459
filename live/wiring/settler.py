"""Composition root of the settler's side: settling, paying, keeping, auditing, rebuilding.

Reads like a parts list: nothing is decided here, only who gets what.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from live.base.settings import Settings
from live.domain.channels import Channel
from live.domain.events import Event
from live.domain.ids import ShowId
from live.domain.show import ShowState
from live.hosting.desk import publish
from live.hosting.projector import Projector
from live.keeping.keeper import Keeper
from live.ledger.audit.repair import GIVE_BACK_MAX, repair
from live.ledger.audit.run import AUDIT_EVERY_SECONDS, AuditReport, Extent, audit, audit_and_tell
from live.ledger.db.pool import Pool, make_pool
from live.ledger.db.schedule import Schedule
from live.ledger.events.deliveries import DeliveryRows
from live.ledger.events.sequencer import Sequencer
from live.ledger.hosting.shows import ShowRows
from live.ledger.housekeeping import HOUSEKEEPING_EVERY_SECONDS, keep_house
from live.ledger.money.payments import PaymentRows
from live.ledger.settle.doubts import Doubts
from live.ledger.settle.notices import NoticeSender
from live.ledger.settle.rebuild import Rebuilder
from live.ledger.settle.settler import Settler
from live.ledger.settle.waiting import OutboxAge
from live.outgoing.client import WebhookClient
from live.outgoing.sender import WebhookSender
from live.outgoing.watch import BacklogWatch
from live.payments.port import Provider
from live.payments.worker import PaymentWorker
from live.showlog.log import ShowLog
from live.stock.engine import StockEngine
from live.stock.outbox import Outbox
from live.wiring.shared import books_of, close_later, open_part, providers_of, unread_of

OUT_POOL = 3  # connections to Postgres, beside those of the settlement


@dataclass(frozen=True, slots=True)
class _Back:
    """What settling and rebuilding work with; `news` runs after each commit."""

    pool: Pool
    stock: StockEngine
    outbox: Outbox
    log: ShowLog
    notices: NoticeSender
    worker: PaymentWorker
    settler: Settler
    rebuilder: Rebuilder
    providers: Mapping[str, Provider]

    async def renew(self, show: ShowId) -> None:
        """Begin a new life of the show's stock although Redis lost nothing: a rehearsal is over."""
        await self.rebuilder.rebuild(show, force=True)


@asynccontextmanager
async def _back_of(settings: Settings) -> AsyncIterator[_Back]:
    assert settings.redis_url and settings.database_url, "engines come first"
    async with AsyncExitStack() as stack:
        pool = await stack.enter_async_context(
            make_pool(settings.database_url, size=settings.database_pool)
        )
        doubts = Doubts(pool)
        stack.push_async_callback(doubts.close)
        stock = StockEngine(settings.redis_url, on_lost=doubts.note)
        outbox, log = Outbox(settings.redis_url), ShowLog(settings.redis_url)
        providers = providers_of(settings, PaymentRows(pool))
        close_later(stack, providers.values())
        for part in (stock, outbox, log):
            await open_part(stack, part)

        async def announce(channel: Channel, event: Event, *, key: str) -> None:
            await publish(log, channel, event, key=key)

        async def on_mismatch(show: ShowId) -> None:
            # The doubt is in Postgres already: if this fails, the keeper comes back to it.
            await back.rebuilder.rebuild(show)

        def on_settled() -> None:
            back.notices.wake()
            back.worker.wake()

        settler = Settler(pool, outbox, announce, on_mismatch, on_settled=on_settled)
        back = _Back(
            pool,
            stock,
            outbox,
            log,
            NoticeSender(pool, announce),
            PaymentWorker(PaymentRows(pool), stock, providers),
            settler,
            Rebuilder(pool, stock=stock, outbox=outbox, settler=settler),
            providers,
        )
        yield back


@dataclass(frozen=True, slots=True)
class _Out:
    """What tells the shop's own servers."""

    sequencer: Sequencer
    sender: WebhookSender
    watch: BacklogWatch


@asynccontextmanager
async def _out_of(settings: Settings) -> AsyncIterator[_Out]:
    """With connections of its own: many endpoints must not stand before a settlement."""
    assert settings.database_url, "engines come first"
    async with AsyncExitStack() as stack:
        pool = await stack.enter_async_context(make_pool(settings.database_url, size=OUT_POOL))
        client = WebhookClient(development=settings.webhook_development)
        stack.push_async_callback(client.close)
        rows = DeliveryRows(pool)
        sender = WebhookSender(rows, client)
        yield _Out(Sequencer(pool, on_placed=sender.wake), sender, BacklogWatch(rows))


async def run_settler(
    settings: Settings,
    stop: asyncio.Event,
    *,
    beside: Callable[[StockEngine, OutboxAge], Coroutine[object, object, None]] | None = None,
) -> None:
    """Wire one settler and run its jobs until `stop`; `beside` them what asks how they are."""
    async with _back_of(settings) as back, _out_of(settings) as out:
        projector = Projector(back.stock, back.log)
        keeper = Keeper(
            back.pool,
            projector,
            backlog=back.outbox,
            rebuild=back.rebuilder.rebuild,
            renew=back.renew,
        )
        books, unread = books_of(back.providers), unread_of(back.providers)

        async def look() -> None:
            await audit_and_tell(
                back.pool, back.stock, back.outbox, books, unread=unread, states=back.log
            )

        async def clean() -> None:
            await keep_house(back.pool)

        async def shows() -> list[ShowId]:
            return back.settler.shows()

        audits = Schedule(back.pool, "audit", look, every_seconds=AUDIT_EVERY_SECONDS)
        house = Schedule(back.pool, "housekeeping", clean, every_seconds=HOUSEKEEPING_EVERY_SECONDS)
        waiting = OutboxAge(back.outbox, shows, each_show=True)
        async with asyncio.TaskGroup() as group:
            if beside is not None:
                group.create_task(beside(back.stock, waiting))
            for job in (back.settler, back.notices, back.worker, keeper, audits, house, waiting):
                group.create_task(job.run(stop))
            for sending in (out.sequencer, out.sender, out.watch):
                group.create_task(sending.run(stop))


async def prepare_stock(settings: Settings) -> None:
    """Tell a restarted or empty Redis what it has to know, before anybody is let in.

    Shows that only wait are made again when somebody asks for them.
    """
    async with _back_of(settings) as back:
        rows = ShowRows(back.pool)
        projector = Projector(back.stock, back.log)
        for show in await rows.active():
            if show.over and not show.doubted:
                continue
            await back.rebuilder.rebuild(show.id)
            await projector.project(await rows.read_state(show.id))


@dataclass(frozen=True, slots=True)
class _Told:
    """What viewers were told of a show, and the way to tell them; see
    `live.ledger.audit.repair.TellPort`."""

    log: ShowLog
    projector: Projector

    async def read_state(self, show: ShowId) -> ShowState | None:
        return await self.log.read_state(show)

    async def project(self, state: ShowState) -> object:
        return await self.projector.project(state)


@asynccontextmanager
async def auditor(
    settings: Settings,
) -> AsyncIterator[Callable[[Extent], Awaitable[AuditReport]]]:
    """Open what an audit reads; yields the audit itself."""
    assert settings.redis_url and settings.database_url, "engines come first"
    async with AsyncExitStack() as stack:
        pool = await stack.enter_async_context(
            make_pool(settings.database_url, size=settings.database_pool)
        )
        stock, outbox = StockEngine(settings.redis_url), Outbox(settings.redis_url)
        log = ShowLog(settings.redis_url)
        for part in (stock, outbox, log):
            await open_part(stack, part)
        providers = providers_of(settings, PaymentRows(pool))
        close_later(stack, providers.values())
        books, unread = books_of(providers), unread_of(providers)

        async def run(extent: Extent) -> AuditReport:
            return await audit(pool, stock, outbox, books, unread=unread, states=log, extent=extent)

        yield run


async def repair_ledger(
    settings: Settings, extent: Extent, *, give_back_max: int = GIVE_BACK_MAX
) -> list[str]:
    """What `live audit --repair` does before it audits; what was done, a line each."""
    async with _back_of(settings) as back:
        return await repair(
            back.pool,
            stock=back.stock,
            outbox=back.outbox,
            settler=back.settler,
            work=back.worker.run_once,
            providers=books_of(back.providers),
            states=_Told(back.log, Projector(back.stock, back.log)),
            extent=extent,
            give_back_max=give_back_max,
        )

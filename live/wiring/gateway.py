"""Composition root of the gateway: the packages put together into one worker.

Reads like a parts list: nothing is decided here, only who gets what. The settler's side is in
`settler.py`, what both have in common in `shared.py`.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import Route, WebSocketRoute

from live.aio.coalesce import Coalescer
from live.aio.tasks import Tasks
from live.api.auth import Authenticator
from live.api.edge import Edge
from live.api.http import routes as api
from live.api.http.deps import (
    GUEST_READS_BURST,
    GUEST_READS_PER_SECOND,
    GUESTS_BURST,
    GUESTS_PER_SECOND,
    ApiDeps,
)
from live.api.join import Join
from live.api.limits import AddressLimit
from live.api.ops import Probe, ops_routes
from live.api.problems import HANDLERS
from live.api.revoked import Revoked
from live.api.rpc.methods import SaleRpc
from live.api.schema.rpc_answers import METHODS
from live.api.watch import Watch
from live.base.settings import Compression, Settings, digest_key_of, resolve_secret
from live.buying.checkout import Checkout
from live.buying.forgotten import OldPurchases
from live.buying.hold import HoldDesk
from live.buying.me import ORDERS_MAX, Me
from live.buying.offers import OfferBook
from live.buying.waiters import OrderWaiters
from live.buying.waitlist import Waitlist
from live.buying.ways import WaysToPay
from live.chat.moderation import Moderation
from live.chat.reactions import ReactionTally
from live.chat.rules import Chat
from live.chat.store import ChatStore
from live.connection.addresses import ForwardedScope, Proxies
from live.connection.admission import AdmissionLimits
from live.connection.application import Gateway
from live.connection.policy import DomainPolicy
from live.domain.ids import BuyerId, ShowId, Sub, buyer_of
from live.domain.order import OrderView
from live.fanout.hub import Hub
from live.hosting.host import HostCommands
from live.hosting.projector import Projector
from live.hosting.ways import ShopWays
from live.ledger.db.asked_together import asked_together
from live.ledger.db.idempotency import IdempotencyRows
from live.ledger.db.pool import Pool, make_pool
from live.ledger.hosting.bans import BanRows
from live.ledger.hosting.catalogue import Catalogue
from live.ledger.hosting.desk_rows import DeskRows
from live.ledger.hosting.offer_rows import OfferRows
from live.ledger.hosting.orders import OrderRows
from live.ledger.hosting.revocations import RevocationRows
from live.ledger.hosting.shows import ShowRows
from live.ledger.money.payments import PaymentRows
from live.ledger.settle.doubts import Doubts
from live.ledger.settle.known_shows import KnownShows
from live.ledger.settle.waiting import OutboxAge, unsettled_shows
from live.ledger.settle.waitlist import WaitlistRows
from live.pages import pages
from live.payments.inbox import WebhookInbox
from live.payments.port import Provider
from live.protocol.codes import BANNED
from live.showlog.follower import Follower
from live.showlog.log import ShowLog
from live.stock.engine import StockEngine
from live.stock.outbox import Outbox
from live.transport import descriptors
from live.transport.asgi import WebSocketEndpoint
from live.transport.garbage import tune_gc
from live.transport.handshake import FrontDoor
from live.transport.hosts import Hosts
from live.transport.plain import PlainSocket
from live.transport.sse import SseEndpoint
from live.wiring.shared import close_later, open_part, providers_of

CHECKOUT_GRACE_SECONDS = 3.0  # what a checkout may take at most
DRAIN_SECONDS = 5.0  # 3001 is spread over it, so viewers do not return in one instant


@dataclass(frozen=True, slots=True)
class GatewayApp:
    """The ASGI application and what its server must know of it."""

    asgi: Starlette
    http: Callable[..., asyncio.Protocol]
    ws: type[asyncio.Protocol]
    drain: Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class _Base:
    """What everything else in a gateway stands on."""

    pool: Pool
    stock: StockEngine
    hub: Hub
    log: ShowLog
    follower: Follower
    chat_store: ChatStore
    providers: Mapping[str, Provider]
    auth: Authenticator
    revoked: Revoked
    shows: ShowRows
    orders: OrderRows
    payments: PaymentRows
    bans: BanRows
    chat: Chat
    digest_of: Callable[[str], BuyerId]
    probe: Probe
    outbox: Outbox
    watch: Watch
    known: KnownShows
    doubts: Doubts
    past: Coalescer[tuple[ShowId, BuyerId], tuple[OrderView, ...]]


@dataclass(frozen=True, slots=True)
class _Sale:
    """What buyers use."""

    checkout: Checkout
    join: Join
    reactions: ReactionTally
    rpc: SaleRpc


def build_gateway(settings: Settings) -> GatewayApp:
    """Wire one gateway worker. Its connections are opened by the application's lifespan."""
    base = _base(settings)
    sale = _sale(settings, base)
    gateway = Gateway(
        base.hub,
        base.follower,
        DomainPolicy(base.follower, base.chat.accept),
        base.auth.caller,
        rpcs=sale.rpc.handlers(),
        on_join=sale.join.snapshot,
        on_enter=base.chat.refuse_banned,
        admission=descriptors.fit(
            AdmissionLimits(per_address_max=settings.connections_per_address)
        ),
    )

    async def drain() -> None:
        base.probe.draining = True
        await base.hub.drain(DRAIN_SECONDS if base.hub.sessions() else 0)

    proxies = Proxies(settings.trusted_proxies)
    asgi = Starlette(
        routes=_routes(settings, base, sale, gateway),
        middleware=[
            Middleware(ForwardedScope, proxies),
            Middleware(Edge, settings.allowed_origins),
        ],
        lifespan=_lifespan(base, sale, gateway),
        exception_handlers=HANDLERS,
    )
    door = FrontDoor(
        gateway,
        hosts=Hosts(settings.host, settings.allowed_hosts),
        allowed_origins=settings.allowed_origins,
        proxies=proxies,
        compression=settings.compression is Compression.SHARED,
    )
    return GatewayApp(asgi, door.protocol, PlainSocket, drain)


def _base(settings: Settings) -> _Base:
    assert settings.redis_url and settings.database_url, "engines come first"
    secret = resolve_secret(settings)
    digest_key = digest_key_of(settings, secret)

    def digest_of(sub: str) -> BuyerId:
        return buyer_of(sub, secret=digest_key)

    pool = make_pool(settings.database_url, size=settings.database_pool)
    hub = Hub()
    doubts = Doubts(pool)
    stock = StockEngine(settings.redis_url, on_lost=doubts.note)
    log = ShowLog(settings.redis_url)
    follower = Follower(log, hub)
    chat_store = ChatStore(settings.redis_url)
    bans = BanRows(pool)
    orders = OrderRows(pool)
    known = KnownShows(pool)
    outbox = Outbox(settings.redis_url)
    watch = Watch(settings.redis_url, OutboxAge(outbox, unsettled_shows(pool)).look)
    follower.known_elsewhere = known.knows
    chat = Chat(
        chat_store,
        bans,
        log,
        digest_of=digest_of,
        state_of=follower.state_of,
    )
    revoked = Revoked(RevocationRows(pool), digest_of=digest_of, tell=log.tell)
    # Before the gateway: who is closed finds the token refused.
    follower.disconnects.listen(revoked.hear)
    return _Base(
        pool=pool,
        stock=stock,
        hub=hub,
        log=log,
        follower=follower,
        chat_store=chat_store,
        providers=providers_of(settings),
        auth=Authenticator(
            secret,
            guests=settings.guests,
            digest_key=digest_key,
            jwks_url=settings.jwks_url,
            issuer=settings.issuer,
            revoked=revoked,
        ),
        revoked=revoked,
        digest_of=digest_of,
        shows=ShowRows(pool),
        orders=orders,
        payments=PaymentRows(pool),
        bans=bans,
        chat=chat,
        probe=Probe(pool, stock, warnings=watch.warnings),
        outbox=outbox,
        watch=watch,
        known=known,
        doubts=doubts,
        past=asked_together(partial(orders.latest_of, latest=ORDERS_MAX)),
    )


def _sale(settings: Settings, base: _Base) -> _Sale:
    book = OfferBook(base.follower)
    desk = HoldDesk(base.stock, book, OldPurchases(base.orders), guests=settings.guests)
    waiters = OrderWaiters()
    base.follower.on_personal(waiters.tap)
    checkout = Checkout(
        base.stock,
        base.payments,
        base.orders,
        base.providers,
        ways=WaysToPay(settings.ways_to_pay),
        book=book,
        desk=desk,
        waiters=waiters,
    )

    async def past_orders(show: ShowId, buyer: BuyerId) -> tuple[OrderView, ...]:
        return await base.past.ask((show, buyer))

    join = Join(
        base.follower,
        Me(base.stock, book, base.follower, past_orders),
        base.chat,
        providers=settings.ways_to_pay,
    )
    reactions = ReactionTally(base.log)
    rpc = SaleRpc(
        desk=desk,
        checkout=checkout,
        waitlist=Waitlist(base.stock, WaitlistRows(base.pool), book, desk),
        orders=base.orders,
        shows=join,
        reactions=reactions,
    )
    return _Sale(checkout, join, reactions, rpc)


def _api_deps(settings: Settings, base: _Base) -> ApiDeps:
    log = base.log

    async def close_show_sockets(sub: Sub, show: ShowId, rank: int) -> None:
        await log.disconnect(base.digest_of(sub), BANNED, show=show, rank=rank)

    moderation = Moderation(
        base.chat,
        base.chat_store,
        base.bans,
        base.shows,
        log,
        close_sockets=close_show_sockets,
        now=_now_ms,
    )
    ways = ShopWays(settings.ways_to_pay, base.providers)
    return ApiDeps(
        settings=settings,
        auth=base.auth,
        catalogue=Catalogue(base.pool),
        host=HostCommands(base.shows, OfferRows(base.pool), Projector(base.stock, log), ways),
        moderation=moderation,
        idempotency=IdempotencyRows(base.pool),
        orders=base.orders,
        shows=base.shows,
        take_webhook=WebhookInbox(base.providers, base.payments).take,
        revoked=base.revoked,
        at_desk=log.at_desk,
        count_viewers=log.viewers,
        desk=DeskRows(base.pool),
        guest_limit=AddressLimit(burst=GUESTS_BURST, per_second=GUESTS_PER_SECOND),
        guest_reads=AddressLimit(burst=GUEST_READS_BURST, per_second=GUEST_READS_PER_SECOND),
        version=version("live-shopping"),
        ways=ways,
        rpc=METHODS,
    )


def _routes(
    settings: Settings, base: _Base, sale: _Sale, gateway: Gateway
) -> list[Route | WebSocketRoute]:
    origins = settings.allowed_origins
    socket = WebSocketEndpoint(gateway, allowed_origins=origins)
    events = SseEndpoint(gateway, allowed_origins=origins)
    sources = pages.PageSources(
        read_show=sale.join.public_view, running_shows=sale.join.running(base.shows)
    )
    return [
        *socket.routes(),
        Route("/connection/uni_sse", events.serve, methods=["GET", "POST"]),
        *ops_routes(base.probe, metrics_token=settings.metrics_token),
        *api.routes(_api_deps(settings, base)),
        *pages.routes(
            sources,
            providers=settings.ways_to_pay,
            guests=settings.guests,
            login_url=settings.login_url,
        ),
    ]


def _lifespan(
    base: _Base, sale: _Sale, gateway: Gateway
) -> Callable[[Starlette], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(base.pool)
            stack.push_async_callback(base.chat_store.close)
            stack.push_async_callback(base.known.close)
            stack.push_async_callback(base.doubts.close)
            stack.push_async_callback(base.past.close)
            close_later(stack, base.providers.values())
            await open_part(stack, base.stock)
            await open_part(stack, base.follower)
            await open_part(stack, base.outbox)
            await open_part(stack, base.watch)
            stack.push_async_callback(sale.reactions.close)
            base.revoked.on_news = gateway.disconnect
            await open_part(stack, base.revoked)
            await open_part(stack, gateway)
            stack.push_async_callback(sale.checkout.close, seconds=CHECKOUT_GRACE_SECONDS)
            await base.auth.refresh()
            tune_gc()
            watching = Tasks()
            watching.start("descriptors", descriptors.watch())
            stack.push_async_callback(watching.close)
            yield

    return lifespan


def _now_ms() -> int:
    return time.time_ns() // 1_000_000

"""Composition root of the gateway: the packages put together into one worker.

Reads like a parts list: nothing is decided here, only who gets what. What all of it stands on is in
`gateway_base.py`, the settler's side in `settler.py`, what both have in common in `shared.py`.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import Route, WebSocketRoute

from live.aio.tasks import Tasks
from live.api.edge import Edge
from live.api.http import routes as api
from live.api.http.deps import (
    GUEST_READS_BURST,
    GUEST_READS_PER_SECOND,
    GUESTS_BURST,
    GUESTS_PER_SECOND,
    ApiDeps,
    Webhooks,
)
from live.api.join import Join
from live.api.limits import AddressLimit
from live.api.ops import ops_routes
from live.api.problems import HANDLERS
from live.api.rpc.methods import SaleRpc
from live.api.schema.rpc_answers import METHODS
from live.base.settings import Compression, Settings, resolve_secret, split_secrets
from live.buying.checkout import Checkout
from live.buying.forgotten import OldPurchases
from live.buying.hold import HoldDesk
from live.buying.me import Me
from live.buying.offers import OfferBook
from live.buying.quoting.hook import QuoteHook
from live.buying.quoting.quotes import Quotes
from live.buying.quoting.seal import QuoteSeal
from live.buying.shop_checkout import ShopCheckout
from live.buying.waiters import OrderWaiters
from live.buying.waitlist import Waitlist
from live.buying.ways import WaysToPay
from live.chat.moderation import Moderation
from live.chat.reactions import ReactionTally
from live.connection.addresses import ForwardedScope, Proxies
from live.connection.admission import AdmissionLimits
from live.connection.application import Gateway
from live.connection.policy import DomainPolicy
from live.domain.ids import BuyerId, ShowId, Sub
from live.domain.order import OrderView
from live.hosting.host import HostCommands
from live.hosting.projector import Projector
from live.hosting.ways import ShopWays
from live.ledger.db.idempotency import IdempotencyRows
from live.ledger.db.pool import Pool
from live.ledger.events.delivery_log import DeliveryLog
from live.ledger.events.endpoints import EndpointRows
from live.ledger.events.feed import EventFeed
from live.ledger.hosting.catalogue import Catalogue
from live.ledger.hosting.desk_rows import DeskRows
from live.ledger.hosting.offer_rows import OfferRows
from live.ledger.money.shop_word import ShopWord
from live.ledger.orders.fulfilments import FulfilmentRows
from live.ledger.orders.withdraw import WithdrawalRows
from live.ledger.settle.waitlist import WaitlistRows
from live.outgoing.guard import name_fault
from live.pages import pages
from live.payments.inbox import WebhookInbox
from live.protocol.codes import BANNED
from live.transport import descriptors
from live.transport.asgi import WebSocketEndpoint
from live.transport.garbage import tune_gc
from live.transport.handshake import FrontDoor
from live.transport.hosts import Hosts
from live.transport.plain import PlainSocket
from live.transport.sse import SseEndpoint
from live.wiring.gateway_base import Base, build_base
from live.wiring.shared import close_later, open_part

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
class _Sale:
    """What buyers use."""

    checkout: Checkout
    shop_checkout: ShopCheckout
    quote_hook: QuoteHook | None
    join: Join
    reactions: ReactionTally
    rpc: SaleRpc


def build_gateway(settings: Settings) -> GatewayApp:
    """Wire one gateway worker. Its connections are opened by the application's lifespan."""
    base = build_base(settings)
    sale = _sale(settings, base)
    gateway = Gateway(
        base.hub,
        base.follower,
        DomainPolicy(base.follower, base.chat.accept),
        base.callers.auth.caller,
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


def _sale(settings: Settings, base: Base) -> _Sale:
    book = OfferBook(base.follower)
    desk = HoldDesk(
        base.engines.stock, book, OldPurchases(base.rows.orders), guests=settings.guests
    )
    waiters = OrderWaiters()
    base.follower.on_personal(waiters.tap)
    hook = None
    if settings.quote_url is not None:
        hook = QuoteHook(settings.quote_url, secrets=settings.quote_secrets)
    seal = QuoteSeal(split_secrets(resolve_secret(settings)))
    quotes = Quotes(base.engines.stock, book, desk, seal, hook)
    checkout = Checkout(
        base.engines.stock,
        base.rows.payments,
        base.rows.orders,
        base.providers,
        ways=WaysToPay(settings.ways_to_pay),
        book=book,
        desk=desk,
        quotes=quotes,
        waiters=waiters,
    )

    async def past_orders(show: ShowId, buyer: BuyerId) -> tuple[OrderView, ...]:
        return await base.rows.past.ask((show, buyer))

    join = Join(
        base.follower,
        Me(base.engines.stock, book, base.follower, past_orders),
        base.chat,
        providers=settings.ways_to_pay,
    )
    reactions = ReactionTally(base.engines.log)
    rpc = SaleRpc(
        desk=desk,
        checkout=checkout,
        quotes=quotes,
        waitlist=Waitlist(base.engines.stock, WaitlistRows(base.engines.pool), book, desk),
        orders=base.rows.orders,
        withdrawals=WithdrawalRows(base.engines.pool, days=settings.withdrawal_days),
        shows=join,
        reactions=reactions,
    )
    shop_checkout = ShopCheckout(
        base.engines.stock,
        base.rows.payments,
        ShopWord(base.engines.pool),
        base.rows.orders,
        waiters,
        digest_of=base.callers.digest_of,
    )
    return _Sale(checkout, shop_checkout, hook, join, reactions, rpc)


def _api_deps(settings: Settings, base: Base, sale: _Sale) -> ApiDeps:
    log = base.engines.log

    async def close_show_sockets(sub: Sub, show: ShowId, rank: int) -> None:
        await log.disconnect(base.callers.digest_of(sub), BANNED, show=show, rank=rank)

    moderation = Moderation(
        base.chat,
        base.engines.chat_store,
        base.rows.bans,
        base.rows.shows,
        log,
        close_sockets=close_show_sockets,
        now=_now_ms,
    )
    ways = ShopWays(settings.ways_to_pay, base.providers)
    return ApiDeps(
        settings=settings,
        auth=base.callers.auth,
        catalogue=Catalogue(base.engines.pool),
        host=HostCommands(
            base.rows.shows, OfferRows(base.engines.pool), Projector(base.engines.stock, log), ways
        ),
        moderation=moderation,
        idempotency=IdempotencyRows(base.engines.pool),
        orders=base.rows.orders,
        shop_checkout=sale.shop_checkout,
        fulfilments=FulfilmentRows(base.engines.pool),
        shows=base.rows.shows,
        take_webhook=WebhookInbox(base.providers, base.rows.payments).take,
        revoked=base.callers.revoked,
        at_desk=log.at_desk,
        count_viewers=log.viewers,
        desk=DeskRows(base.engines.pool),
        guest_limit=AddressLimit(burst=GUESTS_BURST, per_second=GUESTS_PER_SECOND),
        guest_reads=AddressLimit(burst=GUEST_READS_BURST, per_second=GUEST_READS_PER_SECOND),
        version=version("live-shopping"),
        ways=ways,
        webhooks=_webhooks(base.engines.pool, settings),
        rpc=METHODS,
    )


def _webhooks(pool: Pool, settings: Settings) -> Webhooks:
    judge = partial(name_fault, development=settings.webhook_development)
    return Webhooks(EndpointRows(pool), DeliveryLog(pool), EventFeed(pool), judge)


def _routes(
    settings: Settings, base: Base, sale: _Sale, gateway: Gateway
) -> list[Route | WebSocketRoute]:
    origins = settings.allowed_origins
    socket = WebSocketEndpoint(gateway, allowed_origins=origins)
    events = SseEndpoint(gateway, allowed_origins=origins)
    sources = pages.PageSources(
        read_show=sale.join.public_view, running_shows=sale.join.running(base.rows.shows)
    )
    return [
        *socket.routes(),
        Route("/connection/uni_sse", events.serve, methods=["GET", "POST"]),
        *ops_routes(base.probe, metrics_token=settings.metrics_token),
        *api.routes(_api_deps(settings, base, sale)),
        *pages.routes(
            sources,
            providers=settings.ways_to_pay,
            guests=settings.guests,
            login_url=settings.login_url,
            quotes=settings.quote_url is not None,
        ),
    ]


def _lifespan(
    base: Base, sale: _Sale, gateway: Gateway
) -> Callable[[Starlette], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(base.engines.pool)
            stack.push_async_callback(base.engines.chat_store.close)
            stack.push_async_callback(base.rows.known.close)
            stack.push_async_callback(base.engines.doubts.close)
            stack.push_async_callback(base.rows.past.close)
            close_later(stack, base.providers.values())
            if sale.quote_hook is not None:
                stack.push_async_callback(sale.quote_hook.close)
            await open_part(stack, base.engines.stock)
            await open_part(stack, base.follower)
            await open_part(stack, base.engines.outbox)
            await open_part(stack, base.engines.watch)
            stack.push_async_callback(sale.reactions.close)
            base.callers.revoked.on_news = gateway.disconnect
            await open_part(stack, base.callers.revoked)
            await open_part(stack, gateway)
            stack.push_async_callback(sale.checkout.close, seconds=CHECKOUT_GRACE_SECONDS)
            await base.callers.auth.refresh()
            tune_gc()
            watching = Tasks()
            watching.start("descriptors", descriptors.watch())
            stack.push_async_callback(watching.close)
            yield

    return lifespan


def _now_ms() -> int:
    return time.time_ns() // 1_000_000

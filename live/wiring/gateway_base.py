"""What everything in a gateway stands on: engines, rows, who is calling, shows that are followed.

Nothing here is opened: the application's lifespan in `gateway.py` does that, in its order.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from live.aio.coalesce import Coalescer
from live.api.auth import Authenticator
from live.api.ops import Probe
from live.api.revoked import Revoked
from live.api.watch import Watch
from live.base.settings import Settings, digest_key_of, resolve_secret
from live.buying.me import ORDERS_MAX
from live.chat.rules import Chat
from live.chat.store import ChatStore
from live.domain.ids import BuyerId, ShowId, buyer_of
from live.domain.order import OrderView
from live.fanout.hub import Hub
from live.ledger.db.asked_together import asked_together
from live.ledger.db.pool import Pool, make_pool
from live.ledger.hosting.bans import BanRows
from live.ledger.hosting.revocations import RevocationRows
from live.ledger.hosting.shows import ShowRows
from live.ledger.money.payments import PaymentRows
from live.ledger.orders.orders import OrderRows
from live.ledger.settle.doubts import Doubts
from live.ledger.settle.known_shows import KnownShows
from live.ledger.settle.waiting import OutboxAge, unsettled_shows
from live.payments.port import Provider
from live.showlog.follower import Follower
from live.showlog.log import ShowLog
from live.stock.engine import StockEngine
from live.stock.outbox import Outbox
from live.wiring.shared import providers_of


@dataclass(frozen=True, slots=True)
class _Engines:
    """What reaches Postgres and Redis."""

    pool: Pool
    doubts: Doubts
    stock: StockEngine
    log: ShowLog
    chat_store: ChatStore
    outbox: Outbox
    watch: Watch


@dataclass(frozen=True, slots=True)
class _Rows:
    """What of the ledger more than one part reads or writes."""

    shows: ShowRows
    orders: OrderRows
    past: Coalescer[tuple[ShowId, BuyerId], tuple[OrderView, ...]]
    payments: PaymentRows
    bans: BanRows
    known: KnownShows


@dataclass(frozen=True, slots=True)
class _Callers:
    """Who is calling, and whose token holds no longer."""

    digest_of: Callable[[str], BuyerId]
    revoked: Revoked
    auth: Authenticator


@dataclass(frozen=True, slots=True)
class Base:
    engines: _Engines
    rows: _Rows
    callers: _Callers
    hub: Hub
    follower: Follower
    chat: Chat
    providers: Mapping[str, Provider]
    probe: Probe


def build_base(settings: Settings) -> Base:
    engines = _engines(settings)
    rows = _rows(engines.pool)
    callers = _callers(settings, engines)
    hub = Hub()
    follower = Follower(engines.log, hub)
    follower.known_elsewhere = rows.known.knows
    # Before the gateway: who is closed finds the token refused.
    follower.disconnects.listen(callers.revoked.hear)
    return Base(
        engines=engines,
        rows=rows,
        callers=callers,
        hub=hub,
        follower=follower,
        chat=Chat(
            engines.chat_store,
            rows.bans,
            engines.log,
            digest_of=callers.digest_of,
            state_of=follower.state_of,
        ),
        providers=providers_of(settings, rows.payments),
        probe=Probe(engines.pool, engines.stock, warnings=engines.watch.warnings),
    )


def _engines(settings: Settings) -> _Engines:
    assert settings.redis_url and settings.database_url, "engines come first"
    pool = make_pool(settings.database_url, size=settings.database_pool)
    doubts = Doubts(pool)
    outbox = Outbox(settings.redis_url)
    return _Engines(
        pool=pool,
        doubts=doubts,
        stock=StockEngine(settings.redis_url, on_lost=doubts.note),
        log=ShowLog(settings.redis_url),
        chat_store=ChatStore(settings.redis_url),
        outbox=outbox,
        watch=Watch(settings.redis_url, OutboxAge(outbox, unsettled_shows(pool)).look),
    )


def _rows(pool: Pool) -> _Rows:
    orders = OrderRows(pool)
    return _Rows(
        shows=ShowRows(pool),
        orders=orders,
        past=asked_together(partial(orders.latest_of, latest=ORDERS_MAX)),
        payments=PaymentRows(pool),
        bans=BanRows(pool),
        known=KnownShows(pool),
    )


def _callers(settings: Settings, engines: _Engines) -> _Callers:
    secret = resolve_secret(settings)
    digest_key = digest_key_of(settings, secret)

    def digest_of(sub: str) -> BuyerId:
        return buyer_of(sub, secret=digest_key)

    revoked = Revoked(RevocationRows(engines.pool), digest_of=digest_of, tell=engines.log.tell)
    auth = Authenticator(
        secret,
        guests=settings.guests,
        digest_key=digest_key,
        jwks_url=settings.jwks_url,
        issuer=settings.issuer,
        revoked=revoked,
    )
    return _Callers(digest_of, revoked, auth)

"""A whole sale in one process, on real engines and a real provider."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import TypedDict
from uuid import uuid4

import orjson

from live.base.settings import Guests
from live.buying.checkout import Checkout
from live.buying.forgotten import OldPurchases
from live.buying.hold import HoldDesk, Wanted
from live.buying.offers import OfferBook
from live.buying.purchase import CheckoutAnswer, Purchase
from live.buying.quoting.hook import QuoteHook
from live.buying.quoting.quotes import Quotes
from live.buying.quoting.seal import QuoteSeal
from live.buying.waiters import OrderWaiters
from live.buying.ways import WaysToPay
from live.domain.caller import Caller, Role
from live.domain.channels import Channel
from live.domain.events import Event
from live.domain.hold import HoldDecision, Line
from live.domain.ids import BuyerId, HoldKey, OfferId, ShowId, Sku, buyer_of
from live.domain.offer import Mode, OfferTerms, Stock
from live.domain.orders.quote import NO_QUOTE, Given
from live.domain.outcomes import Outcome
from live.domain.show import ShowState
from live.ledger.db.pool import Pool
from live.ledger.money.payments import PaymentRows
from live.ledger.orders.orders import OrderRows
from live.ledger.settle.notices import NoticeSender
from live.ledger.settle.settler import Settler
from live.payments.breaker import GuardedProvider
from live.payments.port import Provider
from live.payments.providers.invoice import Invoice
from live.payments.providers.sandbox import SandboxProvider
from live.payments.worker import PaymentWorker
from live.stock.engine import StockEngine
from live.stock.outbox import Outbox
from tests.support.answers import Json
from tests.support.ledger_kit import PRICE, SECRET, make_show
from tests.support.sandbox import KEY, SandboxServer
from tests.support.show_states import make_state
from tests.support.stock_kit import terms

SETTLED_SECONDS = 60.0  # no wait of a test is longer


class ByInvoice(TypedDict):
    """How `pay` and `buy` are told of payment on delivery."""

    token: None
    provider: str
    contact: bytes


CONTACT = b'{"name": "Ada", "address": "1 Mill Lane"}'
INVOICE: ByInvoice = {"token": None, "provider": "invoice", "contact": CONTACT}


@dataclass(slots=True)
class StaticShow:
    state: ShowState | None
    stock: dict[int, Stock] = field(default_factory=dict)


@dataclass(slots=True)
class StaticShows:
    """What a follower knows, when nothing changes."""

    followed: dict[ShowId, StaticShow] = field(default_factory=dict)

    def current(self, show: ShowId) -> StaticShow | None:
        return self.followed.get(show)


@dataclass(slots=True)
class Told:
    """The announce port: remembers, and plays the gateway's tap."""

    waiters: OrderWaiters
    events: list[tuple[BuyerId | None, str, Json]] = field(default_factory=list)
    news: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self, channel: Channel, event: Event, *, key: str) -> None:
        data = orjson.dumps(event)
        self.events.append((channel.buyer, event.type, orjson.loads(data)))
        if channel.buyer is not None:
            self.waiters.tap(channel.show, channel.buyer, event.type, data)
        self.news.set()

    def types(self, buyer: BuyerId) -> list[str]:
        return [kind for whom, kind, _ in self.events if whom == buyer]

    async def wait_for(self, buyer: BuyerId | None, kind: str) -> Json:
        """The first such event, now or later."""
        async with asyncio.timeout(SETTLED_SECONDS):
            while True:
                self.news.clear()
                for whom, found, event in self.events:
                    if (whom, found) == (buyer, kind):
                        return event
                await self.news.wait()


def viewer(name: str = "", *, guest: bool = False) -> Caller:
    sub = name or f"v-{uuid4().hex[:10]}"
    return Caller(
        sub=sub,
        buyer=buyer_of(sub, secret=SECRET),
        role=Role.VIEWER,
        shows=frozenset({"*"}),
        expires_at=None,
        guest=guest,
    )


def new_key() -> HoldKey:
    return HoldKey(uuid4().bytes)


@dataclass(slots=True)
class Sale:
    """One show with its offers on sale, and everybody who works on it."""

    show: ShowId
    pool: Pool
    stock: StockEngine
    outbox: Outbox
    payments: PaymentRows
    orders: OrderRows
    provider: SandboxProvider
    server: SandboxServer
    waiters: OrderWaiters
    told: Told
    followed: StaticShows
    book: OfferBook
    desk: HoldDesk
    quotes: Quotes
    checkout: Checkout
    worker: PaymentWorker
    settler: Settler
    notices: NoticeSender
    offers: list[OfferId]

    async def hold(self, caller: Caller, qty: int = 1, *, slot: int = 0) -> HoldKey:
        """A live hold."""
        key = new_key()
        answer = await self.try_hold(caller, key, Line(slot, qty))
        assert answer.outcome is Outcome.HELD, answer
        return key

    async def try_hold(self, caller: Caller, key: HoldKey, *lines: Line) -> HoldDecision:
        assert caller.buyer is not None
        return await self.stock.hold(self.show, caller.buyer, key, lines)

    async def pay(
        self,
        caller: Caller,
        hold: HoldKey,
        token: str | None = "tok_approve",
        *,
        key: HoldKey | None = None,
        provider: str = "sandbox",
        contact: bytes | None = None,
        given: Given = NO_QUOTE,
    ) -> CheckoutAnswer:
        purchase = Purchase(
            key=key or new_key(),
            provider=provider,
            token=token,
            contact=contact,
            hold=hold,
            given=given,
        )
        return await self.checkout.pay(caller, self.show, purchase)

    async def buy(
        self,
        caller: Caller,
        token: str | None = "tok_approve",
        *,
        key: HoldKey,
        qty: int = 1,
        provider: str = "sandbox",
        contact: bytes | None = None,
        given: Given = NO_QUOTE,
    ) -> CheckoutAnswer:
        """In `first_paid` mode."""
        purchase = Purchase(
            key=key,
            provider=provider,
            token=token,
            contact=contact,
            direct=Wanted(self.offers[0], qty),
            given=given,
        )
        return await self.checkout.pay(caller, self.show, purchase)

    async def figures(self, slot: int = 0) -> Stock:
        return (await self.stock.figures(self.show)).offers[slot]

    async def payment_states(self) -> list[tuple[str, str | None]]:
        """(payment's state, its order's state) of every payment."""
        rows = await self.pool.fetch(
            "SELECT p.state, o.state AS order_state FROM payments p"
            " LEFT JOIN orders o ON o.id = p.order_id WHERE p.show = $1 ORDER BY p.created_at",
            self.show,
        )
        return [(row["state"], row["order_state"]) for row in rows]

    async def expire_leases(self) -> None:
        """As if the gateways that hold them had died long ago."""
        await self.pool.execute(
            "UPDATE payments SET lease_until = now() - interval '1 second',"
            " refunds_until = least(refunds_until, now() - interval '1 second') WHERE show = $1",
            self.show,
        )

    async def work_until(self, payment: str, order: str | None) -> None:
        """Let the worker work until the show's only payment and its order are in these states."""
        async with asyncio.timeout(SETTLED_SECONDS):
            while await self.payment_states() != [(payment, order)]:
                await self.expire_leases()
                await self.pool.execute("UPDATE money_jobs SET due_at = now()")
                await self.worker.run_once()

    async def money(self) -> tuple[int, int]:
        """(captured, refunded) at the provider, over all charges of this test's payments."""
        rows = await self.pool.fetch("SELECT id FROM payments WHERE show = $1", self.show)
        mine = {str(row["id"]) for row in rows}
        charges = []
        cursor: str | None = None
        while True:
            page = await self.provider.list_charges(cursor=cursor, limit=500)
            charges += [charge for charge in page.charges if charge.payment in mine]
            cursor = page.cursor
            if cursor is None:
                break
        return (
            sum(charge.captured_minor for charge in charges),
            sum(charge.refunded_minor for charge in charges),
        )


def offer_terms(
    show: ShowId, offer: OfferId, *, slot: int, units: int, mode: Mode, guests: bool = True
) -> OfferTerms:
    """An offer of `units` at `PRICE`; no buyer comes near their limit."""
    return terms(
        show,
        slot,
        id=offer,
        sku=Sku(f"{show}-sku-{slot}"),
        price_minor=PRICE,
        mode=mode,
        quantity=units,
        allotted=units,
        per_buyer_limit=10,
        hold_seconds=60,
        guests=guests,
    )


def show_state(show: ShowId, offers: tuple[OfferTerms, ...]) -> ShowState:
    return replace(make_state(show, version=1), offers=offers)


@asynccontextmanager
async def open_sale(
    pool: Pool,
    redis_url: str,
    server: SandboxServer,
    show: ShowId,
    *,
    units: tuple[int, ...] = (10,),
    mode: Mode = Mode.HOLD,
    fresh: bool = True,
    settling: bool = True,
    hold_seconds: int = 60,
    provider_timeout_seconds: float = 6.0,
    more: Sequence[Provider] = (),
    ways: tuple[str, ...] | None = None,
    hook: QuoteHook | None = None,
) -> AsyncIterator[Sale]:
    """`fresh` False: the show is there already, and this is another process that works on it.

    `settling` False: nobody settles here, as if the settler were down. `more`: other providers than
    the sandbox and invoices; their owner closes them. `ways`: what the shop takes of all these.
    `hook`: the shop's quote hook; its owner closes it.
    """
    if fresh:
        await make_show(pool, show, *units)
        await pool.execute(
            "UPDATE offers SET mode = $2, hold_seconds = $3 WHERE show = $1",
            show,
            mode,
            hold_seconds,
        )
    offers = [OfferId(f"{show}-offer-{slot}") for slot in range(len(units))]
    terms = tuple(
        replace(
            offer_terms(show, offer, slot=slot, units=units[slot], mode=mode),
            hold_seconds=hold_seconds,
        )
        for slot, offer in enumerate(offers)
    )
    stock, outbox = StockEngine(redis_url), Outbox(redis_url)
    await stock.open()
    await outbox.open()
    if fresh:
        await stock.install_show(show, stock_epoch=1)
        for one in terms:
            await stock.apply_offer(one)
    payments, orders, waiters = PaymentRows(pool), OrderRows(pool), OrderWaiters()
    told = Told(waiters)
    notices = NoticeSender(pool, told)
    settler = Settler(pool, outbox, told, _no_mismatch, on_settled=notices.wake)
    provider = SandboxProvider(
        "http://sandbox", key=KEY, uds=str(server.uds), timeout_seconds=provider_timeout_seconds
    )
    providers: dict[str, Provider] = {
        "sandbox": GuardedProvider(provider),
        "invoice": GuardedProvider(Invoice()),
        **{one.name: GuardedProvider(one) for one in more},
    }
    followed = StaticShows({show: StaticShow(show_state(show, terms))})
    book = OfferBook(followed)
    desk = HoldDesk(stock, book, OldPurchases(orders), guests=Guests.WATCH)
    quotes = Quotes(stock, book, desk, QuoteSeal([2 * SECRET]), hook)
    checkout = Checkout(
        stock,
        payments,
        orders,
        providers,
        ways=WaysToPay(tuple(providers) if ways is None else ways),
        book=book,
        desk=desk,
        quotes=quotes,
        waiters=waiters,
    )
    worker = PaymentWorker(payments, stock, providers)
    stop = asyncio.Event()
    tasks = [asyncio.create_task(notices.run(stop))]
    if settling:
        tasks.append(asyncio.create_task(settler.run(stop)))
    yield Sale(
        show=show,
        pool=pool,
        stock=stock,
        outbox=outbox,
        payments=payments,
        orders=orders,
        provider=provider,
        server=server,
        waiters=waiters,
        told=told,
        followed=followed,
        book=book,
        desk=desk,
        quotes=quotes,
        checkout=checkout,
        worker=worker,
        settler=settler,
        notices=notices,
        offers=offers,
    )
    await checkout.close(seconds=0)
    stop.set()
    await asyncio.gather(*tasks)
    await provider.close()
    await outbox.close()
    await stock.close()


async def _no_mismatch(show: ShowId) -> None:
    raise AssertionError(f"stock and ledger of {show} differ")

"""A small sale with something in every table and key, whose audit is quiet: what a matrix of
corruptions is played on."""

from dataclasses import dataclass, replace

from live.domain.hold import Line
from live.domain.ids import OfferId, OrderId, ShowId
from live.domain.offer import Mode
from live.domain.orders.fulfilment import LineQty, ReturnState, ShipmentStatus
from live.domain.payment import PaymentState
from live.domain.show import ShowState
from live.hosting.projector import Projector
from live.ledger.db.pool import Pool
from live.ledger.hosting.bans import BanRows
from live.ledger.hosting.catalogue import Catalogue
from live.ledger.hosting.offer_rows import OfferRows
from live.ledger.hosting.shows import ShowPatch, ShowRows
from live.ledger.money.payments import PaymentRows
from live.ledger.orders.fulfilments import FulfilmentRows
from live.ledger.orders.goods_back import ReturnDecision
from live.ledger.orders.orders import OrderRows
from live.ledger.orders.parcels import NewParcel
from live.ledger.orders.withdraw import WithdrawalRows
from live.ledger.settle.settler import Settler
from live.ledger.settle.waitlist import WaitlistRows
from live.showlog.log import ShowLog
from live.stock.engine import StockEngine
from live.stock.outbox import Outbox
from tests.support.ledger_kit import (
    PRICE,
    Announced,
    Mismatches,
    Sale,
    new_buyer,
    new_payment,
    pay,
    wish,
)
from tests.support.shows_kit import HOST, new_show, offer, product


@dataclass(slots=True)
class Told:
    """What viewers were told, and the way to tell them: `TellPort`."""

    log: ShowLog
    projector: Projector

    async def read_state(self, show: ShowId) -> ShowState | None:
        return await self.log.read_state(show)

    async def project(self, state: ShowState) -> object:
        return await self.projector.project(state)


@dataclass(slots=True)
class Stage:
    sale: Sale
    told: Told

    async def close(self) -> None:
        await self.sale.engine.close()
        await self.sale.outbox.close()
        await self.told.log.close()


async def set_stage(pool: Pool, redis_url: str, show: ShowId) -> Stage:
    """A live show on the real engine, with nobody at work."""
    stage = await come_back(pool, redis_url, show)
    await _open_shop(stage)
    await _sell(stage.sale)
    await stage.told.project(await ShowRows(pool).read_state(show))  # the refund raised its version
    return stage


async def come_back(pool: Pool, redis_url: str, show: ShowId) -> Stage:
    """The same for a show that is there already."""
    engine, outbox, log = StockEngine(redis_url), Outbox(redis_url), ShowLog(redis_url)
    for part in (engine, outbox, log):
        await part.open()
    settler = Settler(pool, outbox, Announced(), Mismatches())
    sale = Sale(
        pool, show, engine, outbox, settler, PaymentRows(pool), Announced(), Mismatches()
    )  # fmt: skip
    return Stage(sale, Told(log, Projector(engine, log)))


async def _open_shop(stage: Stage) -> None:
    """Offers a (8 units), b (1 unit, with a line), c (paused), d (a draft), e (a draft that was
    closed, of which viewers never hear); somebody is muted."""
    pool, show = stage.sale.pool, stage.sale.show
    shows, offers = ShowRows(pool), OfferRows(pool)
    await Catalogue(pool).create(product("lamp", on_hand=20), actor=HOST)
    created = await shows.create(new_show(show), HOST)
    await stage.told.projector.project(created, fresh=True)
    await shows.patch(show, ShowPatch(rehearsal_passcode="1234"), HOST)
    await shows.start(show, HOST)
    for name, units in (("a", 8), ("b", 1), ("c", 3), ("d", 2), ("e", 2)):
        new = replace(
            offer("lamp", quantity=units, name=f"{show}-{name}", duration=3_600),
            price_minor=PRICE,
            mode=Mode.HOLD,
            hold_seconds=3_600,  # longer than any test
        )
        await offers.create(show, new, HOST)
        if name in "abc":
            await offers.open(new.id, HOST)
    await offers.close(OfferId(f"{show}-e"), HOST)
    await offers.pause(OfferId(f"{show}-c"), HOST)
    await BanRows(pool).set(show, "troll", "mute", 6_000, HOST)
    await shows.announce(show, "Welcome", None, HOST)
    await stage.told.project(await shows.read_state(show))


async def _sell(sale: Sale) -> None:
    """Paid, refunded, cancelled, confirmed; held, being paid, released; waiting."""
    paid, refunded, cancelled, holding, paying, waiting, last, gone = (
        new_buyer() for _ in range(8)
    )
    await sale.buy(paid, Line(0, 2))
    money = await sale.buy(refunded)
    await sale.buy(cancelled)
    await sale.settle()
    await sale.engine.cancel(sale.show, cancelled.id, cancelled.key)
    await sale.settle()
    await sale.capture_all()
    await OrderRows(sale.pool).request_refund(
        money.order, wish(restock=True), request_key="k", actor=HOST
    )
    await sale.capture_all()
    await _send_and_take_back(sale)
    await sale.hold(gone)
    await sale.hold(holding)
    await sale.engine.release(sale.show, gone.id, gone.key)
    await sale.hold(paying)
    begun = await sale.engine.begin(sale.show, paying.id, paying.key, window_ms=600_000)
    assert begun.held_until
    unfinished = new_payment(sale.show, paying)
    await sale.rows.open_payment(unfinished)
    await sale.rows.record(unfinished.id, PaymentState.ACTION_REQUIRED, ref="ref-unfinished")
    await sale.buy(last, Line(1, 1))
    await WaitlistRows(sale.pool).ask(
        sale.show, OfferId(f"{sale.show}-b"), waiting.id, waiting.sub, waiting.key, 1
    )
    await sale.engine.join_waitlist(sale.show, waiting.id, waiting.key, Line(1, 1))
    await sale.settle()
    declined = await pay(sale.rows, sale.show, new_buyer())
    await sale.rows.record(declined.id, PaymentState.VOIDED)
    await sale.pool.execute("UPDATE payments SET updated_at = now() - interval '10 seconds'")


async def _send_and_take_back(sale: Sale) -> None:
    """The paid order arrived, and one of its two units came back, without money; the other is on
    its way back, as the buyer withdrew."""
    order = await sale.pool.fetchval("SELECT id::text FROM orders WHERE state = 'paid'")
    rows = FulfilmentRows(sale.pool)
    parcel = NewParcel(items=(), carrier="DHL", tracking_number="1", tracking_url="")
    await rows.ship(order, parcel, actor=HOST)
    shipment = await sale.pool.fetchval("SELECT id::text FROM shipments")
    await rows.note_arrival(order, shipment, ShipmentStatus.DELIVERED, actor=HOST)
    items = (LineQty(line=1, qty=1),)
    await rows.ask_return(order, items, "too small", actor=HOST, own=False)
    wanted = await sale.pool.fetchval("SELECT id::text FROM returns")
    received = ReturnDecision(state=ReturnState.RECEIVED, refund_minor=0)
    await rows.decide_return(order, wanted, received, actor=HOST)
    sub = await sale.pool.fetchval("SELECT sub FROM orders WHERE id::text = $1", order)
    await WithdrawalRows(sale.pool, days=14).withdraw(OrderId(order), sub, confirm=True)

"""A sale at a steady pace: how long a buyer waits from their checkout to `order.confirmed`.

Everybody holds their unit beforehand; then one checkout begins every millisecond. The wait counts
from the moment when it was due, so a generator that falls behind shows in the waits and in the
rates: of checkouts begun and of orders confirmed.

The provider answers at once here, so what is measured is ours: the payment's row, the stock,
the outbox, the settler and the notice sender, as they run in one settler process.
"""

import asyncio
import itertools
import time
from dataclasses import dataclass
from secrets import token_bytes
from typing import Final
from uuid import uuid4

from live.base.errors import EngineError
from live.domain.channels import Channel
from live.domain.events import Event, OrderEvent
from live.domain.hold import Line
from live.domain.ids import BuyerId, HoldKey, OrderId, ShowId, key_text
from live.domain.offer import Mode
from live.domain.payment import NewPayment, PaymentId, PaymentState, PricedLine
from live.ledger.db.pool import Pool
from live.ledger.money.payments import PaymentRows
from live.ledger.settle.notices import NoticeSender
from live.ledger.settle.settler import Settler
from live.stock.engine import StockEngine
from live.stock.outbox import Outbox

ORDERS_PER_SECOND: Final = 1_000
AT_ONCE: Final = 500  # holds of the preparation in flight
TICK_SECONDS: Final = 0.01
WAIT_SECONDS: Final = 30.0  # for the last confirmation


@dataclass(frozen=True, slots=True)
class Paced:
    orders: int
    begun_per_second: float
    confirmed_per_second: float
    confirm_p50_ms: float
    confirm_p99_ms: float

    def row(self) -> dict[str, object]:
        return {
            "name": f"sale_at_{ORDERS_PER_SECOND}_per_second",
            "orders": self.orders,
            "begun_per_second": self.begun_per_second,
            "confirmed_per_second": self.confirmed_per_second,
            "confirm_p50_ms": self.confirm_p50_ms,
            "confirm_p99_ms": self.confirm_p99_ms,
        }


async def pace(
    pool: Pool, engine: StockEngine, outbox: Outbox, show: ShowId, *, seconds: float
) -> Paced:
    """Sell while a settler runs. Raises EngineError where it does not keep up."""
    buyers = _Buyers(engine, PaymentRows(pool), show)
    notices = NoticeSender(pool, buyers.hear)

    async def on_mismatch(show: ShowId) -> None:
        raise EngineError(f"{show} differs from the ledger")

    settler = Settler(pool, outbox, buyers.hear, on_mismatch, on_settled=notices.wake)
    stop = asyncio.Event()
    working = [asyncio.create_task(part.run(stop)) for part in (settler, notices)]
    try:
        await buyers.buy(int(ORDERS_PER_SECOND * seconds))
    finally:
        stop.set()
        await asyncio.gather(*working)
    return buyers.waited()


class _Buyers:
    def __init__(self, engine: StockEngine, rows: PaymentRows, show: ShowId) -> None:
        self.engine, self.rows, self.show = engine, rows, show
        self.due: dict[str, float] = {}  # when the checkout had to begin, by the hold's key
        self.ms: list[float] = []
        self.first_due = self.last_begun = self.last_told = 0.0
        self.all_told = asyncio.Event()
        self.expected = 0

    async def hear(self, channel: Channel, event: Event, *, key: str) -> None:
        """Announcements of the settler and the notice sender arrive here."""
        if isinstance(event, OrderEvent):
            due = self.due.pop(event.order.hold, None)
            if due is not None:
                self.last_told = time.perf_counter()
                self.ms.append(1000 * (self.last_told - due))
                if len(self.ms) == self.expected:
                    self.all_told.set()

    async def buy(self, orders: int) -> None:
        self.expected = orders
        holds = [await self._hold_some(min(AT_ONCE, orders - n)) for n in range(0, orders, AT_ONCE)]
        self.first_due = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for number, (buyer, key) in enumerate(itertools.chain.from_iterable(holds)):
                due = self.first_due + number / ORDERS_PER_SECOND
                ahead = due - time.perf_counter()
                if ahead > TICK_SECONDS:
                    await asyncio.sleep(ahead)
                self.due[key_text(key)] = due
                group.create_task(self._check_out(buyer, key))
        try:
            await asyncio.wait_for(self.all_told.wait(), WAIT_SECONDS)
        except TimeoutError as error:
            missing = len(self.due)
            raise EngineError(f"{missing} buyers were not told of their orders") from error

    async def _hold_some(self, count: int) -> list[tuple[BuyerId, HoldKey]]:
        some = [(BuyerId(token_bytes(16)), HoldKey(uuid4().bytes)) for _ in range(count)]
        await asyncio.gather(
            *(self.engine.hold(self.show, buyer, key, (Line(0, 1),)) for buyer, key in some)
        )
        return some

    async def _check_out(self, buyer: BuyerId, key: HoldKey) -> None:
        """A checkout's calls in their order, with a provider that answers at once."""
        self.last_begun = time.perf_counter()
        await self.engine.begin(self.show, buyer, key, window_ms=600_000)
        new = NewPayment(
            id=PaymentId(str(uuid4())),
            order=OrderId(str(uuid4())),
            show=self.show,
            buyer=buyer,
            sub=buyer.hex(),
            hold=key,
            attempt=key,
            mode=Mode.HOLD,
            lines=(PricedLine(0, 1, 100),),
            amount_minor=100,
            currency="EUR",
            provider="sandbox",
            token="tok_approve",
            contact=None,
        )
        await self.rows.open_payment(new)
        await self.rows.record(new.id, PaymentState.AUTHORISED, ref=f"charge-{new.id}")
        await self.engine.confirm(self.show, buyer, key, (Line(0, 1),))

    def waited(self) -> Paced:
        found = sorted(self.ms)
        return Paced(
            orders=len(found),
            begun_per_second=round(len(found) / (self.last_begun - self.first_due), 1),
            confirmed_per_second=round(len(found) / (self.last_told - self.first_due), 1),
            confirm_p50_ms=round(found[len(found) // 2], 1),
            confirm_p99_ms=round(found[len(found) * 99 // 100], 1),
        )

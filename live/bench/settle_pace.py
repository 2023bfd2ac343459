"""A sale at a steady pace: how long a buyer waits from his checkout to `order.confirmed`.

The provider answers at once here, so what is measured is ours: the payment's row, the stock,
the outbox, the settler and the notice sender, as they run in one settler process.
"""

import asyncio
import time
from collections.abc import Coroutine
from dataclasses import dataclass
from secrets import token_bytes
from typing import Final
from uuid import uuid4

from live.domain.channels import Channel
from live.domain.events import Event, OrderEvent
from live.domain.hold import Line
from live.domain.ids import BuyerId, HoldKey, OrderId, ShowId, key_text
from live.domain.offer import Mode
from live.domain.payment import NewPayment, PaymentId, PaymentState, PricedLine
from live.errors import EngineError
from live.ledger.notices import NoticeSender
from live.ledger.payments import PaymentRows
from live.ledger.pool import Pool
from live.ledger.settler import Settler
from live.stock.engine import StockEngine
from live.stock.outbox import Outbox

ORDERS_PER_SECOND: Final = 1_000
TICK_S: Final = 0.01
WAIT_S: Final = 30.0  # for the last confirmation


@dataclass(frozen=True, slots=True)
class Paced:
    orders: int
    confirm_p50_ms: float
    confirm_p99_ms: float

    def row(self) -> dict[str, object]:
        return {
            "name": f"sale_at_{ORDERS_PER_SECOND}_per_second",
            "orders": self.orders,
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
        self.started: dict[str, float] = {}  # by the hold's key
        self.ms: list[float] = []
        self.all_told = asyncio.Event()
        self.expected = 0

    async def hear(self, channel: Channel, event: Event, *, key: str) -> None:
        """Announcements of the settler and the notice sender arrive here."""
        if isinstance(event, OrderEvent):
            begun = self.started.pop(event.order.hold, None)
            if begun is not None:
                self.ms.append(1000 * (time.perf_counter() - begun))
                if len(self.ms) == self.expected:
                    self.all_told.set()

    async def buy(self, orders: int) -> None:
        self.expected = orders
        begun = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for number in range(orders):
                ahead = begun + number / ORDERS_PER_SECOND - time.perf_counter()
                if ahead > TICK_S:
                    await asyncio.sleep(ahead)
                group.create_task(self._one())
        try:
            await asyncio.wait_for(self.all_told.wait(), WAIT_S)
        except TimeoutError as error:
            missing = len(self.started)
            raise EngineError(f"{missing} buyers were not told of their orders") from error

    def _one(self) -> Coroutine[object, object, None]:
        return self._purchase(BuyerId(token_bytes(16)), HoldKey(uuid4().bytes))

    async def _purchase(self, buyer: BuyerId, key: HoldKey) -> None:
        """A checkout's calls in their order, with a provider that answers at once."""
        await self.engine.hold(self.show, buyer, key, (Line(0, 1),))
        self.started[key_text(key)] = time.perf_counter()
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
        await self.engine.confirm(self.show, buyer, key)

    def waited(self) -> Paced:
        found = sorted(self.ms)
        return Paced(
            orders=len(found),
            confirm_p50_ms=round(found[len(found) // 2], 1),
            confirm_p99_ms=round(found[len(found) * 99 // 100], 1),
        )

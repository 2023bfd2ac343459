"""What the use cases of a sale want from stock, ledger and fan-out, whose facades fit as they are.

Protocols and not the classes, so a use case can be read, and tested, without any engine.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from live.base.errors import CallError
from live.domain.hold import HoldDecision, Line
from live.domain.ids import BuyerId, HoldKey, OrderId, ShowId
from live.domain.offer import Stock
from live.domain.order import OrderView
from live.domain.orders.shop_hold import ShopPayment
from live.domain.payment import NewPayment, OpenedPayment, Payment, PaymentId
from live.domain.show import ShowState
from live.domain.stock import BeginAnswer, BuyerState, Transition, WaitAnswer
from live.payments.ports import PaidStock, PaymentSteps


class Followed(Protocol):
    """A show as this process sees it."""

    @property
    def state(self) -> ShowState | None: ...

    @property
    def stock(self) -> Mapping[int, Stock]: ...


class FollowedShows(Protocol):
    def current(self, show: ShowId) -> Followed | None: ...


class SaleStock(PaidStock, Protocol):
    """The stock engine, as buyers use it. Raises Busy, NotFound and Conflict."""

    def submit_hold(
        self,
        show: ShowId,
        buyer: BuyerId,
        key: HoldKey,
        lines: Sequence[Line],
        done: Callable[[HoldDecision | CallError], None],
    ) -> None: ...

    async def begin(
        self, show: ShowId, buyer: BuyerId, key: HoldKey, *, window_ms: int
    ) -> BeginAnswer: ...

    async def release(self, show: ShowId, buyer: BuyerId, key: HoldKey) -> Transition: ...

    async def peek(
        self, show: ShowId, buyer: BuyerId, key: HoldKey, lines: Sequence[Line]
    ) -> HoldDecision: ...

    async def look_at_line(
        self, show: ShowId, buyer: BuyerId, key: HoldKey, line: Line
    ) -> WaitAnswer | None: ...

    async def join_waitlist(
        self, show: ShowId, buyer: BuyerId, key: HoldKey, line: Line
    ) -> WaitAnswer: ...

    async def leave_waitlist(self, show: ShowId, buyer: BuyerId, slot: int) -> object: ...

    async def buyer_state(self, show: ShowId, buyer: BuyerId) -> BuyerState: ...


class PersonalLog(Protocol):
    """What was published to one buyer in a show. Raises Busy."""

    async def read_personal(self, show: ShowId, buyer: BuyerId) -> Sequence[bytes]:
        """The data of the events that are kept, the newest first."""
        ...


class PastOrders(Protocol):
    """A buyer's latest orders as the ledger has them. Raises Busy."""

    async def __call__(self, show: ShowId, buyer: BuyerId) -> Sequence[OrderView]: ...


class SalePayments(PaymentSteps, Protocol):
    """The ledger's payment rows, as a checkout uses them."""

    async def open_payment(self, new: NewPayment) -> OpenedPayment: ...

    async def of_hold(self, show: ShowId, buyer: BuyerId, hold: HoldKey) -> Sequence[Payment]: ...


class ShopPayments(Protocol):
    """The ledger's payment rows, as the shop's own checkout uses them."""

    async def ask_void(
        self, payment: PaymentId, *, reason: str, unless_authorised: bool = False
    ) -> bool: ...


class ShopWords(Protocol):
    """What the shop's server says of its payments, in Postgres (ledger/money/shop_word.py)."""

    async def read(self, show: ShowId, buyer: BuyerId, hold: HoldKey) -> ShopPayment: ...

    async def claim(self, payment: Payment, reference: str) -> None: ...

    async def accept(self, payment: PaymentId, reference: str) -> None: ...


class SaleOrders(Protocol):
    """The ledger's orders. Both give None for an order that is not there or somebody else's."""

    async def of_hold(self, show: ShowId, buyer: BuyerId, hold: HoldKey) -> OrderView | None: ...

    async def of_buyer(self, order: OrderId, sub: str) -> OrderView | None: ...

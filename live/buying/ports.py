"""What the use cases of a sale want from stock, ledger and realtime, whose facades fit as they are.

Protocols and not the classes, so a use case can be read, and tested, without any engine.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from live.base.errors import CallError
from live.domain.hold import HoldDecision, HoldState, Line, LiveHold, Waiting
from live.domain.ids import BuyerId, HoldKey, OrderId, ShowId
from live.domain.offer import Stock
from live.domain.order import OrderView
from live.domain.outcomes import Outcome
from live.domain.payment import Action, NewPayment, Payment, PaymentId, PaymentState
from live.domain.show import ShowState


class Room(Protocol):
    """A show as this process sees it."""

    @property
    def state(self) -> ShowState | None: ...

    @property
    def stock(self) -> Mapping[int, Stock]: ...


class Rooms(Protocol):
    def room(self, show: ShowId) -> Room | None: ...


class Began(Protocol):
    @property
    def outcome(self) -> Outcome: ...

    @property
    def lines(self) -> Sequence[Line]: ...

    @property
    def held_until(self) -> int: ...


class Moved(Protocol):
    @property
    def done(self) -> bool: ...

    @property
    def state(self) -> HoldState: ...

    @property
    def lines(self) -> Sequence[Line]: ...

    @property
    def repeat(self) -> bool: ...


class BuyerHas(Protocol):
    @property
    def holds(self) -> Sequence[LiveHold]: ...

    @property
    def waiting(self) -> Sequence[Waiting]: ...

    @property
    def sold(self) -> Sequence[HoldKey]: ...


class Joined(Protocol):
    @property
    def outcome(self) -> Outcome: ...

    @property
    def position(self) -> int: ...

    @property
    def reason(self) -> str: ...


class SaleStock(Protocol):
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
    ) -> Began: ...

    async def revert(
        self, show: ShowId, buyer: BuyerId, key: HoldKey, *, held_until: int
    ) -> object: ...

    async def confirm(
        self,
        show: ShowId,
        buyer: BuyerId,
        key: HoldKey,
        lines: Sequence[Line],
        *,
        payment: str,
    ) -> Moved: ...

    async def release(self, show: ShowId, buyer: BuyerId, key: HoldKey) -> Moved: ...

    async def peek(
        self, show: ShowId, buyer: BuyerId, key: HoldKey, lines: Sequence[Line]
    ) -> HoldDecision: ...

    async def sell(
        self,
        show: ShowId,
        buyer: BuyerId,
        key: HoldKey,
        lines: Sequence[Line],
        *,
        payment: str,
    ) -> HoldDecision: ...

    async def refuse(
        self,
        show: ShowId,
        buyer: BuyerId,
        key: HoldKey,
        lines: Sequence[Line],
        *,
        payment: str,
    ) -> bool: ...

    async def look_at_line(
        self, show: ShowId, buyer: BuyerId, key: HoldKey, line: Line
    ) -> Joined | None: ...

    async def join_waitlist(
        self, show: ShowId, buyer: BuyerId, key: HoldKey, line: Line
    ) -> Joined: ...

    async def leave_waitlist(self, show: ShowId, buyer: BuyerId, slot: int) -> object: ...

    async def buyer_state(self, show: ShowId, buyer: BuyerId) -> BuyerHas: ...


class PersonalLog(Protocol):
    """What was published to one buyer in a show. Raises Busy."""

    async def read_personal(self, show: ShowId, buyer: BuyerId) -> Sequence[bytes]:
        """The data of the events that are kept, the newest first."""
        ...


class PastOrders(Protocol):
    """A buyer's latest orders as the ledger has them. Raises Busy."""

    async def __call__(self, show: ShowId, buyer: BuyerId) -> Sequence[OrderView]: ...


class Opened(Protocol):
    @property
    def payment(self) -> Payment: ...

    @property
    def fresh(self) -> bool: ...

    @property
    def active(self) -> bool: ...


class SalePayments(Protocol):
    """The ledger's payment rows, as a checkout uses them."""

    async def open_payment(self, new: NewPayment) -> Opened: ...

    async def record(
        self,
        payment: PaymentId,
        state: PaymentState,
        *,
        ref: str | None = None,
        reason: str = "",
        action: Action | None = None,
        notify: bool = False,
    ) -> PaymentState: ...

    async def of_hold(self, show: ShowId, buyer: BuyerId, hold: HoldKey) -> Sequence[Payment]: ...

    async def postpone(self, payment: PaymentId, *, ms: int) -> None: ...

    async def ask_void(
        self, payment: PaymentId, *, reason: str, unless_authorised: bool = False
    ) -> bool: ...


class SaleOrders(Protocol):
    """The ledger's orders. Both give None for an order that is not there or somebody else's."""

    async def of_hold(self, show: ShowId, buyer: BuyerId, hold: HoldKey) -> OrderView | None: ...

    async def of_buyer(self, order: OrderId, sub: str) -> OrderView | None: ...

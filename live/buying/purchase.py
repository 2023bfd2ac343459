"""A checkout call: what its client asks and is answered, and what is known of it meanwhile."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from structlog.contextvars import bind_contextvars

from live.buying.hold import Wanted
from live.domain.ids import BuyerId, HoldKey, ShowId, key_text
from live.domain.order import NOT_KEPT, OrderView
from live.domain.orders.quote import NO_QUOTE, Bill, Given
from live.domain.outcomes import Outcome
from live.domain.payment import Action, Payment, log_ids
from live.payments.port import Provider


@dataclass(frozen=True, slots=True, kw_only=True)
class Purchase:
    """What the client asks: exactly one of `hold` and `direct` is set; `key` names the call."""

    key: HoldKey
    provider: str
    token: str | None
    contact: bytes | None  # JSON; passed on to Postgres and nowhere else
    hold: HoldKey | None = None
    direct: Wanted | None = None
    given: Given = NO_QUOTE


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckoutAnswer:
    """`order` once it is committed; `action` where the buyer must go on at the provider."""

    outcome: Outcome
    hold: str
    order: OrderView | None = None
    action: Action | None = None
    reason: str = ""

    def body(self) -> dict[str, object]:
        """The JSON object of the contract: what is not there is left out."""
        fields = {
            "outcome": self.outcome,
            "hold": self.hold,
            "order": self.order,
            "action": None if self.action is None else self.action.body(),
            "reason": self.reason or None,
        }
        return {name: value for name, value in fields.items() if value is not None}


@dataclass(slots=True)
class Call:
    """One call under way. `opened`: its payment row may exist, so it must be answered for.

    `failure`: why the payment failed, once that is known; `processing`: the buyer was answered so
    before, and everything later must reach them on their channel. `payment` is what the call is
    about, once that is known. `lines`: the units that a direct purchase asks for, (slot, quantity).
    `on_declined` is called when the provider declines. `bill`: what is to be paid by a quote, None
    where the prices are all there is.
    """

    show: ShowId
    buyer: BuyerId
    sub: str
    guest: bool
    hold: HoldKey
    purchase: Purchase
    provider: Provider
    answer_by: float
    on_declined: Callable[[], None]
    opened: bool = False
    failure: str | None = None
    processing: bool = False
    payment: Payment | None = None
    lines: frozenset[tuple[int, int]] = frozenset()
    bill: Bill | None = None

    def seconds_left(self) -> float:
        return self.answer_by - asyncio.get_running_loop().time()

    def concerns(self, payment: Payment) -> None:
        """From here on this flow's log lines carry the payment's ids, whoever writes them."""
        self.payment = payment
        bind_contextvars(**log_ids(payment))

    def log_ids(self) -> dict[str, str]:
        if self.payment is not None:
            return log_ids(self.payment)
        return {"show": self.show, "hold": key_text(self.hold)}

    def says(
        self, outcome: Outcome, *, action: Action | None = None, reason: str = ""
    ) -> CheckoutAnswer:
        return CheckoutAnswer(
            outcome=outcome, hold=key_text(self.hold), action=action, reason=reason
        )


def order_answer(order: OrderView) -> CheckoutAnswer:
    outcome = Outcome.REJECTED if order.state in NOT_KEPT else Outcome.CONFIRMED
    return CheckoutAnswer(outcome=outcome, hold=order.hold, order=order)

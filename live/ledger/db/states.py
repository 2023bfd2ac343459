"""The domain's sets of states (payment_states.py, order.py) as SQL, to be put into statements.

Literals and not parameters where rows are searched by their state: a partial index is used only
where the planner sees that the condition implies the index's, and it cannot look into a parameter
of a prepared statement; nor does it know then that nearly all payments are captured. Statements
that find their row by its key get the sets as parameters (`texts`).
"""

from collections.abc import Iterable
from enum import StrEnum

from live.domain import order, payment_states


def texts(states: Iterable[StrEnum]) -> list[str]:
    """An argument for `state = ANY($n)`."""
    return sorted(state.value for state in states)


def literal(states: Iterable[StrEnum]) -> str:
    """What stands behind `state IN`."""
    return "('" + "', '".join(texts(states)) + "')"


STANDS = f"NOT IN {literal(order.NOT_KEPT)}"
"""What is true of `state` of an order that stands."""


def sold(orders: str) -> str:
    """A condition on orders, by their alias: offers count its units as sold. So they do of an order
    that stands, and of one that the shop cancelled, of which Redis was not told."""
    return f"({orders}.state {STANDS} OR {orders}.shop_cancelled)"


NOT_KEPT = literal(order.NOT_KEPT)
ENDED = literal(order.ENDED)
PAID_FOR = literal(order.PAID_FOR)
UNDER_WAY = literal(order.UNDER_WAY)
CANCELLABLE = literal(order.CANCELLABLE)

UNDECIDED = literal(payment_states.UNDECIDED)
AWAITING_MONEY = literal(payment_states.AWAITING_MONEY)
FINAL = literal(payment_states.FINAL)
MONEY_MOVED = literal(payment_states.MONEY_MOVED)
MONEY_STEPS = literal(payment_states.MONEY_STEPS)
OWNED = literal(payment_states.OWNED)
OVER = literal(payment_states.OVER)

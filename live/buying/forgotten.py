"""Repeats of purchases that the stock engine forgot: the ledger tells what became of them.

The engine keeps a bounded number of records of one buyer and drops those of closed offers first.
A click on a closed offer by such a buyer may be the repeat of a purchase, so it is asked here.
Always: an answer comes, if only Busy; at most `READS_MAX` reads of Postgres run at once and
`ASKED_MAX` wait, however many ask.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from live.aio.tasks import Tasks
from live.base.errors import Busy, CallError, Conflict
from live.base.faults import as_call_error
from live.buying.ports import SaleOrders
from live.domain.ids import BuyerId, HoldKey, ShowId, key_text
from live.domain.order import NOT_KEPT
from live.domain.outcomes import Outcome

READS_MAX: Final = 4
ASKED_MAX: Final = 200
ANSWER_SECONDS: Final = 2.0  # as long as the engine itself may take

Bought = Sequence[tuple[str, int]]  # offers and quantities that the click asks for
Done = Callable[[Outcome | CallError], None]


class OldPurchases:
    def __init__(self, orders: SaleOrders) -> None:
        self._orders = orders
        self._reads = asyncio.Semaphore(READS_MAX)
        self._asked = Tasks()

    def ask(
        self, show: ShowId, buyer: BuyerId, key: HoldKey, bought: Bought, *, done: Done
    ) -> None:
        """`done` is called once: CLOSED where the ledger does not know the key either."""
        if len(self._asked) >= ASKED_MAX:
            done(Busy("too many repeats of old purchases: repeat it with the same key"))
            return
        self._asked.start("forgotten", self._answer(show, buyer, key, bought, done), show=show)

    async def _answer(
        self, show: ShowId, buyer: BuyerId, key: HoldKey, bought: Bought, done: Done
    ) -> None:
        found: Outcome | CallError
        try:
            async with asyncio.timeout(ANSWER_SECONDS), self._reads:
                found = await self._outcome(show, buyer, key, bought)
        except Exception as error:  # whatever it is, the client must be answered
            found = as_call_error("forgotten.not_told", error, show=show, hold=key_text(key))
        done(found)

    async def _outcome(self, show: ShowId, buyer: BuyerId, key: HoldKey, bought: Bought) -> Outcome:
        order = await self._orders.of_hold(show, buyer, key)
        if order is None:
            return Outcome.CLOSED
        if {(item.offer, item.qty) for item in order.items} != set(bought):
            raise Conflict("this key was used for another request")
        gone = order.state in NOT_KEPT
        return Outcome.ALREADY_RELEASED if gone else Outcome.CONFIRMED

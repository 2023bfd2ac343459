"""The waitlist: a place for those who came too late, and a hold when units come back.

Always: the row with the buyer's own name is in Postgres before Redis gives them a place, so whoever
is granted units can be told, after any crash in between. What Redis would refuse is not written,
or anybody could fill the ledger by asking.
"""

from dataclasses import dataclass

from live.buying.hold import HoldDesk, Wanted, require_buyer
from live.buying.offers import OfferBook
from live.buying.ports import SaleStock
from live.domain.caller import Caller
from live.domain.ids import HoldKey, ShowId
from live.domain.outcomes import Outcome
from live.ledger.settle.waitlist import WaitlistRows


@dataclass(frozen=True, slots=True)
class WaitlistAnswer:
    """`reason`: which limit LIMIT_REACHED means, where it is not the offer's limit per buyer."""

    outcome: Outcome
    position: int
    reason: str = ""

    def body(self) -> dict[str, object]:
        """The JSON object of the contract: no reason is left out."""
        told = {"reason": self.reason} if self.reason else {}
        return {"outcome": self.outcome, "position": self.position, **told}


class Waitlist:
    def __init__(
        self, stock: SaleStock, rows: WaitlistRows, book: OfferBook, desk: HoldDesk
    ) -> None:
        self._stock = stock
        self._rows = rows
        self._book = book
        self._desk = desk

    async def join(
        self, caller: Caller, show: ShowId, wanted: Wanted, key: HoldKey
    ) -> WaitlistAnswer:
        """Take a place, or the units at once where there are some. Raises NotFound, Denied.

        A repeat tells the place as it is now, and costs one read of Redis: pages ask again and
        again, because nobody announces that others left the line. So does another key of a buyer
        who waits already, in another window or on their phone: they have one place in an offer's
        line.
        """
        buyer = require_buyer(caller)
        (line,), (terms,) = self._desk.lines(caller, show, (wanted,))
        if not terms.waitlist:
            return WaitlistAnswer(Outcome.CLOSED, 0)
        for place in (await self._stock.buyer_state(show, buyer)).waiting:
            if place.slot == line.slot and (place.key != key or place.qty == wanted.qty):
                return WaitlistAnswer(Outcome.WAITLISTED, place.position)
        joined = await self._stock.look_at_line(show, buyer, key, line)
        if joined is None:
            await self._rows.ask(show, terms.id, buyer, caller.sub, key, wanted.qty)
            joined = await self._stock.join_waitlist(show, buyer, key, line)
        return WaitlistAnswer(joined.outcome, joined.position, joined.reason)

    async def leave(self, caller: Caller, show: ShowId, offer: str) -> None:
        """Give the place up; no place is fine too. Raises NotFound for an unknown offer."""
        buyer = require_buyer(caller)
        await self._stock.leave_waitlist(show, buyer, self._book.of(show).named(offer).slot)

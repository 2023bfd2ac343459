"""The facade of the stock engine: every question and command about a show's units.

Owns: the batcher for holds and the connection for everything else.
Always: units move in Lua only, in the same call that writes the outbox; nothing is decided here.
Called by: buying, hosting, payments and the keeper, on the event loop.
Raises: Busy (rebuilding, queue full, Redis silent: repeat with the same key; StockLost where a
rebuild has yet to begin), NotFound (unknown hold), Conflict (the key was used for another request),
BadField (lines out of range).
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from live.base.errors import Busy, CallError, StockLost
from live.domain.hold import HoldDecision, HoldState, Line
from live.domain.ids import BuyerId, HoldKey, ShowId
from live.domain.offer import OfferTerms, Stock
from live.domain.outcomes import Outcome
from live.domain.stock import (
    BeginAnswer,
    BuyerState,
    ShowFigures,
    ShowStock,
    StockSnapshot,
    Transition,
    WaitAnswer,
)
from live.redis.connection import Reply
from live.stock.answers import CONFLICT, HELD, LIVE, failure
from live.stock.batcher import Batcher
from live.stock.calls import RUN_ID, OnLost, StockCalls, ignore_loss
from live.stock.keys import GROUP, show_keys
from live.stock.letters import Kept, StockAnswer
from live.stock.loading import load_show
from live.stock.looks import read_buyer, read_figures, read_missing
from live.stock.records import (
    pack_lines,
    pack_offer,
    pack_request,
    sum_lines,
)
from live.stock.replies import as_bytes, as_list, as_number, as_numbers
from live.stock.snapshot import read_mark, read_snapshot
from live.stock.transitions import (
    BEGIN,
    given_back,
    hold_record,
    no_place,
    sale_decision,
    transition,
)

REAP_ROUNDS_MAX: Final = 64  # x 512 holds: a backlog that the next call, 100 ms later, goes on with
OTHER_UNITS: Final = chr(CONFLICT)
DRAIN_ROUNDS_MAX: Final = 400  # x 256 places in waitlists


class StockEngine:
    """`on_lost` hears that Redis lost a part of a show in this life of its stock (stock epoch),
    each time that somebody is refused because of it; it must return at once."""

    def __init__(self, url: str, *, on_lost: OnLost = ignore_loss) -> None:
        self._calls = StockCalls(url, on_lost=on_lost)
        self._batcher = Batcher(self._calls, self._reap)

    async def open(self) -> None:
        await self._calls.open()
        await self._batcher.open()

    async def close(self) -> None:
        await self._batcher.close()
        await self._calls.close()

    async def must_answer(self) -> None:
        """Raise EngineError, with the reason, where no click could be decided; in two seconds."""
        await self._calls.must_answer()
        self._batcher.must_reach()

    # Shows and offers

    async def install_show(self, show: ShowId, *, stock_epoch: int) -> None:
        """Make a fresh show known. Raises Busy where Redis has another life or run of it, or
        anything of it without its head."""
        k = show_keys(show)
        keys = (k.meta, k.outbox, k.buyers, k.deadlines, k.wait, k.guests, k.refused, k.offers)
        args = (b"%d" % stock_epoch, RUN_ID, GROUP.encode())
        if await self._calls.run_bare("install", show, keys, *args) != 1:
            raise Busy("this show needs a rebuild")

    async def stop_show(self, show: ShowId, *, fence: int = 0) -> None:
        """First step of a rebuild: from now on everything about this show raises Busy.

        Raises Busy itself where a rebuild with a higher fence has begun.
        """
        meta = show_keys(show).meta
        if await self._calls.run_bare("stop", show, (meta,), b"%d" % fence) != 1:
            raise Busy("another rebuild of this show has begun")

    async def load_show(self, show: ShowId, stock: ShowStock, *, fence: int = 0) -> None:
        """Last step of a rebuild; does nothing where the show is in this life or a later one, or
        where a rebuild with a higher fence has begun."""
        await load_show(self._calls, show, stock, fence=fence)
        await self.reap(show)  # what came free while nobody could grant it goes to waiters first

    async def apply_offer(self, terms: OfferTerms) -> Stock:
        """Take over what a host decided, unless a newer version is there already."""
        packed = pack_offer(terms, Stock(left=terms.allotted, held=0, sold=0))
        reply = await self._run("apply", terms.show, b"%d" % terms.slot, packed)
        left, held, sold = as_numbers(reply)
        if terms.phase.value in ("closing", "closed"):
            await self._drain(terms.show)
        return Stock(left=left, held=held, sold=sold)

    async def close_offers(self, show: ShowId) -> int:
        """Write the `closed` entry of each closing offer of which nothing is held any more."""
        await self._drain(show)
        return as_number(await self._run("close", show))

    async def _drain(self, show: ShowId) -> None:
        for _ in range(DRAIN_ROUNDS_MAX):
            if as_number(await self._run("drain", show)) == 0:
                return

    async def figures(self, show: ShowId) -> ShowFigures:
        """Raises Busy, too, where Redis lost any part of the show's stock."""
        return await read_figures(self._calls, show)

    async def snapshot(self, show: ShowId) -> StockSnapshot | None:
        """All that Redis has of this show, as of one instant; None where it moved meanwhile."""
        return await read_snapshot(self._calls, show)

    async def mark(self, show: ShowId) -> bytes:
        """What changes with every movement and every change of an offer; see `StockSnapshot`."""
        return await read_mark(self._calls, show)

    async def missing(self, show: ShowId) -> tuple[str, ...]:
        """Which parts of the show's stock Redis has lost, by the names of its keys.

        Raises Busy where it does not answer. None, although the show is not known: the whole
        server is another one, or restarted.
        """
        return await read_missing(self._calls, show)

    async def retire_show(self, show: ShowId, *, stock_epoch: int, seconds: int) -> bool | None:
        """Let all that Redis has of a show end by itself; it is over and settled.

        None: its outbox is not settled to the end. False: Redis has a later life of it.
        """
        k = show_keys(show)
        keys = (k.meta, k.offers, k.buyers, k.outbox, k.deadlines, k.wait, k.guests, k.refused)
        args = (b"%d" % stock_epoch, GROUP.encode(), b"%d" % (1_000 * seconds))
        reply = await self._calls.run_bare("retire", show, keys, *args)
        return None if reply == StockAnswer.UNSETTLED.encode() else reply == 1

    # Holds

    def submit_hold(
        self,
        show: ShowId,
        buyer: BuyerId,
        key: HoldKey,
        lines: Sequence[Line],
        done: Callable[[HoldDecision | CallError], None],
    ) -> None:
        """Decide a hold in the next batch; `done` is called once. Raises BadField at once."""
        summed = sum_lines(lines)
        self._batcher.submit(show, pack_request(buyer, key, summed), summed, done)

    async def hold(
        self, show: ShowId, buyer: BuyerId, key: HoldKey, lines: Sequence[Line]
    ) -> HoldDecision:
        future: asyncio.Future[HoldDecision] = asyncio.get_running_loop().create_future()

        def done(answer: HoldDecision | CallError) -> None:
            if future.done():  # the caller went away
                return
            if isinstance(answer, CallError):
                future.set_exception(answer)
            else:
                future.set_result(answer)

        self.submit_hold(show, buyer, key, lines, done)
        return await future

    async def begin(
        self, show: ShowId, buyer: BuyerId, key: HoldKey, *, window_ms: int
    ) -> BeginAnswer:
        """held -> paying; the deadline moves once to now + window, never closer."""
        reply = as_list(await self._run("begin", show, buyer, key, b"%d" % window_ms))
        status, record = as_bytes(reply[0]).decode(), hold_record(reply[1])
        if status != Kept.PAYING:
            return BeginAnswer(BEGIN[status], record.lines, 0)
        return BeginAnswer(BEGIN[status], record.lines, record.time, record.held_until)

    async def revert(
        self, show: ShowId, buyer: BuyerId, key: HoldKey, *, held_until: int
    ) -> Transition:
        """paying -> held, because the payment failed; never beyond the deadline from before it."""
        reply = as_list(await self._run("revert", show, buyer, key, b"%d" % held_until))
        return transition(as_bytes(reply[0]).decode(), hold_record(reply[1]), Kept.HELD)

    async def confirm(
        self,
        show: ShowId,
        buyer: BuyerId,
        key: HoldKey,
        lines: Sequence[Line],
        *,
        payment: str = "",
    ) -> Transition:
        """paying -> sold, for the lines that were paid with this payment.

        Raises Conflict where the hold is for other units, or the payment was refused: the money
        must go back.
        """
        paid = pack_lines(sum_lines(lines))
        reply = as_list(await self._sale("confirm", show, buyer, key, paid, payment.encode()))
        if reply[0] == OTHER_UNITS.encode():
            raise failure(CONFLICT)
        return transition(as_bytes(reply[0]).decode(), hold_record(reply[1]), Kept.SOLD)

    async def release(self, show: ShowId, buyer: BuyerId, key: HoldKey) -> Transition:
        """held -> left, or to the waitlist; a paying one keeps its units."""
        return given_back(as_list(await self._run("release", show, buyer, key)), Kept.RELEASED)

    async def cancel(
        self, show: ShowId, buyer: BuyerId, key: HoldKey, *, payment: str = ""
    ) -> Transition:
        """sold -> left, or to the waitlist: this payment's capture was refused for good."""
        reply = await self._sale("cancel", show, buyer, key, payment.encode())
        return given_back(as_list(reply), Kept.CANCELLED)

    async def retake(
        self,
        show: ShowId,
        buyer: BuyerId,
        key: HoldKey,
        lines: Sequence[Line],
        *,
        payment: str = "",
    ) -> Transition:
        """Sell to a hold whose money came after its end, where units are left.

        `lines` are those that were paid; they serve where Redis no longer knows the hold (a
        rebuild). Raises Conflict where the hold is for other units, or the payment was refused: the
        money must go back.
        """
        asked = pack_lines(sum_lines(lines))
        code, packed, _ = await self._ask(
            show, lambda: self._sale("retake", show, buyer, key, asked, payment.encode())
        )
        status = as_bytes(code).decode()
        if status == OTHER_UNITS:
            raise failure(CONFLICT)
        if not packed and status == StockAnswer.UNKNOWN:
            return Transition(False, HoldState.EXPIRED, sum_lines(lines))
        return transition(status, hold_record(packed), Kept.SOLD)

    # First paid

    async def peek(
        self, show: ShowId, buyer: BuyerId, key: HoldKey, lines: Sequence[Line]
    ) -> HoldDecision:
        """Whether these units could be sold to this buyer for this key now; a known key is told
        what became of it. HELD says yes, nothing is held. Raises Conflict for a key of another
        request.
        """
        k = show_keys(show)
        keys = (k.meta, k.offers, k.buyers, k.deadlines)
        packed = pack_lines(sum_lines(lines))
        return sale_decision(
            await self._ask(show, lambda: self._calls.run("peek", show, keys, buyer, key, packed))
        )

    async def sell(
        self,
        show: ShowId,
        buyer: BuyerId,
        key: HoldKey,
        lines: Sequence[Line],
        *,
        payment: str = "",
    ) -> HoldDecision:
        """Sell to a buyer who has paid: CONFIRMED, or a refusal and their money must go back, as it
        must where this raises Conflict: the key is another request's, or the payment was refused.
        """
        packed = pack_lines(sum_lines(lines))
        args = (buyer, key, packed, payment.encode())
        return sale_decision(await self._ask(show, lambda: self._sale("sell", show, *args)))

    async def refuse(
        self,
        show: ShowId,
        buyer: BuyerId,
        key: HoldKey,
        lines: Sequence[Line],
        *,
        payment: str,
    ) -> bool:
        """Before money goes back: from now on nothing is sold for it, whoever is about to.

        False where these units were sold for it already: the money must stay.
        """
        k = show_keys(show)
        packed = pack_lines(sum_lines(lines))
        keys = (k.meta, k.offers, k.buyers, k.refused)
        args = (buyer, key, packed, payment.encode())
        reply = as_list(await self._calls.run("refuse", show, keys, *args))
        return as_bytes(reply[0]) != Kept.SOLD.encode()

    # Waitlist

    async def look_at_line(
        self, show: ShowId, buyer: BuyerId, key: HoldKey, line: Line
    ) -> WaitAnswer | None:
        """The refusal that `join_waitlist` would give; None where it would not."""
        packed = pack_lines(sum_lines([line]))
        reply = await self._ask(show, lambda: self._run("look", show, buyer, key, packed))
        code = as_bytes(reply[0])[0]
        return None if code == ord(StockAnswer.MAY_WAIT) else no_place(code)

    async def join_waitlist(
        self, show: ShowId, buyer: BuyerId, key: HoldKey, line: Line
    ) -> WaitAnswer:
        packed = pack_lines(sum_lines([line]))
        # The second answer may turn a place into a hold, or a refusal into a place.
        reply = await self._ask(show, lambda: self._run("join", show, buyer, key, packed))
        code = as_bytes(reply[0])[0]
        position, expires_at = as_number(reply[1]), as_number(reply[2])
        if code == ord(Kept.WAITING):
            return WaitAnswer(Outcome.WAITLISTED, position)
        if code in (HELD, LIVE):
            return WaitAnswer(Outcome.HELD, 0, expires_at)
        return no_place(code)

    async def leave_waitlist(self, show: ShowId, buyer: BuyerId, slot: int) -> bool:
        """Give up a place; False where there is none."""
        return await self._run("leave", show, buyer, b"%d" % slot) == Kept.LEFT_LINE.encode()

    async def buyer_state(self, show: ShowId, buyer: BuyerId) -> BuyerState:
        """Live holds, places in waitlists, and what was sold; one read."""
        return await read_buyer(self._calls, show, buyer)

    # Time

    async def reap(self, show: ShowId) -> int:
        """End what is due and grant what came free. Returns the number of movements.

        Raises StockLost where Redis lost an offer: all others were reaped.
        """
        movements, lost = await self._reap(show)
        if lost:
            raise StockLost("an offer of this show is lost: its stock is about to be rebuilt")
        return movements

    async def _reap(self, show: ShowId) -> tuple[int, bool]:
        """The same for who wants what came free: a lost offer is none of their business."""
        movements = lost = 0
        for _ in range(REAP_ROUNDS_MAX):
            moved, more, lost = as_numbers(await self._run("reap", show))
            movements += moved
            if not more:
                break
        return movements, bool(lost)

    async def _ask(self, show: ShowId, ask: Callable[[], Awaitable[Reply]]) -> list[object]:
        """Ask; where units are about to come free (last in the reply), reap, then ask again.

        Also where this reap moved nothing: the keeper may have been faster.
        """
        reply = as_list(await ask())
        if not as_number(reply[-1]):
            return reply
        await self._reap(show)
        return as_list(await ask())

    async def _sale(self, name: str, show: ShowId, *args: bytes) -> Reply:
        """A script that sells for a payment."""
        k = show_keys(show)
        keys = (k.meta, k.offers, k.buyers, k.outbox, k.deadlines, k.wait, k.guests, k.refused)
        return await self._calls.run(name, show, keys, *args)

    async def _run(self, name: str, show: ShowId, *args: bytes) -> Reply:
        k = show_keys(show)
        keys = (k.meta, k.offers, k.buyers, k.outbox, k.deadlines, k.wait, k.guests)
        return await self._calls.run(name, show, keys, *args)

"""Holding and releasing units: the hot path from a click to its answer.

Always: a hold request makes no task, no future and no encoder call: it joins the engine's batch,
and its answer is put together from bytes that were made once per offer.
Not here: reading the request (api/schema), deciding it (stock).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import orjson

from live.base.errors import BadField, CallError, Denied
from live.base.faults import as_call_error
from live.base.settings import Guests
from live.buying.forgotten import OldPurchases
from live.buying.offers import OfferBook
from live.buying.ports import SaleStock
from live.domain.caller import Caller
from live.domain.hold import HoldDecision, HoldState, Line
from live.domain.ids import BuyerId, HoldKey, ShowId, key_text
from live.domain.offer import OfferTerms
from live.domain.outcomes import Outcome

PIECES_MAX = 10_000  # offers whose answers are prepared; beyond it all are made again

Answer = Callable[[bytes], None]
Fail = Callable[[CallError], None]


@dataclass(frozen=True, slots=True)
class Wanted:
    """So many units of the offer with this id, as the client asks."""

    offer: str
    qty: int


def require_buyer(caller: Caller) -> BuyerId:
    """Raises Denied for somebody without a name: they may watch."""
    if caller.buyer is None:
        raise Denied("a token with a sub is needed to buy")
    return caller.buyer


class HoldDesk:
    def __init__(
        self, stock: SaleStock, book: OfferBook, old: OldPurchases, *, guests: Guests
    ) -> None:
        self._stock = stock
        self._old = old
        self._book = book
        self._guests = guests
        self._pieces: dict[str, _Pieces] = {}

    def check_guest(self, caller: Caller, terms: OfferTerms) -> None:
        """A guest buys where the settings and the offer both allow it. Raises Denied."""
        if caller.guest and not (self._guests is Guests.BUY and terms.guests):
            raise Denied("guests may not buy this")

    def lines(
        self, caller: Caller, show: ShowId, wanted: Sequence[Wanted]
    ) -> tuple[tuple[Line, ...], tuple[OfferTerms, ...]]:
        """Translate ids into slots. Raises NotFound, Denied, BadField."""
        offers = self._book.of(show)
        terms = tuple(offers.named(item.offer) for item in wanted)
        for one in terms:
            self.check_guest(caller, one)
            if one.currency != terms[0].currency:
                raise BadField("items", "offers of two currencies")
        return tuple(
            Line(one.slot, item.qty) for one, item in zip(terms, wanted, strict=True)
        ), terms

    def submit(
        self,
        caller: Caller,
        show: ShowId,
        key: HoldKey,
        wanted: Wanted,
        *,
        answer: Answer,
        fail: Fail,
    ) -> None:
        """Ask for units of one offer; either `answer` is called once, with JSON, or `fail`.

        Raises NotFound and Denied before anything was asked.
        """
        buyer = require_buyer(caller)
        terms = self._book.of(show).named(wanted.offer)
        if caller.guest:
            self.check_guest(caller, terms)
        qty = wanted.qty

        def done(found: HoldDecision | CallError) -> None:
            try:
                if isinstance(found, CallError):
                    fail(found)
                elif found.outcome is Outcome.HELD:
                    answer(self._held(found, key, terms, qty))
                elif found.forgotten:
                    told = self._told(found, terms, answer, fail)
                    self._old.ask(show, buyer, key, [(terms.id, qty)], done=told)
                else:
                    answer(self._refused(found, terms))
            except Exception as error:  # whatever it is, the client must be answered
                fail(as_call_error("hold.unanswered", error, show=show, hold=key_text(key)))

        self._stock.submit_hold(show, buyer, key, (Line(terms.slot, qty),), done)

    def submit_cart(
        self,
        caller: Caller,
        show: ShowId,
        key: HoldKey,
        wanted: Sequence[Wanted],
        *,
        answer: Answer,
        fail: Fail,
    ) -> None:
        """The same for several offers, all or nothing. Raises BadField as well."""
        buyer = require_buyer(caller)
        lines, terms = self.lines(caller, show, wanted)
        bought = [(one.offer, one.qty) for one in wanted]

        def done(found: HoldDecision | CallError) -> None:
            try:
                if isinstance(found, CallError):
                    fail(found)
                elif found.outcome is Outcome.HELD:
                    answer(_held_cart(found, key, terms, lines))
                else:
                    failed = next(one for one in terms if one.slot == found.slot)
                    if found.forgotten:
                        told = self._told(found, failed, answer, fail)
                        self._old.ask(show, buyer, key, bought, done=told)
                    else:
                        answer(self._refused(found, failed))
            except Exception as error:  # the same
                fail(as_call_error("hold.unanswered", error, show=show, hold=key_text(key)))

        self._stock.submit_hold(show, buyer, key, lines, done)

    def _told(
        self, refused: HoldDecision, failed: OfferTerms, answer: Answer, fail: Fail
    ) -> Callable[[Outcome | CallError], None]:
        """Answers as the ledger says, which knows purchases that the engine forgot."""

        def done(found: Outcome | CallError) -> None:
            if isinstance(found, CallError):
                fail(found)
            else:
                answer(self._refused(replace(refused, outcome=found), failed))

        return done

    async def release(self, caller: Caller, show: ShowId, key: HoldKey) -> Outcome:
        """Give a hold back. Raises NotFound for a hold that is not the caller's."""
        moved = await self._stock.release(show, require_buyer(caller), key)
        if moved.state is HoldState.RELEASED:
            return Outcome.ALREADY_RELEASED if moved.repeat else Outcome.RELEASED
        return _RELEASE_OUTCOMES[moved.state]

    def _held(self, answer: HoldDecision, key: HoldKey, terms: OfferTerms, qty: int) -> bytes:
        pieces = self._pieces_of(terms)
        return b'{"outcome":"held","hold":"%b%b%d%b%d,"left":%d}' % (
            key_text(key).encode(),
            pieces.offer,
            qty,
            pieces.price,
            answer.expires_at,
            answer.left,
        )

    def _refused(self, answer: HoldDecision, failed: OfferTerms) -> bytes:
        outcome, left = answer.outcome, answer.left
        if outcome is Outcome.PAUSED and failed.sold_out:
            # The host said so, whatever is left; the engine only knows that it pauses.
            outcome, left = Outcome.SOLD_OUT, 0
        pieces = self._pieces_of(failed)
        if answer.reason:  # no limit of the offer's: a place in its line is refused as well
            reason = orjson.dumps(answer.reason)
            return b'{"outcome":"%b%b%d,"reason":%b}' % (
                outcome.encode(),
                pieces.no_line,
                left,
                reason,
            )
        return b'{"outcome":"%b%b%d}' % (outcome.encode(), pieces.refused, left)

    def _pieces_of(self, terms: OfferTerms) -> "_Pieces":
        pieces = self._pieces.get(terms.id)
        if pieces is None or pieces.terms is not terms:
            if len(self._pieces) >= PIECES_MAX:
                self._pieces.clear()
            pieces = self._pieces[terms.id] = _make_pieces(terms)
        return pieces


@dataclass(frozen=True, slots=True)
class _Pieces:
    """Parts of answers that are the same for every buyer of an offer."""

    terms: OfferTerms
    offer: bytes
    price: bytes
    refused: bytes
    no_line: bytes  # the same where the buyer is not to be sent to the waitlist


def _make_pieces(terms: OfferTerms) -> _Pieces:
    offer = terms.id.encode()  # an id needs no escaping (domain/ids.py), nor does a currency
    return _Pieces(
        terms,
        b'","offer":"%b","qty":' % offer,
        b',"price_minor":%d,"currency":"%b","expires_at":'
        % (terms.price_minor, terms.currency.encode()),
        b'","offer":"%b","waitlist":%b,"left":' % (offer, b"true" if terms.waitlist else b"false"),
        b'","offer":"%b","waitlist":false,"left":' % offer,
    )


def _held_cart(
    answer: HoldDecision, key: HoldKey, terms: tuple[OfferTerms, ...], lines: tuple[Line, ...]
) -> bytes:
    items = [
        {"offer": one.id, "qty": line.qty, "price_minor": one.price_minor}
        for one, line in zip(terms, lines, strict=True)
    ]
    return orjson.dumps(
        {
            "outcome": Outcome.HELD,
            "hold": key_text(key),
            "items": items,
            "currency": terms[0].currency,
            "expires_at": answer.expires_at,
        }
    )


_RELEASE_OUTCOMES = {
    HoldState.EXPIRED: Outcome.EXPIRED,
    HoldState.CONFIRMED: Outcome.CONFIRMED,
    HoldState.PAYING: Outcome.PROCESSING,
    HoldState.HELD: Outcome.HELD,
}

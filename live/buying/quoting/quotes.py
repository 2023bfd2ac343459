"""Quotes: what a purchase comes to at an address, told before it is paid and frozen when it is.

Always: a quote is for one buyer, one purchase and one destination, and ends; what the client sends
back is the quote and a shipping choice in it, never an amount. Where the shop has a quote hook
nobody pays without a quote, or shipping would be free to whoever leaves it out.
Called by: the RPC `order.quote`, and the checkout.
Not here: the call to the shop (hook.py), freezing (checkout.py, with the payment).
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from live.base.errors import BadField, NotFound
from live.buying.hold import HoldDesk, Wanted, require_buyer
from live.buying.offers import OfferBook, Offers
from live.buying.ports import SaleStock
from live.buying.purchase import Call
from live.buying.quoting.hook import QuoteHook, QuoteItem, QuoteQuestion
from live.buying.quoting.seal import QuoteSeal
from live.domain.caller import Caller
from live.domain.hold import Line
from live.domain.ids import BuyerId, HoldKey, ShowId, key_text
from live.domain.money import total_minor
from live.domain.offer import Mode
from live.domain.order import OrderTotal
from live.domain.orders.quote import Bill, Destination, Quote, ShippingChoice, Terms
from live.payments.port import Provider

QUOTE_MS_MAX = 1_800_000  # a quote outlives the longest hold; prices of carriers may change later
DEFAULT_MS = 600_000  # of the shop's default, which stands in while the hook does not answer


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class QuoteAnswer:
    """`totals` are those with the first of the shipping choices; another one changes the line
    `shipping` and, by as much, `total`. `quote` goes into the checkout until `expires_at`."""

    totals: tuple[OrderTotal, ...]
    shipping: tuple[ShippingChoice, ...]
    quote: str
    expires_at: int


class Quotes:
    """`hook` None: the shop has none, so its default is all there is, and nobody needs a quote."""

    def __init__(
        self,
        stock: SaleStock,
        book: OfferBook,
        desk: HoldDesk,
        seal: QuoteSeal,
        hook: QuoteHook | None,
        *,
        now_ms: Callable[[], int] = _now_ms,
    ) -> None:
        self._stock = stock
        self._book = book
        self._desk = desk
        self._seal = seal
        self._hook = hook
        self._now_ms = now_ms

    async def quote(
        self, caller: Caller, show: ShowId, wanted: HoldKey | Wanted, to: Destination
    ) -> QuoteAnswer:
        """Of a live hold, or of a purchase in `first_paid` mode.

        Raises NotFound for a hold that is not the caller's, BadField, Denied, and Busy.
        """
        buyer = require_buyer(caller)
        if self._hook is not None and not to.country:
            raise BadField("contact.address.country", "is missing")
        offers = self._book.of(show)
        lines = await self._lines(caller, show, buyer, wanted)
        currency = offers.at(lines[0].slot).currency
        goods = _goods(offers, lines)
        terms, shop, until = await self._terms(offers, lines, currency, to)
        quote = Quote(
            show=show,
            sub=caller.sub,
            hold=None if isinstance(wanted, Wanted) else key_text(wanted),
            lines=tuple((line.slot, line.qty) for line in lines),
            to=to,
            currency=currency,
            subtotal_minor=goods,
            terms=terms,
            shop=shop,
            expires_at=until,
        )
        first = terms.shipping[0] if terms.shipping else None
        totals, _ = terms.totals(goods, first)
        return QuoteAnswer(
            totals=totals, shipping=terms.shipping, quote=self._seal.seal(quote), expires_at=until
        )

    async def _lines(
        self, caller: Caller, show: ShowId, buyer: BuyerId, wanted: HoldKey | Wanted
    ) -> tuple[Line, ...]:
        if isinstance(wanted, Wanted):
            lines, (terms,) = self._desk.lines(caller, show, (wanted,))
            if terms.mode is not Mode.FIRST_PAID:
                raise BadField("hold", "is missing: this offer is sold by holds")
            return lines
        has = await self._stock.buyer_state(show, buyer)
        for hold in has.holds:
            if hold.key == wanted:
                return hold.lines
        raise NotFound("unknown hold")

    async def _terms(
        self, offers: Offers, lines: Sequence[Line], currency: str, to: Destination
    ) -> tuple[Terms, str, int]:
        """The shop's word or its default, the shop's name of it, and until when it holds."""
        now = self._now_ms()
        found = None
        if self._hook is not None:
            found = await self._hook.ask(_question(offers, lines, currency, to))
        if found is None:
            return Terms(), "", now + DEFAULT_MS
        return found.terms, found.shop, min(found.expires_at, now + QUOTE_MS_MAX)

    def bill(self, call: Call, lines: Sequence[Line]) -> Bill | None:
        """What is to be paid by this call's quote; None where it has none, and needs none.

        `lines`: of a purchase in `first_paid` mode, () for a hold. Raises BadField, and NotFound
        for the quote of another person or purchase.
        """
        given = call.purchase.given
        if given.quote is None:
            if self._hook is not None:
                raise BadField("quote", "is missing: ask for one by order.quote")
            if given.shipping is not None:
                raise BadField("shipping", "only together with quote")
            return None
        quote = self._seal.open(given.quote)
        direct = call.purchase.direct is not None
        if (quote.show, quote.sub) != (call.show, call.sub):
            raise NotFound("unknown quote")
        if quote.hold != (None if direct else key_text(call.hold)):
            raise NotFound("this quote is for another purchase")
        if direct and quote.lines != tuple((line.slot, line.qty) for line in lines):
            raise NotFound("this quote is for another purchase")
        if quote.expires_at <= self._now_ms():
            raise BadField("quote", "has expired: ask for another one")
        if direct and quote.subtotal_minor != _goods(self._book.of(call.show), lines):
            raise BadField("quote", "is of other prices: ask for another one")
        if quote.to != given.to:
            raise BadField("contact.address", "is not the one that the quote is for")
        return _bill(quote, given.shipping, call.provider)


def _bill(quote: Quote, shipping: str | None, provider: Provider) -> Bill:
    """Raises BadField for a choice that there is not, and a sum that cannot be charged."""
    choice = quote.terms.choice(shipping)
    if choice is None and (quote.terms.shipping or shipping is not None):
        names = ", ".join(one.id for one in quote.terms.shipping)
        raise BadField("shipping", f"is none of {names}" if names else "there is nothing to choose")
    lines, total = quote.terms.totals(quote.subtotal_minor, choice)
    fault = provider.refuses_price(total, quote.currency)
    if fault:
        raise BadField("provider", fault)
    return Bill(lines, quote.subtotal_minor, total, quote.currency)


def _goods(offers: Offers, lines: Sequence[Line]) -> int:
    """Raises BadField beyond what a payment may be for."""
    try:
        return total_minor([(one.price_minor, one.qty) for one in offers.priced(tuple(lines))])
    except ValueError as error:
        raise BadField("qty", str(error)) from error


def _question(
    offers: Offers, lines: Sequence[Line], currency: str, to: Destination
) -> QuoteQuestion:
    items = tuple(
        QuoteItem(
            offer=terms.id,
            sku=terms.sku,
            title=terms.title,
            qty=line.qty,
            price_minor=terms.price_minor,
        )
        for line in lines
        for terms in (offers.at(line.slot),)
    )
    return QuoteQuestion(show=offers.state.id, currency=currency, items=items, contact=to)

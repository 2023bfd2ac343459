"""The quote hook: the shop says what shipping, tax and duty a purchase comes to.

One signed POST under the three headers of Standard Webhooks. It tells the units and what prices
depend on of the address, and nobody's name, e-mail, phone or street.
Always: there is an answer within `HOOK_SECONDS`, or the shop's default stands in. An answer counts
whole or not at all: one with an amount below zero, another currency, a field that nobody knows, too
long or too late is none. A hook that keeps giving none is not asked for a while (payments/
breaker.py), so that it costs few buyers the wait.
Not here: what a buyer is told of it, and how that is kept (quotes.py, seal.py).
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated
from uuid import uuid4

import msgspec
import structlog
from msgspec import Meta

from live.base.errors import BadField, Busy
from live.buying.metrics import QUOTE_CALLS, QUOTE_SECONDS
from live.domain.money import AMOUNT_MINOR_MAX
from live.domain.orders.quote import (
    CHOICES_MAX,
    DAYS_MAX,
    LABEL_CHARS_MAX,
    TAXES_MAX,
    Destination,
    ShippingChoice,
    Tax,
    Terms,
)
from live.payments.breaker import Breaker
from live.payments.http_client import Answer, HttpClient
from live.payments.webhooks import signed_by_all, signing_key

HOOK_SECONDS = 0.8  # of the contract; all of it, waiting for a connection included
CONNECTIONS_MAX = 32  # calls at once of one process; who comes later waits within the time
ASKING_MAX = 500  # calls under way or waiting; beyond it a buyer is asked to come again
ANSWER_BYTES_MAX = 32 * 1024  # all that an answer may have, at its longest
REFUSED = 422  # this cannot be sent there

_Amount = Annotated[int, Meta(ge=0, le=AMOUNT_MINOR_MAX)]
_Label = Annotated[
    str, Meta(min_length=1, max_length=LABEL_CHARS_MAX, pattern=r"^[^\u0000-\u001f\u007f]+\Z")
]
_Id = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_.:-]{1,64}\Z")]

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class QuoteItem:
    offer: str
    sku: str
    title: str
    qty: int
    price_minor: int


@dataclass(frozen=True, slots=True, kw_only=True)
class QuoteQuestion:
    show: str
    currency: str
    items: tuple[QuoteItem, ...]
    contact: Destination


@dataclass(frozen=True, slots=True, kw_only=True)
class Quoted:
    """`shop`: its own name of the quote; `expires_at`: Unix ms, of the shop."""

    terms: Terms
    shop: str
    expires_at: int


class _Shipping(msgspec.Struct, forbid_unknown_fields=True):
    id: _Id
    label: _Label
    amount_minor: _Amount
    days: Annotated[int, Meta(ge=0, le=DAYS_MAX)]


class _Tax(msgspec.Struct, forbid_unknown_fields=True):
    label: _Label
    amount_minor: _Amount
    inclusive: bool


class _Answer(msgspec.Struct, forbid_unknown_fields=True):
    currency: str
    quote_id: Annotated[str, Meta(pattern=r"^[\u0021-\u007e]{1,255}\Z")]
    expires_at: Annotated[int, Meta(ge=0)]
    shipping: Annotated[tuple[_Shipping, ...], Meta(max_length=CHOICES_MAX)]
    tax: Annotated[tuple[_Tax, ...], Meta(max_length=TAXES_MAX)] = ()
    duties_minor: _Amount = 0


class _Refusal(msgspec.Struct, forbid_unknown_fields=True):
    reason: _Label


class QuoteHook:
    """`url` is posted to as it stands; `secrets`: `whsec_` and base64 each, all of them sign."""

    def __init__(
        self,
        url: str,
        *,
        secrets: Sequence[str],
        breaker: Breaker | None = None,
        asking_max: int = ASKING_MAX,
    ) -> None:
        self._path = "/" if url.endswith("/") else ""  # the client strips it
        self._http = HttpClient(
            url,
            headers={},
            timeout_seconds=HOOK_SECONDS,
            connections_max=CONNECTIONS_MAX,
            answer_bytes_max=ANSWER_BYTES_MAX,
        )
        self._keys = [signing_key(text) for text in secrets]
        self._breaker = breaker or Breaker()
        self._asking = 0
        self._asking_max = asking_max

    async def close(self) -> None:
        await self._http.close()

    async def ask(self, question: QuoteQuestion) -> Quoted | None:
        """None: the default stands in.

        Raises BadField where the shop does not send it there, and Busy.
        """
        if self._asking >= self._asking_max:
            raise Busy("too many quotes at once")
        if not self._breaker.admit():
            QUOTE_CALLS.labels("held_back").inc()
            return None
        self._asking += 1
        found: Quoted | BadField | None = None
        try:
            with QUOTE_SECONDS.time():
                found = _read(await self._post(question), question)
        finally:
            # In `finally`: a cancelled probe must not leave the breaker waiting for it for ever.
            self._asking -= 1
            self._count(found)
        if isinstance(found, BadField):
            raise found
        return found

    def _count(self, found: Quoted | BadField | None) -> None:
        if found is None:
            self._breaker.lost()
            QUOTE_CALLS.labels("lost").inc()
        else:
            self._breaker.answered()
            QUOTE_CALLS.labels("refused" if isinstance(found, BadField) else "answered").inc()

    async def _post(self, question: QuoteQuestion) -> Answer | None:
        body = msgspec.json.encode({"call": "quote", **msgspec.to_builtins(question)})
        event, stamp = f"quote_{uuid4().hex}", int(time.time())
        headers = signed_by_all(self._keys, event=event, timestamp=stamp, body=body)
        return await self._http.call("POST", self._path, headers=headers, content=body)


def _read(answer: Answer | None, question: QuoteQuestion) -> Quoted | BadField | None:
    """None for an answer that is none; why is told to the log."""
    if answer is None:
        return None  # the client has told it
    try:
        if answer.status == REFUSED:
            refusal = msgspec.json.decode(answer.content, type=_Refusal)
            return BadField("contact.address", refusal.reason)
        if answer.status != 200:
            raise ValueError(f"status {answer.status}")
        return _quoted(msgspec.json.decode(answer.content, type=_Answer), question)
    except ValueError as error:  # msgspec's errors, and bytes that are no UTF-8, are such
        log.warning("quote.unusable", reason=str(error)[:200])
        return None


def _quoted(read: _Answer, question: QuoteQuestion) -> Quoted:
    """Raises ValueError for an answer that contradicts the question, or itself."""
    if read.currency != question.currency:
        raise ValueError("another currency")
    if read.expires_at <= time.time_ns() // 1_000_000:
        raise ValueError("expired before it came")
    shipping = tuple(
        ShippingChoice(id=one.id, label=one.label, amount_minor=one.amount_minor, days=one.days)
        for one in read.shipping
    )
    if len({one.id for one in shipping}) < len(shipping):
        raise ValueError("two ways of shipping have one id")
    tax = tuple(
        Tax(label=one.label, amount_minor=one.amount_minor, inclusive=one.inclusive)
        for one in read.tax
    )
    terms = Terms(shipping=shipping, tax=tax, duties_minor=read.duties_minor)
    goods = sum(item.qty * item.price_minor for item in question.items)
    for choice in shipping or (None,):
        terms.totals(goods, choice)
    return Quoted(terms=terms, shop=read.quote_id, expires_at=read.expires_at)

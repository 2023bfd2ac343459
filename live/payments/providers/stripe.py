"""The provider `stripe`: PaymentIntents with manual capture, through Stripe's own library.

Always: every call has a deadline, at most `CALLS_MAX` are open at once, and the library repeats
none (the worker does). A PaymentIntent carries our payment's id as metadata, and as idempotency key
of its creation and of refunds. Capture and cancellation carry no key: an intent can be captured or
cancelled once, while a key would repeat a stored 500 for a day.
An intent that its buyer could still pay with another card is cancelled before it is given up.
A refund carries its key as metadata, too, and is looked for before it is made: Stripe forgets keys
after a day, and repeats under one what it said first, while a refund may fail days later.
Cost: 1-2 ms of our CPU a call (httpx and the library); Stripe itself allows 100 calls a second.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import TypeVar

import msgspec
import stripe
import structlog
from stripe import Charge, PaymentIntent, Refund, StripeClient
from stripe.params import RefundListParams

from live.base.errors import EngineError
from live.domain.payment import ChargePage, PaymentId, PaymentState, ProviderRefund
from live.payments.port import (
    REASON_CHARS_MAX,
    WEBHOOK_BYTES_MAX,
    Authorisation,
    AuthoriseRequest,
    CaptureResult,
    MoneyRequest,
    ProviderEvent,
    Verdict,
    WebhookRefused,
)
from live.payments.providers.stripe_answers import (
    authorisation,
    charge_record,
    key_of,
    refund_record,
    refund_result,
)
from live.payments.providers.stripe_money import to_stripe
from live.payments.webhooks import TOLERANCE_SECONDS

TIMEOUT_SECONDS = 6.0  # of one call; a checkout goes on in the background for 9 s, then lets go
CALLS_MAX = 64  # open at once; more would only be refused by Stripe's rate limit
PAYMENT_WINDOW_MS = 300_000  # buyers need a minute or two for their bank's app
PAGE_MAX = 100  # Stripe's own bound
REFUND_PAGES_MAX = 100  # of one payment: as many refunds as ours and a person's together never are
_CHARGE = "latest_charge.refunds"
_REFUND_EVENTS = frozenset(
    {"charge.refunded", "charge.refund.updated"}
    | {"refund.created", "refund.updated", "refund.failed"}
)

log = structlog.get_logger()
Answer = TypeVar("Answer")


class _Event(msgspec.Struct):
    """Events are of many kinds, most of them none of ours: only these two fields all have."""

    id: str
    type: str
    data: object = None


class Stripe:
    """`webhook_secrets`: all signing secrets that are valid just now."""

    name = "stripe"

    def __init__(
        self,
        key: str,
        *,
        webhook_secrets: Sequence[str],
        api_base: str,
        timeout_seconds: float = TIMEOUT_SECONDS,
    ) -> None:
        self._http = stripe.HTTPXClient(timeout=timeout_seconds)
        client = StripeClient(
            key,
            http_client=self._http,
            base_addresses={"api": api_base},
            max_network_retries=0,
        )
        self._intents = client.v1.payment_intents
        self._refunds = client.v1.refunds
        self._secrets = tuple(webhook_secrets)
        self._timeout_seconds = timeout_seconds
        self._slots = asyncio.Semaphore(CALLS_MAX)

    async def close(self) -> None:
        await self._http.close_async()  # type: ignore[no-untyped-call]  # the library's own gap

    def is_asynchronous(self, token: str | None) -> bool:
        return False  # methods that take days cannot be captured by hand, so none is offered

    def payment_window_ms(self, token: str | None) -> int:
        return PAYMENT_WINDOW_MS

    async def authorise(self, request: AuthoriseRequest) -> Authorisation:
        if not request.token:
            return Authorisation(state=PaymentState.DECLINED, reason="no payment method")
        token = request.token
        try:
            amount = to_stripe(request.amount_minor, request.currency)
        except ValueError as error:
            return Authorisation(state=PaymentState.DECLINED, reason=str(error))
        try:
            intent = await self._call(
                lambda: self._intents.create_async(
                    {
                        "amount": amount,
                        "currency": request.currency.lower(),
                        "capture_method": "manual",
                        "payment_method": token,
                        "confirm": True,
                        # Redirects would need a page to come back to; the client's own library
                        # finishes every other action with the client secret.
                        "automatic_payment_methods": {"enabled": True, "allow_redirects": "never"},
                        "metadata": {**request.metadata, "payment": request.payment},
                        "expand": [_CHARGE],
                    },
                    {"idempotency_key": request.payment},
                )
            )
        except (stripe.CardError, stripe.InvalidRequestError) as error:
            # Nobody has the secret of a refused intent, so no one can pay it any more.
            return Authorisation(
                state=PaymentState.DECLINED, ref=_ref_of(error), reason=_reason(error)
            )
        except _LOST as error:
            return _lost("authorise", error)
        return authorisation(intent, 0)

    async def look_up(self, payment: PaymentId, ref: str | None) -> Authorisation:
        """Without `ref` by search, whose index is a minute late: the worker then authorises again
        with the same idempotency key, which is as good as finding it."""
        try:
            intent = await self._find(payment, ref)
            if intent is None:
                return Authorisation(state=PaymentState.CREATED)
            if intent.status == "requires_payment_method":
                intent = await self._cancel(intent.id)
            refunded = await self._refunded(intent)
        except (stripe.InvalidRequestError, *_LOST) as error:
            return _lost("look_up", error)
        return authorisation(intent, refunded)

    async def capture(self, request: MoneyRequest) -> CaptureResult:
        return await self._money(
            request,
            lambda ref: self._intents.capture_async(
                ref, {"amount_to_capture": to_stripe(request.amount_minor, request.currency)}
            ),
        )

    async def void(self, request: MoneyRequest) -> CaptureResult:
        return await self._money(request, lambda ref: self._intents.cancel_async(ref))

    async def refund(self, request: MoneyRequest) -> CaptureResult:
        found = await self.look_up_refund(request)
        if found is not None:
            return found
        try:
            amount = to_stripe(request.amount_minor, request.currency)
        except ValueError as error:
            return CaptureResult(Verdict.REFUSED, str(error))
        made: list[Refund] = []

        async def make(ref: str) -> None:
            made.append(
                await self._refunds.create_async(
                    {
                        "payment_intent": ref,
                        "amount": amount,
                        "metadata": {"payment": request.payment, "key": request.key},
                    },
                    {"idempotency_key": request.key},
                )
            )

        result = await self._money(request, make)
        return refund_result(made[0]) if made else result

    async def look_up_refund(self, request: MoneyRequest) -> CaptureResult | None:
        try:
            ref = request.ref
            if ref is None:
                intent = await self._find(request.payment, None)
                if intent is None:
                    return None
                ref = intent.id
            mine = [one for one in await self._refunds_of(ref) if key_of(one) == request.key]
        except (stripe.InvalidRequestError, *_LOST) as error:
            return CaptureResult(Verdict.UNKNOWN, _lost("look_up_refund", error).reason)
        return refund_result(mine[0]) if mine else None

    async def list_refunds(
        self, payment: PaymentId, ref: str | None
    ) -> tuple[ProviderRefund, ...] | None:
        try:
            intent = await self._find(payment, ref)
            found = [] if intent is None else await self._refunds_of(intent.id)
        except (stripe.InvalidRequestError, *_LOST) as error:
            _lost("list_refunds", error)
            return None
        return None if intent is None else tuple(map(refund_record, found))

    def refuses_price(self, price_minor: int, currency: str) -> str:
        if price_minor == 0:
            return "Stripe cannot charge nothing"
        try:
            to_stripe(price_minor, currency)
        except ValueError as error:
            return str(error)
        return ""

    def parse_webhook(self, headers: Mapping[str, str], body: bytes) -> Sequence[ProviderEvent]:
        self._verify(headers.get("stripe-signature", ""), body)
        try:
            event = msgspec.json.decode(body, type=_Event)
        except msgspec.DecodeError as error:
            raise WebhookRefused("unreadable", status=400, code="webhook.body") from error
        about = _mapping(_mapping(event.data).get("object"))
        payment = _text(_mapping(about.get("metadata")).get("payment"))
        is_intent = about.get("object") == "payment_intent"
        return [
            ProviderEvent(
                provider=self.name,
                id=event.id,
                kind=event.type,
                payment=None if payment is None else PaymentId(payment),
                ref=_text(about.get("id" if is_intent else "payment_intent")),
                refund=event.type in _REFUND_EVENTS,
                authorised=event.type == "payment_intent.amount_capturable_updated",
            )
        ]

    async def list_charges(
        self, *, cursor: str | None, limit: int, since_ms: int = 0
    ) -> ChargePage:
        """A page of the books. Raises EngineError: an audit without them is no audit."""
        try:
            page = await self._call(
                lambda: self._intents.list_async(
                    {
                        "limit": min(limit, PAGE_MAX),
                        "expand": [f"data.{_CHARGE}"],
                        **({"starting_after": cursor} if cursor else {}),
                        **({"created": {"gte": since_ms // 1000}} if since_ms else {}),
                    }
                )
            )
            # Without our metadata it is another shop's, which shares the account.
            charges = [
                charge_record(intent, await self._refunded(intent))
                for intent in page.data
                if "payment" in intent.metadata
            ]
        except (stripe.InvalidRequestError, *_LOST) as error:
            raise EngineError(f"the books at Stripe cannot be read: {_reason(error)}") from error
        return ChargePage(tuple(charges), page.data[-1].id if page.has_more else None)

    async def _refunded(self, intent: PaymentIntent) -> int:
        """What has gone back of it: the charge's own figure counts what is on its way, too."""
        charge = intent.latest_charge
        if not isinstance(charge, Charge) or not charge.amount_refunded:
            return 0
        shown = charge.refunds  # the latest ten
        whole = shown is not None and not shown.has_more
        found = shown.data if shown is not None and whole else await self._refunds_of(intent.id)
        return sum(one.amount for one in found if one.status == "succeeded")

    async def _refunds_of(self, ref: str) -> list[Refund]:
        """Every refund of an intent, or none of them. Raises what the library raises."""
        found: list[Refund] = []
        for _ in range(REFUND_PAGES_MAX):
            wanted: RefundListParams = {"payment_intent": ref, "limit": PAGE_MAX}
            if found:
                wanted["starting_after"] = found[-1].id
            page = await self._call(partial(self._refunds.list_async, wanted))
            found += page.data
            if not page.has_more:
                return found
        raise stripe.APIError("more refunds than are read")

    async def _find(self, payment: PaymentId, ref: str | None) -> PaymentIntent | None:
        """Raises InvalidRequestError for a `ref` that Stripe does not know."""
        if ref is not None:
            return await self._call(
                lambda: self._intents.retrieve_async(ref, {"expand": [_CHARGE]})
            )
        query = f"metadata['payment']:'{payment}'"
        found = await self._call(
            lambda: self._intents.search_async(
                {"query": query, "limit": 1, "expand": [f"data.{_CHARGE}"]}
            )
        )
        return found.data[0] if found.data else None

    async def _cancel(self, ref: str) -> PaymentIntent:
        return await self._call(lambda: self._intents.cancel_async(ref, {"expand": [_CHARGE]}))

    async def _money(
        self, request: MoneyRequest, send: Callable[[str], Awaitable[object]]
    ) -> CaptureResult:
        try:
            ref = request.ref
            if ref is None:
                intent = await self._find(request.payment, None)
                if intent is None:
                    return CaptureResult(Verdict.REFUSED, "Stripe does not know this payment")
                ref = intent.id
            await self._call(lambda: send(ref))
        except (stripe.CardError, stripe.InvalidRequestError) as error:
            return CaptureResult(Verdict.REFUSED, _reason(error))
        except _LOST as error:
            return CaptureResult(Verdict.UNKNOWN, _lost("money", error).reason)
        return CaptureResult(Verdict.DONE)

    async def _call(self, send: Callable[[], Awaitable[Answer]]) -> Answer:
        """One call within the deadline, waiting for its turn included."""
        async with asyncio.timeout(self._timeout_seconds), self._slots:
            return await send()

    def _verify(self, header: str, body: bytes) -> None:
        """Raises WebhookRefused: 401 for a signature, 400 for its age."""
        if len(body) > WEBHOOK_BYTES_MAX:
            raise WebhookRefused("the body is too long", status=413, code="webhook.too_long")
        if not any(_is_signed(body, header, secret) for secret in self._secrets):
            raise WebhookRefused("the signature is wrong", status=401, code="webhook.signature")
        stamp = int(next(part[2:] for part in header.split(",") if part.startswith("t=")))
        # Both ways: the library lets events of the future pass.
        if abs(time.time() - stamp) > TOLERANCE_SECONDS:
            raise WebhookRefused("too old or too new", status=400, code="webhook.stale")


_LOST = (
    TimeoutError,
    stripe.APIConnectionError,
    stripe.APIError,
    stripe.RateLimitError,
    stripe.AuthenticationError,
    stripe.PermissionError,
    stripe.IdempotencyError,
)
"""What says nothing about this payment: no answer, or one about us or about now."""


def _is_signed(body: bytes, header: str, secret: str) -> bool:
    try:
        stripe.WebhookSignature.verify_header(body.decode(), header, secret, tolerance=None)
    except (stripe.SignatureVerificationError, UnicodeDecodeError):
        return False
    return True


def _ref_of(error: stripe.StripeError) -> str | None:
    """The intent that a declined creation left behind."""
    found = error.error.payment_intent if error.error is not None else None
    return None if found is None else found.id


def _reason(error: Exception) -> str:
    text = error.user_message if isinstance(error, stripe.StripeError) else None
    return (text or type(error).__name__)[:REASON_CHARS_MAX]


def _lost(call: str, error: Exception) -> Authorisation:
    # The kind only: what the library says of a bad key repeats a part of it.
    status = error.http_status if isinstance(error, stripe.StripeError) else None
    log.warning("payment.call_lost", provider="stripe", call=call, error=type(error).__name__)
    return Authorisation(
        state=PaymentState.UNKNOWN, reason=f"{type(error).__name__} {status or ''}".strip()
    )


def _mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, dict) else {}


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None

"""The provider `stripe`: PaymentIntents with manual capture, through Stripe's own library.

Always: every call has a deadline, at most `CALLS_MAX` are open at once, and the library repeats
none (the worker does). A PaymentIntent carries our payment's id as metadata, and as idempotency key
of its creation and of refunds. Capture and cancellation carry no key: an intent can be captured or
cancelled once, while a key would repeat a stored 500 for a day.
An intent that its buyer could still pay with another card is cancelled before it is given up.
Cost: 1-2 ms of our CPU a call (httpx and the library); Stripe itself allows 100 calls a second.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TypeVar

import msgspec
import stripe
import structlog
from stripe import Charge, PaymentIntent, StripeClient

from live.domain.payment import Action, PaymentId, PaymentState
from live.errors import EngineError
from live.payments.port import (
    REASON_CHARS_MAX,
    WEBHOOK_BYTES_MAX,
    Authorisation,
    AuthoriseRequest,
    CaptureResult,
    ChargePage,
    ChargeRecord,
    MoneyRequest,
    ProviderEvent,
    Verdict,
    WebhookRefused,
)
from live.payments.webhooks import TOLERANCE_S

TIMEOUT_S = 6.0  # of one call; a checkout goes on in the background for 9 s, then lets go
CALLS_MAX = 64  # open at once; more would only be refused by Stripe's rate limit
PAYMENT_WINDOW_MS = 300_000  # buyers need a minute or two for their bank's app
PAGE_MAX = 100  # Stripe's own bound
_CHARGE = "latest_charge"

log = structlog.get_logger()
Answer = TypeVar("Answer")


class _Object(msgspec.Struct):
    """What we read of the object in an event: an intent, a charge or a refund."""

    id: str
    object: str = ""
    payment_intent: str | None = None
    metadata: dict[str, str] | None = None


class _Data(msgspec.Struct):
    object: _Object


class _Event(msgspec.Struct):
    id: str
    type: str
    data: _Data


class Stripe:
    """`webhook_secrets`: all signing secrets that are valid just now."""

    name = "stripe"

    def __init__(
        self,
        key: str,
        *,
        webhook_secrets: Sequence[str],
        api_base: str,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        self._http = stripe.HTTPXClient(timeout=timeout_s)
        client = StripeClient(
            key,
            http_client=self._http,
            base_addresses={"api": api_base},
            max_network_retries=0,
        )
        self._intents = client.v1.payment_intents
        self._refunds = client.v1.refunds
        self._secrets = tuple(webhook_secrets)
        self._timeout_s = timeout_s
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
            intent = await self._call(
                lambda: self._intents.create_async(
                    {
                        "amount": request.amount_minor,
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
        return _authorisation(intent)

    async def look_up(self, payment: PaymentId, ref: str | None) -> Authorisation:
        """Without `ref` by search, whose index is a minute late: the worker then authorises again
        with the same idempotency key, which is as good as finding it."""
        try:
            intent = await self._find(payment, ref)
            if intent is None:
                return Authorisation(state=PaymentState.CREATED)
            if intent.status == "requires_payment_method":
                intent = await self._cancel(intent.id)
        except (stripe.InvalidRequestError, *_LOST) as error:
            return _lost("look_up", error)
        return _authorisation(intent)

    async def capture(self, request: MoneyRequest) -> CaptureResult:
        return await self._money(
            request,
            lambda ref: self._intents.capture_async(
                ref, {"amount_to_capture": request.amount_minor}
            ),
        )

    async def void(self, request: MoneyRequest) -> CaptureResult:
        return await self._money(request, lambda ref: self._intents.cancel_async(ref))

    async def refund(self, request: MoneyRequest) -> CaptureResult:
        return await self._money(
            request,
            lambda ref: self._refunds.create_async(
                {
                    "payment_intent": ref,
                    "amount": request.amount_minor,
                    "metadata": {"payment": request.payment},
                },
                {"idempotency_key": request.key},
            ),
        )

    def parse_webhook(self, headers: Mapping[str, str], body: bytes) -> Sequence[ProviderEvent]:
        self._verify(headers.get("stripe-signature", ""), body)
        try:
            event = msgspec.json.decode(body, type=_Event)
        except msgspec.DecodeError as error:
            raise WebhookRefused("unreadable", status=400, code="webhook.body") from error
        about = event.data.object
        payment = (about.metadata or {}).get("payment")
        return [
            ProviderEvent(
                provider=self.name,
                id=event.id,
                kind=event.type,
                payment=None if payment is None else PaymentId(payment),
                ref=about.id if about.object == "payment_intent" else about.payment_intent,
                refund=event.type == "charge.refunded",
                authorised=event.type == "payment_intent.amount_capturable_updated",
            )
        ]

    async def list_charges(self, *, cursor: str | None, limit: int) -> ChargePage:
        """A page of the books. Raises EngineError: an audit without them is no audit."""
        try:
            page = await self._call(
                lambda: self._intents.list_async(
                    {
                        "limit": min(limit, PAGE_MAX),
                        "expand": [f"data.{_CHARGE}"],
                        **({"starting_after": cursor} if cursor else {}),
                    }
                )
            )
        except (stripe.InvalidRequestError, *_LOST) as error:
            raise EngineError(f"the books at Stripe cannot be read: {_reason(error)}") from error
        # Without our metadata it is another shop's, which shares the account.
        charges = tuple(_record(intent) for intent in page.data if "payment" in intent.metadata)
        return ChargePage(charges, page.data[-1].id if page.has_more else None)

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
        async with asyncio.timeout(self._timeout_s), self._slots:
            return await send()

    def _verify(self, header: str, body: bytes) -> None:
        """Raises WebhookRefused: 401 for a signature, 400 for its age."""
        if len(body) > WEBHOOK_BYTES_MAX:
            raise WebhookRefused("the body is too long", status=413, code="webhook.too_long")
        if not any(_is_signed(body, header, secret) for secret in self._secrets):
            raise WebhookRefused("the signature is wrong", status=401, code="webhook.signature")
        stamp = int(next(part[2:] for part in header.split(",") if part.startswith("t=")))
        # Both ways: the library lets events of the future pass.
        if abs(time.time() - stamp) > TOLERANCE_S:
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


def _authorisation(intent: PaymentIntent) -> Authorisation:
    state, captured, refunded = _figures(intent)
    action = None
    if state is PaymentState.ACTION_REQUIRED and intent.client_secret:
        action = Action(kind="client_secret", value=intent.client_secret)
    return Authorisation(
        state=state,
        ref=intent.id,
        reason=_failure(intent) if state in (PaymentState.VOIDED, PaymentState.DECLINED) else "",
        action=action,
        captured_minor=captured,
        refunded_minor=refunded,
    )


def _figures(intent: PaymentIntent) -> tuple[PaymentState, int, int]:
    """The state, what was captured and what went back of it."""
    if intent.status != "succeeded":
        return _STATES.get(intent.status, PaymentState.UNKNOWN), 0, 0
    charge = intent.latest_charge
    refunded = charge.amount_refunded if isinstance(charge, Charge) else 0
    captured = intent.amount_received
    if refunded == 0:
        return PaymentState.CAPTURED, captured, 0
    whole = refunded >= captured
    state = PaymentState.REFUNDED if whole else PaymentState.PARTIALLY_REFUNDED
    return state, captured, refunded


def _failure(intent: PaymentIntent) -> str:
    error = intent.last_payment_error
    text = error.message if error is not None else intent.cancellation_reason
    return (text or "cancelled at the provider")[:REASON_CHARS_MAX]


def _record(intent: PaymentIntent) -> ChargeRecord:
    state, captured, refunded = _figures(intent)
    return ChargeRecord(
        payment=PaymentId(intent.metadata["payment"]),
        ref=intent.id,
        state=state,
        amount_minor=intent.amount,
        captured_minor=captured,
        refunded_minor=refunded,
        currency=intent.currency.upper(),
    )


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


_STATES = {
    "requires_capture": PaymentState.AUTHORISED,
    "requires_action": PaymentState.ACTION_REQUIRED,
    "requires_confirmation": PaymentState.ACTION_REQUIRED,
    "requires_payment_method": PaymentState.DECLINED,
    "processing": PaymentState.AUTHORISING,
    "canceled": PaymentState.VOIDED,
}

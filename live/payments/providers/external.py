"""The provider `external`: the shop's own checkout. The buyer is sent there with a signed hold.

Always: nobody is asked. What became of the buyer is the word of the shop's server
(buying/shop_checkout.py), which the payment's own row keeps: so `look_up` reads that row, a capture
is done by what was confirmed, and void and refund are book entries: the shop has the money, and
pays back by its own means.
"""

import time
from collections.abc import Mapping, Sequence
from typing import Protocol

import jwt

from live.base.errors import NotFound
from live.domain.payment import (
    EXTERNAL,
    Action,
    Payment,
    PaymentId,
    PaymentState,
)
from live.payments.port import (
    Authorisation,
    AuthoriseRequest,
    CaptureResult,
    MoneyRequest,
    ProviderEvent,
    Verdict,
    WebhookRefused,
)
from live.payments.providers.own_books import OwnBooks

CHECKOUT_AUDIENCE = "live-checkout"  # of no use as anybody's token, and no token is of use as it
PAYMENT_WINDOW_MS = 600_000  # an address, a card and a bank's question take minutes
NOT_HERE = "the shop's checkout is not configured"


class PaymentTruth(Protocol):
    """The ledger's payment rows."""

    async def get(self, payment: PaymentId) -> Payment:
        """Raises NotFound."""
        ...


class External(OwnBooks):
    """`url` has the placeholders {hold} (the signed hold) and {show}; `key` signs holds. Without a
    `url` nobody is sent anywhere, but what was paid there before is still looked after."""

    name = EXTERNAL

    def __init__(self, url: str | None, *, key: str, payments: PaymentTruth) -> None:
        self._url = url
        self._key = key
        self._payments = payments

    def is_asynchronous(self, token: str | None) -> bool:
        return True  # in `first_paid` mode nobody waits for people who fill in forms elsewhere

    def payment_window_ms(self, token: str | None) -> int:
        return PAYMENT_WINDOW_MS

    async def authorise(self, request: AuthoriseRequest) -> Authorisation:
        if self._url is None:
            return Authorisation(state=PaymentState.DECLINED, reason=NOT_HERE)
        now_ms = time.time_ns() // 1_000_000
        ends_ms = now_ms + max(PAYMENT_WINDOW_MS - request.age_ms, 0)
        signed = self._sign(request, now_ms=now_ms, ends_ms=ends_ms)
        address = self._url.replace("{show}", request.metadata["show"]).replace("{hold}", signed)
        return Authorisation(
            state=PaymentState.ACTION_REQUIRED,
            action=Action(kind="redirect", value=address, expires_at=ends_ms),
        )

    def _sign(self, request: AuthoriseRequest, *, now_ms: int, ends_ms: int) -> str:
        claims = {
            "aud": CHECKOUT_AUDIENCE,
            "hold": request.metadata["hold"],
            "show": request.metadata["show"],
            "sub": request.sub,
            "amount_minor": request.amount_minor,
            "currency": request.currency,
            "iat": now_ms // 1_000,
            "exp": ends_ms // 1_000,
        }
        return jwt.encode(claims, self._key, algorithm="HS256")

    async def look_up(self, payment: PaymentId, ref: str | None) -> Authorisation:
        try:
            found = await self._payments.get(payment)
        except NotFound:
            return Authorisation(state=PaymentState.CREATED)
        kept = found.state is PaymentState.CAPTURING
        return Authorisation(
            state=PaymentState.AUTHORISED if kept else found.state,
            ref=found.ref,
            reason=found.reason,
            action=found.action,
            captured_minor=found.captured_minor,
            refunded_minor=found.refunded_minor,
        )

    async def capture(self, request: MoneyRequest) -> CaptureResult:
        return CaptureResult(Verdict.DONE)

    def parse_webhook(self, headers: Mapping[str, str], body: bytes) -> Sequence[ProviderEvent]:
        raise WebhookRefused(
            "your checkout says it by POST /v1/holds/{hold}/confirm",
            status=404,
            code="webhook.unknown",
        )

"""The provider `invoice`: pay on delivery. Nobody is asked, so nothing can fail.

Always: authorising says yes; that it was paid is the shop's word (ledger/money/invoices.py), so
nothing is captured here. The truth about an invoice is our payment row, so `look_up` says what it
would have said at checkout.
"""

from collections.abc import Mapping, Sequence

from live.domain.payment import INVOICE, PaymentId, PaymentState
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

PAYMENT_WINDOW_MS = 60_000


class Invoice(OwnBooks):
    """Says yes to everything; keeps nothing."""

    name = INVOICE

    def is_asynchronous(self, token: str | None) -> bool:
        return False

    def payment_window_ms(self, token: str | None) -> int:
        return PAYMENT_WINDOW_MS

    async def authorise(self, request: AuthoriseRequest) -> Authorisation:
        return Authorisation(state=PaymentState.AUTHORISED, ref=f"inv_{request.payment}")

    async def look_up(self, payment: PaymentId, ref: str | None) -> Authorisation:
        return Authorisation(state=PaymentState.AUTHORISED, ref=f"inv_{payment}")

    async def capture(self, request: MoneyRequest) -> CaptureResult:
        return CaptureResult(Verdict.PENDING, "nobody has said that it was paid")

    def parse_webhook(self, headers: Mapping[str, str], body: bytes) -> Sequence[ProviderEvent]:
        raise WebhookRefused("invoices send no events", status=404, code="webhook.unknown")

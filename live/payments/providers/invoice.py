"""The provider `invoice`: pay on delivery. Nobody is asked, so nothing can fail.

Always: authorising says yes; that it was paid is the shop's word (ledger/money/invoices.py), so
nothing is captured here. Void and refund are book entries of our own ledger: the shop pays back by
its own means. The truth about an invoice is our payment row, so `look_up` says what it would have
said at checkout.
"""

from collections.abc import Mapping, Sequence

from live.domain.payment import INVOICE, ChargePage, PaymentId, PaymentState, ProviderRefund
from live.payments.port import (
    Authorisation,
    AuthoriseRequest,
    CaptureResult,
    MoneyRequest,
    ProviderEvent,
    Verdict,
    WebhookRefused,
)

PAYMENT_WINDOW_MS = 60_000


class Invoice:
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

    async def void(self, request: MoneyRequest) -> CaptureResult:
        return CaptureResult(Verdict.DONE)

    async def refund(self, request: MoneyRequest) -> CaptureResult:
        return CaptureResult(Verdict.DONE)

    async def look_up_refund(self, request: MoneyRequest) -> CaptureResult | None:
        return CaptureResult(Verdict.DONE)

    async def list_refunds(
        self, payment: PaymentId, ref: str | None
    ) -> tuple[ProviderRefund, ...] | None:
        return None  # there are no books but our own

    def refuses_price(self, price_minor: int, currency: str) -> str:
        return ""

    def parse_webhook(self, headers: Mapping[str, str], body: bytes) -> Sequence[ProviderEvent]:
        raise WebhookRefused("invoices send no events", status=404, code="webhook.unknown")

    async def list_charges(
        self, *, cursor: str | None, limit: int, since_ms: int = 0
    ) -> ChargePage:
        """Nothing: there are no books but our own."""
        return ChargePage((), None)

    async def close(self) -> None:
        """There is nothing to close."""

"""What providers share whose only books are our own rows: nobody is asked, so nothing can fail.

Void and refund are book entries: the shop has the money, and pays back by its own means.
"""

from live.domain.payment import ChargePage, PaymentId, ProviderRefund
from live.payments.port import CaptureResult, MoneyRequest, Verdict


class OwnBooks:
    async def void(self, request: MoneyRequest) -> CaptureResult:
        return CaptureResult(Verdict.DONE)

    async def refund(self, request: MoneyRequest) -> CaptureResult:
        return CaptureResult(Verdict.DONE)

    async def look_up_refund(self, request: MoneyRequest) -> CaptureResult | None:
        return CaptureResult(Verdict.DONE)

    async def list_refunds(
        self, payment: PaymentId, ref: str | None
    ) -> tuple[ProviderRefund, ...] | None:
        return None

    def refuses_price(self, price_minor: int, currency: str) -> str:
        return ""

    async def list_charges(
        self, *, cursor: str | None, limit: int, since_ms: int = 0
    ) -> ChargePage:
        return ChargePage((), None)

    async def close(self) -> None:
        """There is nothing to close."""

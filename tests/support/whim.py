"""A payment provider of moods, in this process: every answer that a provider may give, by a seed.

Its books are plain dictionaries, so a test can hold them against the ledger.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from random import Random

from live.domain.payment import Action, ChargePage, PaymentId, PaymentState, ProviderRefund
from live.payments.port import (
    Authorisation,
    AuthoriseRequest,
    CaptureResult,
    MoneyRequest,
    ProviderEvent,
    Verdict,
)

S = PaymentState


@dataclass
class Whim:
    """`calm`: from now on nothing is refused or left open."""

    random: Random
    window_ms: int = 300
    calm: bool = False
    charges: dict[PaymentId, PaymentState] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return "whim"

    def payment_window_ms(self, token: str | None) -> int:
        return self.window_ms

    def is_asynchronous(self, token: str | None) -> bool:
        return False

    async def authorise(self, request: AuthoriseRequest) -> Authorisation:
        mood = self.random.choices(
            (S.AUTHORISED, S.DECLINED, S.ACTION_REQUIRED, S.UNKNOWN), (55, 15, 22, 8)
        )[0]
        if mood is S.UNKNOWN:  # the answer is lost on the way
            self.charges.setdefault(request.payment, self.random.choice((S.AUTHORISED, S.DECLINED)))
            return Authorisation(state=S.UNKNOWN)
        return self._said(request.payment, self.charges.setdefault(request.payment, mood))

    async def look_up(self, payment: PaymentId, ref: str | None) -> Authorisation:
        state = self.charges.get(payment, S.CREATED)
        if state is S.ACTION_REQUIRED and self.random.random() < 0.6:  # the buyer did their part
            state = self.random.choice((S.AUTHORISED, S.AUTHORISED, S.DECLINED))
            self.charges[payment] = state
        return self._said(payment, state)

    def _said(self, payment: PaymentId, state: PaymentState) -> Authorisation:
        action = Action(kind="redirect", value="x") if state is S.ACTION_REQUIRED else None
        reason = "no" if state is S.DECLINED else ""
        captured = 1_000_000_000 if state is S.CAPTURED else 0
        ref = None if state is S.CREATED else f"whim-{payment}"
        return Authorisation(
            state=state, ref=ref, reason=reason, action=action, captured_minor=captured
        )

    async def capture(self, request: MoneyRequest) -> CaptureResult:
        if self.charges[request.payment] is S.CAPTURED:
            return CaptureResult(Verdict.DONE)
        if not self.calm and self.random.random() < 0.15:
            return CaptureResult(Verdict.REFUSED, "the card was stolen meanwhile")
        self.charges[request.payment] = S.CAPTURED
        return CaptureResult(Verdict.DONE)

    async def void(self, request: MoneyRequest) -> CaptureResult:
        if self.charges.get(request.payment) is S.CAPTURED:
            return CaptureResult(Verdict.REFUSED, "it is captured")
        self.charges[request.payment] = S.VOIDED
        return CaptureResult(Verdict.DONE)

    async def refund(self, request: MoneyRequest) -> CaptureResult:
        self.charges[request.payment] = S.REFUNDED
        return CaptureResult(Verdict.DONE)

    async def look_up_refund(self, request: MoneyRequest) -> CaptureResult | None:
        done = self.charges.get(request.payment) is S.REFUNDED
        return CaptureResult(Verdict.DONE) if done else None

    async def list_refunds(
        self, payment: PaymentId, ref: str | None
    ) -> tuple[ProviderRefund, ...] | None:
        return None  # nobody can say

    def refuses_price(self, price_minor: int, currency: str) -> str:
        return ""

    def parse_webhook(self, headers: Mapping[str, str], body: bytes) -> Sequence[ProviderEvent]:
        return ()

    async def list_charges(
        self, *, cursor: str | None, limit: int, since_ms: int = 0
    ) -> ChargePage:
        return ChargePage((), None)

    async def close(self) -> None:
        pass

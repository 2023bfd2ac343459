"""A provider behind a breaker: when its calls keep getting lost, stop sending for a while.

Always: while open no call leaves, and the answer is `unknown` at once, so a checkout answers
`processing` instead of waiting; after the pause exactly one call probes (half-open). A refusal or a
decline is an answer and closes the breaker. Only calls without an answer count.
"""

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TypeVar

import structlog

from live.domain.payment import ChargePage, PaymentId, PaymentState, ProviderRefund
from live.payments.metrics import PROVIDER_CALLS
from live.payments.port import (
    Authorisation,
    AuthoriseRequest,
    CaptureResult,
    MoneyRequest,
    Provider,
    ProviderEvent,
    Verdict,
)

LOST_MAX = 5  # calls lost in a row before it opens
PAUSE_MS, PAUSE_MS_MAX = 1_000, 30_000  # doubled by each failed probe

log = structlog.get_logger()
Answer = TypeVar("Answer", Authorisation, CaptureResult, tuple[ProviderRefund, ...] | None)


class Breaker:
    """Counts lost calls. `clock` gives monotonic ms."""

    def __init__(self, clock: Callable[[], float] = lambda: time.monotonic() * 1000) -> None:
        self._clock = clock
        self._lost = 0
        self._pause_ms = PAUSE_MS
        self._retry_at = 0.0
        self._probing = False

    @property
    def open(self) -> bool:
        return self._lost >= LOST_MAX

    def admit(self) -> bool:
        """Whether a call may leave now; in half-open state this hands out the one probe."""
        if not self.open:
            return True
        if self._probing or self._clock() < self._retry_at:
            return False
        self._probing = True
        return True

    def answered(self) -> None:
        self._lost, self._pause_ms, self._probing = 0, PAUSE_MS, False

    def lost(self) -> None:
        was_open = self.open
        self._lost += 1
        if not self.open or (was_open and not self._probing):
            return  # still closed, or a straggler sent before it opened
        if was_open:
            self._pause_ms = min(self._pause_ms * 2, PAUSE_MS_MAX)
        self._probing = False
        self._retry_at = self._clock() + self._pause_ms


class GuardedProvider:
    """A provider whose calls pass the breaker and are counted."""

    def __init__(self, provider: Provider, breaker: Breaker | None = None) -> None:
        self._provider = provider
        self._breaker = breaker or Breaker()
        self.name = provider.name

    def is_asynchronous(self, token: str | None) -> bool:
        return self._provider.is_asynchronous(token)

    def payment_window_ms(self, token: str | None) -> int:
        return self._provider.payment_window_ms(token)

    async def authorise(self, request: AuthoriseRequest) -> Authorisation:
        return await self._guard(
            "authorise", lambda: self._provider.authorise(request), _LOST_AUTHORISATION
        )

    async def look_up(self, payment: PaymentId, ref: str | None) -> Authorisation:
        return await self._guard(
            "look_up", lambda: self._provider.look_up(payment, ref), _LOST_AUTHORISATION
        )

    async def capture(self, request: MoneyRequest) -> CaptureResult:
        return await self._guard("capture", lambda: self._provider.capture(request), _LOST_RESULT)

    async def void(self, request: MoneyRequest) -> CaptureResult:
        return await self._guard("void", lambda: self._provider.void(request), _LOST_RESULT)

    async def refund(self, request: MoneyRequest) -> CaptureResult:
        return await self._guard("refund", lambda: self._provider.refund(request), _LOST_RESULT)

    async def look_up_refund(self, request: MoneyRequest) -> CaptureResult | None:
        # Through the guard as the question is one call; "none such" is an answer, too.
        answer = await self._guard(
            "look_up_refund",
            lambda: _or_none_such(self._provider.look_up_refund(request)),
            _LOST_RESULT,
        )
        return None if answer is _NONE_SUCH else answer

    async def list_refunds(
        self, payment: PaymentId, ref: str | None
    ) -> tuple[ProviderRefund, ...] | None:
        return await self._guard(
            "list_refunds", lambda: self._provider.list_refunds(payment, ref), None
        )

    def refuses_price(self, price_minor: int, currency: str) -> str:
        return self._provider.refuses_price(price_minor, currency)

    def parse_webhook(self, headers: Mapping[str, str], body: bytes) -> Sequence[ProviderEvent]:
        return self._provider.parse_webhook(headers, body)

    async def list_charges(
        self, *, cursor: str | None, limit: int, since_ms: int = 0
    ) -> ChargePage:
        return await self._provider.list_charges(cursor=cursor, limit=limit, since_ms=since_ms)

    async def close(self) -> None:
        await self._provider.close()

    async def _guard(
        self, call: str, send: Callable[[], Awaitable[Answer]], held_back: Answer
    ) -> Answer:
        if not self._breaker.admit():
            PROVIDER_CALLS.labels(self.name, call, "held_back").inc()
            return held_back
        answered = False
        try:
            answer = await send()
            answered = not _is_lost(answer)
        finally:
            # In `finally`: a cancelled probe must not leave the breaker waiting for it for ever.
            if answered:
                self._breaker.answered()
            else:
                self._breaker.lost()
            PROVIDER_CALLS.labels(self.name, call, "answered" if answered else "lost").inc()
        return answer


def _is_lost(answer: Authorisation | CaptureResult | tuple[ProviderRefund, ...] | None) -> bool:
    if isinstance(answer, Authorisation):
        return answer.state is PaymentState.UNKNOWN
    if isinstance(answer, CaptureResult):
        return answer.verdict is Verdict.UNKNOWN
    return answer is None


async def _or_none_such(asked: Awaitable[CaptureResult | None]) -> CaptureResult:
    return await asked or _NONE_SUCH


_NONE_SUCH = CaptureResult(Verdict.REFUSED, "none such")
_LOST_AUTHORISATION = Authorisation(state=PaymentState.UNKNOWN, reason="provider unavailable")
_LOST_RESULT = CaptureResult(Verdict.UNKNOWN, "provider unavailable")

"""Client of the sandbox provider (live/tools/sandbox/server.py), over HTTP as with any real
provider.

Always: every call has a deadline and an idempotency key; a lost, late or unreadable answer is
`unknown`. Nothing is repeated here: the worker repeats, the breaker (breaker.py) holds back.
"""

import time
from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec

from live.base.errors import EngineError
from live.domain.payment import (
    Action,
    ChargePage,
    ChargeRecord,
    PaymentId,
    PaymentState,
    ProviderRefund,
)
from live.payments.http_client import Answer, HttpClient
from live.payments.port import (
    REASON_CHARS_MAX,
    REFUND_STATES,
    Authorisation,
    AuthoriseRequest,
    CaptureResult,
    MoneyRequest,
    ProviderEvent,
    Verdict,
    WebhookRefused,
)
from live.payments.webhooks import signing_key, verify

TIMEOUT_SECONDS = 6.0  # of one call; a checkout goes on in the background for 9 s, then lets go
NOT_FOUND = 404
PAYMENT_WINDOW_MS = 120_000  # how long a hold waits for its buyer once they pay
ASYNC_WINDOW_MS = 600_000
_REFUND_EVENTS = frozenset(
    {"charge.refunded", "charge.partially_refunded", "refund.updated", "refund.failed"}
)
# Answers that are about us or about now, not about this charge.
_PENDING_CODES = frozenset({401, 403, 404, 408, 409, 425, 429})


class _Charge(msgspec.Struct):
    payment: str
    ref: str
    state: PaymentState
    amount_minor: int
    currency: str
    reason: str
    captured_minor: int
    refunded_minor: int
    action: Action | None


class _Refund(msgspec.Struct):
    key: str
    amount_minor: int
    state: Literal["pending", "succeeded", "failed"]
    reason: str


class _Page(msgspec.Struct):
    charges: list[_Charge]
    cursor: str | None


class _Event(msgspec.Struct):
    type: str
    payment: str
    ref: str


class SandboxProvider:
    """The provider `sandbox`. `webhook_keys`: all keys that may sign its events just now."""

    name = "sandbox"

    def __init__(
        self,
        url: str,
        *,
        key: str,
        webhook_keys: Sequence[str] = (),
        uds: str | None = None,
        timeout_seconds: float = TIMEOUT_SECONDS,
    ) -> None:
        self._http = HttpClient(
            url,
            headers={"authorization": f"Bearer {key}"},
            timeout_seconds=timeout_seconds,
            uds=uds,
        )
        self._keys = [signing_key(text) for text in (webhook_keys or (key,))]

    async def close(self) -> None:
        await self._http.close()

    def is_asynchronous(self, token: str | None) -> bool:
        return token == "tok_async"

    def payment_window_ms(self, token: str | None) -> int:
        return ASYNC_WINDOW_MS if self.is_asynchronous(token) else PAYMENT_WINDOW_MS

    async def authorise(self, request: AuthoriseRequest) -> Authorisation:
        body = {
            "payment": request.payment,
            "amount_minor": request.amount_minor,
            "currency": request.currency,
            "token": request.token or "",
            "metadata": dict(request.metadata),
        }
        answer = await self._call("POST", "/v1/charges", key=request.payment, body=body)
        if answer is not None and answer.client_error:
            if answer.status not in _PENDING_CODES:
                return Authorisation(state=PaymentState.DECLINED, reason=_reason(answer))
            return _lost(_reason(answer))
        return _authorisation(answer)

    async def look_up(self, payment: PaymentId, ref: str | None) -> Authorisation:
        answer = await self._call("GET", f"/v1/charges/{ref or payment}")
        if answer is not None and answer.status == NOT_FOUND:
            return Authorisation(state=PaymentState.CREATED)
        return _authorisation(answer)

    async def capture(self, request: MoneyRequest) -> CaptureResult:
        return await self._money("capture", request)

    async def void(self, request: MoneyRequest) -> CaptureResult:
        return await self._money("void", request)

    async def refund(self, request: MoneyRequest) -> CaptureResult:
        answer = await self._send_money("refund", request)
        return _refund_result(answer) if answer is not None and answer.ok else _result(answer)

    async def look_up_refund(self, request: MoneyRequest) -> CaptureResult | None:
        answer = await self._call("GET", "/v1/refund", key=request.key)
        if answer is not None and answer.status == NOT_FOUND:
            return None
        if answer is None or not answer.ok:
            return CaptureResult(Verdict.UNKNOWN, "no answer")
        return _refund_result(answer)

    async def list_refunds(
        self, payment: PaymentId, ref: str | None
    ) -> tuple[ProviderRefund, ...] | None:
        answer = await self._call("GET", f"/v1/charges/{ref or payment}/refunds")
        if answer is None or not answer.ok:
            return None
        try:
            found = msgspec.json.decode(answer.content, type=list[_Refund])
        except msgspec.DecodeError:
            return None
        return tuple(
            ProviderRefund(
                key=one.key,
                amount_minor=one.amount_minor,
                state=REFUND_STATES[_REFUNDS[one.state]],
                reason=one.reason[:REASON_CHARS_MAX],
            )
            for one in found
        )

    def refuses_price(self, price_minor: int, currency: str) -> str:
        return ""

    def parse_webhook(self, headers: Mapping[str, str], body: bytes) -> Sequence[ProviderEvent]:
        event = verify(headers, body, keys=self._keys, now=time.time())
        try:
            read = msgspec.json.decode(body, type=_Event)
        except msgspec.DecodeError as error:
            raise WebhookRefused("unreadable", status=400, code="webhook.body") from error
        payment = PaymentId(read.payment)
        return [
            ProviderEvent(
                provider=self.name,
                id=event,
                kind=read.type,
                payment=payment,
                ref=read.ref,
                refund=read.type in _REFUND_EVENTS,
                authorised=read.type == "charge.authorised",
            )
        ]

    async def list_charges(
        self, *, cursor: str | None, limit: int, since_ms: int = 0
    ) -> ChargePage:
        """A page of the books. Raises EngineError: an audit without them is no audit."""
        answer = await self._call("GET", f"/v1/charges?cursor={cursor or 0}&limit={limit}")
        if answer is None or not answer.ok:
            said = "no answer" if answer is None else str(answer.status)
            raise EngineError(f"the sandbox provider's books cannot be read: {said}")
        page = msgspec.json.decode(answer.content, type=_Page)
        charges = tuple(
            ChargeRecord(
                payment=PaymentId(charge.payment),
                ref=charge.ref,
                state=charge.state,
                amount_minor=charge.amount_minor,
                captured_minor=charge.captured_minor,
                refunded_minor=charge.refunded_minor,
                currency=charge.currency,
            )
            for charge in page.charges
        )
        return ChargePage(charges, page.cursor)

    async def _money(self, verb: str, request: MoneyRequest) -> CaptureResult:
        return _result(await self._send_money(verb, request))

    async def _send_money(self, verb: str, request: MoneyRequest) -> Answer | None:
        path = f"/v1/charges/{request.ref or request.payment}/{verb}"
        body = {"amount_minor": request.amount_minor}
        return await self._call("POST", path, key=request.key, body=body)

    async def _call(
        self,
        method: str,
        path: str,
        *,
        key: str | None = None,
        body: Mapping[str, object] | None = None,
    ) -> Answer | None:
        """Send once; None when no answer came. `key` is the idempotency key."""
        headers = {} if key is None else {"idempotency-key": key}
        content = None if body is None else msgspec.json.encode(body)
        return await self._http.call(method, path, headers=headers, content=content)


def _result(answer: Answer | None) -> CaptureResult:
    if answer is None:
        return CaptureResult(Verdict.UNKNOWN, "no answer")
    if answer.ok:
        return CaptureResult(Verdict.DONE)
    refused = answer.client_error and answer.status not in (401, 403, 408, 425, 429)
    return CaptureResult(Verdict.REFUSED if refused else Verdict.UNKNOWN, _reason(answer))


def _refund_result(answer: Answer) -> CaptureResult:
    """Of an answer that has a refund."""
    try:
        refund = msgspec.json.decode(answer.content, type=_Refund)
    except msgspec.DecodeError:
        return CaptureResult(Verdict.UNKNOWN, "unreadable answer")
    return CaptureResult(_REFUNDS[refund.state], refund.reason[:REASON_CHARS_MAX])


_REFUNDS = {
    "pending": Verdict.PENDING,
    "succeeded": Verdict.DONE,
    "failed": Verdict.REFUSED,
}


def _authorisation(answer: Answer | None) -> Authorisation:
    if answer is None:
        return _lost("no answer")
    if not answer.ok:
        return _lost(_reason(answer))
    try:
        charge = msgspec.json.decode(answer.content, type=_Charge)
    except msgspec.DecodeError:
        return _lost("unreadable answer")
    return Authorisation(
        state=charge.state,
        ref=charge.ref,
        reason=charge.reason[:REASON_CHARS_MAX],
        action=charge.action,
        captured_minor=charge.captured_minor,
        refunded_minor=charge.refunded_minor,
    )


def _lost(reason: str) -> Authorisation:
    return Authorisation(state=PaymentState.UNKNOWN, reason=reason)


def _reason(answer: Answer) -> str:
    text = answer.content.decode(errors="replace")
    return f"{answer.status} {text}"[:REASON_CHARS_MAX]

"""The provider `http`: a payment service of the shop's own, asked by five signed calls.

POST {url}/authorise, /look_up, /capture, /void and /refund, each a JSON object under the three
headers of Standard Webhooks, whose id is the call's idempotency key; `call` in the body names it,
so that no recorded call serves as another one.
Always: only an answer of status 200 that is what was asked for counts. Anything else - another
status, no JSON, a state nobody knows, another payment or amount, too long, too late - is `unknown`,
and is asked for again; so nothing is given up that may hold money.
Not here: repeats (worker.py), holding back (breaker.py).
"""

import time
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal, TypeVar
from uuid import uuid4

import msgspec
from msgspec import Meta

from live.domain.money import AMOUNT_MINOR_MAX
from live.domain.payment import Action, ChargePage, PaymentId, PaymentState, ProviderRefund
from live.payments.http_client import HttpClient
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
from live.payments.webhooks import signed_by_all, signing_key, verify

TIMEOUT_SECONDS = 6.0  # of one call; a checkout goes on in the background for 9 s, then lets go
ANSWER_BYTES_MAX = 64 * 1024  # a charge with all its refunds has a few hundred bytes a refund
PAYMENT_WINDOW_MS = 600_000  # the buyer may be sent to a bank, or scan a code
REFUNDS_MAX = 200  # of one charge

_Amount = Annotated[int, Meta(ge=0, le=AMOUNT_MINOR_MAX)]
_Ref = Annotated[str, Meta(min_length=1, max_length=255)]
Read = TypeVar("Read", bound=msgspec.Struct)


class _Action(msgspec.Struct):
    kind: Literal["redirect", "client_secret", "qr", "voucher"]
    value: Annotated[str, Meta(min_length=1, max_length=4_096)]
    expires_at: Annotated[int, Meta(ge=0)] | None = None


class _Refund(msgspec.Struct):
    key: str | None
    amount_minor: _Amount
    state: Literal["pending", "done", "refused"]
    reason: str = ""


class _Charge(msgspec.Struct):
    """What /authorise and /look_up answer. `created`: never heard of it, and then nothing else."""

    payment: str
    state: PaymentState
    ref: _Ref | None = None
    reason: str = ""
    amount_minor: _Amount = 0
    currency: str = ""
    captured_minor: _Amount = 0
    refunded_minor: _Amount = 0
    action: _Action | None = None
    refunds: Annotated[list[_Refund], Meta(max_length=REFUNDS_MAX)] = []


class _Result(msgspec.Struct):
    """What /capture, /void and /refund answer."""

    result: Literal["done", "refused", "pending"]
    reason: str = ""


class _Event(msgspec.Struct):
    type: Annotated[str, Meta(min_length=1, max_length=64, pattern="^[a-zA-Z0-9_.]+$")]
    payment: str
    ref: _Ref | None = None


class HttpProvider:
    """`secrets`: `whsec_` and base64 each; all of them sign, and any may have signed its news."""

    name = "http"

    def __init__(
        self, url: str, *, secrets: Sequence[str], timeout_seconds: float = TIMEOUT_SECONDS
    ) -> None:
        self._http = HttpClient(
            url, headers={}, timeout_seconds=timeout_seconds, answer_bytes_max=ANSWER_BYTES_MAX
        )
        self._keys = [signing_key(text) for text in secrets]

    async def close(self) -> None:
        await self._http.close()

    def is_asynchronous(self, token: str | None) -> bool:
        return False

    def payment_window_ms(self, token: str | None) -> int:
        return PAYMENT_WINDOW_MS

    async def authorise(self, request: AuthoriseRequest) -> Authorisation:
        body = {
            "amount_minor": request.amount_minor,
            "currency": request.currency,
            "token": request.token,
            "sub": request.sub,
            **{name: request.metadata.get(name) for name in ("show", "order", "hold")},
        }
        charge = await self._call("authorise", request.payment, request.payment, body, _Charge)
        if charge is not None and charge.state is PaymentState.CREATED:
            charge = None  # it was asked for a moment ago
        said = _authorisation(charge, request.payment)
        if said.price not in (None, (request.amount_minor, request.currency)):
            return _lost(f"is a charge of {said.price}")
        return said

    async def look_up(self, payment: PaymentId, ref: str | None) -> Authorisation:
        return _authorisation(await self._look_up(payment, ref), payment)

    async def capture(self, request: MoneyRequest) -> CaptureResult:
        return await self._money("capture", request)

    async def void(self, request: MoneyRequest) -> CaptureResult:
        return await self._money("void", request)

    async def refund(self, request: MoneyRequest) -> CaptureResult:
        return await self._money("refund", request)

    async def look_up_refund(self, request: MoneyRequest) -> CaptureResult | None:
        charge = await self._look_up(request.payment, request.ref)
        if charge is None:
            return CaptureResult(Verdict.UNKNOWN, "no usable answer")
        found = next((one for one in charge.refunds if one.key == request.key), None)
        return (
            None if found is None else CaptureResult(_VERDICTS[found.state], _short(found.reason))
        )

    async def list_refunds(
        self, payment: PaymentId, ref: str | None
    ) -> tuple[ProviderRefund, ...] | None:
        charge = await self._look_up(payment, ref)
        if charge is None or charge.state is PaymentState.CREATED:
            return None
        return tuple(
            ProviderRefund(
                key=one.key,
                amount_minor=one.amount_minor,
                state=REFUND_STATES[_VERDICTS[one.state]],
                reason=_short(one.reason),
            )
            for one in charge.refunds
        )

    def refuses_price(self, price_minor: int, currency: str) -> str:
        return ""

    def parse_webhook(self, headers: Mapping[str, str], body: bytes) -> Sequence[ProviderEvent]:
        event = verify(headers, body, keys=self._keys, now=time.time())
        try:
            read = msgspec.json.decode(body, type=_Event)
        except msgspec.DecodeError as error:
            raise WebhookRefused("unreadable", status=400, code="webhook.body") from error
        return [
            ProviderEvent(
                provider=self.name,
                id=event,
                kind=read.type,
                payment=PaymentId(read.payment),
                ref=read.ref,
                refund=read.type.startswith("refund."),
                authorised=read.type == "payment.authorised",
            )
        ]

    async def list_charges(
        self, *, cursor: str | None, limit: int, since_ms: int = 0
    ) -> ChargePage:
        """Nothing: it is asked for one charge at a time."""
        return ChargePage((), None)

    async def _look_up(self, payment: PaymentId, ref: str | None) -> _Charge | None:
        charge = await self._call("look_up", f"look_up:{uuid4()}", payment, {"ref": ref}, _Charge)
        return charge if charge is not None and charge.payment == payment else None

    async def _money(self, call: str, request: MoneyRequest) -> CaptureResult:
        body = {
            "ref": request.ref,
            "amount_minor": request.amount_minor,
            "currency": request.currency,
        }
        answer = await self._call(call, request.key, request.payment, body, _Result)
        if answer is None:
            return CaptureResult(Verdict.UNKNOWN, "no usable answer")
        return CaptureResult(_VERDICTS[answer.result], _short(answer.reason))

    async def _call(
        self, call: str, key: str, payment: PaymentId, more: Mapping[str, object], kind: type[Read]
    ) -> Read | None:
        """Send once; None where the answer is none. `key`: the idempotency key."""
        body = msgspec.json.encode({"call": call, "key": key, "payment": payment, **more})
        stamp = int(time.time())
        headers = signed_by_all(self._keys, event=key, timestamp=stamp, body=body)
        headers["idempotency-key"] = key
        answer = await self._http.call("POST", f"/{call}", headers=headers, content=body)
        if answer is None or answer.status != 200:
            return None
        try:
            return msgspec.json.decode(answer.content, type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return None


_VERDICTS = {"done": Verdict.DONE, "refused": Verdict.REFUSED, "pending": Verdict.PENDING}


def _authorisation(charge: _Charge | None, payment: PaymentId) -> Authorisation:
    if charge is None or charge.payment != payment:
        return _lost("no usable answer")
    state = charge.state
    if state is PaymentState.CREATED:
        return Authorisation(state=state)
    if not charge.refunded_minor <= charge.captured_minor <= charge.amount_minor:
        return _lost("its sums are wrong")
    if (state is PaymentState.ACTION_REQUIRED) != (charge.action is not None):
        return _lost("an action goes with action_required, and with nothing else")
    action = charge.action
    return Authorisation(
        state=state,
        ref=charge.ref,
        reason=_short(charge.reason),
        action=None if action is None else Action(action.kind, action.value, action.expires_at),
        captured_minor=charge.captured_minor,
        refunded_minor=charge.refunded_minor,
        price=(charge.amount_minor, charge.currency),
    )


def _lost(reason: str) -> Authorisation:
    return Authorisation(state=PaymentState.UNKNOWN, reason=reason)


def _short(reason: str) -> str:
    """As much as is kept, and nothing that Postgres refuses."""
    return reason.replace("\0", "")[:REASON_CHARS_MAX]

"""A small stand-in for Stripe's API, as a real HTTP process: what our provider uses of it.

PaymentIntents with manual capture, refunds, search and lists, idempotency keys with stored answers,
signed events that come when the test asks. Its books are in memory; `/control` makes it misbehave.
The shapes follow docs.stripe.com/api (payment_intents, refunds, errors, idempotent requests).
"""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs

import httpx
import orjson
import stripe
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from live.payments.providers.stripe import Stripe
from tests.support.servers import READY_SECONDS

KEY = "sk_test_stand_in_0123456789"
WEBHOOK_SECRET = "whsec_stand_in_0123456789"
HANG_SECONDS = 30.0

Intent = dict[str, Any]  # JSON, as it goes over the wire


@dataclass(slots=True)
class Books:
    intents: dict[str, Intent] = field(default_factory=dict)
    refunds: dict[str, Intent] = field(default_factory=dict)
    answers: dict[str, tuple[str, int, bytes]] = field(default_factory=dict)  # by idempotency key
    control: dict[str, object] = field(default_factory=dict)


class Refused(Exception):
    def __init__(self, status: int, **error: object) -> None:
        super().__init__(error.get("code"))
        self.status = status
        self.error = error


class StandIn:
    def __init__(self) -> None:
        self.books = Books()

    async def handle(self, request: Request) -> Response:
        body = (await request.body()).decode()
        if request.url.path == "/control":
            self.books.control = orjson.loads(body)
            return Response(b"{}")
        if request.headers.get("authorization") != f"Bearer {KEY}":
            return _json(401, {"error": {"type": "invalid_request_error", "message": "bad key"}})
        if self.books.control.get("down"):
            return _json(500, {"error": {"type": "api_error", "message": "down"}})
        if self.books.control.get("forget_keys"):  # Stripe keeps them for a day
            self.books.answers.clear()
        key = request.headers.get("idempotency-key") if request.method == "POST" else None
        asked = f"{request.url.path}?{body}"
        known = self.books.answers.get(key) if key else None
        if known is not None and known[0] != asked:
            return _json(400, {"error": {"type": "idempotency_error", "message": "other request"}})
        if known is not None:
            headers = {"idempotent-replayed": "true"}
            return Response(known[2], known[1], headers, "application/json")
        form = {name: values[-1] for name, values in parse_qs(body).items()}
        try:
            status, answer = 200, self.answer(request, form)
        except Refused as refused:
            status, answer = refused.status, {"error": refused.error}
        content = orjson.dumps(answer)
        if key:
            self.books.answers[key] = (asked, status, content)
        hangs = form.get("payment_method") == "pm_hangs_after_charge"
        if hangs or (self.books.control.get("hang_captures") and "/capture" in asked):
            await asyncio.sleep(HANG_SECONDS)
        return Response(content, status, media_type="application/json")

    def answer(self, request: Request, form: dict[str, str]) -> object:
        path = request.url.path.removeprefix("/v1/").split("/")
        query = request.query_params
        match request.method, path:
            case "POST", ["payment_intents"]:
                return self.create(form)
            case "GET", ["payment_intents"]:
                return self.page(query.get("starting_after"), int(query.get("limit", 10)))
            case "GET", ["payment_intents", "search"]:
                found = [i for i in self.books.intents.values() if _matches(i, query["query"])]
                return {"object": "search_result", "data": found[:1], "has_more": False}
            case "GET", ["payment_intents", ref]:
                return self.find(ref)
            case "POST", ["payment_intents", ref, verb]:
                return self.act(self.find(ref), verb, form)
            case "POST", ["refunds"]:
                return self.refund(self.find(form["payment_intent"]), form)
            case "GET", ["refunds"]:
                intent = self.find(query["payment_intent"])
                return self.refunds(intent, query.get("starting_after"), int(query["limit"]))
        raise Refused(404, type="invalid_request_error", message="unknown path")

    def create(self, form: dict[str, str]) -> Intent:
        assert form["capture_method"] == "manual" and form["confirm"] == "true", form
        _check_amount(int(form["amount"]), form["currency"])
        ref = f"pi_{len(self.books.intents):08d}"
        intent: Intent = {
            "id": ref,
            "object": "payment_intent",
            "amount": int(form["amount"]),
            "amount_received": 0,
            "currency": form["currency"],
            "status": "requires_capture",
            "client_secret": f"{ref}_secret_x",
            "last_payment_error": None,
            "cancellation_reason": None,
            "latest_charge": None,
            "metadata": {k[9:-1]: v for k, v in form.items() if k.startswith("metadata[")},
        }
        self.books.intents[ref] = intent
        match form["payment_method"]:
            case "pm_card_visa" | "pm_hangs_after_charge":
                _charge(intent)
            case "pm_card_authenticationRequired":
                intent["status"] = "requires_action"
            case _:
                _fail(intent)
                error = intent["last_payment_error"]
                raise Refused(402, **error, payment_intent=intent)
        return intent

    def find(self, ref: str) -> Intent:
        if ref not in self.books.intents:
            raise Refused(404, type="invalid_request_error", code="resource_missing", message=ref)
        return self.books.intents[ref]

    def page(self, after: str | None, limit: int) -> object:
        newest = list(reversed(self.books.intents.values()))
        ids = [intent["id"] for intent in newest]
        start = ids.index(after) + 1 if after else 0
        data = newest[start : start + limit]
        more = start + limit < len(newest)
        return {"object": "list", "data": data, "has_more": more, "url": "/v1/payment_intents"}

    def act(self, intent: Intent, verb: str, form: dict[str, str]) -> Intent:
        match verb, intent["status"]:
            case "capture", "requires_capture" if not self.books.control.get("refuse_captures"):
                intent["status"] = "succeeded"
                intent["amount_received"] = int(form.get("amount_to_capture") or intent["amount"])
            case "cancel", "requires_capture" | "requires_action" | "requires_payment_method":
                intent["status"] = "canceled"
                intent["cancellation_reason"] = "requested_by_customer"
            case "approve", "requires_action":  # what the buyer does in their bank's app
                _charge(intent)
            case "decline", "requires_action":
                _fail(intent)
            case "refunds_succeed" | "refunds_fail", "succeeded":  # what banks do, days later
                self.decide(intent, succeed=verb == "refunds_succeed")
            case _:
                raise Refused(
                    400,
                    type="invalid_request_error",
                    code="payment_intent_unexpected_state",
                    message=f"{verb} of an intent that is {intent['status']}",
                )
        return intent

    def refund(self, intent: Intent, form: dict[str, str]) -> Intent:
        charge, amount = intent["latest_charge"], int(form["amount"])
        _check_amount(amount, intent["currency"])
        back = charge["amount_refunded"] + amount if charge else 0
        if intent["status"] != "succeeded" or back > intent["amount_received"]:
            raise Refused(400, type="invalid_request_error", message="more than was captured")
        ref = f"re_{len(self.books.refunds):08d}"
        status = str(self.books.control.get("refunds", "succeeded"))
        self.books.refunds[ref] = {
            "id": ref,
            "object": "refund",
            "amount": amount,
            "currency": intent["currency"],
            "status": status,
            "failure_reason": "expired_or_canceled_card" if status == "failed" else None,
            "payment_intent": intent["id"],
            "metadata": {k[9:-1]: v for k, v in form.items() if k.startswith("metadata[")},
        }
        self.count(intent)
        return self.books.refunds[ref]

    def decide(self, intent: Intent, *, succeed: bool) -> None:
        """Refunds that wait are done; or all that did not fail yet come back."""
        for refund in self.books.refunds.values():
            if refund["payment_intent"] == intent["id"] and refund["status"] != "failed":
                refund["status"] = "succeeded" if succeed else "failed"
                refund["failure_reason"] = None if succeed else "lost_or_stolen_card"
        self.count(intent)

    def count(self, intent: Intent) -> None:
        """As Stripe does: what is on its way counts as refunded, what failed does not."""
        mine = list(self.refunds(intent, None, 10_000)["data"])
        charge = intent["latest_charge"]
        charge["amount_refunded"] = sum(r["amount"] for r in mine if r["status"] != "failed")
        charge["refunds"] = self.refunds(intent, None, 10)

    def refunds(self, intent: Intent, after: str | None, limit: int) -> dict[str, Any]:
        mine = [r for r in self.books.refunds.values() if r["payment_intent"] == intent["id"]]
        mine.reverse()
        start = [r["id"] for r in mine].index(after) + 1 if after else 0
        more = start + limit < len(mine)
        data = mine[start : start + limit]
        return {"object": "list", "data": data, "has_more": more, "url": "/v1/refunds"}


def _charge(intent: Intent) -> None:
    intent["status"] = "requires_capture"
    intent["latest_charge"] = {
        "id": intent["id"].replace("pi_", "ch_"),
        "object": "charge",
        "amount_refunded": 0,
        "refunds": {"object": "list", "data": [], "has_more": False, "url": "/v1/refunds"},
    }


def _check_amount(amount: int, currency: str) -> None:
    """The rules of docs.stripe.com/currencies, as far as amounts are refused."""
    unit = {"isk": 100, "ugx": 100} | dict.fromkeys(("bhd", "jod", "kwd", "omr", "tnd"), 10)
    if amount % unit.get(currency, 1):
        raise Refused(
            400,
            type="invalid_request_error",
            message=f"must be divisible by {unit[currency]}",
        )


def _fail(intent: Intent) -> None:
    intent["status"] = "requires_payment_method"
    intent["last_payment_error"] = {
        "type": "card_error",
        "code": "card_declined",
        "message": "Your card was declined.",
    }


def _matches(intent: Intent, query: str) -> bool:
    return query == f"metadata['payment']:'{intent['metadata'].get('payment')}'"


def _json(status: int, value: object) -> Response:
    return Response(orjson.dumps(value), status, media_type="application/json")


class StripeServer:
    """The stand-in as a child of the test, on a loopback port."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        descriptor = self._socket.fileno()
        command = [sys.executable, "-m", "tests.support.stripe_server", str(descriptor)]
        self.process = subprocess.Popen(command, pass_fds=[descriptor], env={**os.environ})
        # The socket listens from the beginning: a first call waits until it is answered.
        httpx.post(f"{self.url}/control", json={}, timeout=READY_SECONDS, trust_env=False)

    def close(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait(READY_SECONDS)
        self._socket.close()

    def provider(self, *, timeout_seconds: float = 6.0) -> Stripe:
        return Stripe(
            KEY,
            webhook_secrets=(WEBHOOK_SECRET,),
            api_base=self.url,
            timeout_seconds=timeout_seconds,
        )

    async def misbehave(self, **faults: object) -> None:
        """Ask for faults; without any, behave again."""
        async with httpx.AsyncClient(trust_env=False, timeout=60) as client:
            (await client.post(f"{self.url}/control", json=faults)).raise_for_status()

    async def buyer(self, ref: str, verb: str) -> None:
        """The buyer approves or declines in their bank's app; or a bank decides on refunds."""
        headers = {"authorization": f"Bearer {KEY}"}
        async with httpx.AsyncClient(trust_env=False, timeout=60, headers=headers) as client:
            path = f"{self.url}/v1/payment_intents/{ref}/{verb}"
            (await client.post(path)).raise_for_status()


def signed_event(
    name: str, kind: str, about: Mapping[str, object], *, secret: str = WEBHOOK_SECRET, at: int = 0
) -> tuple[dict[str, str], bytes]:
    """A signed webhook: headers and body."""
    body = orjson.dumps({"id": name, "object": "event", "type": kind, "data": {"object": about}})
    return signed_body(body, secret=secret, at=at)


def signed_body(
    body: bytes, *, secret: str = WEBHOOK_SECRET, at: int = 0
) -> tuple[dict[str, str], bytes]:
    """The same around any text."""
    header = stripe.WebhookSignature.generate_signature_header(
        body.decode(), secret, at or int(time.time())
    )
    return {"stripe-signature": header}, body


def main(descriptor: int) -> None:
    methods = ["GET", "POST"]
    app = Starlette(routes=[Route("/{path:path}", StandIn().handle, methods=methods)])
    config = uvicorn.Config(app, log_level="error", access_log=False, lifespan="off")
    asyncio.run(uvicorn.Server(config).serve(sockets=[socket.socket(fileno=descriptor)]))


if __name__ == "__main__":
    main(int(sys.argv[1]))

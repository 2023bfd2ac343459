"""The sandbox payment provider: a separate HTTP service with its own books, for tests and the demo.

It behaves like a real one where that matters: bearer key, idempotency keys, manual capture, signed
webhooks that may come late, twice and out of order, and calls that charge and then never answer.
Always: what it has acknowledged it still knows after a kill.
Run it with `python -m live.tools.sandbox.server --data DIR --port P`; it ends on SIGTERM.
"""

import asyncio
import fcntl
import hmac
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import click
import msgspec
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from live.aio.loops import repeat
from live.aio.tasks import Tasks
from live.base.settings import Settings
from live.domain.money import AMOUNT_MINOR_MAX
from live.domain.payment import PaymentState
from live.tools.sandbox.books import BookedRefundState, Books, Charge, Refund, Refused
from live.tools.sandbox.hooks import HookRules, HookSender

SLOW_MS = 5_000  # longer than a checkout waits, shorter than the client's own deadline
ASYNC_MS = 2_000  # how long the bank of an asynchronous method takes
HANG_SECONDS = 30  # a call that never answers still ends, so a test leaves nothing behind
BODY_BYTES_MAX = 16 * 1024

_Handler = Callable[[Request], Awaitable[Response]]


class Faults(msgspec.Struct, forbid_unknown_fields=True):
    """What a test asks the provider to do wrong; see `POST /v1/control`."""

    down: bool = False  # every call answers 500
    refuse_captures: bool = False
    hang_captures: bool = False  # captured, but the answer never comes
    hang_refunds: bool = False  # the same of refunds
    refunds: BookedRefundState = BookedRefundState.SUCCEEDED  # what becomes of new ones at once
    slow_ms: int = SLOW_MS
    async_ms: int = ASYNC_MS
    webhook_delay_ms: int = 0
    webhook_copies: int = 1
    webhook_shuffle: bool = False


class _Charge(msgspec.Struct, forbid_unknown_fields=True):
    payment: str
    amount_minor: int
    currency: str
    token: str = ""
    metadata: dict[str, str] = {}


class _Amount(msgspec.Struct, forbid_unknown_fields=True):
    amount_minor: int = 0


@dataclass(slots=True)
class Sandbox:
    """One provider: its books, its key, and how it misbehaves just now."""

    books: Books
    key: str
    hooks: HookSender | None
    faults: Faults

    async def create(self, request: Request) -> Response:
        body = msgspec.json.decode(await _body(request), type=_Charge)
        payment = request.headers.get("idempotency-key", "")
        if payment != body.payment or not 0 <= body.amount_minor <= AMOUNT_MINOR_MAX:
            return _problem(400, "request.invalid")
        state, reason = _OUTCOMES.get(body.token, (PaymentState.DECLINED, "unknown token"))
        later = _now_ms() + self.faults.async_ms if body.token == "tok_async" else None
        charge, made = self.books.charge(
            body.payment,
            amount=body.amount_minor,
            currency=body.currency,
            token=body.token,
            state=state,
            reason=reason,
            now_ms=_now_ms(),
            later_ms=later,
        )
        self.wake()
        if body.token in ("tok_slow", "tok_slow_decline"):
            await asyncio.sleep(self.faults.slow_ms / 1000)
        if body.token == "tok_timeout_after_charge" and made:
            await asyncio.sleep(HANG_SECONDS)  # a repeat is answered: only the first reply is lost
        return self.answer(request, charge, status=201 if made else 200)

    async def capture(self, request: Request) -> Response:
        if self.faults.refuse_captures:
            return _problem(409, "capture.refused")
        charge = self.books.capture(
            request.path_params["name"],
            amount=await _amount(request),
            key=_key(request),
            now_ms=_now_ms(),
        )
        self.wake()
        if self.faults.hang_captures or charge.token == "tok_capture_hangs":
            await asyncio.sleep(HANG_SECONDS)
        return self.answer(request, charge)

    async def void(self, request: Request) -> Response:
        name = request.path_params["name"]
        charge = self.books.void(name, key=_key(request), now_ms=_now_ms())
        self.wake()
        return self.answer(request, charge)

    async def refund(self, request: Request) -> Response:
        refund = self.books.refund(
            request.path_params["name"],
            amount=await _amount(request),
            key=_key(request),
            state=self.faults.refunds,
            now_ms=_now_ms(),
        )
        self.wake()
        if self.faults.hang_refunds:
            await asyncio.sleep(HANG_SECONDS)
        return _json(_shown(refund))

    async def find_refund(self, request: Request) -> Response:
        refund = self.books.find_refund(_key(request))
        return _problem(404, "refund.unknown") if refund is None else _json(_shown(refund))

    async def list_refunds(self, request: Request) -> Response:
        found = self.books.refunds_of(request.path_params["name"])
        return _json([_shown(refund) for refund in found])

    async def decide_refunds(self, request: Request) -> Response:
        """What the buyer's bank does, days later."""
        state = BookedRefundState(request.query_params.get("state", ""))
        self.books.decide_refunds(request.path_params["name"], state, now_ms=_now_ms())
        self.wake()
        return _json({})

    async def find(self, request: Request) -> Response:
        charge = self.books.find(request.path_params["name"])
        return _problem(404, "charge.unknown") if charge is None else self.answer(request, charge)

    async def list(self, request: Request) -> Response:
        cursor, limit = request.query_params.get("cursor", "0"), request.query_params.get("limit")
        if not cursor.isdecimal() or not (limit or "1").isdecimal():
            return _problem(400, "request.invalid")
        charges, following = self.books.page(after=int(cursor), limit=int(limit or 100))
        shown = [self.show(request, charge) for charge in charges]
        return _json({"charges": shown, "cursor": None if following is None else str(following)})

    async def control(self, request: Request) -> Response:
        self.faults = msgspec.json.decode(await _body(request), type=Faults)
        if self.hooks is not None:
            self.hooks.rules = HookRules(
                delay_ms=self.faults.webhook_delay_ms,
                copies=self.faults.webhook_copies,
                shuffle=self.faults.webhook_shuffle,
            )
        return _json({})

    async def page(self, request: Request) -> Response:
        """The provider's own page, where a buyer approves what their bank asks for."""
        name = request.path_params["name"]
        if request.method == "POST":
            approve = request.query_params.get("approve") == "yes"
            charge = self.books.decide(name, approve=approve, now_ms=_now_ms())
            self.wake()
            return HTMLResponse(f"<p>{charge.state}. You may go back to the show.</p>")
        if self.books.find(name) is None:
            return _problem(404, "charge.unknown")
        return HTMLResponse(_PAGE)

    def wake(self) -> None:
        if self.hooks is not None:
            self.hooks.wake()

    def answer(self, request: Request, charge: Charge, *, status: int = 200) -> Response:
        return _json(self.show(request, charge), status=status)

    def show(self, request: Request, charge: Charge) -> dict[str, object]:
        action = None
        if charge.state is PaymentState.ACTION_REQUIRED:
            value = str(request.url_for("page", name=charge.ref))
            action = {"kind": "redirect", "value": value}
        return {
            "payment": charge.payment,
            "ref": charge.ref,
            "state": charge.state,
            "amount_minor": charge.amount_minor,
            "currency": charge.currency,
            "reason": charge.reason,
            "captured_minor": charge.captured_minor,
            "refunded_minor": charge.refunded_minor,
            "action": action,
        }

    def guarded(self, handler: Callable[[Request], Awaitable[Response]]) -> _Handler:
        """Check the key, translate what the books refuse, and be down when asked to be."""

        async def guarded(request: Request) -> Response:
            given = request.headers.get("authorization", "")
            if not hmac.compare_digest(given.encode(), f"Bearer {self.key}".encode()):
                return _problem(401, "key.wrong")
            if self.faults.down and request.url.path != "/v1/control":
                return _problem(500, "provider.down")
            try:
                return await handler(request)
            except Refused as refused:
                missing = refused.code == "charge.unknown"
                return _problem(404 if missing else 409, refused.code)
            except (msgspec.DecodeError, _BadRequest, ValueError):
                return _problem(400, "request.invalid")

        return guarded

    async def tick(self) -> None:
        """Let asynchronous banks answer. Runs until cancelled."""

        async def decide() -> None:
            if self.books.decide_due(now_ms=_now_ms(), limit=500):
                self.wake()

        await repeat("banks", decide, every_seconds=0.05)


_OUTCOMES = {
    "tok_approve": (PaymentState.AUTHORISED, ""),
    "tok_slow": (PaymentState.AUTHORISED, ""),
    "tok_timeout_after_charge": (PaymentState.AUTHORISED, ""),
    "tok_capture_hangs": (PaymentState.AUTHORISED, ""),
    "tok_async": (PaymentState.AUTHORISING, ""),
    "tok_action_required": (PaymentState.ACTION_REQUIRED, ""),
    "tok_decline": (PaymentState.DECLINED, "card declined"),
    "tok_slow_decline": (PaymentState.DECLINED, "card declined"),
}
_PAGE = """<!doctype html><meta charset="utf-8"><title>Sandbox bank</title>
<h1>Your bank asks: pay?</h1>
<form method="post" action="?approve=yes"><button>Approve</button></form>
<form method="post" action="?approve=no"><button>Decline</button></form>"""


class _BadRequest(Exception):
    pass


def build(
    data_dir: Path, *, key: str, webhook_url: str | None = None, uds: str | None = None
) -> Starlette:
    """Make the service. `webhook_url` None: it sends no events."""
    books = Books(data_dir / "sandbox.sqlite3", webhooks=webhook_url is not None)
    hooks = HookSender(books, url=webhook_url, key=key, uds=uds) if webhook_url else None
    sandbox = Sandbox(books, key, hooks, Faults())

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        tasks = Tasks()
        tasks.start("banks", sandbox.tick())
        if hooks is not None:
            tasks.start("webhooks", hooks.run())
        yield
        await tasks.close()
        books.close()

    guarded = sandbox.guarded
    return Starlette(
        lifespan=lifespan,
        routes=[
            Route("/healthz", _healthy),
            Route("/pay/{name}", sandbox.page, name="page", methods=["GET", "POST"]),
            Route("/v1/control", guarded(sandbox.control), methods=["POST"]),
            Route("/v1/charges", guarded(sandbox.create), methods=["POST"]),
            Route("/v1/charges", guarded(sandbox.list), methods=["GET"]),
            Route("/v1/charges/{name}", guarded(sandbox.find), methods=["GET"]),
            Route("/v1/charges/{name}/capture", guarded(sandbox.capture), methods=["POST"]),
            Route("/v1/charges/{name}/void", guarded(sandbox.void), methods=["POST"]),
            Route("/v1/charges/{name}/refund", guarded(sandbox.refund), methods=["POST"]),
            Route("/v1/charges/{name}/refunds", guarded(sandbox.list_refunds), methods=["GET"]),
            Route("/v1/charges/{name}/bank", guarded(sandbox.decide_refunds), methods=["POST"]),
            Route("/v1/refund", guarded(sandbox.find_refund), methods=["GET"]),
        ],
    )


def main(
    *,
    port: int | None = None,
    uds: str | None = None,
    data_dir: Path,
    key: str,
    webhook_url: str | None = None,
    webhook_uds: str | None = None,
    http: Callable[..., asyncio.Protocol] | None = None,
) -> None:
    """Serve on loopback (`port`) or a unix socket (`uds`) until SIGTERM or SIGINT.

    `http`: what uvicorn calls for each connection; None: its own, without bounds, for tests.
    """
    signal.signal(signal.SIGTERM, _leave)
    with _alone_with(data_dir):
        app = build(data_dir, key=key, webhook_url=webhook_url, uds=webhook_uds)
        config = uvicorn.Config(
            app,
            http=http or "auto",  # type: ignore[arg-type]  # wants a class; it is only called
            host="127.0.0.1",
            port=port or 0,
            uds=uds,
            log_level="warning",
            access_log=False,
            # A hanging call must not keep the process: SIGTERM ends it within this.
            timeout_graceful_shutdown=1,
            server_header=False,
        )
        try:
            uvicorn.Server(config).run()
        finally:
            if uds is not None:
                Path(uds).unlink(missing_ok=True)


@contextmanager
def _alone_with(data_dir: Path) -> Iterator[None]:
    """Wait for our turn: whoever keeps these books listens on their socket, and a second process
    would take the socket's path away from the first (`live audit` beside `live serve`)."""
    data_dir.mkdir(parents=True, exist_ok=True)
    with (data_dir / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _leave(_number: int, _frame: object) -> None:
    raise SystemExit(0)  # unlike the default, this lets go of the socket's path on the way out


def _shown(refund: Refund) -> dict[str, object]:
    return {
        "key": refund.key,
        "state": refund.state,
        "amount_minor": refund.amount_minor,
        "reason": refund.reason,
    }


async def _healthy(_: Request) -> Response:
    return _json({"ok": True})


async def _body(request: Request) -> bytes:
    body = await request.body()
    if len(body) > BODY_BYTES_MAX:
        raise _BadRequest
    return body


async def _amount(request: Request) -> int:
    return msgspec.json.decode(await _body(request), type=_Amount).amount_minor


def _key(request: Request) -> str:
    key = request.headers.get("idempotency-key", "")
    if not 0 < len(key) <= 255:
        raise _BadRequest
    return key


def _json(value: object, *, status: int = 200) -> Response:
    return Response(msgspec.json.encode(value), status, media_type="application/json")


def _problem(status: int, code: str) -> Response:
    return _json({"error": code}, status=status)


def _now_ms() -> int:
    return int(time.time() * 1000)


@click.command()
@click.option("--port", type=click.IntRange(0, 65_535))
@click.option("--uds", type=click.Path())
@click.option("--data", required=True, type=click.Path(path_type=Path))
@click.option("--webhook-url")
@click.option("--webhook-uds", help="Send webhooks through this unix socket.")
def command(
    port: int | None, uds: str | None, data: Path, webhook_url: str | None, webhook_uds: str | None
) -> None:
    """Run the sandbox provider; its key is LIVE_SANDBOX_KEY."""
    key = Settings.from_env(os.environ).sandbox_key
    if not key:
        raise click.UsageError("LIVE_SANDBOX_KEY must be set")
    main(
        port=port,
        uds=uds,
        data_dir=data,
        key=key,
        webhook_url=webhook_url,
        webhook_uds=webhook_uds,
    )


if __name__ == "__main__":
    command()

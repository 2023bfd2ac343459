"""What every HTTP answer passes: it is counted, and pages of allowed origins may read it (CORS).

Always: exactly the origins of LIVE_ALLOWED_ORIGINS may, by name, and never with credentials: the
console's cookie is for its own pages alone (api/session.py), so another page speaks with a token
that it holds itself. Errors carry the same headers as answers, or a page could not read what was
wrong. Answers that depend on the Origin say so to caches.
"""

from collections.abc import Sequence
from http import HTTPStatus

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from live.api import metrics

METHODS = "GET, POST, PUT, PATCH, DELETE"
HEADERS = "authorization, content-type, idempotency-key, last-event-id"
EXPOSED = "idempotent-replayed, live-note, retry-after"
PREFLIGHT_SECONDS = 600  # that a browser may remember what it was allowed

_SHARED = ("/v1/", "/connection/uni_sse", "/shows.json")
_OWN_PAGES_ONLY = ("/v1/session",)


class Edge:
    """ASGI middleware."""

    def __init__(self, app: ASGIApp, allowed_origins: Sequence[str] = ()) -> None:
        self._app = app
        self._allowed = frozenset(allowed_origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        origin = headers.get("origin", "")
        shared = _is_shared(scope["path"])
        welcome = shared and origin.lower() in self._allowed
        answered = False

        async def tell(message: Message) -> None:
            nonlocal answered
            if message["type"] == "http.response.start":
                answered = True
                metrics.answered(message["status"])
                if shared:
                    _mark(MutableHeaders(raw=message["headers"]), origin if welcome else None)
            await send(message)

        try:
            if shared and origin and _is_preflight(scope, headers):
                await _preflight(welcome)(scope, receive, tell)
            else:
                await self._app(scope, receive, tell)
        finally:
            if not answered:  # a bug, or a client that went away
                metrics.answered(0)


def _is_shared(path: str) -> bool:
    return path.startswith(_SHARED) and not path.startswith(_OWN_PAGES_ONLY)


def _is_preflight(scope: Scope, headers: Headers) -> bool:
    return scope["method"] == "OPTIONS" and "access-control-request-method" in headers


def _preflight(welcome: bool) -> Response:
    if not welcome:
        return Response("this origin may not call\n", HTTPStatus.FORBIDDEN, media_type="text/plain")
    allowed = {
        "access-control-allow-methods": METHODS,
        "access-control-allow-headers": HEADERS,
        "access-control-max-age": str(PREFLIGHT_SECONDS),
    }
    return Response(status_code=HTTPStatus.NO_CONTENT, headers=allowed)


def _mark(headers: MutableHeaders, origin: str | None) -> None:
    headers.add_vary_header("Origin")
    if origin is not None:
        headers["access-control-allow-origin"] = origin
        headers["access-control-expose-headers"] = EXPOSED

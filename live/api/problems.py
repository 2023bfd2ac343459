"""Errors of HTTP calls as problem details (RFC 9457).

Always: a client learns what it did wrong and whether to repeat, never what our code looks like: an
unexpected fault carries a reference under which the log tells the rest.
"""

from dataclasses import dataclass
from http import HTTPStatus
from typing import ClassVar
from uuid import uuid4

import msgspec
import orjson
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match, Route

from live.api.auth import ExpiredToken, InvalidToken
from live.api.schema.http_answers import Problem
from live.base.errors import BadField, Busy, CallError, Conflict, Denied, NotFound, TooManyTries
from live.base.faults import as_call_error

MEDIA_TYPE = "application/problem+json"


class TooManyRequests(Busy):
    """This caller is too fast; the server itself is well."""


class TooLarge(CallError):
    code: ClassVar[int] = 1413


class TooSlow(CallError):
    """The request did not arrive in time; the connection ends behind the answer."""

    code: ClassVar[int] = 1408


class WrongMediaType(CallError):
    code: ClassVar[int] = 1415


class NotAllowedHere(CallError):
    """The address or origin of the request, not the role, stands in the way."""

    code: ClassVar[int] = 103


@dataclass(frozen=True, slots=True)
class _Kind:
    error: type[CallError]
    status: int
    title: str


# The first that fits counts, so subclasses stand before their bases.
_KINDS = (
    _Kind(InvalidToken, 401, "Not authenticated"),
    _Kind(ExpiredToken, 401, "Token expired"),
    _Kind(NotAllowedHere, 403, "Not allowed"),
    _Kind(Denied, 403, "Not allowed"),
    _Kind(NotFound, 404, "Not found"),
    _Kind(Conflict, 409, "Conflict"),
    _Kind(TooSlow, 408, "Too slow"),
    _Kind(TooLarge, 413, "Too large"),
    _Kind(WrongMediaType, 415, "Unsupported media type"),
    _Kind(BadField, 400, "Bad request"),
    _Kind(TooManyRequests, 429, "Too many requests"),
    _Kind(TooManyTries, 429, "Too many tries"),
    _Kind(Busy, 503, "One moment"),
)


def answer_problem(error: CallError, *, reference: str | None = None) -> Response:
    """Turn a failed call into its answer; `reference` is where the log tells more."""
    kind = next((kind for kind in _KINDS if isinstance(error, kind.error)), None)
    status, title = (500, "Failed") if kind is None else (kind.status, kind.title)
    retry_ms = error.retry_ms
    problem = Problem(
        title=title,
        status=status,
        detail=str(error),
        code=error.code,
        reason=error.reason or None if isinstance(error, Conflict) else None,
        field=error.field or None if isinstance(error, BadField) else None,
        temporary=error.temporary,
        retry_ms=retry_ms,
        reference=reference,
    )
    headers = {}
    if status in (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.REQUEST_ENTITY_TOO_LARGE):
        headers["Connection"] = "close"  # the rest of the body is not waited for
    if status == 401:
        headers["WWW-Authenticate"] = 'Bearer realm="live"'
    if retry_ms is not None:
        headers["Retry-After"] = str(max(1, -(-retry_ms // 1000)))  # whole seconds, rounded up
    return _response(problem, headers)


def answer_fault(error: Exception, **ids: object) -> Response:
    """An engine that is away (503) or a bug of ours (500): the client gets a reference, the log
    everything else."""
    reference = uuid4().hex
    told = as_call_error("call.failed", error, reference=reference, **ids)
    return answer_problem(told, reference=reference)


def answer_refused_webhook(status: int, detail: str, reason: str) -> Response:
    """The provider's operators read this, so it says what is wrong in words of its own."""
    code = _CODES.get(status, BadField.code)
    problem = Problem(
        title="Webhook refused", status=status, detail=detail, code=code, reason=reason
    )
    return _response(problem, {})


async def answer_http(request: Request, error: Exception) -> Response:
    """No call of ours took the request: an unknown path, or a method that is not for it."""
    assert isinstance(error, HTTPException), error
    headers = dict(error.headers or {})
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        # Starlette names the methods of the first route; a path here has one route a method.
        headers["Allow"] = ", ".join(sorted(_methods(request)))
    phrase = HTTPStatus(error.status_code).phrase.capitalize()
    problem = Problem(
        title=phrase,
        status=error.status_code,
        detail=f"{request.method} {request.url.path}: {phrase.lower()}",
        code=_CODES.get(error.status_code, CallError.code),
    )
    return _response(problem, headers)


def _methods(request: Request) -> set[str]:
    routes = [route for route in request.app.routes if isinstance(route, Route)]
    here = [route for route in routes if route.matches(request.scope)[0] is not Match.NONE]
    return {method for route in here for method in route.methods or ()}


_CODES = {401: InvalidToken.code, 404: NotFound.code, 405: 1405, 413: TooLarge.code}
"""By HTTP status, for failures that are no CallError."""

HANDLERS = {HTTPException: answer_http}
"""For the application: what its router refuses by itself."""


def _response(problem: Problem, headers: dict[str, str]) -> Response:
    body = orjson.dumps(msgspec.to_builtins(problem))
    return Response(body, problem.status, headers | {"Cache-Control": "no-store"}, MEDIA_TYPE)

"""Turns a line of the table into a route: authenticate, authorise, validate, run, answer.

Always: in this order. Who may not call learns nothing about what exists or which field is wrong;
nothing is run with a body that was not checked; every failure is a problem document. With an
Idempotency-Key the handler runs once, and a repeat gets the same bytes (but for secrets, which are
not stored: a repeat makes an equal one).
"""

import asyncio
import hashlib

import asyncpg
import msgspec
import orjson
import structlog
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from live.api.auth import ConsoleSession, InvalidToken
from live.api.http.deps import ApiDeps
from live.api.http.table import Access, ApiAnswer, ApiCall, B, Endpoint, Where
from live.api.problems import (
    TooLarge,
    TooSlow,
    WrongMediaType,
    answer_fault,
    answer_problem,
)
from live.api.session import SAFE_METHODS, check_origin, renew_session, session_token
from live.base.decode import read
from live.base.errors import BadField, CallError, Denied, NotFound
from live.base.failpoint import failpoint
from live.domain.caller import Caller, Role
from live.domain.ids import OfferId, ShowId, is_id, is_sub
from live.ledger.db.idempotency import CallKey
from live.ledger.hosting.show_command import Actor

log = structlog.get_logger()

BODY_BYTES_MAX = 64 * 1024
BODY_SECONDS = 5.0  # below what the guard of the connection gives it (transport/http_guard.py)
KEY_CHARS_MAX = 255


def make_route(deps: ApiDeps, endpoint: Endpoint[B]) -> Route:
    """One route of the application."""

    name = f"{endpoint.method} {endpoint.path}"
    decoder = msgspec.json.Decoder(endpoint.body)

    async def handle(request: Request) -> Response:
        try:
            return await _run(deps, endpoint, decoder, request)
        except CallError as error:
            if isinstance(error, Denied):
                log.info("call_denied", call=name, address=address_of(request), why=str(error))
            return answer_problem(error)
        except ClientDisconnect:
            return Response(status_code=400)  # nobody reads it
        except Exception as error:  # a bug in one call concerns nobody but its caller
            ids = {part: id for part, id in request.path_params.items() if part in _LOGGED}
            return answer_fault(error, call=name, **ids)

    return Route(endpoint.path, handle, methods=[endpoint.method], name=name)


_LOGGED = ("show", "offer", "order", "payment", "hold")  # not `sub`, who is a person


async def _run(
    deps: ApiDeps, endpoint: Endpoint[B], decoder: msgspec.json.Decoder[B], request: Request
) -> Response:
    session = _session_of(deps, endpoint.access, request)
    caller = session.caller if session else await _authenticate(deps, endpoint.access, request)
    _check_path(request)
    show = await _authorise(deps, endpoint.access, caller, request)
    raw = b"" if endpoint.raw or endpoint.method == "GET" else await read_body(request)
    call = ApiCall(
        caller=caller,
        actor=Actor(
            sub=caller.sub,
            role=caller.role,
            address=address_of(request),
            call=_call_key(endpoint, caller, request, raw),
        ),
        body=_decode(decoder, raw, request),
        path=request.path_params,
        query=_query(endpoint, request),
        request=request,
        show=show,
    )
    if call.actor.call is None:
        response = _response(endpoint, await endpoint.handler(deps, call))
    else:
        response = await _run_once(deps, endpoint, call, call.actor.call)
    if session is not None:
        renew_session(request, response, deps.auth, session)
    return response


def _session_of(deps: ApiDeps, access: Access, request: Request) -> ConsoleSession | None:
    """The console's session that a request comes with, where it needs one and has no token."""
    cookie = session_token(request)
    if not access.roles or not cookie or request.headers.get("authorization"):
        return None
    if request.method not in SAFE_METHODS:
        check_origin(request)
    return deps.auth.session(cookie)


async def _authenticate(deps: ApiDeps, access: Access, request: Request) -> Caller:
    if not access.roles:
        return _NOBODY
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    token = token.strip()
    if not scheme and access.guests:
        return deps.auth.caller("")
    if not scheme:
        raise InvalidToken("a token is needed")
    if scheme.lower() != "bearer" or not token:
        raise InvalidToken("Authorization must be: Bearer <token>")
    return await deps.auth.caller_soon(token)


_NOBODY = Caller(sub="", buyer=None, role=Role.VIEWER, shows=frozenset(), expires_at=None)


def _check_path(request: Request) -> None:
    """A name that nothing can have is unknown, and must not reach keys, logs or queries."""
    for part, value in request.path_params.items():
        fits = is_sub(value) if part == "sub" else is_id(value)
        if not fits:
            raise NotFound(f"unknown {part}")


async def _authorise(
    deps: ApiDeps, access: Access, caller: Caller, request: Request
) -> ShowId | None:
    if access.roles and caller.role not in access.roles:
        raise Denied(f"role {caller.role.value} may not do this")
    match access.where:
        case Where.EVERYWHERE:
            if caller.role is not Role.SERVICE and not caller.everywhere:
                raise Denied('this needs a token for all shows, ["*"]')
        case Where.SHOW:
            show = ShowId(request.path_params["show"])
            if not caller.may_see(show):
                raise Denied("the token does not cover this show")
            return show
        case Where.OFFER:
            offer = OfferId(request.path_params["offer"])
            show = await deps.host.show_of(offer)
            if not caller.may_see(show):
                raise NotFound(f"unknown offer {offer}")  # as if it did not exist
            return show
        case Where.ANY:
            pass
    return None


async def read_body(request: Request, *, bytes_max: int = BODY_BYTES_MAX) -> bytes:
    """Read at most `bytes_max` within BODY_SECONDS. Raises TooLarge, TooSlow."""
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for part in request.stream():
                size += len(part)
                if size > bytes_max:
                    raise TooLarge(f"a body has {bytes_max} bytes at most")
                parts.append(part)
    except TimeoutError:
        raise TooSlow(f"a body takes {BODY_SECONDS:g} seconds at most") from None
    return b"".join(parts)


def _decode(decoder: msgspec.json.Decoder[B], raw: bytes, request: Request) -> B:
    """Raises BadField and, for a body that is not said to be JSON, WrongMediaType."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip()
    if raw and kind != "application/json":
        # A form of another site can send text/plain without asking first, but not this.
        raise WrongMediaType("the body must be application/json")
    return read(decoder, raw, whole_floats=True)


def _query(endpoint: Endpoint[B], request: Request) -> dict[str, str]:
    for name in request.query_params:
        if name not in endpoint.query + endpoint.needed:
            raise BadField(name, "unknown query parameter")
    for name in endpoint.needed:
        if name not in request.query_params:
            raise BadField(name, "is missing in the query")
    return dict(request.query_params)


def _call_key(
    endpoint: Endpoint[B], caller: Caller, request: Request, raw: bytes
) -> CallKey | None:
    if endpoint.method != "POST" or not endpoint.keyed:
        return None
    key = request.headers.get("idempotency-key", "")
    if len(key) > KEY_CHARS_MAX or not key.isascii() or not key.isprintable():
        raise BadField("Idempotency-Key", f"1-{KEY_CHARS_MAX} printable ASCII characters")
    if not key:
        if endpoint.key_needed:
            raise BadField("Idempotency-Key", "this call needs the header")
        return None
    place = request.url.path + (f"?{request.url.query}" if endpoint.needed else "")
    digest = hashlib.sha256(b"\n".join((b"POST", place.encode(), raw))).digest()
    return CallKey(f"{caller.role.value}:{caller.sub}", key, digest)


async def _run_once(
    deps: ApiDeps, endpoint: Endpoint[B], call: ApiCall[B], key: CallKey
) -> Response:
    stored = await deps.idempotency.begin(key)
    if stored is not None and not endpoint.secret:
        return Response(stored.body, stored.status, {"Idempotent-Replayed": "true"}, _JSON)
    try:
        response = _response(endpoint, await endpoint.handler(deps, call))
    except (CallError, asyncpg.TransactionRollbackError):
        # Tried to its end. Any other failure leaves the key taken: the call may still be under way.
        await deps.idempotency.forget(key)
        raise
    failpoint("api.before_answer")
    kept = b"" if endpoint.secret else bytes(response.body)
    await deps.idempotency.finish(key, response.status_code, kept)
    return response


_JSON = "application/json"


def _response(endpoint: Endpoint[B], result: object) -> Response:
    if isinstance(result, Response):
        return result
    answer = result if isinstance(result, ApiAnswer) else ApiAnswer(body=result)
    headers = {"Cache-Control": "no-store", **answer.headers}
    return Response(orjson.dumps(answer.body), endpoint.status, headers, _JSON)


def address_of(request: Request) -> str:
    """The client's address; connection/addresses.py has put a trusted proxy's word in already."""
    return "" if request.client is None else request.client.host

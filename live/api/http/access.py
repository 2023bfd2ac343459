"""Sessions, guests, tokens and log-out."""

import time
from dataclasses import replace

import orjson
from starlette.responses import Response

from live.api.auth import TOKEN_LIFE_MAX_SECONDS
from live.api.http.call import address_of
from live.api.http.deps import ApiDeps
from live.api.http.table import ApiCall
from live.api.problems import NotAllowedHere, TooManyRequests
from live.api.schema.fields import Empty, Nothing, check_sub
from live.api.schema.http_answers import GuestAnswer, SessionAnswer, TokenAnswer
from live.api.schema.http_requests import SessionBody, TokenBody
from live.api.session import (
    CONSOLE_ROLES,
    check_origin,
    cookie_name,
    end_session,
    session_token,
    start_session,
)
from live.base.errors import BadField, CallError, Denied
from live.base.settings import Guests
from live.connection.addresses import range_of
from live.domain.caller import ALL_SHOWS, RANKS, Caller, Role
from live.domain.ids import ShowId
from live.hosting.projector import UNREACHABLE


async def log_in(deps: ApiDeps, call: ApiCall[SessionBody]) -> Response:
    """Trade a token for the console's cookie."""
    cookie_name(call.request)  # refuses plain http from elsewhere before it looks at the token
    if "origin" in call.request.headers:
        check_origin(call.request)
    caller = await deps.auth.caller_soon(call.body.token)
    if caller.role not in CONSOLE_ROLES:
        raise Denied(f"role {caller.role.value} has no console")
    response = _json(_session(caller))
    start_session(call.request, response, deps.auth, caller)
    return response


async def log_out(deps: ApiDeps, call: ApiCall[Empty]) -> Response:
    """Needs no valid session: whoever asks to be logged out is logged out.

    A valid one ends on the server, and so does the token it was made from, with its connections.
    """
    check_origin(call.request)
    try:
        session = deps.auth.session(session_token(call.request))
    except CallError:
        pass  # none, an old or a broken one: there is only the cookie to take away
    else:
        await deps.revoked.end_tokens(session.caller)
    response = _json(Nothing())
    end_session(call.request, response)
    return response


async def show_session(_deps: ApiDeps, call: ApiCall[Empty]) -> SessionAnswer:
    return _session(call.caller)


async def make_guest(deps: ApiDeps, call: ApiCall[Empty]) -> GuestAnswer:
    if deps.settings.guests is Guests.OFF:
        raise NotAllowedHere("this server does not take guests")
    if not deps.guest_limit.take(address_of(call.request), now=time.monotonic()):
        raise TooManyRequests("too many guests from this address", retry_ms=5_000)
    # Who shows the token of before stays the same guest: orders and holds belong to the name.
    _, _, known = call.request.headers.get("authorization", "").partition(" ")
    sub = deps.auth.returning_guest(known.strip()) if known else None
    sub = sub or deps.auth.guest_sub(range_of(address_of(call.request)))
    token = deps.auth.mint(
        role=Role.VIEWER, sub=sub, shows=[ALL_SHOWS], ttl=TOKEN_LIFE_MAX_SECONDS, guest=True
    )
    return GuestAnswer(token, sub)


async def make_token(deps: ApiDeps, call: ApiCall[TokenBody]) -> TokenAnswer:
    body, caller = call.body, call.caller
    if not caller.everywhere and not set(body.shows) <= caller.shows:
        raise Denied("shows: more than your own token covers")
    check_sub("sub", body.sub)
    try:
        token = deps.auth.mint(
            role=Role(body.role), sub=body.sub, shows=body.shows, ttl=body.ttl_seconds
        )
    except ValueError as error:  # all else is bounded: this many shows make too long a token
        raise BadField("shows", str(error)) from None
    return TokenAnswer(token)


async def log_out_user(deps: ApiDeps, call: ApiCall[Empty]) -> Nothing:
    """Of the caller's own shows, whose logs note it; everywhere, where their token covers all.

    It reaches those below the caller: who sits at a desk and does not is refused by name, and
    others by their own tokens, wherever these are shown.
    """
    sub, caller = call.path["sub"], call.caller
    # Without its key: of several commands only one could have it, and twice does no harm.
    actor = replace(call.actor, call=None)
    shows = None if caller.everywhere else [ShowId(show) for show in sorted(caller.shows)]
    for show in shows or ():
        if RANKS[await _role_at_desk(deps, show, sub)] >= RANKS[caller.role]:
            raise Denied("this person stands as high as you, or higher")
    await deps.revoked.log_out(sub, actor, shows=shows)
    return Nothing()


async def _role_at_desk(deps: ApiDeps, show: ShowId, sub: str) -> Role:
    """Without an answer from Redis nobody is known there; the rank of the log-out still holds."""
    try:
        return (await deps.at_desk(show)).get(sub, Role.VIEWER)
    except UNREACHABLE:
        return Role.VIEWER


def _session(caller: Caller) -> SessionAnswer:
    assert caller.expires_at is not None, "the caller came with a token"
    return SessionAnswer(caller.sub, caller.role.value, sorted(caller.shows), caller.expires_at)


def _json(body: object) -> Response:
    return Response(
        orjson.dumps(body), headers={"Cache-Control": "no-store"}, media_type="application/json"
    )

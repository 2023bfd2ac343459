"""Sessions, guests, tokens and log-out."""

import time
from dataclasses import replace
from secrets import token_urlsafe

import orjson
from starlette.responses import Response

from live.domain.caller import ALL_SHOWS, Caller, Role
from live.domain.ids import Sub
from live.errors import Denied
from live.settings import Guests
from live.web.api.answers import GuestAnswer, Nothing, SessionAnswer, TokenAnswer
from live.web.api.bodies import Empty, SessionBody, TokenBody
from live.web.api.call import address_of
from live.web.api.deps import ApiDeps
from live.web.api.table import ApiCall
from live.web.auth import GUEST_PREFIX, TOKEN_LIFE_MAX_SECONDS
from live.web.problems import NotAllowedHere, TooManyRequests
from live.web.session import (
    CONSOLE_ROLES,
    check_origin,
    cookie_name,
    end_session,
    start_session,
)


async def log_in(deps: ApiDeps, call: ApiCall[SessionBody]) -> Response:
    """Trade a token for the console's cookie."""
    cookie_name(call.request)  # refuses plain http from elsewhere before it looks at the token
    if "origin" in call.request.headers:
        check_origin(call.request, deps.settings.allowed_origins)
    caller = await deps.auth.caller_soon(call.body.token)
    if caller.role not in CONSOLE_ROLES:
        raise Denied(f"role {caller.role.value} has no console")
    response = _json(_session(caller))
    start_session(call.request, response, deps.auth, caller)
    return response


async def log_out(deps: ApiDeps, call: ApiCall[Empty]) -> Response:
    """Needs no valid session: whoever asks to be logged out is logged out."""
    check_origin(call.request, deps.settings.allowed_origins)
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
    sub = GUEST_PREFIX + token_urlsafe(12)
    token = deps.auth.mint(
        role=Role.VIEWER, sub=sub, shows=[ALL_SHOWS], ttl=TOKEN_LIFE_MAX_SECONDS, guest=True
    )
    return GuestAnswer(token, sub)


async def make_token(deps: ApiDeps, call: ApiCall[TokenBody]) -> TokenAnswer:
    body, caller = call.body, call.caller
    if not caller.everywhere and not set(body.shows) <= caller.shows:
        raise Denied("shows: more than your own token covers")
    token = deps.auth.mint(
        role=Role(body.role), sub=body.sub, shows=body.shows, ttl=body.ttl_seconds
    )
    return TokenAnswer(token)


async def log_out_user(deps: ApiDeps, call: ApiCall[Empty]) -> Nothing:
    """Every show on air that the caller may host has it in its log."""
    sub = Sub(call.path["sub"])
    # Without its key: of several commands only one could have it, and twice does no harm.
    actor = replace(call.actor, call=None)
    for state in await deps.shows.list_running():
        if call.caller.may_host(state.id):
            await deps.shows.log_action(state.id, actor, "user.logout", {"sub": sub})
    await deps.close_sockets(sub)
    return Nothing()


def _session(caller: Caller) -> SessionAnswer:
    assert caller.expires_at is not None, "the caller came with a token"
    return SessionAnswer(caller.sub, caller.role.value, sorted(caller.shows), caller.expires_at)


def _json(body: object) -> Response:
    return Response(
        orjson.dumps(body), headers={"Cache-Control": "no-store"}, media_type="application/json"
    )

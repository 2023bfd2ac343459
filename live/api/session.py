"""The console's session: a cookie that only its own pages can use.

Always: the cookie holds a token made at log-in with an audience of its own, so it is no bearer
token and none is a cookie. It counts for a changing request only where the browser says that the
page is this server's own, so no other page can act with it, not even one of LIVE_ALLOWED_ORIGINS:
those may speak for a viewer, whose token they hold, and never for a host. On plain http: for
loopback only.
It ends on the server: at log-out (revoked.py), with its log-in, and after SESSION_IDLE_SECONDS
without a call; a call in the second half of that time makes a fresh one of the same name.
"""

import ipaddress
import time
from secrets import token_urlsafe

from starlette.datastructures import URL
from starlette.requests import HTTPConnection
from starlette.responses import Response

from live.api.auth import SESSION_IDLE_SECONDS, Authenticator, ConsoleSession
from live.api.problems import NotAllowedHere
from live.domain.caller import Caller, Role

SECURE_COOKIE = "__Host-live"  # https: bound to this host by the browser itself
LOOPBACK_COOKIE = "live"
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})

CONSOLE_ROLES = frozenset({Role.HOST, Role.MODERATOR})


def is_loopback(connection: HTTPConnection) -> bool:
    """Whether browser and server are on this machine, seen from both ends."""
    return _is_local_host(connection.url.hostname or "") and _is_local_peer(connection)


def cookie_name(connection: HTTPConnection) -> str:
    """The cookie's name here. Raises NotAllowedHere on plain http from elsewhere."""
    if connection.url.scheme in ("https", "wss"):
        return SECURE_COOKIE
    if is_loopback(connection):
        return LOOPBACK_COOKIE
    raise NotAllowedHere("the console needs https, or http on this machine itself")


def session_token(connection: HTTPConnection) -> str:
    """The cookie's token; "" without one, or where none is possible."""
    secure = connection.url.scheme in ("https", "wss")
    if not secure and not is_loopback(connection):
        return ""
    return connection.cookies.get(SECURE_COOKIE if secure else LOOPBACK_COOKIE, "")


def check_origin(connection: HTTPConnection) -> None:
    """Raises NotAllowedHere unless the request comes from a page of this server.

    Browsers say so themselves in `Sec-Fetch-Site`, which no page can set and no proxy that renames
    us makes wrong; an old one is known by its Origin.
    """
    site = connection.headers.get("sec-fetch-site")
    own = site == "same-origin"
    if site is None:
        own = connection.headers.get("origin") == own_origin(connection.url)
    if not own:
        raise NotAllowedHere("this request does not come from a page of this server")


def own_origin(url: URL) -> str:
    """The origin as a browser writes it: without the scheme's own port."""
    scheme = {"ws": "http", "wss": "https"}.get(url.scheme, url.scheme)
    host = url.hostname or ""
    if ":" in host:
        host = f"[{host}]"
    standard = {"http": 80, "https": 443}.get(scheme)
    return f"{scheme}://{host}" + (f":{url.port}" if url.port not in (None, standard) else "")


def start_session(
    connection: HTTPConnection, response: Response, auth: Authenticator, caller: Caller
) -> None:
    """Set the cookie. It ends with the token that it was made from."""
    _set(connection, response, auth, caller, name=token_urlsafe(16), parent=caller.token)


def renew_session(
    connection: HTTPConnection, response: Response, auth: Authenticator, session: ConsoleSession
) -> None:
    """Set a fresh cookie of the same session where the old one would soon be idle."""
    caller = session.caller
    soon = session.idle_at - time.time() < SESSION_IDLE_SECONDS / 2
    if soon and session.idle_at != caller.expires_at:
        _set(connection, response, auth, caller, name=caller.token, parent=caller.parent)


def _set(
    connection: HTTPConnection,
    response: Response,
    auth: Authenticator,
    caller: Caller,
    *,
    name: str,
    parent: str,
) -> None:
    assert caller.expires_at is not None, "the caller came with a token"
    value = auth.sign_session(caller, name=name, parent=parent, end=caller.expires_at)
    cookie = cookie_name(connection)
    response.set_cookie(
        cookie,
        value,
        max_age=max(1, min(SESSION_IDLE_SECONDS, caller.expires_at - int(time.time()))),
        path="/",
        secure=cookie == SECURE_COOKIE,
        httponly=True,
        samesite="strict",
    )


def end_session(connection: HTTPConnection, response: Response) -> None:
    name = cookie_name(connection)
    response.delete_cookie(
        name, path="/", secure=name == SECURE_COOKIE, httponly=True, samesite="strict"
    )


def _is_local_host(name: str) -> bool:
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _is_local_peer(connection: HTTPConnection) -> bool:
    if connection.client is None:  # a unix socket: the peer is on this machine
        return True
    try:
        return ipaddress.ip_address(connection.client.host).is_loopback
    except ValueError:
        return False

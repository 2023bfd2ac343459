"""Which server may be loaded, and the tokens for it. Imports no Locust, which patches the sockets.

Always: only this machine is loaded, unless LIVE_LOADTEST_ALLOW_HOST names another host.

    LIVE_SHOW                 the show (default: demo); made if it is not there
    LIVE_SECRET               signs the tokens; else `$LIVE_DATA_DIR/secret` (default: .live/secret)
    LIVE_LOADTEST_ALLOW_HOST  a host name beside loopback that may be loaded
    LIVE_LOADTEST_PROVIDER    how buyers pay (default: sandbox; invoice where there is none)
"""

import ipaddress
import os
import time
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

import jwt

TOKEN_SECONDS = 4 * 3_600
SHOW = os.environ.get("LIVE_SHOW") or "demo"
PROVIDER = os.environ.get("LIVE_LOADTEST_PROVIDER") or "sandbox"


class TargetError(Exception):
    """The run would load something that it must not, or cannot sign its tokens."""


@cache
def secret() -> str:
    """The key of the server's tokens. Raises TargetError where there is none."""
    given = os.environ.get("LIVE_SECRET")
    if given:
        return given.partition(",")[0]  # of two, the first one signs
    path = Path(os.environ.get("LIVE_DATA_DIR") or ".live") / "secret"
    try:
        return path.read_text().strip()
    except OSError as fault:
        raise TargetError(f"set LIVE_SECRET or LIVE_DATA_DIR: {fault}") from fault


def token(role: str, sub: str, shows: list[str]) -> str:
    now = int(time.time())
    claims: dict[str, object] = {"sub": sub, "role": role, "shows": shows, "aud": "live"}
    claims |= {"iat": now, "exp": now + TOKEN_SECONDS}
    return jwt.encode(claims, secret(), algorithm="HS256")


def check_host(url: str | None) -> str:
    """Return the WebSocket base URL. Raises TargetError for a host that may not be loaded."""
    parts = urlsplit(url or "")
    if parts.scheme not in ("ws", "wss", "http", "https") or not parts.hostname:
        raise TargetError("--host must look like ws://127.0.0.1:8000")
    allowed = os.environ.get("LIVE_LOADTEST_ALLOW_HOST")
    if not _is_loopback(parts.hostname) and parts.hostname != allowed:
        raise TargetError(
            f"{parts.hostname} is not this machine; LIVE_LOADTEST_ALLOW_HOST={parts.hostname} "
            "says that it may be loaded"
        )
    scheme = "wss" if parts.scheme in ("wss", "https") else "ws"
    return f"{scheme}://{parts.netloc}"


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def ws_url(host: str | None) -> str:
    return f"{check_host(host)}/connection/websocket"


def http_url(host: str | None) -> str:
    return check_host(host).replace("ws", "http", 1)

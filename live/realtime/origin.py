"""Which web pages may open a connection. Browsers do not protect WebSockets by CORS."""

from urllib.parse import urlsplit


def origin_allowed(origin: str | None, host: str | None, allowed: tuple[str, ...]) -> bool:
    """Tell whether a page of this origin may connect.

    No Origin means no browser: a tool, which shows a token of its own. Cookies never authenticate
    a connection, so there is nothing that such a tool could ride on.
    """
    if origin is None:
        return True
    if origin.rstrip("/") in allowed:
        return True
    # "null" and anything without an authority compare unequal to every Host.
    try:
        authority = urlsplit(origin).netloc
    except ValueError:  # no origin at all
        return False
    return host is not None and authority.lower() == host.lower()

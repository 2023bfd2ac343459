"""Which web pages may open a connection. Browsers do not protect WebSockets by CORS."""

import re

_ORIGIN = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]*)://(?P<authority>[^\s/?#@]+)")
_OWN_PORTS = {"http": ":80", "https": ":443"}


def origin_allowed(
    origin: str | None, host: str | None, allowed: tuple[str, ...], *, secure: bool = False
) -> bool:
    """Tell whether a page of this origin may connect; anything that is none may not.

    `secure`: this server is known to be asked by https, and then a page that came by plain http is
    none of its own. It is not known behind a proxy that was not named, so the other way round no
    scheme is demanded. No Origin means no browser: a tool, which shows a token of its own. Cookies
    never authenticate a connection, so there is nothing that such a tool could ride on.
    """
    if origin is None:
        return True
    origin = origin.lower()
    if origin in allowed:
        return True
    found = _ORIGIN.fullmatch(origin)  # "null" has no authority
    if found is None or host is None:
        return False
    scheme = found["scheme"]
    if scheme != "https" and (secure or scheme != "http"):
        return False
    own_port = _OWN_PORTS[scheme]
    return found["authority"].removesuffix(own_port) == host.lower().removesuffix(own_port)

"""By which names this server may be asked.

A page anywhere can give its own name our address (DNS rebinding); then the browser takes us for
that page's server, and the Origin that it sends equals the Host. So the Host is looked at first.
Always: this machine's own names are known - loopback's, the address that it listens on, and the
one that the connection came in on. An address is no danger: who sends it was not led here by a
name. Where nothing was configured, a server that listens on loopback knows no others, and one that
listens elsewhere takes any, because only its operator knows its names.
"""

import re
from collections.abc import Sequence
from ipaddress import ip_address

LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")

_HOST = re.compile(
    r"(?:\[(?P<v6>[0-9A-Fa-f:.]{2,45})\]|(?P<name>[A-Za-z0-9._-]{1,253}))(?::[0-9]{1,5})?"
)


class Hosts:
    """`listening`: the configured address; `allowed`: the configured names, without ports."""

    def __init__(self, listening: str, allowed: Sequence[str] = ()) -> None:
        own = (*LOOPBACK_NAMES, listening)
        self._any = not allowed and not _is_loopback(listening)
        self._known = frozenset(_plain(name) for name in (*own, *allowed))

    def admits(self, host: str, local: str | None) -> bool:
        """Tell whether a request may name this Host; `local`: where the connection came in."""
        found = _HOST.fullmatch(host)
        if found is None:
            return False
        name = _plain(found["v6"] or found["name"])
        # A socket for both families writes IPv4 addresses so.
        own = (local or "").removeprefix("::ffff:")
        return self._any or name in self._known or name == own


def _plain(name: str) -> str:
    return name.strip("[]").lower().removesuffix(".")


def _is_loopback(name: str) -> bool:
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return _plain(name) == "localhost"

"""Whose address counts for limits: the peer's, or the one that a trusted proxy speaks for.

Always: a forwarded header is believed only from a peer that was named as a proxy, and of its hops
only the rightmost that is none: what stands left of it, the client may have written themselves.
One helper for all ways in: the front door asks `Proxies.client`, everything behind uvicorn finds
the answer in its scope.
"""

from collections.abc import Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network

from starlette.types import ASGIApp, Receive, Scope, Send

from live.base.settings import Network

IPV6_PREFIX = 64  # one home or phone owns at least this much; single addresses cost nothing
GUEST_IPV4_PREFIX = 24  # the smallest block that is routed on its own
GUEST_IPV6_PREFIX = 48  # what one customer gets at most
PARSED_MAX = 4_096  # peers whose trust is remembered

FORWARDED_FOR = b"x-forwarded-for"
FORWARDED_PROTO = b"x-forwarded-proto"
_SCHEMES = {"http": ("http", "ws"), "https": ("https", "wss")}


def network_of(address: str) -> str:
    """The name under which an address is counted; what is no address counts as it stands."""
    parsed = _parse(address)
    if parsed is None:
        return address
    if isinstance(parsed, IPv4Address):
        return str(parsed)
    return str(IPv6Network((parsed, IPV6_PREFIX), strict=False))


def range_of(address: str | None) -> str | None:
    """The range of addresses whose guests share a bound on what they hold; None: no range.

    Wider than what counts connections: one household may have many networks, one attacker as many
    addresses as their provider's smallest block has.
    """
    parsed = None if address is None else _parse(address)
    if parsed is None or parsed.is_loopback:
        return None
    prefix = GUEST_IPV4_PREFIX if isinstance(parsed, IPv4Address) else GUEST_IPV6_PREFIX
    return str(ip_network((parsed, prefix), strict=False))


def counted_as(address: str | None) -> str | None:
    """The name under which a peer is bounded. None: not at all.

    Loopback has no bound: a tool or a load test of this machine speaks for many. A proxy of this
    machine does so, too, until it is named as one; then its clients count.
    """
    parsed = None if address is None else _parse(address)
    if address is None or parsed is None or parsed.is_loopback:  # a unix socket has no address
        return None
    return network_of(address)


class Proxies:
    """`trusted`: networks whose forwarded headers are believed."""

    def __init__(self, trusted: Sequence[Network] = ()) -> None:
        self._trusted = tuple(trusted)
        self.trusts = lru_cache(PARSED_MAX)(self._trusts)

    def _trusts(self, address: str) -> bool:
        parsed = _parse(address)
        return parsed is not None and any(parsed in network for network in self._trusted)

    def client(self, peer: str | None, forwarded: str) -> str | None:
        """The client's address, given the peer's and the header's value ("" for none)."""
        if peer is None or not forwarded or not self._trusted:
            return peer
        address = peer
        for hop in reversed(forwarded.split(",")):
            if not self.trusts(address):
                break
            parsed = _parse(_without_port(hop.strip()))
            if parsed is None:
                break  # "unknown" and the like: then the proxy that says so is all that is known
            address = str(parsed)
        return address

    def secure(self, peer: str | None, proto: str) -> bool:
        """Whether a proxy that is believed says that its client came by https."""
        return peer is not None and self.trusts(peer) and proto.strip().lower() == "https"


class ForwardedScope:
    """ASGI middleware: puts the client's address and scheme into the scope."""

    def __init__(self, app: ASGIApp, proxies: Proxies) -> None:
        self._app = app
        self._proxies = proxies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket") and scope["client"] is not None:
            peer, port = scope["client"]
            if self._proxies.trusts(peer):
                scope = {**scope, **self._told(scope, peer, port)}
        await self._app(scope, receive, send)

    def _told(self, scope: Scope, peer: str, port: int) -> Scope:
        values: dict[bytes, list[str]] = {FORWARDED_FOR: [], FORWARDED_PROTO: []}
        for name, value in scope["headers"]:
            if name in values:
                values[name].append(value.decode("latin-1"))
        address = self._proxies.client(peer, ",".join(values[FORWARDED_FOR]))
        told: Scope = {"client": (address, port if address == peer else 0)}
        schemes = _SCHEMES.get(",".join(values[FORWARDED_PROTO]).strip().lower())
        if schemes is not None:
            told["scheme"] = schemes[scope["type"] == "websocket"]
        return told


def _parse(address: str) -> IPv4Address | IPv6Address | None:
    try:
        parsed = ip_address(address)
    except ValueError:
        return None
    # An IPv4 client of a socket that listens on both is no neighbour of all the others.
    mapped = parsed.ipv4_mapped if isinstance(parsed, IPv6Address) else None
    return mapped or parsed


def _without_port(hop: str) -> str:
    """Some proxies write `192.0.2.1:4711` or `[2001:db8::1]:4711`."""
    if hop.startswith("["):
        return hop[1:].partition("]")[0]
    return hop.partition(":")[0] if hop.count(":") == 1 else hop

"""Where the service may send to: what the address of a shop's own server must look like.

Always: an address that is not public is refused, in whichever of its forms it is written; a name
is judged by the addresses that it means at the moment of the connection (live/outgoing/guard.py).
Sources: the registries of special addresses of IANA (RFC 6890), RFC 6598 (shared space), RFC 6052
and RFC 8215 (NAT64), RFC 3056 (6to4), RFC 4380 (Teredo), RFC 4291 (mapped).
"""

from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final
from urllib.parse import urlsplit

URL_CHARS_MAX = 2_000
PORTS: Final = (443, 8443)

_SHARED: Final = ip_network("100.64.0.0/10")
_GLOBAL: Final = IPv6Network("2000::/3")
# Inside of the global range: they carry an address of another network, or mean nobody.
_CARRIES: Final = tuple(
    IPv6Network(one) for one in ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")
)
_PROTOCOLS: Final = ip_network("192.0.0.0/24")  # older versions of Python call some of it global
_RELAYS: Final = ip_network("192.88.99.0/24")  # of 6to4, given up by RFC 7526


def address_fault(text: str, *, development: bool = False) -> str | None:
    """Why nothing is sent to this address; None: it is public. `development`: loopback, too."""
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return f"{text} is no address"
    if development and address.is_loopback:
        return None
    fits = _public_4(address) if isinstance(address, IPv4Address) else _public_6(address)
    return None if fits else f"{text} is not a public address"


def _public_4(address: IPv4Address) -> bool:
    return (
        address.is_global
        and not address.is_multicast
        and not address.is_reserved
        and address not in _SHARED
        and address not in _PROTOCOLS
        and address not in _RELAYS
    )


def _public_6(address: IPv6Address) -> bool:
    """By what is allowed: all but the global range is mapped, local, translated or multicast."""
    return address in _GLOBAL and not any(address in carries for carries in _CARRIES)


def url_fault(url: str, *, development: bool = False) -> str | None:
    """What is wrong with the URL of an endpoint, as far as the text tells; None: nothing.

    `development`: http, any port and this machine are good, too.
    """
    if len(url) > URL_CHARS_MAX:
        return f"longer than {URL_CHARS_MAX} characters"
    if not url.isascii() or not url.isprintable() or any(one in url for one in ' \\"<>^`{|}'):
        return "has characters that must be percent-encoded"
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return "no URL"
    if parts.scheme != "https" and not (development and parts.scheme == "http"):
        return "must begin with https://"
    if "@" in parts.netloc:
        return "must carry no credentials"
    if parts.fragment or "#" in url:
        return "must have no fragment"
    if not host:
        return "names no host"
    if not development and port not in (None, *PORTS):
        return f"the port must be {' or '.join(map(str, PORTS))}"
    return _host_fault(host, development=development)


def _host_fault(host: str, *, development: bool) -> str | None:
    if ":" in host or _is_numeric(host):
        return address_fault(host, development=development)
    name = host.rstrip(".").lower()
    if development and (name == "localhost" or name.endswith(".localhost")):
        return None
    if "." not in name or name.endswith((".localhost", ".local", ".internal", ".home.arpa")):
        return f"{host} is a name of a private network"
    return None


def _is_numeric(host: str) -> bool:
    """Whether a resolver may read this as an address: 127.0.0.1, 127.1, 0x7f.1, 2130706433."""
    last = host.rstrip(".").rpartition(".")[2].lower()
    return last.isdecimal() or last.startswith("0x")

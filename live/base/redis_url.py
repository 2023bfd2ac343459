"""Redis URLs: what they name, one server or the first nodes of a cluster, and who the others are.

Pure and without any package, because settings read it. Not urllib's parser: a cluster's URL has
several hosts, and some Pythons refuse the brackets of an IPv6 address among them.
"""

import re
from collections.abc import Iterator
from typing import Final, NewType
from urllib.parse import urlsplit

NodeUrl = NewType("NodeUrl", str)
"""One server, with all that is needed to log in."""

SCHEMES: Final = {"redis+cluster": "redis", "rediss+cluster": "rediss"}
PORT: Final = 6379
HASH_SLOTS: Final = 16_384
_URL: Final = re.compile(r"([a-z+]+)://([^/?#]*)/?([^?#]*)(?:\?([^#]*))?")


def is_cluster(url: str) -> bool:
    return url.partition("://")[0] in SCHEMES


def seeds_of(url: str) -> list[NodeUrl]:
    """The servers that a URL names. Raises ValueError where a cluster's URL cannot be read."""
    if not is_cluster(url):
        return [NodeUrl(url)]
    found = _URL.fullmatch(url)
    if found is None or found[3] not in ("", "0"):
        raise ValueError("a cluster has no databases")
    servers = [server.strip() for server in found[2].rpartition("@")[2].split(",")]
    return [sibling(url, *_host_and_port(server)) for server in servers]


def sibling(url: str, host: str, port: int) -> NodeUrl:
    """Another server of the same cluster: same scheme, log-in and options."""
    found = _URL.fullmatch(url)
    assert found is not None, "settings and `seeds_of` refuse what cannot be read"
    scheme, netloc, _, options = found.groups()
    login = netloc.rpartition("@")[0]
    shown = f"[{host}]" if ":" in host else host
    query = f"?{options}" if options else ""
    scheme = SCHEMES.get(scheme, scheme)
    return NodeUrl(f"{scheme}://{login + '@' if login else ''}{shown}:{port}{query}")


def node_named(asked: NodeUrl, host: bytes | str | None, port: int) -> NodeUrl:
    """A node as another one names it; an unknown host is the host of the one that was asked."""
    name = host.decode() if isinstance(host, bytes) else host or ""
    if name in ("", "?"):
        name = urlsplit(asked).hostname or ""
    return sibling(asked, name, port)


def read_hash_slots(reply: object, asked: NodeUrl) -> Iterator[tuple[int, int, list[NodeUrl]]]:
    """Each range of CLUSTER SLOTS with its nodes, the primary first; `asked` is who replied."""
    assert isinstance(reply, list)
    for first, last, *nodes in reply:
        yield first, last, [node_named(asked, node[0], node[1]) for node in nodes]


def place_of(url: str) -> str:
    """Where a server is, without the log-in: host and port, or the path of its socket."""
    found = _URL.fullmatch(url)
    if found is None:
        return url.rpartition("@")[2]
    scheme, netloc, path, _ = found.groups()
    return f"/{path}" if scheme == "unix" else netloc.rpartition("@")[2]


def is_loading(refusal: str) -> bool:
    """Whether a server refused because it is reading its data back."""
    return refusal.startswith("LOADING")


def _host_and_port(server: str) -> tuple[str, int]:
    parts = urlsplit(f"//{server}")
    if not parts.hostname:
        raise ValueError("a cluster's URL names its nodes as host:port,host:port")
    return parts.hostname, parts.port or PORT

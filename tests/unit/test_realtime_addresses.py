"""Whose address counts: forwarded headers are believed from named proxies alone."""

from ipaddress import ip_network

import pytest
from starlette.types import Message, Receive, Scope, Send

from live.connection.addresses import ForwardedScope, Proxies, counted_as, network_of

PROXIES = Proxies([ip_network("127.0.0.1/32"), ip_network("10.0.0.0/8"), ip_network("fd00::/8")])


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("203.0.113.9", "198.51.100.1", "203.0.113.9"),
        ("127.0.0.1", "203.0.113.9", "203.0.113.9"),
        ("127.0.0.1", "", "127.0.0.1"),
        ("10.1.2.3", "1.1.1.1, 203.0.113.9, 10.0.0.7", "203.0.113.9"),
        ("10.1.2.3", "127.0.0.1, 203.0.113.9", "203.0.113.9"),
        ("::ffff:10.1.2.3", "203.0.113.9", "203.0.113.9"),
        ("fd00::1", "2001:db8::7", "2001:db8::7"),
        ("127.0.0.1", "203.0.113.9:4711", "203.0.113.9"),
        ("127.0.0.1", "[2001:db8::7]:4711", "2001:db8::7"),
        ("127.0.0.1", "203.0.113.9, unknown", "127.0.0.1"),
        ("127.0.0.1", "127.0.0.1", "127.0.0.1"),
        (None, "203.0.113.9", None),
    ],
    ids=[
        "spoofed by a stranger",
        "one proxy",
        "no header",
        "what the client wrote stands left",
        "who pretends to be local",
        "proxy on a socket for both",
        "IPv6",
        "with port",
        "IPv6 with port",
        "no address at the right",
        "a local caller of a local proxy",
        "unix socket",
    ],
)
def test_client_is_the_rightmost_hop_that_is_no_proxy(
    peer: str | None, forwarded: str, client: str | None
) -> None:
    """And the peer themselves where they are no proxy."""
    assert PROXIES.client(peer, forwarded) == client


def test_nobody_is_believed_by_default() -> None:
    """Loopback neither."""
    assert Proxies().client("127.0.0.1", "203.0.113.9") == "127.0.0.1"


def test_loopback_is_not_counted_but_its_clients_are() -> None:
    """A tool of this machine speaks for many; so does a proxy, until it is named as one."""
    for address in ("127.0.0.1", "::1", "::ffff:127.0.0.1", None, "", "testclient"):
        assert counted_as(address) is None
    assert counted_as(PROXIES.client("127.0.0.1", "203.0.113.9")) == "203.0.113.9"


def test_a_home_network_counts_as_one() -> None:
    """IPv6 by /64, IPv4 by address in whatever form it comes."""
    assert network_of("2001:db8::1") == network_of("2001:db8::ffff") != network_of("2001:db8:0:1::")
    assert network_of("::ffff:192.0.2.1") == network_of("192.0.2.1") == "192.0.2.1"
    assert network_of("one") == "one"


@pytest.mark.parametrize(
    ("kind", "peer", "proto", "client", "scheme"),
    [
        ("http", "127.0.0.1", b"https", "203.0.113.9", "https"),
        ("websocket", "127.0.0.1", b"https", "203.0.113.9", "wss"),
        ("http", "127.0.0.1", b"javascript", "203.0.113.9", "http"),
        ("http", "198.51.100.1", b"https", "198.51.100.1", "http"),
    ],
)
async def test_scope_says_what_the_proxy_says(
    kind: str, peer: str, proto: bytes, client: str, scheme: str
) -> None:
    """Address and scheme, for routes that know nothing of proxies; a stranger says nothing."""
    seen: list[Scope] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope)

    async def receive() -> Message:
        raise AssertionError("nothing is read")

    async def send(message: Message) -> None:
        raise AssertionError("nothing is sent")

    given = {
        "type": kind,
        "client": (peer, 4711),
        "scheme": "ws" if kind == "websocket" else "http",
        "headers": [
            (b"x-forwarded-for", b"1.1.1.1"),
            (b"x-forwarded-for", b"203.0.113.9"),
            (b"x-forwarded-proto", proto),
        ],
    }
    await ForwardedScope(app, PROXIES)(given, receive, send)
    assert seen[0]["client"][0] == client
    assert seen[0]["scheme"] == scheme

"""Who may open a connection: both sides of each bound."""

from http import HTTPStatus
from typing import cast

import pytest

from live.connection import admission as module
from live.connection.admission import Admission, AdmissionLimits
from live.protocol.codes import CONNECTION_LIMIT, Close
from live.protocol.session import Session
from live.transport.origin import origin_allowed


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


class Connection:
    def __init__(self) -> None:
        self.closed: Close | None = None

    def close(self, close: Close) -> None:
        self.closed = close


def test_address_that_knocks_too_often_is_refused() -> None:
    """The burst passes, the next does not, a second later one more does."""
    clock = Clock()
    admission = Admission(clock, AdmissionLimits(handshakes_burst=3, handshakes_per_second=1))
    assert [admission.may_knock("192.0.2.1") for _ in range(4)] == [True, True, True, False]
    assert admission.may_knock("192.0.2.2")
    clock.now += 1
    assert [admission.may_knock("192.0.2.1") for _ in range(2)] == [True, False]


def test_loopback_is_not_bounded() -> None:
    """A proxy on this machine speaks for many."""
    admission = Admission(Clock(), AdmissionLimits(handshakes_burst=1, handshakes_per_second=1))
    for address in ("127.0.0.1", "::1", None, ""):
        assert all(admission.may_knock(address) for _ in range(5))


def test_table_of_addresses_is_bounded() -> None:
    """The one that was quiet for longest is forgotten."""
    admission = Admission(Clock(), AdmissionLimits(handshakes_burst=1, handshakes_per_second=1))
    for number in range(module.ADDRESSES_MAX + 1):
        admission.may_knock(f"2001:db8:0:{number:x}::1")
    assert admission.may_knock("2001:db8::1")
    assert not admission.may_knock(f"2001:db8:0:{module.ADDRESSES_MAX:x}::1")


def test_home_network_knocks_with_one_hand() -> None:
    """IPv6 by /64: single addresses cost nothing."""
    admission = Admission(Clock(), AdmissionLimits(handshakes_burst=1, handshakes_per_second=1))
    assert admission.may_knock("2001:db8::1")
    assert not admission.may_knock("2001:db8::2")
    assert admission.may_knock("2001:db8:0:1::2")


def test_oldest_connection_of_a_person_goes_first() -> None:
    """At the bound all stay; one more closes the oldest, 3504."""
    admission = Admission(Clock(), AdmissionLimits(per_person_max=2))
    connections = [Connection() for _ in range(3)]
    for connection in connections[:2]:
        admission.known_as("ann", cast(Session, connection))
    assert all(connection.closed is None for connection in connections)
    admission.known_as("ann", cast(Session, connections[2]))
    assert [connection.closed for connection in connections] == [CONNECTION_LIMIT, None, None]


def test_process_is_full_at_its_bound() -> None:
    """Closed connections make room."""
    admission = Admission(Clock(), AdmissionLimits(connections_max=1))
    before = admission.full
    name = admission.opened(None)
    assert (before, admission.full) == (False, True)
    assert admission.refusal("192.0.2.1") is HTTPStatus.SERVICE_UNAVAILABLE
    admission.closed(name)
    assert not admission.full


def test_address_has_so_many_connections() -> None:
    """At the bound the next is refused; one that closes makes room, and nothing is remembered."""
    admission = Admission(Clock(), AdmissionLimits(per_address_max=2))
    names = []
    for address in ("2001:db8::1", "2001:db8::2"):
        assert admission.refusal(address) is None
        names.append(admission.opened(address))
    assert admission.refusal("2001:db8::3") is HTTPStatus.TOO_MANY_REQUESTS
    assert admission.refusal("2001:db8:1::1") is None
    for name in names:
        admission.closed(name)
    assert admission.refusal("2001:db8::3") is None
    assert admission._sockets._of_address == {}


def test_connections_of_this_machine_are_not_bounded() -> None:
    """They count for the process alone."""
    admission = Admission(Clock(), AdmissionLimits(per_address_max=1))
    for _ in range(3):
        assert admission.refusal("127.0.0.1") is None
        admission.opened("127.0.0.1")
    assert admission.connections == 3


def test_plain_http_is_counted_like_sockets_and_apart_from_them() -> None:
    """Each kind has the same bounds, and a crowd of one keeps nobody of the other out."""
    admission = Admission(Clock(), AdmissionLimits(per_address_max=1, http_max=2))
    first = admission.http.enter("2001:db8::1")
    assert admission.http.refusal("2001:db8::1") is HTTPStatus.TOO_MANY_REQUESTS
    assert admission.refusal("2001:db8::1") is None

    admission.http.enter("192.0.2.1")
    assert admission.http.refusal("192.0.2.2") is HTTPStatus.SERVICE_UNAVAILABLE
    first.leave()
    first.leave()  # said twice, it left once
    assert admission.http.in_all == 1
    assert admission.http.refusal("2001:db8::1") is None


def test_origin_is_ours_or_listed() -> None:
    """Same host, or in the list; look-alikes and null are not. No Origin is no browser."""
    allowed = ("https://shop.example",)
    assert origin_allowed(None, "live.example", allowed)
    assert origin_allowed("https://live.example", "live.example", allowed)
    assert origin_allowed("https://shop.example", "live.example", allowed)
    for origin in ("null", "https://shop.example.evil.com", "https://evil.com", "", "file://"):
        assert not origin_allowed(origin, "live.example", allowed), origin


def test_scheme_of_a_page_counts() -> None:
    """Apps in web views have schemes of their own; a page by plain http is none of a server by
    https; where a proxy was not named, https is not known and not demanded."""
    apps = ("capacitor://localhost", "tauri://localhost", "http://shop.example")
    for origin in apps:
        assert origin_allowed(origin, "live.example", apps)
    for origin in ("ionic://localhost", "https://shop.example", "ftp://live.example"):
        assert not origin_allowed(origin, "live.example", apps), origin
    assert origin_allowed("https://live.example", "live.example:443", ())
    assert origin_allowed("http://live.example", "live.example", ())
    assert not origin_allowed("http://live.example", "live.example", (), secure=True)


@pytest.mark.parametrize("origin", ["http://[", "http://]", "://", "http://", "a" * 9_000, "\x00"])
def test_origin_that_is_none_is_refused(origin: str) -> None:
    """And breaks nothing."""
    assert not origin_allowed(origin, "live.example", ())

"""By which names a server may be asked: its own, those it was told, and syntax."""

import pytest

from live.transport.hosts import Hosts


@pytest.mark.parametrize(
    "host",
    ["localhost", "LOCALHOST:8000", "localhost.", "127.0.0.1:8000", "[::1]", "[::1]:8000"],
)
def test_loopback_names_are_always_known(host: str) -> None:
    """Health checks of this machine go on, whatever is configured."""
    for listening in ("127.0.0.1", "localhost", "0.0.0.0", "10.0.0.5"):
        assert Hosts(listening, ["live.example"]).admits(host, "127.0.0.1")


@pytest.mark.parametrize("listening", ["127.0.0.1", "127.0.0.2", "::1", "localhost"])
def test_server_on_loopback_knows_no_foreign_name(listening: str) -> None:
    """A name that was led here by somebody's DNS."""
    hosts = Hosts(listening)
    assert hosts.admits(f"[{listening}]" if ":" in listening else listening, "127.0.0.1")
    for host in ("evil.example", "evil.example:8000", "localhost.evil.example", "10.0.0.5"):
        assert not hosts.admits(host, "127.0.0.1")


def test_server_elsewhere_takes_any_name_until_told() -> None:
    """Then only those, and the address that the connection came in on: a probe uses that."""
    assert Hosts("0.0.0.0").admits("whatever.example:8000", "10.0.0.5")
    told = Hosts("0.0.0.0", ["live.example"])
    assert told.admits("live.example", "10.0.0.5") and told.admits("Live.Example:443", "10.0.0.5")
    assert told.admits("10.0.0.5:8000", "10.0.0.5")
    assert told.admits("10.0.0.5:8000", "::ffff:10.0.0.5")
    for host in ("whatever.example", "sub.live.example", "10.0.0.6"):
        assert not told.admits(host, "10.0.0.5")


@pytest.mark.parametrize(
    "host",
    ["", " ", "a b", "a/b", "user@localhost", "localhost:", "localhost:x", "[::1", "a" * 254, "ä"],
)
def test_what_is_no_host_is_refused(host: str) -> None:
    """Also where any name would do."""
    assert not Hosts("0.0.0.0").admits(host, "10.0.0.5")

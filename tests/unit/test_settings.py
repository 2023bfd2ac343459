"""What the environment says, and every fault of it at once."""

from ipaddress import ip_network

import pytest

from live.errors import SettingsError
from live.settings import Settings


def test_trusted_proxies_are_addresses_and_networks() -> None:
    """Nobody by default."""
    assert Settings.from_env({}).trusted_proxies == ()
    given = {"LIVE_TRUSTED_PROXIES": " 127.0.0.1, 10.0.0.0/8 ,fd00::/8,"}
    found = Settings.from_env(given).trusted_proxies
    assert found == tuple(map(ip_network, ("127.0.0.1/32", "10.0.0.0/8", "fd00::/8")))


def test_faults_are_told_together() -> None:
    """Each with the key and what is wrong."""
    given = {
        "LIVE_TRUSTED_PROXIES": "proxy.example,10.0.0.1/8",
        "LIVE_PORT": "many",
        "LIVE_ALLOWED_HOSTS": "live.example, https://shop.example, shop.example:443",
    }
    with pytest.raises(SettingsError) as caught:
        Settings.from_env(given)
    for word in ("proxy.example", "10.0.0.1/8", "LIVE_TRUSTED_PROXIES", "LIVE_PORT"):
        assert word in str(caught.value)
    for word in ("'https://shop.example'", "'shop.example:443'"):
        assert word in str(caught.value)


def test_allowed_hosts_are_names() -> None:
    """None by default."""
    assert Settings.from_env({}).allowed_hosts == ()
    found = Settings.from_env({"LIVE_ALLOWED_HOSTS": "live.example, 10.0.0.5,::1,[::2]"})
    assert found.allowed_hosts == ("live.example", "10.0.0.5", "::1", "[::2]")

"""What the environment says, every fault of it at once, and what has to be there."""

from ipaddress import ip_network
from pathlib import Path

import pytest

from live.base.errors import SettingsError
from live.base.settings import Settings, resolve_secret

CONFIGURED = {"LIVE_DATABASE_URL": "postgresql://db/live", "LIVE_REDIS_URL": "redis://db"}


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


def test_key_set_does_not_replace_the_secret() -> None:
    """With a ledger of one's own the secret is needed beside LIVE_JWKS_URL; the error says why."""
    settings = Settings.from_env(CONFIGURED | {"LIVE_JWKS_URL": "https://shop.example/keys"})

    with pytest.raises(SettingsError, match="LIVE_SECRET must be set") as caught:
        resolve_secret(settings)

    assert "LIVE_JWKS_URL" in str(caught.value)
    assert "buyers" in str(caught.value)


def test_secret_is_made_once_where_no_ledger_is_configured(tmp_path: Path) -> None:
    """Every command on the data directory reads the same one."""
    settings = Settings.from_env({"LIVE_DATA_DIR": str(tmp_path / "data")})

    assert resolve_secret(settings) == resolve_secret(settings)
    assert (tmp_path / "data" / "secret").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("url", ["https://shop.example/in?to={return}", "http://h/", "/sign-in"])
def test_log_in_address_is_a_page(url: str) -> None:
    """With or without the place where the show's own address goes."""
    assert Settings.from_env({"LIVE_LOGIN_URL": url}).login_url == url


@pytest.mark.parametrize(
    "url", ["javascript:alert(1)", "//evil.example", "/\\evil", "shop", "/a b"]
)
def test_log_in_address_leads_nowhere_else(url: str) -> None:
    """A link that is no page, or another host's in disguise, is a fault at the start."""
    with pytest.raises(SettingsError, match="LIVE_LOGIN_URL"):
        Settings.from_env({"LIVE_LOGIN_URL": url})

"""The quote hook in the environment: a pair, at an address that nobody on the way can read."""

import pytest

from live.base.errors import SettingsError
from live.base.settings import Settings

SECRET = "whsec_" + "cXVvdGVzIGluIHRlc3RzIGFyZSBubyBzZWNyZXQ="
SHORT = "whsec_c2hvcnQ="


def read(url: str, secret: str = SECRET) -> Settings:
    return Settings.from_env({"LIVE_QUOTE_URL": url, "LIVE_QUOTE_SECRET": secret})


@pytest.mark.parametrize(
    "url", ["https://shop.example/quote", "http://127.0.0.1:9000/quote", "http://[::1]/q/"]
)
def test_hook_is_asked_at_its_address(url: str) -> None:
    """As it stands; two secrets while one replaces the other."""
    settings = read(url, f"{SECRET},{SECRET}")
    assert (settings.quote_url, settings.quote_secrets) == (url, (SECRET, SECRET))


@pytest.mark.parametrize(
    ("url", "secret", "fault"),
    [
        ("http://shop.example/quote", SECRET, "https://, except on this machine"),
        ("ftp://shop.example/quote", SECRET, "must start with https"),
        ("https://ada:pw@shop.example/", SECRET, "without user"),
        ("https:///quote", SECRET, "with a host"),
        ("https://shop.example/#quote", SECRET, r"without user, \? and #"),
        ("https://shop.example/quote?v=2", SECRET, r"without user, \? and #"),
        ("https://shop.example/a b", SECRET, "with a host"),
        ("https://shop.example/", "", "need each other"),
        ("", SECRET, "need each other"),
        ("https://shop.example/", SHORT, "24 to 64 bytes"),
        ("https://shop.example/", "secret", "24 to 64 bytes"),
        ("https://shop.example/", ",".join([SECRET] * 3), "more than 2"),
    ],
)
def test_half_a_hook_stops_the_start(url: str, secret: str, fault: str) -> None:
    """The reason is told, the secret never."""
    with pytest.raises(SettingsError, match=fault) as caught:
        read(url, secret)
    assert SECRET not in str(caught.value)

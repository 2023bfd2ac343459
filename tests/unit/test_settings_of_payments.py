"""Ways to pay in the environment: what is offered without a word, what is refused at the start."""

import pytest

from live.base.errors import SettingsError
from live.base.settings import Settings

OWN = {
    "LIVE_REDIS_URL": "redis://127.0.0.1/0",
    "LIVE_DATABASE_URL": "postgresql://127.0.0.1/live",
}
STRIPE = {"LIVE_STRIPE_KEY": "sk_1", "LIVE_STRIPE_WEBHOOK_SECRET": "whsec_1"}
CHECKOUT = {"LIVE_CHECKOUT_URL": "https://shop.example/pay/{show}?hold={hold}"}
HTTP = {
    "LIVE_PROVIDER_URL": "https://pay.example/live",
    "LIVE_PROVIDER_SECRET": "whsec_dGhlIHNlY3JldCBvZiBhIHBheW1lbnQgc2VydmljZQ==",
}
SANDBOX = {"LIVE_SANDBOX_URL": "unix:///run/s.sock", "LIVE_SANDBOX_KEY": "k"}


@pytest.mark.parametrize(
    ("environ", "ways"),
    [
        (OWN, ()),
        (OWN | STRIPE, ("stripe",)),
        (OWN | SANDBOX, ("sandbox",)),
        (SANDBOX | STRIPE, ("stripe",)),  # the sandbox' cards are nobody's money
        (STRIPE | {"LIVE_PROVIDERS": "invoice,stripe, invoice"}, ("invoice", "stripe")),
        (SANDBOX | STRIPE | {"LIVE_PROVIDERS": "sandbox"}, ("sandbox",)),
        (OWN | CHECKOUT, ("external",)),
        (SANDBOX | HTTP, ("http",)),
        (STRIPE | HTTP | CHECKOUT, ("stripe", "external", "http")),
        (HTTP | CHECKOUT | {"LIVE_PROVIDERS": "http"}, ("http",)),
        (OWN | {"LIVE_PROVIDERS": "invoice"}, ("invoice",)),
        (OWN | {"LIVE_PROVIDERS": " "}, ()),
    ],
)
def test_nothing_is_offered_that_the_shop_did_not_choose(
    environ: dict[str, str], ways: tuple[str, ...]
) -> None:
    """What is configured by default, and never an invoice by itself."""
    assert Settings.from_env(environ).ways_to_pay == ways


@pytest.mark.parametrize(
    ("environ", "fault"),
    [
        ({"LIVE_PROVIDERS": "stripe,paypal"}, "'paypal' is none of stripe, external, http, san"),
        ({"LIVE_PROVIDERS": ","}, "names no provider"),
        ({"LIVE_PROVIDERS": "stripe"}, "LIVE_STRIPE_KEY must be set"),
        (OWN | {"LIVE_PROVIDERS": "sandbox"}, "LIVE_SANDBOX_URL"),
        ({"LIVE_SANDBOX_URL": "unix:///run/s.sock"}, "LIVE_SANDBOX_KEY"),
        ({"LIVE_PROVIDERS": "invoice", "LIVE_GUESTS": "buy"}, "order everything and pay nothing"),
        ({"LIVE_PROVIDERS": "external"}, "LIVE_CHECKOUT_URL must be set"),
        ({"LIVE_PROVIDERS": "http"}, "LIVE_PROVIDER_URL must be set"),
        ({"LIVE_CHECKOUT_URL": "http://shop.example/{hold}"}, "https://, except on this machine"),
        ({"LIVE_CHECKOUT_URL": "ftp://shop.example/{hold}"}, "https or http://"),
        ({"LIVE_CHECKOUT_URL": "https://shop.example/"}, "needs {hold}"),
        ({"LIVE_CHECKOUT_URL": "https://shop.example/{hold}/{sub}"}, "has {sub}, which is neither"),
        ({"LIVE_CHECKOUT_URL": "https://{show}.example/{hold}"}, "an address with a host"),
        ({"LIVE_CHECKOUT_URL": "https://me:pw@shop.example/{hold}"}, "without a user"),
        ({"LIVE_CHECKOUT_URL": "https://shop.example/a b{hold}"}, "or blanks"),
        ({"LIVE_CHECKOUT_URL": "https:///{hold}"}, "an address with a host"),
        (HTTP | {"LIVE_PROVIDER_SECRET": ""}, "need each other"),
        ({"LIVE_PROVIDER_SECRET": HTTP["LIVE_PROVIDER_SECRET"]}, "need each other"),
        (HTTP | {"LIVE_PROVIDER_SECRET": "a long secret but no whsec_ of it"}, "must be whsec_"),
        (HTTP | {"LIVE_PROVIDER_SECRET": "whsec_c2hvcnQ="}, "of 24 to 64 bytes"),
        (HTTP | {"LIVE_PROVIDER_SECRET": "whsec_!" + "A" * 40}, "must be whsec_"),
        (HTTP | {"LIVE_PROVIDER_SECRET": ",".join(["whsec_" + "A" * 40] * 3)}, "more than 2"),
        (HTTP | {"LIVE_PROVIDER_URL": "http://pay.example"}, "https://, except on this machine"),
        (HTTP | {"LIVE_PROVIDER_URL": "https://pay.example/?a=1"}, "without user, [?]"),
    ],
)
def test_way_to_pay_that_cannot_work_stops_the_start(environ: dict[str, str], fault: str) -> None:
    """At the start, and not at the till."""
    with pytest.raises(SettingsError, match=fault):
        Settings.from_env(environ)


@pytest.mark.parametrize("host", ["127.0.0.1:9", "localhost", "[::1]:9"])
def test_shop_on_this_machine_needs_no_certificate(host: str) -> None:
    """As in development, and where a proxy of the machine does it."""
    here = {
        "LIVE_CHECKOUT_URL": f"http://{host}/{{hold}}",
        "LIVE_PROVIDER_URL": f"http://{host}",
        "LIVE_PROVIDER_SECRET": HTTP["LIVE_PROVIDER_SECRET"],
    }
    settings = Settings.from_env(here)
    assert settings.ways_to_pay == ("external", "http")
    assert "whsec" not in repr(settings)

"""Ways to pay in the environment: what is offered without a word, what is refused at the start."""

import pytest

from live.base.errors import SettingsError
from live.base.settings import Settings

OWN = {
    "LIVE_REDIS_URL": "redis://127.0.0.1/0",
    "LIVE_DATABASE_URL": "postgresql://127.0.0.1/live",
}
STRIPE = {"LIVE_STRIPE_KEY": "sk_1", "LIVE_STRIPE_WEBHOOK_SECRET": "whsec_1"}
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
        ({"LIVE_PROVIDERS": "stripe,paypal"}, "'paypal' is none of stripe, sandbox, invoice"),
        ({"LIVE_PROVIDERS": ","}, "names no provider"),
        ({"LIVE_PROVIDERS": "stripe"}, "LIVE_STRIPE_KEY must be set"),
        (OWN | {"LIVE_PROVIDERS": "sandbox"}, "LIVE_SANDBOX_URL"),
        ({"LIVE_SANDBOX_URL": "unix:///run/s.sock"}, "LIVE_SANDBOX_KEY"),
        ({"LIVE_PROVIDERS": "invoice", "LIVE_GUESTS": "buy"}, "order everything and pay nothing"),
    ],
)
def test_way_to_pay_that_cannot_work_stops_the_start(environ: dict[str, str], fault: str) -> None:
    """At the start, and not at the till."""
    with pytest.raises(SettingsError, match=fault):
        Settings.from_env(environ)

"""Amounts between ISO 4217 and Stripe: there and back, and what Stripe could not charge."""

import pytest

from live.payments.providers.stripe_money import from_stripe, to_stripe


@pytest.mark.parametrize(
    ("minor", "currency", "amount"),
    [
        (990, "EUR", 990),
        (990, "JPY", 990),
        (5_000, "ISK", 500_000),  # no digits by ISO 4217, two for Stripe
        (38_000, "UGX", 3_800_000),
        (500, "MGA", 5),  # two digits by ISO 4217, none for Stripe
        (1_230, "KWD", 1_230),
        (0, "TND", 0),
        (2_500, "HUF", 2_500),
        (2_500, "TWD", 2_500),
    ],
)
def test_amount_is_the_same_money_there_and_back(minor: int, currency: str, amount: int) -> None:
    """What a buyer is shown is what their card is charged, and what the books say."""
    assert to_stripe(minor, currency) == amount
    assert from_stripe(amount, currency) == minor


@pytest.mark.parametrize(
    ("minor", "currency"),
    [(1_234, "KWD"), (1, "BHD"), (9_995, "JOD"), (15, "OMR"), (1_001, "TND"), (501, "MGA")],
)
def test_amount_that_stripe_cannot_write_is_refused(minor: int, currency: str) -> None:
    """Never rounded: the buyer would pay another price than they were shown."""
    with pytest.raises(ValueError, match=currency):
        to_stripe(minor, currency)

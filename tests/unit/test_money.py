"""Amounts in minor units."""

import pytest

from live.domain.money import AMOUNT_MINOR_MAX, amount_text, is_currency, total_minor


@pytest.mark.parametrize(
    ("amount_minor", "currency", "text"),
    [
        (2_681_600, "EUR", "26816.00 EUR"),
        (5, "USD", "0.05 USD"),
        (0, "EUR", "0.00 EUR"),
        (1_299, "JPY", "1299 JPY"),
        (1_234, "KWD", "1.234 KWD"),
    ],
)
def test_amount_has_the_digits_of_its_currency(amount_minor: int, currency: str, text: str) -> None:
    """Two behind the point where the list says nothing else."""
    assert amount_text(amount_minor, currency) == text


@pytest.mark.parametrize(
    ("code", "good"),
    [
        ("EUR", True),
        ("eur", False),
        ("EURO", False),
        ("EU", False),
        ("EU1", False),
        ("ÄÖÜ", False),
        ("", False),
    ],
)
def test_currency_is_three_capital_letters(code: str, good: bool) -> None:
    """Of ASCII: that is the shape of ISO 4217."""
    assert is_currency(code) is good


def test_total_is_price_times_quantity() -> None:
    """Up to the bound, which itself is allowed; below nothing, and beyond it, is an error."""
    assert total_minor([(1_500, 2), (99, 3)]) == 3_297
    assert total_minor([]) == 0
    assert total_minor([(AMOUNT_MINOR_MAX, 1)]) == AMOUNT_MINOR_MAX
    for wrong in ([(AMOUNT_MINOR_MAX, 1), (1, 1)], [(-1, 1)]):
        with pytest.raises(ValueError, match="out of range"):
            total_minor(wrong)

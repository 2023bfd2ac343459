"""Money in integer minor units (cents, yen, fils) with an ISO 4217 code; never a float."""

from decimal import Decimal

AMOUNT_MINOR_MAX = 10**12  # far above any order, far below what bigint and JSON numbers hold

# ISO 4217 minor units other than two; static/money.js has the same list, and a test compares them.
MINOR_DIGITS = {
    **dict.fromkeys(
        "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF".split(), 0
    ),
    **dict.fromkeys("BHD IQD JOD KWD LYD OMR TND".split(), 3),
    **dict.fromkeys("CLF UYW".split(), 4),
}


def minor_digits(currency: str) -> int:
    """How many digits of an amount in minor units stand behind the point."""
    return MINOR_DIGITS.get(currency, 2)


def amount_text(amount_minor: int, currency: str) -> str:
    """For people: `26816.00 EUR`."""
    return f"{Decimal(amount_minor).scaleb(-minor_digits(currency)):f} {currency}"


def is_currency(code: str) -> bool:
    """Tell whether this has the shape of an ISO 4217 code."""
    return len(code) == 3 and code.isascii() and code.isalpha() and code.isupper()


def total_minor(prices_and_quantities: list[tuple[int, int]]) -> int:
    """Sum up price x quantity. Raises ValueError beyond `AMOUNT_MINOR_MAX`."""
    total = sum(price * qty for price, qty in prices_and_quantities)
    if not 0 <= total <= AMOUNT_MINOR_MAX:
        raise ValueError(f"a total of {total} minor units is out of range")
    return total

"""Money in integer minor units (cents, yen, fils) with an ISO 4217 code; never a float."""

AMOUNT_MINOR_MAX = 10**12  # far above any order, far below what bigint and JSON numbers hold


def is_currency(code: str) -> bool:
    """Tell whether this has the shape of an ISO 4217 code."""
    return len(code) == 3 and code.isascii() and code.isalpha() and code.isupper()


def total_minor(prices_and_quantities: list[tuple[int, int]]) -> int:
    """Sum up price x quantity. Raises ValueError beyond `AMOUNT_MINOR_MAX`."""
    total = sum(price * qty for price, qty in prices_and_quantities)
    if not 0 <= total <= AMOUNT_MINOR_MAX:
        raise ValueError(f"a total of {total} minor units is out of range")
    return total

"""What goods are worth that come back: all that was paid, in however many parts."""

import pytest

from live.domain.order import OrderTotal, worth_of

BILL = (
    OrderTotal(type="subtotal", label="Subtotal", amount_minor=3000),
    OrderTotal(type="discount", label="Autumn", amount_minor=-100),
    OrderTotal(type="shipping", label="DHL", amount_minor=490),
    OrderTotal(type="tax", label="VAT", amount_minor=599),
    OrderTotal(type="total", label="Total", amount_minor=3989),
)


@pytest.mark.parametrize("parts", [(3000,), (1000, 1000, 1000), (1, 998, 1, 2000), (7, 2993)])
def test_parts_of_an_order_add_up_to_what_was_paid(parts: tuple[int, ...]) -> None:
    """No minor unit is lost by rounding, which the law gives the buyer back, too."""
    back = 0
    for number, goods in enumerate(parts, 1):
        last = number == len(parts)
        before = sum(parts[: number - 1])
        back += worth_of(BILL, goods, last=last, before_minor=before)
    assert back == 3989

"""Ways to pay, narrowed."""

import pytest

from live.domain.ways import narrowed, nobody_pays, open_to

SHOP = ("stripe", "sandbox", "invoice")


@pytest.mark.parametrize(
    ("narrowings", "left"),
    [
        ([], SHOP),
        ([(), ()], SHOP),
        ([("invoice", "stripe")], ("stripe", "invoice")),
        ([("invoice", "stripe"), (), ("stripe", "sandbox")], ("stripe",)),
        ([("invoice",), ("stripe",)], ()),
        ([("elsewhere",)], ()),
    ],
)
def test_each_narrowing_takes_away(
    narrowings: list[tuple[str, ...]], left: tuple[str, ...]
) -> None:
    """In the shop's order; an empty one takes nothing, none adds anything."""
    assert narrowed(SHOP, narrowings) == left


def test_guests_do_not_pay_by_invoice() -> None:
    """Everybody else may."""
    assert open_to(SHOP, guest=True) == ("stripe", "sandbox")
    assert open_to(SHOP, guest=False) == SHOP


@pytest.mark.parametrize(
    ("ways", "guests", "nobody"),
    [
        (("invoice",), True, True),
        (("invoice",), False, False),
        (("invoice", "stripe"), True, False),
        ((), True, False),
    ],
)
def test_offer_for_guests_must_leave_them_a_way(
    ways: tuple[str, ...], guests: bool, nobody: bool
) -> None:
    """One that leaves nobody any is another fault, told elsewhere."""
    assert nobody_pays(ways, guests=guests) is nobody

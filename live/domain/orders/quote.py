"""A quote: what shipping, tax and duty add to the goods, for one buyer, purchase and address.

Always: the shop's amounts never come from the client, which names a quote and one of its shipping
choices; so whoever reads a `Quote` has what the server said.
"""

import hashlib
from dataclasses import dataclass
from typing import Self

from live.domain.money import AMOUNT_MINOR_MAX
from live.domain.order import OrderTotal

CHOICES_MAX = 8  # ways of shipping of one quote: more is no choice on a phone
TAXES_MAX = 5
LABEL_CHARS_MAX = 60
DAYS_MAX = 365


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """As much of an address as prices depend on, in one spelling. `country`: ISO 3166-1 alpha-2."""

    country: str
    region: str
    postcode: str

    @classmethod
    def of(cls, *, country: str, region: str, postcode: str) -> Self:
        """However it was typed: `de` and `DE ` are one country, `SW1A  1AA` one postcode."""
        return cls(country=_spelt(country), region=_spelt(region), postcode=_spelt(postcode))


@dataclass(frozen=True, slots=True, kw_only=True)
class ShippingChoice:
    """A way in which it can be sent; `days`: until it arrives, at most."""

    id: str
    label: str
    amount_minor: int
    days: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Tax:
    """`inclusive`: contained in the prices, so it adds nothing."""

    label: str
    amount_minor: int
    inclusive: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What is added to the goods. The default: prices contain the tax, and shipping is free."""

    shipping: tuple[ShippingChoice, ...] = ()
    tax: tuple[Tax, ...] = ()
    duties_minor: int = 0

    def choice(self, shipping: str | None) -> ShippingChoice | None:
        """The choice of this id; None where there is none such."""
        return next((one for one in self.shipping if one.id == shipping), None)

    def totals(
        self, subtotal_minor: int, choice: ShippingChoice | None
    ) -> tuple[tuple[OrderTotal, ...], int]:
        """All lines of the bill, and the last one's amount. Raises ValueError: out of range."""
        lines = [OrderTotal(type="subtotal", label="Subtotal", amount_minor=subtotal_minor)]
        if choice is not None:
            lines.append(
                OrderTotal(type="shipping", label=choice.label, amount_minor=choice.amount_minor)
            )
        lines += [
            OrderTotal(
                type="tax", label=one.label, amount_minor=one.amount_minor, inclusive=one.inclusive
            )
            for one in self.tax
        ]
        if self.duties_minor:
            lines.append(OrderTotal(type="duty", label="Duties", amount_minor=self.duties_minor))
        total = sum(line.amount_minor for line in lines if not line.inclusive)
        if not 0 <= total <= AMOUNT_MINOR_MAX:
            raise ValueError(f"a total of {total} minor units is out of range")
        return (*lines, OrderTotal(type="total", label="Total", amount_minor=total)), total


@dataclass(frozen=True, slots=True, kw_only=True)
class Quote:
    """`sub`: the buyer. `hold`: the client's key, or None for a purchase of `lines` (slot and
    quantity) without a hold. `shop`: the shop's own name of it, "" where the default stands in.
    `expires_at`: Unix ms."""

    show: str
    sub: str
    hold: str | None
    lines: tuple[tuple[int, int], ...]
    to: Destination
    currency: str
    subtotal_minor: int
    terms: Terms
    shop: str
    expires_at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What a checkout says of its quote. `to`: where it goes, None without an address."""

    quote: str | None = None
    shipping: str | None = None
    to: Destination | None = None

    @property
    def mark(self) -> str | None:
        """What a payment row keeps, to know a repeat: neither text is longer than a digest."""
        if self.quote is None:
            return None
        return hashlib.sha256(f"{self.shipping or ''} {self.quote}".encode()).hexdigest()


NO_QUOTE = Given()


@dataclass(frozen=True, slots=True)
class Bill:
    """What a quote came to: `lines` as the buyer saw them, `goods_minor` the goods alone."""

    lines: tuple[OrderTotal, ...]
    goods_minor: int
    total_minor: int
    currency: str


def _spelt(text: str) -> str:
    return " ".join(text.split()).upper()

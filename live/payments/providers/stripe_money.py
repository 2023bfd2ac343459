"""Amounts as Stripe writes them, and ours: minor units of ISO 4217.

The two differ where Stripe knows another number of digits than ISO 4217 does (ISK and UGX have none
but are written with two, MGA the other way round), and Stripe takes amounts with three digits only
where the last is 0. See docs.stripe.com/currencies, "Special cases".
"""

from live.domain.money import minor_digits

_DIGITS = {
    **dict.fromkeys("BIF CLP DJF GNF JPY KMF KRW MGA PYG RWF VND VUV XAF XOF XPF".split(), 0),
    **dict.fromkeys("ISK UGX".split(), 2),
    **dict.fromkeys("BHD JOD KWD OMR TND".split(), 3),
}


def to_stripe(minor: int, currency: str) -> int:
    """Translate an amount. Raises ValueError, with words for the host, for one that Stripe could
    not charge."""
    ours: int = 10 ** minor_digits(currency)
    theirs: int = 10 ** _digits(currency)
    amount, rest = divmod(minor * theirs, ours)
    if rest:
        raise ValueError(f"Stripe charges {currency} in whole units only")
    if _digits(currency) == 3 and amount % 10:
        raise ValueError(f"Stripe charges {currency} only where the last of three digits is 0")
    return amount


def from_stripe(amount: int, currency: str) -> int:
    """The other way round, for every amount that Stripe may have on its books."""
    ours: int = 10 ** minor_digits(currency)
    theirs: int = 10 ** _digits(currency)
    return amount * ours // theirs


def _digits(currency: str) -> int:
    return _DIGITS.get(currency, 2)

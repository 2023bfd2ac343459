"""Types of events that the shop can hear of, and how an endpoint names those that it wants."""

from collections.abc import Iterable
from typing import Final

_NAMES: Final = {
    "show": ("created", "updated", "started", "paused", "resumed", "ended"),
    "offer": ("scheduled", "opened", "sold_out", "restocked", "closed"),
    "order": (
        *("confirmed", "paid", "cancelled", "rejected", "refunded", "shipped", "delivered"),
        *("return_requested", "return_updated", "withdrawn"),
    ),
    "payment": ("failed",),
    "refund": ("failed",),
    "stock": ("adjusted",),
    "product": ("created", "updated", "archived"),
    "waitlist": ("granted",),
}

SHOP_TYPES: Final = frozenset(f"{kind}.{what}" for kind, names in _NAMES.items() for what in names)
"""Every type of the contract."""

SHOPWIDE: Final = ("product.", "stock.")
"""Beginnings of types that are of no show: only who may see all of them hears of these."""

TEST_TYPE: Final = "webhook.test"
"""Sent on request, to one endpoint; never listed among the events."""

ALL_TYPES: Final = "*"
_WILD: Final = ".*"


def match_types(wanted: Iterable[str]) -> frozenset[str]:
    """All types that these words mean: a type, `order.*` or `*`. Raises ValueError with the word
    that means none."""
    found: set[str] = set()
    for word in wanted:
        fits = _fitting(word)
        if not fits:
            raise ValueError(word)
        found |= fits
    return frozenset(found)


def _fitting(word: str) -> frozenset[str]:
    if word == ALL_TYPES:
        return SHOP_TYPES
    if word.endswith(_WILD):
        begin = word.removesuffix("*")
        return frozenset(one for one in SHOP_TYPES if one.startswith(begin))
    return SHOP_TYPES & {word}

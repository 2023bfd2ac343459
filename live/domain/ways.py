"""Ways to pay: names of payment providers, and which of them a purchase may use.

The shop's own list (LIVE_PROVIDERS) is the widest; a show and each of its offers may narrow it. An
empty narrowing narrows nothing, so a cart may be paid in the ways that all of its offers allow.
"""

from collections.abc import Iterable, Sequence

from live.domain.payment import INVOICE

WAYS_MAX = 8  # names in one list; there are fewer providers than that


def narrowed(shop: Sequence[str], narrowings: Iterable[Sequence[str]]) -> tuple[str, ...]:
    """The shop's ways that every narrowing allows, in the shop's order."""
    limits = [frozenset(one) for one in narrowings if one]
    return tuple(name for name in shop if all(name in limit for limit in limits))


def nobody_pays(ways: Sequence[str], *, guests: bool) -> bool:
    """Whether anybody, without a name, could order everything in these ways and pay nothing."""
    return guests and tuple(ways) == (INVOICE,)

"""Ways to pay: names of payment providers, and which of them a purchase may use.

The shop's own list (LIVE_PROVIDERS) is the widest; a show and each of its offers may narrow it. An
empty narrowing narrows nothing, so a cart may be paid in the ways that all of its offers allow.
"""

from collections.abc import Iterable, Sequence

from live.domain.payment import INVOICE

NOT_FOR_GUESTS = frozenset({INVOICE})
"""Ways that need somebody who can be held to it: of a guest nobody knows who is to pay later, one
address makes as many guests as it likes, and each would take units for good and pay nothing."""
WAYS_MAX = 8  # names in one list; there are fewer providers than that


def open_to(shop: Sequence[str], *, guest: bool) -> tuple[str, ...]:
    """The shop's ways that are open to such a buyer, in the shop's order."""
    return tuple(name for name in shop if not (guest and name in NOT_FOR_GUESTS))


def narrowed(shop: Sequence[str], narrowings: Iterable[Sequence[str]]) -> tuple[str, ...]:
    """The shop's ways that every narrowing allows, in the shop's order."""
    limits = [frozenset(one) for one in narrowings if one]
    return tuple(name for name in shop if all(name in limit for limit in limits))


def nobody_pays(ways: Sequence[str], *, guests: bool) -> bool:
    """Whether an offer for guests leaves them no way to pay, although it leaves others some."""
    return guests and bool(ways) and not open_to(ways, guest=True)

"""Which ways to pay a purchase may use, and what a way asks of its buyer.

Always: a way is the shop's choice (LIVE_PROVIDERS), narrower where a show or one of the purchase's
offers says so, and for guests; nothing that a client sends widens it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from live.base.errors import BadField
from live.buying.offers import Offers
from live.buying.purchase import Call
from live.domain.hold import Line
from live.domain.payment import INVOICE
from live.domain.ways import NOT_FOR_GUESTS, narrowed, open_to

# What is paid on delivery must find its way, and somebody must be there who pays.
CONTACT_OF_INVOICE = ("name", "address")


_Contact = dict[str, str | dict[str, str]]


@dataclass(frozen=True, slots=True)
class WaysToPay:
    """`shop`: the providers that this shop takes, in the order in which it offers them."""

    shop: tuple[str, ...]

    def of(self, offers: Offers, lines: Sequence[Line], *, guest: bool) -> tuple[str, ...]:
        """The ways to pay for these lines together. Raises NotFound for an unknown slot."""
        narrowings = [offers.at(line.slot).providers for line in lines]
        ways = open_to(self.shop, guest=guest)
        return narrowed(ways, [offers.state.providers, *narrowings])

    def everywhere(self, offers: Offers, provider: str, *, guest: bool) -> bool:
        """Whether this way is open whatever the lines are, as it mostly is."""
        narrowings = (offers.state.providers, *offers.narrowings)
        return provider in narrowed(open_to(self.shop, guest=guest), narrowings)


def refused_way(call: Call, ways: Sequence[str]) -> BadField:
    return not_offered(ways, call.provider.name, guest=call.guest)


def not_offered(ways: Sequence[str], provider: str = "", *, guest: bool = False) -> BadField:
    """What to tell a buyer who may pay in these ways, and chose `provider`."""
    if guest and provider in NOT_FOR_GUESTS:
        return BadField("provider", f"guests cannot pay by {provider}: sign in to do so")
    return BadField("provider", f"is none of {', '.join(ways) or 'those that can be paid with'}")


def check_contact(provider: str, contact: bytes | None) -> None:
    """Raises BadField where this way needs to know more of the buyer; `contact` is JSON."""
    if provider != INVOICE:
        return
    given = {} if contact is None else msgspec.json.decode(contact, type=_Contact)
    for name in CONTACT_OF_INVOICE:
        value = given.get(name, "")
        if not (value.get("line1", "") if isinstance(value, dict) else value).strip():
            raise BadField(f"contact.{name}", "is needed to pay by invoice")

"""What hosts may choose of the shop's ways to pay, and which prices these can charge.

Always: a show or an offer names ways that the shop takes, and an offer's price can be charged by at
least one of those that its buyers may use, so nobody finds out at the till. Guests never have
invoices as their only way.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from live.base.errors import BadField
from live.domain.offer import Phase
from live.domain.show import ShowState
from live.domain.ways import narrowed, nobody_pays

_FREE_FOR_ALL = (
    "where invoice is the only way to pay anybody, without a name, could order everything and pay "
    "nothing: name another way to pay, too, or let guests watch"
)


class Till(Protocol):
    """What hosting asks of a payment provider."""

    def refuses_price(self, price_minor: int, currency: str) -> str:
        """Why it could never charge such a price; "" where it can."""
        ...


@dataclass(frozen=True, slots=True)
class ShopWays:
    """`names`: the ways that the shop takes; `tills` has a client of each."""

    names: tuple[str, ...]
    tills: Mapping[str, Till]

    def check_names(self, wanted: Sequence[str]) -> None:
        """Raises BadField for a way that the shop does not take."""
        unknown = sorted(set(wanted) - set(self.names))
        if unknown:
            taken = ", ".join(self.names) or "nothing"
            raise BadField("providers", f"{unknown[0]} is not taken here, only {taken}")

    def check_price(
        self,
        price_minor: int,
        currency: str,
        narrowings: Iterable[Sequence[str]],
        *,
        guests: bool,
    ) -> None:
        """Raises BadField for a price that none of the ways left could charge, where none is left,
        or where guests could pay by invoice alone."""
        limits = tuple(narrowings)
        if self.names and not narrowed(self.names, limits):
            raise BadField("providers", "the show and its offer have no way to pay in common")
        if nobody_pays(narrowed(self.names, limits), guests=guests):
            raise BadField("guests", f"{_FREE_FOR_ALL}")
        refusal = self.refusal(price_minor, currency, limits)
        if refusal:
            raise BadField("price_minor", refusal)

    def refusal(
        self, price_minor: int, currency: str, narrowings: Iterable[Sequence[str]] = ()
    ) -> str:
        """Why no way that is left could charge this price; "" where one can, or there is none."""
        faults = [
            self.tills[name].refuses_price(price_minor, currency)
            for name in narrowed(self.names, narrowings)
        ]
        return faults[0] if faults and all(faults) else ""

    def check_show(self, state: ShowState, providers: Sequence[str]) -> None:
        """Whether the show's offers could still be paid for with these ways. Raises BadField."""
        self.check_names(providers)
        for terms in state.offers:
            if terms.phase is Phase.CLOSED:
                continue
            limits = (providers, terms.providers)
            if self.names and not narrowed(self.names, limits):
                raise BadField("providers", f"offer {terms.id} would have no way to pay left")
            if nobody_pays(narrowed(self.names, limits), guests=terms.guests):
                raise BadField("providers", f"offer {terms.id} takes guests, and {_FREE_FOR_ALL}")
            fault = self.refusal(terms.price_minor, terms.currency, limits)
            if fault:
                raise BadField("providers", f"{fault}, and offer {terms.id} costs such a price")

"""Requests of the RPC methods: closed lists of typed, bounded fields.

Not here: whether the offer or hold exists (rpc/methods.py, buying/).
"""

from typing import Annotated

from msgspec import UNSET, Meta, UnsetType

from live.api.schema.fields import (
    AddressPart,
    Body,
    ContactLine,
    ContactLines,
    Country,
    Id,
    PaymentToken,
    Qty,
    QuoteToken,
    Reaction,
    ShippingId,
    Uuid,
)
from live.base.errors import BadField
from live.domain.hold import CART_LINES_MAX
from live.domain.orders.quote import Destination


class Item(Body, frozen=True, kw_only=True):
    offer: Id
    qty: Qty


class HoldRequest(Body, frozen=True, kw_only=True):
    """Either `offer` and `qty`, or `items`."""

    key: Uuid
    offer: Id | UnsetType = UNSET
    qty: Qty | UnsetType = UNSET
    items: (
        Annotated[tuple[Item, ...], Meta(min_length=1, max_length=CART_LINES_MAX)] | UnsetType
    ) = UNSET

    def wanted(self) -> tuple[Item, ...]:
        """The lines asked for. Raises BadField."""
        if self.items is not UNSET:
            for name, value in (("offer", self.offer), ("qty", self.qty)):
                if value is not UNSET:
                    raise BadField(name, "not together with items")
            if len({item.offer for item in self.items}) < len(self.items):
                raise BadField("items", "names an offer twice")
            return self.items
        if self.offer is UNSET:
            raise BadField("offer", "is missing")
        if self.qty is UNSET:
            raise BadField("qty", "is missing")
        return (Item(offer=self.offer, qty=self.qty),)


class HoldName(Body, frozen=True, kw_only=True):
    hold: Uuid


class OfferName(Body, frozen=True, kw_only=True):
    offer: Id


class ShowName(Body, frozen=True, kw_only=True):
    show: Id


class AddressParts(Body, frozen=True, kw_only=True, omit_defaults=True):
    line1: ContactLine = ""
    line2: ContactLine = ""
    city: ContactLine = ""
    region: AddressPart = ""
    postcode: AddressPart = ""
    country: Country = ""


class Contact(Body, frozen=True, kw_only=True, omit_defaults=True):
    """Where to send it. Goes to Postgres only; never into a log or an event. An address that is
    quoted for has parts; else lines of text will do."""

    name: ContactLine = ""
    email: ContactLine = ""
    phone: ContactLine = ""
    address: ContactLines | AddressParts = ""

    def destination(self) -> Destination | None:
        """What a quote depends on; None for an address without parts."""
        if isinstance(self.address, str):
            return None
        to = self.address
        return Destination.of(country=to.country, region=to.region, postcode=to.postcode)


class WhatIsBought(Body, frozen=True, kw_only=True):
    """Either `hold`, or (in `first_paid` mode) `offer` and `qty`."""

    hold: Uuid | UnsetType = UNSET
    offer: Id | UnsetType = UNSET
    qty: Qty | UnsetType = UNSET

    def direct(self) -> Item | None:
        """The line of a `first_paid` purchase; None for the checkout of a hold. Raises BadField."""
        if self.hold is not UNSET:
            for name, value in (("offer", self.offer), ("qty", self.qty)):
                if value is not UNSET:
                    raise BadField(name, "not together with hold")
            return None
        if self.offer is UNSET:
            raise BadField("hold" if self.qty is UNSET else "offer", "is missing")
        if self.qty is UNSET:
            raise BadField("qty", "is missing")
        return Item(offer=self.offer, qty=self.qty)


class CheckoutRequest(WhatIsBought, frozen=True, kw_only=True):
    """Either `hold`, or (in `first_paid` mode) `offer` and `qty`. `quote` and `shipping`: what
    `order.quote` answered, and the choice in it; needed where the shop has a quote hook."""

    key: Uuid
    provider: Id
    token: PaymentToken | UnsetType = UNSET
    contact: Contact | UnsetType = UNSET
    shipping: ShippingId | UnsetType = UNSET
    quote: QuoteToken | UnsetType = UNSET


class QuoteRequest(WhatIsBought, frozen=True, kw_only=True):
    """Either `hold`, or (in `first_paid` mode) `offer` and `qty`. The address needs its parts."""

    contact: Contact


class OrderName(Body, frozen=True, kw_only=True):
    """Either the order's id or the hold's key."""

    order: Uuid | UnsetType = UNSET
    hold: Uuid | UnsetType = UNSET

    def check(self) -> None:
        """Raises BadField unless exactly one of both is there."""
        if self.order is UNSET and self.hold is UNSET:
            raise BadField("order", "is missing")
        if self.order is not UNSET and self.hold is not UNSET:
            raise BadField("hold", "not together with order")


class WithdrawOrder(Body, frozen=True, kw_only=True):
    """`confirm` false: only say what it means."""

    order: Uuid
    confirm: bool


class JoinWaitlist(Body, frozen=True, kw_only=True):
    offer: Id
    qty: Qty
    key: Uuid


class React(Body, frozen=True, kw_only=True):
    show: Id
    kind: Reaction

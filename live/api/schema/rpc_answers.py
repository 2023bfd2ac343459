"""Requests and answers of the RPC methods as types, for the AsyncAPI document.

Hold answers are written by hand on the hot path (buying/hold.py); a test holds them against the
classes here.
"""

from collections.abc import Mapping

import msgspec

from live.api.join import Snapshot
from live.api.schema import rpc_requests as fields
from live.buying.waitlist import WaitlistAnswer
from live.domain.hold import HoldItem
from live.domain.order import OrderView
from live.domain.outcomes import Outcome
from live.domain.payment import Action


class TimeAnswer(msgspec.Struct):
    """`time`: Unix ms by the server's clock."""

    time: int


class HoldAnswer(msgspec.Struct, omit_defaults=True):
    """Held: all but `waitlist` and `items`. Refused: outcome, offer, left, waitlist.

    A held cart has `items` in place of offer, qty, price_minor and left.
    """

    outcome: Outcome
    offer: str | None = None
    left: int | None = None
    hold: str | None = None
    qty: int | None = None
    price_minor: int | None = None
    currency: str | None = None
    expires_at: int | None = None
    items: list[HoldItem] | None = None
    waitlist: bool | None = None
    reason: str | None = None


class CheckoutAnswer(msgspec.Struct, omit_defaults=True):
    """`order` once it is committed; `action` where the buyer must go on at the provider."""

    outcome: Outcome
    hold: str
    order: OrderView | None = None
    action: Action | None = None
    reason: str | None = None


class OutcomeAnswer(msgspec.Struct):
    outcome: Outcome


class Nothing(msgspec.Struct):
    pass


METHODS: Mapping[str, tuple[type, type]] = {
    "time.now": (fields.Nothing, TimeAnswer),
    "show.state": (fields.ShowName, Snapshot),
    "offer.hold": (fields.HoldRequest, HoldAnswer),
    "hold.release": (fields.HoldName, OutcomeAnswer),
    "hold.checkout": (fields.CheckoutRequest, CheckoutAnswer),
    "order.get": (fields.OrderName, OrderView),
    "waitlist.join": (fields.JoinWaitlist, WaitlistAnswer),
    "waitlist.leave": (fields.OfferName, Nothing),
    "react": (fields.React, Nothing),
}
"""Each method's request and answer."""

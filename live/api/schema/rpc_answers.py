"""Answers of the RPC methods as types, for the AsyncAPI document.

Hold answers are written by hand on the hot path (buying/hold.py); a test holds them against the
class here.
"""

from collections.abc import Mapping

import msgspec

from live.api.join import Snapshot
from live.api.schema import rpc_requests as requests
from live.api.schema.fields import Empty, Nothing
from live.buying.purchase import CheckoutAnswer
from live.buying.quoting.quotes import QuoteAnswer
from live.buying.waitlist import WaitlistAnswer
from live.domain.hold import HoldItem
from live.domain.order import OrderView, Withdrawal
from live.domain.outcomes import Outcome


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


class OutcomeAnswer(msgspec.Struct):
    outcome: Outcome


METHODS: Mapping[str, tuple[type, type]] = {
    "time.now": (Empty, TimeAnswer),
    "show.state": (requests.ShowName, Snapshot),
    "offer.hold": (requests.HoldRequest, HoldAnswer),
    "hold.release": (requests.HoldName, OutcomeAnswer),
    "hold.checkout": (requests.CheckoutRequest, CheckoutAnswer),
    "order.quote": (requests.QuoteRequest, QuoteAnswer),
    "order.get": (requests.OrderName, OrderView),
    "order.withdraw": (requests.WithdrawOrder, Withdrawal),
    "waitlist.join": (requests.JoinWaitlist, WaitlistAnswer),
    "waitlist.leave": (requests.OfferName, Nothing),
    "react": (requests.React, Nothing),
}
"""Each method's request and answer."""

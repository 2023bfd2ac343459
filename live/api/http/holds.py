"""Holds at the shop's own checkout: what its server asks and says of them."""

from live.api.http.deps import ApiDeps
from live.api.http.table import ApiCall, B
from live.api.schema.fields import Empty
from live.api.schema.http_requests import ConfirmBody, DeclineBody
from live.base.errors import BadField, NotFound
from live.buying.shop_checkout import HoldThere, ShopPaid
from live.domain.ids import ShowId, is_id, is_sub, parse_key
from live.domain.order import OrderView
from live.domain.orders.shop_hold import ShopHold


async def read_hold(deps: ApiDeps, call: ApiCall[Empty]) -> ShopHold:
    return await deps.shop_checkout.read(_there(call))


async def confirm_hold(deps: ApiDeps, call: ApiCall[ConfirmBody]) -> OrderView:
    body = call.body
    paid = ShopPaid(
        reference=body.reference, amount_minor=body.amount_minor, currency=body.currency
    )
    return await deps.shop_checkout.confirm(_there(call), paid)


async def decline_hold(deps: ApiDeps, call: ApiCall[DeclineBody]) -> ShopHold:
    return await deps.shop_checkout.decline(_there(call), call.body.reason)


def _there(call: ApiCall[B]) -> HoldThere:
    """Raises BadField, and NotFound: a hold of a foreign show is as one that is not there."""
    show, sub = call.query["show"], call.query["sub"]
    if not is_id(show):
        raise BadField("show", "1-64 of A-Za-z0-9_-")
    if not is_sub(sub):
        raise BadField("sub", "1-255 bytes")
    try:
        hold = parse_key(call.path["hold"])
    except ValueError:
        raise NotFound("unknown hold") from None
    if not call.caller.may_see(ShowId(show)):
        raise NotFound("unknown hold")
    return HoldThere(show=ShowId(show), sub=sub, hold=hold)

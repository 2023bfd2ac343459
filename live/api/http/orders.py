"""Orders, refunds and what providers tell us.

Always: a contact is in answers to reading calls alone. Those of commands are kept for their
repeats, and a contact should lie in one place.
"""

from collections.abc import Mapping
from dataclasses import replace
from uuid import UUID

from msgspec import UNSET
from starlette.responses import Response

from live.api.http.call import read_body
from live.api.http.deps import ApiDeps
from live.api.http.paging import (
    read_cursor,
    read_flag,
    read_limit,
    read_time,
    read_word,
    write_cursor,
)
from live.api.http.table import ApiCall
from live.api.problems import answer_refused_webhook
from live.api.schema.fields import REASON_CHARS_MAX, Empty, Nothing, is_reference
from live.api.schema.http_answers import OrderPage
from live.api.schema.http_requests import CallOffBody, PaidBody, RefundBody
from live.base.errors import BadField, Denied, NotFound
from live.domain.caller import Caller, Role
from live.domain.ids import OfferId, OrderId, ShowId, is_id, is_sub
from live.domain.order import OrderState, OrderView, OrderWithContact, with_contact
from live.domain.orders.fulfilment import Fulfilment
from live.ledger.money.refunds import RefundWish, Returned
from live.ledger.orders.pages import OrderQuery, Sorting
from live.ledger.orders.reading import OrderRow
from live.payments.port import WEBHOOK_BYTES_MAX, WebhookRefused


async def list_orders(deps: ApiDeps, call: ApiCall[Empty]) -> OrderPage:
    caller, query = call.caller, call.query
    show, buyer = query.get("show"), query.get("buyer")
    if show is not None and not is_id(show):
        raise BadField("show", "1-64 of A-Za-z0-9_-")
    if buyer is not None and not is_sub(buyer):
        raise BadField("buyer", "1-255 bytes")
    if caller.role is Role.VIEWER:
        if buyer not in (None, caller.sub):
            raise Denied("a viewer sees their own orders only")
        buyer = caller.sub
    elif show is not None and not caller.may_see(ShowId(show)):
        raise Denied("the token does not cover this show")
    elif show is None and not caller.everywhere:
        raise BadField("show", "name one that the token covers")
    wanted = replace(_filters(query), show=None if show is None else ShowId(show), sub=buyer)
    page = await deps.orders.list(
        wanted, cursor=read_cursor(query) or None, limit=read_limit(query)
    )
    # Whoever got so far may see where these go: the buyer, and the shop's side but for moderators.
    contacts = await deps.orders.contacts([row.view.order for row in page.orders])
    cursor = write_cursor(page.cursor)
    return OrderPage(
        [with_contact(row.view, contacts.get(row.view.order)) for row in page.orders],
        cursor if page.more else None,
        cursor,
    )


def _filters(query: Mapping[str, str]) -> OrderQuery:
    """What is asked of the orders, but for whose they are. Raises BadField."""
    since = query.get("updated_since")
    sorting = read_word(query, "order", Sorting)
    if since is not None and sorting not in (None, Sorting.UPDATED):
        raise BadField("order", "updated_since goes with order=updated alone")
    default = Sorting.OLDEST if since is None else Sorting.UPDATED
    reference = query.get("reference")
    if reference is not None and not is_reference(reference):
        raise BadField("reference", f"1-{REASON_CHARS_MAX} characters, no control characters")
    return OrderQuery(
        to_ship=read_flag(query, "to_ship"),
        reference=reference,
        state=read_word(query, "state", OrderState),
        fulfilment=read_word(query, "fulfilment", Fulfilment),
        updated_since=None if since is None else read_time("updated_since", since),
        sorting=sorting or default,
    )


async def get_order(deps: ApiDeps, call: ApiCall[Empty]) -> OrderWithContact:
    found = (await find_order(deps, call.caller, call.order_id)).view
    contacts = await deps.orders.contacts([found.order])
    return with_contact(found, contacts.get(found.order))


async def refund_order(deps: ApiDeps, call: ApiCall[RefundBody]) -> OrderView:
    found = await find_order(deps, call.caller, call.order_id)
    assert call.actor.call is not None, "the table demands a key"
    refunded = await deps.orders.request_refund(
        found.view.order,
        _wish(call.body),
        request_key=call.actor.call.key,
        actor=call.actor,
    )
    return refunded.view


def _wish(body: RefundBody) -> RefundWish:
    items = () if body.items is UNSET else body.items
    if items and not body.restock:
        raise BadField("items", "only together with restock")
    if len({item.offer for item in items}) < len(items):
        raise BadField("items", "an offer may be named once")
    return RefundWish(
        amount_minor=body.amount_minor,
        reason=body.reason,
        restock=body.restock,
        items=tuple(Returned(OfferId(item.offer), item.qty) for item in items),
    )


async def call_off_refunds(deps: ApiDeps, call: ApiCall[CallOffBody]) -> OrderView:
    found = await find_order(deps, call.caller, call.order_id)
    done = await deps.orders.call_off_refunds(
        found.view.order, reason=call.body.reason, actor=call.actor
    )
    return done.view


async def mark_paid(deps: ApiDeps, call: ApiCall[PaidBody]) -> OrderView:
    found = await find_order(deps, call.caller, call.order_id)
    paid = await deps.orders.mark_paid(
        found.view.order, reference=call.body.reference, actor=call.actor
    )
    return paid.view


async def take_webhook(deps: ApiDeps, call: ApiCall[Empty]) -> Nothing | Response:
    """The provider's signature is the authentication; the raw bytes are what it covers."""
    body = await read_body(call.request, bytes_max=WEBHOOK_BYTES_MAX)
    headers = {name.lower(): value for name, value in call.request.headers.items()}
    try:
        await deps.take_webhook(call.path["provider"], headers, body)
    except WebhookRefused as refused:
        return answer_refused_webhook(refused.status, str(refused), refused.code)
    return Nothing()


async def find_order(deps: ApiDeps, caller: Caller, order: OrderId) -> OrderRow:
    """Another's order is answered like one that does not exist."""
    try:
        UUID(order)
    except ValueError:
        raise NotFound("unknown order") from None
    found = await deps.orders.get(order)
    own = caller.role is Role.VIEWER and found.sub == caller.sub
    if own or caller.may_host(found.view.show):
        return found
    raise NotFound("unknown order")

"""Webhooks and the events that they carry."""

import hashlib
from collections.abc import Sequence
from dataclasses import asdict

from msgspec import UNSET, UnsetType

from live.api.http.deps import ApiDeps
from live.api.http.paging import read_cursor, read_limit, write_cursor
from live.api.http.table import ApiCall
from live.api.schema.fields import Empty, Nothing
from live.api.schema.http_answers import (
    DeliveryPage,
    EventPage,
    WebhookList,
    WebhookMade,
)
from live.api.schema.webhook_requests import ReplayBody, WebhookBody, WebhookPatchBody
from live.base.errors import BadField, Denied
from live.domain.caller import ALL_SHOWS, Caller
from live.domain.outgoing.event_types import ALL_TYPES, SHOPWIDE, match_types
from live.domain.outgoing.receivers import url_fault
from live.domain.outgoing.webhooks import (
    DeliveryState,
    DeliveryView,
    EndpointState,
    EndpointView,
    ReplayView,
    WebhookFormat,
)
from live.ledger.events.delivery_log import Span, read_delivery_id
from live.ledger.events.endpoints import EndpointPatch, NewEndpoint, Shows, WithSecret

EVENT_WORDS_MAX = 50  # of one question


async def create_webhook(deps: ApiDeps, call: ApiCall[WebhookBody]) -> WebhookMade:
    body, caller = call.body, call.caller
    await _check_url(deps, body.url)
    shows = _shows(caller, body.shows)
    _check_types(body.types, shows)
    if not isinstance(body.shows, UnsetType):
        await deps.webhooks.endpoints.check_shows(shows)
    new = NewEndpoint(
        url=body.url,
        types=tuple(dict.fromkeys(body.types)),
        shows=shows,
        format=WebhookFormat(body.format),
        contact=body.contact,
    )
    return _made(await deps.webhooks.endpoints.create(new, call.actor))


async def list_webhooks(deps: ApiDeps, call: ApiCall[Empty]) -> WebhookList:
    return WebhookList(await deps.webhooks.endpoints.list(_seen(call.caller)))


async def get_webhook(deps: ApiDeps, call: ApiCall[Empty]) -> EndpointView:
    return await deps.webhooks.endpoints.get(call.path["webhook"], _seen(call.caller))


async def patch_webhook(deps: ApiDeps, call: ApiCall[WebhookPatchBody]) -> EndpointView:
    body, seen = call.body, _seen(call.caller)
    known = await deps.webhooks.endpoints.get(call.path["webhook"], seen)
    if not isinstance(body.url, UnsetType):
        await _check_url(deps, body.url)
    shows = None if body.shows is UNSET else _shows(call.caller, body.shows)
    types = known.types if isinstance(body.types, UnsetType) else tuple(dict.fromkeys(body.types))
    _check_types(types, known.shows if shows is None else shows)
    if shows is not None:
        await deps.webhooks.endpoints.check_shows(shows)
    patch = EndpointPatch(
        url=None if isinstance(body.url, UnsetType) else body.url,
        types=types,
        shows=shows,
        format=None if isinstance(body.format, UnsetType) else WebhookFormat(body.format),
        contact=None if isinstance(body.contact, UnsetType) else body.contact,
        state=None if isinstance(body.state, UnsetType) else EndpointState(body.state),
    )
    return await deps.webhooks.endpoints.patch(known.webhook, patch, call.actor, seen)


async def delete_webhook(deps: ApiDeps, call: ApiCall[Empty]) -> Nothing:
    await deps.webhooks.endpoints.delete(call.path["webhook"], call.actor, _seen(call.caller))
    return Nothing()


async def rotate_secret(deps: ApiDeps, call: ApiCall[Empty]) -> WebhookMade:
    made = await deps.webhooks.endpoints.rotate(
        call.path["webhook"], call.actor, _seen(call.caller)
    )
    return _made(made)


async def test_webhook(deps: ApiDeps, call: ApiCall[Empty]) -> DeliveryView:
    return await deps.webhooks.log.test(call.path["webhook"], call.actor, _seen(call.caller))


async def list_deliveries(deps: ApiDeps, call: ApiCall[Empty]) -> DeliveryPage:
    known = await deps.webhooks.endpoints.get(call.path["webhook"], _seen(call.caller))
    state, limit = call.query.get("state"), read_limit(call.query)
    if state is not None and state not in list(DeliveryState):
        raise BadField("state", f"one of {', '.join(DeliveryState)}")
    mark = _mark(known.webhook, state)
    found = await deps.webhooks.log.page(
        known.webhook,
        state=None if state is None else DeliveryState(state),
        before=_place(mark, read_cursor(call.query)),
        limit=limit + 1,
    )
    items = found[:limit]
    more = len(found) > limit
    return DeliveryPage(items, write_cursor(f"{mark}.{items[-1].delivery}") if more else None)


async def replay_webhook(deps: ApiDeps, call: ApiCall[ReplayBody]) -> ReplayView:
    body, webhook, seen = call.body, call.path["webhook"], _seen(call.caller)
    if not isinstance(body.deliveries, UnsetType):
        if any(one is not UNSET for one in (body.since, body.until, body.types)):
            raise BadField("deliveries", "not together with from, to or types")
        numbers = [read_delivery_id(one) for one in body.deliveries]
        return await deps.webhooks.log.repeat(webhook, numbers, call.actor, seen)
    known = await deps.webhooks.endpoints.get(webhook, seen)
    return await deps.webhooks.log.replay(webhook, _span(body, known), call.actor, seen)


async def list_events(deps: ApiDeps, call: ApiCall[Empty]) -> EventPage:
    words = call.query.get("types", ALL_TYPES).split(",")
    if len(words) > EVENT_WORDS_MAX:
        raise BadField("types", f"at most {EVENT_WORDS_MAX} words")
    found = await deps.webhooks.feed.page(
        after=_number("after", read_cursor(call.query, name="after")),
        types=sorted(_types(words)),
        shows=_seen(call.caller),
        limit=read_limit(call.query),
    )
    return EventPage(list(found.events), write_cursor(str(found.last)), found.more, found.complete)


def _seen(caller: Caller) -> Shows:
    """The shows that the caller may hear of; None: all, and what is of no show."""
    if caller.everywhere and not caller.without:
        return None
    return sorted(caller.shows - caller.without - {ALL_SHOWS})


def _shows(caller: Caller, wanted: Sequence[str] | UnsetType) -> tuple[str, ...]:
    """The shows of an endpoint. Raises Denied for more than the caller's own."""
    seen = _seen(caller)
    if isinstance(wanted, UnsetType):
        return () if seen is None else tuple(seen)
    if seen is not None and (not wanted or not set(wanted) <= set(seen)):
        raise Denied("shows: more than your own token covers")
    return tuple(dict.fromkeys(wanted))


def _types(words: Sequence[str]) -> frozenset[str]:
    try:
        return match_types(words)
    except ValueError as unknown:
        raise BadField("types", f"{str(unknown)[:64]!r} is no type of event") from None


def _check_types(words: Sequence[str], shows: Sequence[str]) -> None:
    """What would never come is refused: an endpoint of some shows hears nothing of the rest."""
    _types(words)
    for word in words:
        if shows and word.startswith(SHOPWIDE):
            raise BadField("types", f"{word} is of no show: leave shows empty")


async def _check_url(deps: ApiDeps, url: str) -> None:
    """By its text, and by what its name means now; later ones are judged when they are used."""
    fault = url_fault(url, development=deps.settings.webhook_development)
    if fault is None:
        fault = await deps.webhooks.name_fault(url)
    if fault is not None:
        raise BadField("url", fault)


def _span(body: ReplayBody, known: EndpointView) -> Span:
    if isinstance(body.since, UnsetType):
        raise BadField("from", "is missing: name a time, or deliveries")
    if isinstance(body.until, UnsetType):
        raise BadField("to", "is missing: the time before which events are wanted")
    if body.until <= body.since:
        raise BadField("to", "must be later than from")
    mine = match_types(known.types)
    types = mine if isinstance(body.types, UnsetType) else mine & _types(body.types)
    if not types:
        raise BadField("types", "none that this endpoint has")
    return Span(since=body.since, until=body.until, types=tuple(sorted(types)))


def _mark(webhook: str, state: str | None) -> str:
    """What a cursor says of its list: it belongs to no other."""
    return hashlib.sha256(f"{webhook}\n{state or ''}".encode()).hexdigest()[:16]


def _place(mark: str, cursor: str) -> int:
    """The delivery before which a page begins; 0 for the first one. Raises BadField."""
    if not cursor:
        return 0
    found, _, delivery = cursor.partition(".")
    if found != mark:
        raise BadField("cursor", "not a cursor of this list, with this filter")
    return _number("cursor", delivery)


def _number(name: str, text: str) -> int:
    if text and (not (text.isascii() and text.isdecimal()) or len(text) > 18):
        raise BadField(name, "not a cursor of this list")
    return int(text or 0)


def _made(made: WithSecret) -> WebhookMade:
    return WebhookMade(**asdict(made.endpoint), secret=made.secret)

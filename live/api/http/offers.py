"""Offers: prepared before, opened with one call."""

import time
from typing import cast

from msgspec import UNSET, UnsetType

from live.api.http.deps import ApiDeps
from live.api.http.paging import read_cursor, read_limit, write_cursor
from live.api.http.shows import note_of
from live.api.http.table import ApiAnswer, ApiCall
from live.api.problems import TooManyRequests
from live.api.schema.fields import Empty
from live.api.schema.http_answers import OfferPage
from live.api.schema.http_requests import ExtendBody, OfferBody, OfferPatchBody, RestockBody
from live.base.errors import BadField, Denied
from live.domain.ids import OfferId, Sku
from live.domain.offer import OfferView
from live.domain.show import ShowStatus
from live.hosting.host import Done, new_id
from live.hosting.views import view_terms
from live.ledger.hosting.offer_rows import NewOffer, OfferChanges

SLOT_DIGITS_MAX = 5  # two bytes, as the stock engine numbers a show's offers


async def create_offer(deps: ApiDeps, call: ApiCall[OfferBody]) -> ApiAnswer:
    body = call.body
    name = new_id("offer", call.actor.call) if isinstance(body.id, UnsetType) else body.id
    offer = OfferId(name)
    new = NewOffer(
        id=offer,
        sku=Sku(body.sku),
        price_minor=body.price_minor,
        quantity=body.quantity,
        per_buyer_limit=body.per_buyer_limit,
        hold_seconds=body.hold_seconds,
        mode=body.mode,
        countdown_seconds=body.countdown_seconds,
        duration_seconds=body.duration_seconds,
        waitlist=body.waitlist,
        guests=body.guests,
        providers=tuple(body.providers),
    )
    return _answer(await deps.host.create_offer(call.show_id, new, call.actor), offer)


async def list_offers(deps: ApiDeps, call: ApiCall[Empty]) -> OfferPage:
    """What a connect answer leaves out of a long show: it names the last of these alone."""
    show, caller = call.show_id, call.caller
    cursor = read_cursor(call.query)
    if cursor and not (cursor.isascii() and cursor.isdecimal() and len(cursor) <= SLOT_DIGITS_MAX):
        raise BadField("cursor", "not a cursor of this list")
    limit = read_limit(call.query)
    if not caller.sub and not deps.guest_reads.take(call.actor.address, now=time.monotonic()):
        raise TooManyRequests("too many calls without a token from this address", retry_ms=1_000)
    if not caller.may_moderate(show) and await deps.shows.status(show) is ShowStatus.REHEARSAL:
        raise Denied("the show is being rehearsed")
    before = int(cursor) if cursor else None
    found = await deps.shows.list_closed(show, before=before, limit=limit + 1)
    items = found[:limit]
    following = write_cursor(str(items[-1].slot)) if len(found) > limit else None
    return OfferPage([view_terms(terms, {}) for terms in items], following)


async def get_offer(deps: ApiDeps, call: ApiCall[Empty]) -> OfferView:
    return (await deps.host.look(call.show_id)).offer(call.offer_id)


async def edit_offer(deps: ApiDeps, call: ApiCall[OfferPatchBody]) -> ApiAnswer:
    named = {
        name: value
        for name in OfferPatchBody.__struct_fields__
        if (value := getattr(call.body, name)) is not UNSET
    }
    changes = cast(OfferChanges, named)  # the body has these fields, with these types, and no more
    if not changes:
        raise BadField("", "name at least one field to change")
    done = await deps.host.edit_offer(call.show_id, call.offer_id, changes, call.actor)
    return _answer(done, call.offer_id)


async def mark_sold_out(deps: ApiDeps, call: ApiCall[Empty]) -> ApiAnswer:
    return _answer(await deps.host.mark_sold_out(call.offer_id, call.actor), call.offer_id)


async def open_offer(deps: ApiDeps, call: ApiCall[Empty]) -> ApiAnswer:
    return _answer(await deps.host.open_offer(call.offer_id, call.actor), call.offer_id)


async def pause_offer(deps: ApiDeps, call: ApiCall[Empty]) -> ApiAnswer:
    return _answer(await deps.host.pause_offer(call.offer_id, call.actor), call.offer_id)


async def resume_offer(deps: ApiDeps, call: ApiCall[Empty]) -> ApiAnswer:
    return _answer(await deps.host.resume_offer(call.offer_id, call.actor), call.offer_id)


async def close_offer(deps: ApiDeps, call: ApiCall[Empty]) -> ApiAnswer:
    return _answer(await deps.host.close_offer(call.offer_id, call.actor), call.offer_id)


async def extend_offer(deps: ApiDeps, call: ApiCall[ExtendBody]) -> ApiAnswer:
    done = await deps.host.extend_offer(call.offer_id, call.body.seconds, call.actor)
    return _answer(done, call.offer_id)


async def restock_offer(deps: ApiDeps, call: ApiCall[RestockBody]) -> ApiAnswer:
    done = await deps.host.restock_offer(call.offer_id, call.body.quantity, call.actor)
    return _answer(done, call.offer_id)


def _answer(done: Done, offer: OfferId) -> ApiAnswer:
    return ApiAnswer(body=done.offer(offer), headers=note_of(done))

"""Shows: what hosts set up and say."""

from msgspec import UNSET, UnsetType

from live.api.http.deps import ApiDeps
from live.api.http.paging import read_cursor, read_limit, write_cursor
from live.api.http.table import ApiAnswer, ApiCall
from live.api.schema.fields import Empty
from live.api.schema.http_answers import ShowPage
from live.api.schema.http_requests import (
    AnnouncementBody,
    PinsBody,
    RunOrderBody,
    ShowBody,
    ShowPatchBody,
    StartBody,
)
from live.base.errors import BadField, Denied
from live.domain.ids import ShowId, Sku
from live.domain.show import ShowView
from live.hosting.host import DELAYED_NOTE, Done, new_id
from live.hosting.views import view_show
from live.ledger.hosting.shows import NewShow, ShowPatch

NOTE_HEADER = "Live-Note"


def note_of(done: Done) -> dict[str, str]:
    """The header that tells a host when their audience does not know yet."""
    return {NOTE_HEADER: DELAYED_NOTE} if done.delayed else {}


# Tries are bounded by address (join.py); this many letters outlast those who have many addresses.
PASSCODE_CHARS_MIN = 6


async def create_show(deps: ApiDeps, call: ApiCall[ShowBody]) -> ApiAnswer:
    body = call.body
    if body.id is UNSET and not call.caller.everywhere:
        raise Denied("name the show: the token covers certain shows only")
    show = ShowId(new_id("show", call.actor.call) if isinstance(body.id, UnsetType) else body.id)
    if not call.caller.may_see(show):
        raise Denied("the token does not cover this show")
    new = NewShow(
        id=show,
        title=body.title,
        currency=body.currency,
        language=body.language,
        starts_at=body.starts_at,
        playback_url=body.playback_url,
        paid_partnership=body.paid_partnership,
        providers=tuple(body.providers),
    )
    return _answer(await deps.host.create_show(new, call.actor))


async def list_shows(deps: ApiDeps, call: ApiCall[Empty]) -> ShowPage:
    limit = read_limit(call.query)
    only = None if call.caller.everywhere else sorted(call.caller.shows)
    cursor = read_cursor(call.query)
    after = ShowId(cursor) if cursor else None
    found = await deps.desk.list_shows(only=only, after=after, limit=limit + 1)
    items = found[:limit]
    return ShowPage(items, write_cursor(items[-1].id) if len(found) > limit else None)


async def get_show(deps: ApiDeps, call: ApiCall[Empty]) -> ShowView:
    done = await deps.host.look(call.show_id)
    return view_show(done.state, done.stocks, drafts=True)


async def patch_show(deps: ApiDeps, call: ApiCall[ShowPatchBody]) -> ApiAnswer:
    patch = ShowPatch(
        **{
            name: value
            for name in ShowPatch.__slots__
            if (value := getattr(call.body, name)) is not UNSET
        }
    )
    if patch.rehearsal_passcode and len(patch.rehearsal_passcode) < PASSCODE_CHARS_MIN:
        raise BadField("rehearsal_passcode", f"{PASSCODE_CHARS_MIN} characters at least")
    return _answer(await deps.host.patch_show(call.show_id, patch, call.actor))


async def start_show(deps: ApiDeps, call: ApiCall[StartBody]) -> ApiAnswer:
    if call.body.rehearsal:
        return _answer(await deps.host.rehearse_show(call.show_id, call.actor))
    return _answer(await deps.host.start_show(call.show_id, call.actor))


async def pause_show(deps: ApiDeps, call: ApiCall[Empty]) -> ApiAnswer:
    return _answer(await deps.host.pause_show(call.show_id, call.actor))


async def resume_show(deps: ApiDeps, call: ApiCall[Empty]) -> ApiAnswer:
    return _answer(await deps.host.resume_show(call.show_id, call.actor))


async def end_show(deps: ApiDeps, call: ApiCall[Empty]) -> ApiAnswer:
    return _answer(await deps.host.end_show(call.show_id, call.actor))


async def set_run_order(deps: ApiDeps, call: ApiCall[RunOrderBody]) -> ApiAnswer:
    skus = [Sku(sku) for sku in call.body.skus]
    return _answer(await deps.host.set_run_order(call.show_id, skus, call.actor))


async def set_pins(deps: ApiDeps, call: ApiCall[PinsBody]) -> ApiAnswer:
    skus = [Sku(sku) for sku in call.body.skus]
    return _answer(await deps.host.pin(call.show_id, skus, call.actor))


async def announce(deps: ApiDeps, call: ApiCall[AnnouncementBody]) -> ApiAnswer:
    body = call.body
    return _answer(await deps.host.announce(call.show_id, body.text, body.until, call.actor))


def _answer(done: Done) -> ApiAnswer:
    return ApiAnswer(body=done.show, headers=note_of(done))

"""Moderation, the show's report and its audit log."""

from msgspec import UNSET, UnsetType

from live.api.http.deps import ApiDeps
from live.api.http.paging import read_cursor, read_limit, read_newest_first, write_cursor
from live.api.http.table import ApiCall
from live.api.schema.fields import Empty, Nothing, check_sub
from live.api.schema.http_answers import ActionPage, ReportAnswer, Restrictions
from live.api.schema.http_requests import ModerationBody
from live.base.errors import BadField
from live.chat.moderation import ModerationCommand
from live.domain.caller import ALL_SHOWS
from live.domain.ids import ShowId
from live.hosting.projector import UNREACHABLE

_ABOUT_MESSAGES = frozenset({"delete", "pin", "unpin"})
_WITH_SECONDS = frozenset({"mute", "ban", "shadow_ban"})


async def moderate(deps: ApiDeps, call: ApiCall[ModerationBody]) -> Nothing:
    body = call.body
    wanted = "message" if body.action in _ABOUT_MESSAGES else "sub"
    for name in ("message", "sub"):
        given = getattr(body, name) is not UNSET
        if given != (name == wanted):
            raise BadField(name, f"{body.action} needs {wanted} and no other")
    if not isinstance(body.sub, UnsetType):
        check_sub("sub", body.sub)
    if body.seconds is not None and body.action not in _WITH_SECONDS:
        raise BadField("seconds", f"{body.action} takes none")
    command = ModerationCommand(
        action=body.action,
        message="" if isinstance(body.message, UnsetType) else body.message,
        sub="" if isinstance(body.sub, UnsetType) else body.sub,
        seconds=body.seconds,
    )
    await deps.moderation.run(call.show_id, command, call.actor)
    return Nothing()


async def read_restrictions(deps: ApiDeps, call: ApiCall[Empty]) -> Restrictions:
    return Restrictions(await deps.desk.restrictions(call.show_id))


async def read_report(deps: ApiDeps, call: ApiCall[Empty]) -> ReportAnswer:
    found = await deps.orders.report(call.show_id)
    return ReportAnswer(
        show=found.show,
        currency=found.currency,
        viewers=await _viewers(deps, call),
        holds=found.holds,
        orders=found.orders,
        revenue_minor=found.revenue_minor,
        unpaid_minor=found.unpaid_minor,
        # Of holds, four digits; a browser's own division would differ from page to page.
        conversion=round(found.orders / found.holds, 4) if found.holds else 0.0,
        average_order_minor=(
            (found.revenue_minor + found.unpaid_minor) // found.orders if found.orders else 0
        ),
        offers=list(found.offers),
        audit=await deps.desk.last_audit(),
    )


async def _viewers(deps: ApiDeps, call: ApiCall[Empty]) -> int | None:
    try:
        return await deps.count_viewers(call.show_id)
    except UNREACHABLE:
        return None  # the ledger's figures are worth having without Redis


async def read_audit_log(deps: ApiDeps, call: ApiCall[Empty]) -> ActionPage:
    return await _actions(deps, call, call.show_id)


async def read_catalogue_log(deps: ApiDeps, call: ApiCall[Empty]) -> ActionPage:
    return await _actions(deps, call, ShowId(ALL_SHOWS))


async def _actions(deps: ApiDeps, call: ApiCall[Empty], log: ShowId) -> ActionPage:
    limit = read_limit(call.query)
    cursor = read_cursor(call.query) or "0"
    if not (cursor.isascii() and cursor.isdecimal()) or len(cursor) > 18:
        raise BadField("cursor", "not a cursor of this list")
    found = await deps.desk.actions(
        log,
        after=int(cursor),
        limit=limit + 1,
        newest_first=read_newest_first(call.query),
    )
    items = found[:limit]
    last = write_cursor(str(items[-1].id) if items else cursor)
    return ActionPage(items, last if len(found) > limit else None, last)

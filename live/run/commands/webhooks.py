"""`live webhooks`: look at the shop's endpoints, try one, have events sent again."""

from collections.abc import Sequence
from datetime import UTC, datetime

from live.base.errors import SettingsError
from live.base.settings import Settings
from live.base.telemetry import set_up_logs
from live.domain.caller import Role
from live.domain.event_types import match_types
from live.domain.webhooks import EndpointView
from live.ledger.db.pool import Pool
from live.ledger.events.delivery_log import DeliveryLog, Span
from live.ledger.events.endpoints import EndpointRows
from live.ledger.hosting.show_command import Actor
from live.run.commands.engines import with_pool

TERMINAL = Actor(sub="terminal", role=Role.SERVICE)


def webhooks(
    settings: Settings,
    what: str,
    webhook: str,
    *,
    since: datetime | None,
    until: datetime | None,
    types: Sequence[str],
) -> list[str]:
    """Do it; lines that say what there is or what was asked for.

    Raises SettingsError where something is missing or not known.
    """
    set_up_logs(role="webhooks", quiet=True)
    if (what == "list") is bool(webhook):
        raise SettingsError("name an endpoint for test and replay, and none for list")
    if what == "replay" and since is None:
        raise SettingsError("--since is missing: the time from which events are wanted")

    async def work(pool: Pool) -> list[str]:
        rows, log = EndpointRows(pool), DeliveryLog(pool)
        if what == "list":
            return [_line(one) for one in await rows.list()]
        if what == "test":
            made = await log.test(webhook, TERMINAL)
            return [f"delivery {made.delivery} is due; the settler sends it"]
        assert since is not None, "looked at above"
        known = await rows.get(webhook)
        await log.replay(webhook, _span(known, since, until, types), TERMINAL)
        return ["the settler sends them again, in their order"]

    return with_pool(settings, work)


def _line(one: EndpointView) -> str:
    state = f"{one.state.value}: {one.reason}" if one.reason else one.state.value
    if one.failing_since is not None:
        state += f", failing since {_utc(one.failing_since)}"
    shows = ",".join(one.shows) or "all shows"
    return f"{one.webhook}  {one.url}  {','.join(one.types)}  {shows}  {state}"


def _span(
    known: EndpointView, since: datetime, until: datetime | None, types: Sequence[str]
) -> Span:
    try:
        wanted = match_types(types or known.types) & match_types(known.types)
    except ValueError as unknown:
        raise SettingsError(f"--type {unknown}: no type of event") from None
    end = until or datetime.now(UTC)
    if end <= since:
        raise SettingsError("--until must be later than --since")
    return Span(since=_ms(since), until=_ms(end), types=tuple(sorted(wanted)))


def _ms(at: datetime) -> int:
    return int(at.timestamp() * 1000)


def _utc(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="seconds")

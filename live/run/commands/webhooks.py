"""`live webhooks`: look at the shop's endpoints and what they answered, try one, pause it and make
it active again, have events sent again."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from live.base.errors import SettingsError
from live.base.settings import Settings
from live.base.telemetry import set_up_logs
from live.domain.caller import Role
from live.domain.outgoing.event_types import match_types
from live.domain.outgoing.webhooks import DeliveryState, DeliveryView, EndpointState, EndpointView
from live.ledger.db.pool import Pool
from live.ledger.events.delivery_log import COUNTED_MAX, DeliveryLog, Span
from live.ledger.events.endpoints import EndpointPatch, EndpointRows
from live.ledger.hosting.show_command import Actor
from live.run.commands.engines import with_pool

TERMINAL = Actor(sub="terminal", role=Role.SERVICE)


SHOWN = 100  # deliveries, the newest


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointWish:
    """What is wanted of an endpoint; what a command does not read is left as it is here."""

    webhook: str = ""
    to: str = ""  # of set: the state
    state: str | None = None  # of deliveries
    since: datetime | None = None
    until: datetime | None = None
    types: Sequence[str] = ()


def webhooks(settings: Settings, what: str, asked: EndpointWish) -> list[str]:
    """Do it; lines that say what there is or what was asked for.

    Raises SettingsError where something is missing or not known.
    """
    set_up_logs(role="webhooks", quiet=True)
    if (what == "list") is bool(asked.webhook):
        raise SettingsError("name an endpoint, and none for list")
    if what == "replay" and asked.since is None:
        raise SettingsError("--since is missing: the time from which events are wanted")
    if (what == "set") is not (asked.to in (EndpointState.ACTIVE, EndpointState.PAUSED)):
        raise SettingsError("set wants active or paused behind the endpoint, others nothing")

    async def work(pool: Pool) -> list[str]:
        rows, log = EndpointRows(pool), DeliveryLog(pool)
        if what == "list":
            return [_line(one) for one in await rows.list()]
        if what == "test":
            made = await log.test(asked.webhook, TERMINAL)
            return [f"delivery {made.delivery} is due; the settler sends it"]
        known = await rows.get(asked.webhook)
        if what == "deliveries":
            return await _deliveries(log, known, asked.state)
        if what == "set":
            return await _set(rows, log, known, EndpointState(asked.to))
        return await _replay(log, known, asked)

    return with_pool(settings, work)


async def _deliveries(log: DeliveryLog, known: EndpointView, state: str | None) -> list[str]:
    wanted = None if state is None else DeliveryState(state)
    found = await log.page(known.webhook, state=wanted, before=0, limit=SHOWN + 1)
    lines = [_delivery(one) for one in found[:SHOWN]] or ["no deliveries"]
    return [*lines, f"these are the newest {SHOWN}"] if len(found) > SHOWN else lines


async def _set(
    rows: EndpointRows, log: DeliveryLog, known: EndpointView, state: EndpointState
) -> list[str]:
    await rows.patch(known.webhook, EndpointPatch(state=state), TERMINAL)
    count = await log.waiting(known.webhook)
    number = f"{COUNTED_MAX} or more" if count == COUNTED_MAX else str(count)
    if state is EndpointState.ACTIVE:
        return [f"active; deliveries that the settler sends now: {number}"]
    return [f"paused; deliveries that wait: {number}"]


async def _replay(log: DeliveryLog, known: EndpointView, asked: EndpointWish) -> list[str]:
    assert asked.since is not None, "looked at above"
    span = _span(known, asked.since, asked.until, asked.types)
    found = await log.replay(known.webhook, span, TERMINAL)
    lines = [f"events that are sent, in their order: {found.deliveries}{' or more' * found.more}"]
    if found.state is not EndpointState.ACTIVE:
        lines.append(f"the endpoint is {found.state.value}: they wait until it is active")
    return lines


def _delivery(one: DeliveryView) -> str:
    last = one.attempts[-1] if one.attempts else None
    told = "not tried" if last is None else f"{last.status or 'no answer'} at {_utc(last.at)}"
    then = "" if one.next_at is None else f", next {_utc(one.next_at)}"
    tries = len(one.attempts)
    return (
        f"{one.delivery}  {one.event}  {one.type}  {one.state.value}  tries {tries}: {told}{then}"
    )


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

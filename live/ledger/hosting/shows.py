"""Shows as their hosts write them: made, set up, started, paused, ended.

Owns: rows of `shows`. Always: each change is a command (show_command.py).
Not here: Redis. Whoever calls carries the new state there afterwards (live/hosting/host.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from live.base.errors import BadField, Conflict, NotFound
from live.domain.ids import OfferId, ShowId, Sku
from live.domain.offer import OfferTerms
from live.domain.show import ShowState, ShowStatus
from live.ledger.db.idempotency import mark_done
from live.ledger.db.pool import Connection, Pool
from live.ledger.hosting import actions, rehearsal
from live.ledger.hosting import show_sql as sql
from live.ledger.hosting.show_command import (
    Actor,
    DoneBefore,
    ShowCommand,
    read_closed,
    read_running,
    read_show,
    show_command,
)
from live.ledger.hosting.show_lists import KEPT, SHOWS_MAX

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class NewShow:
    id: ShowId
    title: str
    currency: str
    language: str = "en"
    starts_at: int | None = None  # Unix ms
    playback_url: str = ""
    paid_partnership: bool = False
    providers: tuple[str, ...] = ()  # ways to pay; empty: all of the shop's


@dataclass(frozen=True, slots=True, kw_only=True)
class ShowPatch:
    """None leaves a field as it is; an empty passcode takes it away, and so does an empty list of
    providers the narrowing."""

    title: str | None = None
    playback_url: str | None = None
    frozen: bool | None = None
    slow_mode_seconds: int | None = None
    rehearsal_passcode: str | None = None
    starts_at: int | None = None  # Unix ms
    providers: tuple[str, ...] | None = None

    @property
    def configures(self) -> bool:
        """Whether this is a change that a freeze refuses; the switch and slow mode are not."""
        configured = (
            self.title,
            self.playback_url,
            self.rehearsal_passcode,
            self.starts_at,
            self.providers,
        )
        return any(value is not None for value in configured)


@dataclass(frozen=True, slots=True)
class ActiveShow:
    """A show that the keeper looks after; `selling` while an offer may have stock in motion."""

    id: ShowId
    version: int
    stock_epoch: int
    selling: bool
    running: bool
    rehearsed: bool  # a rehearsal is over and its stock has to go
    doubted: bool  # not all that Redis has of it is to be believed: that is undone, or made again
    over: bool  # ended and settled: nothing needs what Redis has of it


class ShowRows:
    """Shows as their hosts write them, over a pool of connections."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def read_state(self, show: ShowId) -> ShowState:
        """Raises NotFound."""
        return await read_show(self._pool, show)

    async def active(self) -> list[ActiveShow]:
        """All shows that the keeper has something to do for (show_lists.py)."""
        rows = await self._pool.fetch(KEPT, SHOWS_MAX)
        if len(rows) == SHOWS_MAX:
            log.error("shows.list_is_full", shows=SHOWS_MAX)
        return [
            ActiveShow(
                ShowId(row["id"]),
                row["version"],
                row["stock_epoch"],
                row["selling"],
                row["running"],
                row["rehearsed"],
                row["doubted"],
                row["over"],
            )
            for row in rows
        ]

    async def note_carried(self, show: ShowId, version: int) -> None:
        """Remember that Redis knows a show, of which nothing moves, up to this version."""
        await self._pool.execute(sql.NOTE_CARRIED, show, version)

    async def note_retired(self, show: ShowId, stock_epoch: int) -> None:
        """Remember that what Redis has of the show in this life was given an end."""
        await self._pool.execute(sql.NOTE_RETIRED, show, stock_epoch)

    async def doubt(self, show: ShowId, reason: str) -> None:
        """Have the show's stock made again, unless somebody is at it; `/readyz` tells of it."""
        await self._pool.execute(sql.DOUBT, show, reason)

    async def list_running(self, *, limit: int = 50) -> list[ShowState]:
        """Shows on air, the newest first, without their offers; for the front page."""
        return await read_running(self._pool, limit=limit)

    async def list_closed(
        self, show: ShowId, *, before: int | None, limit: int
    ) -> list[OfferTerms]:
        """Offers that viewers saw and that are closed, the one opened last first.

        `before`: the slot of the last one of the page before. Raises NotFound.
        """
        return await read_closed(self._pool, show, before=before, limit=limit)

    async def status(self, show: ShowId) -> ShowStatus:
        """Raises NotFound."""
        found = await self._pool.fetchval(sql.STATUS, show)
        if found is None:
            raise NotFound(f"unknown show {show}")
        return ShowStatus(found)

    async def sum_orders(self, show: ShowId) -> tuple[int, int]:
        """Orders that stand and what they brought in, less refunds and unpaid invoices; read once a
        second."""
        row = await self._pool.fetchrow(sql.SUM_ORDERS, show)
        assert row is not None, "an aggregate without GROUP BY has one row"
        return row["orders"], row["revenue_minor"]

    async def create(self, new: NewShow, actor: Actor) -> ShowState:
        """Raises Conflict where the id is taken, DoneBefore for a repeat."""
        async with self._pool.acquire() as connection, connection.transaction():
            if not await mark_done(connection, actor.call):
                raise DoneBefore(new.id)
            created = await connection.fetchval(
                sql.CREATE,
                new.id,
                new.title,
                new.currency,
                new.language,
                new.playback_url,
                new.paid_partnership,
                new.starts_at,
                list(new.providers),
            )
            if created is None:
                raise Conflict(f"show {new.id} exists")
            await actions.append(
                connection,
                show=new.id,
                caller=actor.sub,
                role=actor.role,
                action="show.create",
                detail={"title": new.title, "currency": new.currency},
                address=actor.address,
            )
            return await read_show(connection, new.id)

    async def patch(self, show: ShowId, patch: ShowPatch, actor: Actor) -> ShowState:
        """Raises NotFound, and Conflict during a freeze."""
        changes: dict[str, object] = {
            name: value
            for name in ShowPatch.__slots__
            if (value := getattr(patch, name)) is not None
        }
        # The passcode is a secret of the rehearsal: the log tells that it changed, not to what.
        logged = changes | (
            {"rehearsal_passcode": "***"} if "rehearsal_passcode" in changes else {}
        )
        async with show_command(self._pool, show, actor, "show.patch", logged) as command:
            if patch.configures and patch.frozen is not False:
                command.refuse_frozen()
            await command.connection.execute(
                sql.PATCH,
                show,
                patch.title,
                patch.playback_url,
                patch.frozen,
                patch.slow_mode_seconds,
                patch.rehearsal_passcode,
                patch.starts_at,
                None if patch.providers is None else list(patch.providers),
            )
        return command.state

    async def start(self, show: ShowId, actor: Actor) -> ShowState:
        """Go on air; a rehearsal ends with it."""
        async with show_command(self._pool, show, actor, "show.start", {}) as command:
            await _leave_rehearsal(command)
            await _set_status(command, "show.start", ShowStatus.LIVE, _MAY_START)
        return command.state

    async def rehearse(self, show: ShowId, actor: Actor) -> ShowState:
        """Begin the show for the passcode audience. Raises Conflict where it cannot be undone."""
        async with show_command(self._pool, show, actor, "show.rehearse", {}) as command:
            await rehearsal.begin(command.connection, show)
            scheduled = (ShowStatus.SCHEDULED,)
            await _set_status(command, "show.rehearse", ShowStatus.REHEARSAL, scheduled)
        return command.state

    async def pause(self, show: ShowId, actor: Actor) -> ShowState:
        return await self._turn(show, actor, "show.pause", ShowStatus.PAUSED, (ShowStatus.LIVE,))

    async def resume(self, show: ShowId, actor: Actor) -> ShowState:
        return await self._turn(show, actor, "show.resume", ShowStatus.LIVE, (ShowStatus.PAUSED,))

    async def end(self, show: ShowId, actor: Actor) -> ShowState:
        """End a show: what is on sale begins to close, drafts are given back at once.

        A rehearsal is followed by the show itself: it goes back to `scheduled`.
        """
        async with show_command(self._pool, show, actor, "show.end", {}) as command:
            command.refuse_ended()
            if await _leave_rehearsal(command):
                rehearsing = (ShowStatus.REHEARSAL,)
                await _set_status(command, "show.end", ShowStatus.SCHEDULED, rehearsing)
            else:
                await _end(command)
        return command.state

    async def set_run_order(self, show: ShowId, skus: Sequence[Sku], actor: Actor) -> ShowState:
        """Raises NotFound for an unknown product, and Conflict during a freeze."""
        detail: dict[str, object] = {"skus": list(skus)}
        async with show_command(self._pool, show, actor, "show.run_order", detail) as command:
            command.refuse_frozen()
            await _demand_products(command.connection, skus)
            await command.connection.execute(sql.SET_RUN_ORDER, show, list(skus))
        return command.state

    async def pin(self, show: ShowId, skus: Sequence[Sku], actor: Actor) -> ShowState:
        """Pin these products and no others. Raises NotFound for an unknown one."""
        detail: dict[str, object] = {"skus": list(skus)}
        async with show_command(self._pool, show, actor, "show.pin", detail) as command:
            command.refuse_ended()
            await _demand_products(command.connection, skus)
            await command.connection.execute(sql.SET_PINS, show, list(skus))
        return command.state

    async def announce(self, show: ShowId, text: str, until: int | None, actor: Actor) -> ShowState:
        """Set the announcement bar; an empty text takes it down."""
        detail: dict[str, object] = {"text": text, "until": until}
        async with show_command(self._pool, show, actor, "show.announce", detail) as command:
            command.refuse_ended()
            await command.connection.execute(sql.ANNOUNCE, show, text, until if text else None)
        return command.state

    async def log_action(
        self, show: ShowId, actor: Actor, action: str, detail: dict[str, object]
    ) -> None:
        """Note an action that changes no row of the show, such as moderation. Raises NotFound."""
        async with show_command(self._pool, show, actor, action, detail):
            pass

    async def _turn(
        self,
        show: ShowId,
        actor: Actor,
        action: str,
        then: ShowStatus,
        allowed: tuple[ShowStatus, ...],
    ) -> ShowState:
        async with show_command(self._pool, show, actor, action, {}) as command:
            await _set_status(command, action, then, allowed)
        return command.state


_MAY_START = (ShowStatus.SCHEDULED, ShowStatus.REHEARSAL)


async def _set_status(
    command: ShowCommand, action: str, then: ShowStatus, allowed: tuple[ShowStatus, ...]
) -> None:
    if command.status not in allowed:
        raise Conflict(f"{action}: show {command.show} is {command.status.value}")
    await command.connection.execute(sql.SET_STATUS, command.show, then.value)


async def _leave_rehearsal(command: ShowCommand) -> bool:
    """Undo a rehearsal's offers; False where none is under way."""
    if command.status is not ShowStatus.REHEARSAL:
        return False
    lost = await rehearsal.leave(command.connection, command.show)
    command.detail["rehearsal"] = "ended"
    if lost:
        command.detail["stay_closed"] = lost
    return True


async def _end(command: ShowCommand) -> None:
    connection, show = command.connection, command.show
    await connection.execute(sql.SET_STATUS, show, ShowStatus.ENDED.value)
    await connection.execute(sql.LOCK_OFFERS, show)
    await connection.execute(sql.BEGIN_CLOSING, show)
    drafts = await connection.fetch(sql.DRAFTS, show)
    for draft in drafts:
        await give_back_draft(connection, OfferId(draft["id"]))


async def give_back_draft(connection: Connection, offer: OfferId) -> None:
    """Close a draft, which buyers never saw, and return its units to the product at once.

    Everything else closes through the stream (see the settler): only there it is known what sold.
    """
    row = await connection.fetchrow(sql.LOCK_DRAFT, offer)
    assert row is not None, "the caller read it under the show's lock"
    await connection.execute(sql.CLOSE_DRAFT, offer)
    await connection.execute(sql.GIVE_UNITS_BACK, row["sku"], row["allotted"])
    await connection.execute(sql.LOG_GIVEN_BACK, row["sku"], offer, -row["allotted"])


async def _demand_products(connection: Connection, skus: Sequence[Sku]) -> None:
    if len(set(skus)) != len(skus):
        raise BadField("skus", "a product may be named once")
    rows = await connection.fetch(sql.KNOWN_PRODUCTS, list(skus))
    missing = sorted(set(skus) - {row["sku"] for row in rows})
    if missing:
        raise NotFound(f"unknown product {missing[0]}")

"""The frame of every host's command: one transaction, and the state that it led to.

Owns: `show_command`, through which every change of a show or of its offers goes; reading a show as
Redis and the pages get it.
Always: a command is one transaction that locks the show's row first, so commands of one show
follow each other; it raises the show's version by one and leaves exactly one row in
`host_actions`. Locks are taken in the order show, offers, products - the settler's order, too.
Not here: what a command changes (shows.py, offer_rows.py, bans.py).
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import asyncpg

from live.base.errors import Busy, Conflict, NotFound
from live.domain.caller import Role
from live.domain.ids import OfferId, ShowId, Sku
from live.domain.offer import Mode, OfferTerms, Phase
from live.domain.show import Announcement, ProductCard, ShowState, ShowStatus, passcode_digest
from live.ledger.db.idempotency import CallKey, mark_done
from live.ledger.db.pool import Connection, Pool
from live.ledger.hosting import actions

# NO KEY: orders and holds that refer to the show go on being written meanwhile.
_LOCK = "SELECT id, status, frozen, rehearsed, currency FROM shows WHERE id = $1 FOR NO KEY UPDATE"

_LOCK_OF_OFFER = """
SELECT id, status, frozen, rehearsed, currency FROM shows
WHERE id = (SELECT show FROM offers WHERE id = $1) FOR NO KEY UPDATE"""

_NEXT_VERSION = "UPDATE shows SET version = version + 1 WHERE id = $1"

_EXISTS = "SELECT EXISTS (SELECT FROM shows WHERE id = $1)"

_PRODUCTS = """
SELECT sku, title, image_url, price_minor, currency FROM products
WHERE sku = ANY($1) ORDER BY array_position($1, sku)"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Actor:
    """Who gave a command, for the audit log."""

    sub: str
    role: Role
    address: str = ""
    call: CallKey | None = None  # with it the command is done once, however often it is repeated


class DoneBefore(Exception):
    """The command of this call has committed before; nothing was changed now."""

    def __init__(self, show: ShowId) -> None:
        super().__init__(show)
        self.show = show


@dataclass(slots=True)
class ShowCommand:
    """A change under way: the locked show, and after the block the state that it led to.

    The block may set `nothing_done`; then neither version nor audit log move.
    """

    connection: Connection
    show: ShowId
    status: ShowStatus
    frozen: bool
    rehearsed: bool
    currency: str
    detail: dict[str, object]  # what the audit log will tell; the block may add to it
    nothing_done: bool = False
    result: ShowState | None = None

    @property
    def state(self) -> ShowState:
        assert self.result is not None, "read after the command's block only"
        return self.result

    def refuse_frozen(self) -> None:
        """Raises Conflict during a freeze: what was prepared may be used, nothing else changes."""
        if self.frozen:
            raise Conflict(f"the configuration of show {self.show} is frozen")

    def refuse_ended(self) -> None:
        if self.status is ShowStatus.ENDED:
            raise Conflict(f"show {self.show} has ended")

    def refuse_uncleared(self) -> None:
        """Raises Busy between a rehearsal and the new life of the stock: about a second."""
        if self.rehearsed and self.status is not ShowStatus.REHEARSAL:
            raise Busy("the rehearsal is being cleared away", retry_ms=500)


@asynccontextmanager
async def show_command(
    pool: Pool, show: ShowId, actor: Actor, action: str, detail: dict[str, object]
) -> AsyncIterator[ShowCommand]:
    """Run the block inside the transaction of one command.

    Raises NotFound for an unknown show, DoneBefore where the actor's call was done before.
    """
    async with pool.acquire() as connection, connection.transaction():
        async with command_on(connection, show, actor, action, detail) as command:
            yield command
        command.result = await read_show(connection, show)


@asynccontextmanager
async def offer_command(
    pool: Pool, offer: OfferId, actor: Actor, action: str, detail: dict[str, object]
) -> AsyncIterator[ShowCommand]:
    """The same for the show of an offer, which it never changes.

    Raises NotFound for an unknown offer, DoneBefore where the actor's call was done before.
    """
    async with pool.acquire() as connection, connection.transaction():
        row = await connection.fetchrow(_LOCK_OF_OFFER, offer)
        if row is None:
            raise NotFound(f"unknown offer {offer}")
        logged = {"offer": offer, **detail}
        async with _command_of(connection, row, actor, action, logged) as command:
            yield command
        command.result = await read_show(connection, command.show)


@asynccontextmanager
async def command_on(
    connection: Connection, show: ShowId, actor: Actor, action: str, detail: dict[str, object]
) -> AsyncIterator[ShowCommand]:
    """The same in a transaction that the caller has begun; `state` is not read."""
    row = await connection.fetchrow(_LOCK, show)
    if row is None:
        raise NotFound(f"unknown show {show}")
    async with _command_of(connection, row, actor, action, detail) as command:
        yield command


@asynccontextmanager
async def _command_of(
    connection: Connection,
    row: asyncpg.Record,
    actor: Actor,
    action: str,
    detail: dict[str, object],
) -> AsyncIterator[ShowCommand]:
    """The command on a show whose row is locked."""
    show, status = ShowId(row["id"]), ShowStatus(row["status"])
    if not await mark_done(connection, actor.call):
        raise DoneBefore(show)
    command = ShowCommand(
        connection, show, status, row["frozen"], row["rehearsed"], row["currency"], detail
    )
    yield command
    if command.nothing_done:
        return
    await connection.execute(_NEXT_VERSION, show)
    await actions.append(
        connection,
        show=show,
        caller=actor.sub,
        role=actor.role,
        action=action,
        detail=command.detail,
        address=actor.address,
    )


_SHOW = """
    SELECT id, title, status, language, currency, playback_url, pins, run_order, announcement,
           floor(extract(epoch FROM announcement_until) * 1000)::bigint AS announcement_until,
           paid_partnership, slow_mode_seconds, frozen, stock_epoch, version, rehearsal_passcode,
           floor(extract(epoch FROM starts_at) * 1000)::bigint AS starts_at, providers
    FROM shows
"""

_OFFERS = """
    SELECT id, show, slot, sku, title, image_url, price_minor, currency, mode, phase, quantity,
           allotted, per_buyer_limit, hold_seconds, waitlist, guests,
           sold_out AND phase = 'paused' AS sold_out,
           floor(extract(epoch FROM opens_at) * 1000)::bigint AS opens_at,
           floor(extract(epoch FROM closes_at) * 1000)::bigint AS closes_at, version, providers
    FROM offers
"""


async def read_show(connection: Connection | Pool, show: ShowId) -> ShowState:
    """Read a show with its offers. Raises NotFound.

    Several statements: outside a transaction the version is read first, so a state is never newer
    than its version says, and a later one replaces it.
    """
    row = await connection.fetchrow(f"{_SHOW} WHERE id = $1", show)
    if row is None:
        raise NotFound(f"unknown show {show}")
    offers = await connection.fetch(f"{_OFFERS} WHERE show = $1 ORDER BY slot", show)
    pinned = await _pinned(connection, row["pins"])
    return _state(row, tuple(_terms(offer) for offer in offers), pinned)


async def read_closed(
    connection: Connection | Pool, show: ShowId, *, before: int | None, limit: int
) -> list[OfferTerms]:
    """Offers that viewers saw and that are closed, the one opened last first.

    `before`: the slot of the last one of the page before. Raises NotFound for an unknown show.
    """
    rows = await connection.fetch(
        f"""{_OFFERS} o WHERE show = $1 AND phase = 'closed' AND opens_at IS NOT NULL
            AND ($2::int IS NULL OR (o.opens_at, slot) <
                 (SELECT c.opens_at, c.slot FROM offers c WHERE c.show = $1 AND c.slot = $2))
            ORDER BY o.opens_at DESC, slot DESC LIMIT $3""",
        show,
        before,
        limit,
    )
    if not rows and not await connection.fetchval(_EXISTS, show):
        raise NotFound(f"unknown show {show}")
    return [_terms(row) for row in rows]


async def read_running(pool: Pool, *, limit: int) -> list[ShowState]:
    """Shows on air, the newest first, without their offers."""
    rows = await pool.fetch(
        f"{_SHOW} WHERE status IN ('live', 'paused') ORDER BY created_at DESC LIMIT $1", limit
    )
    return [_state(row, ()) for row in rows]


async def _pinned(connection: Connection | Pool, skus: Sequence[str]) -> tuple[ProductCard, ...]:
    if not skus:
        return ()
    rows = await connection.fetch(_PRODUCTS, skus)
    return tuple(ProductCard(**dict(row)) for row in rows)


def _state(
    row: asyncpg.Record, offers: tuple[OfferTerms, ...], pinned: tuple[ProductCard, ...] = ()
) -> ShowState:
    text, passcode = row["announcement"], row["rehearsal_passcode"]
    return ShowState(
        id=ShowId(row["id"]),
        title=row["title"],
        status=ShowStatus(row["status"]),
        language=row["language"],
        currency=row["currency"],
        playback_url=row["playback_url"],
        pins=tuple(Sku(sku) for sku in row["pins"]),
        run_order=tuple(Sku(sku) for sku in row["run_order"]),
        announcement=None if text is None else Announcement(text, row["announcement_until"]),
        paid_partnership=row["paid_partnership"],
        slow_mode_seconds=row["slow_mode_seconds"],
        frozen=row["frozen"],
        stock_epoch=row["stock_epoch"],
        version=row["version"],
        offers=offers,
        starts_at=row["starts_at"],
        passcode="" if passcode is None else passcode_digest(row["id"], passcode),
        pinned=pinned,
        providers=tuple(row["providers"]),
        slots=len(offers),  # numbered from 0 without a gap, and never deleted
    )


def _terms(row: asyncpg.Record) -> OfferTerms:
    values = dict(row) | {
        "mode": Mode(row["mode"]),
        "phase": Phase(row["phase"]),
        "providers": tuple(row["providers"]),
    }
    return OfferTerms(**values)

"""Offers as hosts and the schedule change them.

Always: every change raises the offer's version by one, so Redis can ignore an older one; deadlines
and `allotted` are written as absolute values; `products.allotted` moves with `offers.allotted` in
the same transaction and never passes `on_hand`. Postgres' clock is the only one.
Not here: `sold` and the way from `closing` to `closed`, which belong to the settler.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypedDict

import asyncpg

from live.base.errors import Conflict, NotFound
from live.domain.caller import Role
from live.domain.ids import OfferId, ShowId, Sku
from live.domain.offer import (
    DURATION_SECONDS_MAX,
    OFFERS_AHEAD_MAX,
    OFFERS_PER_SHOW_MAX,
    QUANTITY_MAX,
    Mode,
    Phase,
    may_become,
)
from live.domain.show import ShowState
from live.ledger.db.pool import Pool
from live.ledger.hosting import offer_sql as sql
from live.ledger.hosting.show_command import Actor, ShowCommand, offer_command, show_command
from live.ledger.hosting.shows import give_back_draft

KEEPER = Actor(sub="keeper", role=Role.SERVICE)
"""Who opens and closes by the clock."""


class OfferChanges(TypedDict, total=False):
    """Columns of a draft that its host may change: all but what it sells."""

    price_minor: int
    quantity: int
    per_buyer_limit: int
    hold_seconds: int
    mode: Mode
    countdown_seconds: int
    duration_seconds: int | None
    waitlist: bool
    guests: bool
    providers: Sequence[str]


EDITABLE = frozenset(OfferChanges.__annotations__)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewOffer:
    id: OfferId
    sku: Sku
    price_minor: int
    quantity: int
    per_buyer_limit: int
    hold_seconds: int
    mode: Mode
    countdown_seconds: int = 0
    duration_seconds: int | None = None
    waitlist: bool = True
    guests: bool = False
    providers: tuple[str, ...] = ()  # ways to pay for it; empty: those of its show


class OfferRows:
    """The commands on offers; each returns the state of the whole show after it."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def show_of(self, offer: OfferId) -> ShowId:
        """Raises NotFound."""
        show = await self._pool.fetchval(sql.SHOW_OF, offer)
        if show is None:
            raise NotFound(f"unknown offer {offer}")
        return ShowId(show)

    async def create(self, show: ShowId, new: NewOffer, actor: Actor) -> ShowState:
        """Write a draft and set its units aside from the product.

        Raises NotFound for the show or product; Conflict where fewer units are available, the
        currencies differ, the id is taken, the show is frozen, over or full.
        """
        detail: dict[str, object] = {
            "offer": new.id,
            "sku": new.sku,
            "price_minor": new.price_minor,
            "quantity": new.quantity,
            "per_buyer_limit": new.per_buyer_limit,
            "hold_seconds": new.hold_seconds,
            "mode": new.mode.value,
            "providers": list(new.providers),
        }
        async with show_command(self._pool, show, actor, "offer.create", detail) as command:
            command.refuse_frozen()
            command.refuse_ended()
            slot = await self._next_slot(command)
            product = await self._allot(command, new)
            await self._insert(command, new, slot, product)
            await _log_allotted(command, new.sku, new.id, new.quantity)
        return command.state

    async def open(self, offer: OfferId, actor: Actor) -> ShowState:
        """Open now, or schedule the opening where the offer has a countdown."""
        async with offer_command(self._pool, offer, actor, "offer.open", {}) as command:
            command.refuse_ended()
            command.refuse_uncleared()
            now = await _phase(command, offer)
            if now not in (Phase.DRAFT, Phase.SCHEDULED):  # a paused offer is resumed
                raise Conflict(f"offer.open: offer {offer} is {now.value}")
            await command.connection.execute(sql.OPEN, offer)
        return command.state

    async def edit(self, offer: OfferId, changes: OfferChanges, actor: Actor) -> ShowState:
        """Change terms of a draft, to checked values.

        Raises Conflict once buyers may know the offer, during a freeze, and where more units are
        asked for than are available.
        """
        assert changes.keys() <= EDITABLE, changes
        async with offer_command(self._pool, offer, actor, "offer.edit", dict(changes)) as command:
            command.refuse_frozen()
            await _demand(command, offer, (Phase.DRAFT,), "offer.edit")
            wanted = changes.get("quantity")
            if isinstance(wanted, int):
                await _set_quantity(command, offer, wanted)
            # Names of columns from a closed set; the values are parameters.
            sets = [f"{name} = ${place}" for place, name in enumerate(changes, start=2)]
            await command.connection.execute(
                sql.EDIT.format(columns=", ".join(sets)),
                offer,
                *changes.values(),
            )
        return command.state

    async def mark_sold_out(self, offer: OfferId, actor: Actor) -> ShowState:
        """Stop selling and say so as "sold out"; what is held may be paid, `resume` sells on."""
        async with offer_command(self._pool, offer, actor, "offer.sold_out", {}) as command:
            await _demand(command, offer, (Phase.OPEN, Phase.PAUSED), "offer.sold_out")
            await command.connection.execute(sql.MARK_SOLD_OUT, offer)
        return command.state

    async def pause(self, offer: OfferId, actor: Actor) -> ShowState:
        async with offer_command(self._pool, offer, actor, "offer.pause", {}) as command:
            await _turn(command, offer, Phase.PAUSED)
        return command.state

    async def resume(self, offer: OfferId, actor: Actor) -> ShowState:
        async with offer_command(self._pool, offer, actor, "offer.resume", {}) as command:
            command.refuse_ended()
            now = await _phase(command, offer)
            if now is not Phase.PAUSED:
                raise Conflict(f"offer.resume: offer {offer} is {now.value}")
            await command.connection.execute(sql.RESUME, offer)
        return command.state

    async def close(self, offer: OfferId, actor: Actor) -> ShowState:
        """Begin to close; a draft, which nobody could buy, is closed at once."""
        async with offer_command(self._pool, offer, actor, "offer.close", {}) as command:
            if await _phase(command, offer) is Phase.DRAFT:
                await give_back_draft(command.connection, offer)
            else:
                await _turn(command, offer, Phase.CLOSING)
        return command.state

    async def extend(self, offer: OfferId, seconds: int, actor: Actor) -> ShowState:
        """Move the closing time. Raises Conflict where there is none or the offer is closing."""
        async with offer_command(
            self._pool, offer, actor, "offer.extend", {"seconds": seconds}
        ) as command:
            await _demand(command, offer, _ON_SALE, "offer.extend")
            moved = await command.connection.fetchval(
                sql.EXTEND, offer, seconds, DURATION_SECONDS_MAX
            )
            if moved is None:
                raise Conflict(
                    f"offer {offer} has no closing time, or it would be more than a day ahead"
                )
        return command.state

    async def restock(self, offer: OfferId, quantity: int, actor: Actor) -> ShowState:
        """Add units of the product to the offer. Raises Conflict where too few are available."""
        detail: dict[str, object] = {"quantity": quantity}
        async with offer_command(self._pool, offer, actor, "offer.restock", detail) as command:
            await _demand(command, offer, (Phase.DRAFT, *_ON_SALE), "offer.restock")
            sku = await command.connection.fetchval(sql.RESTOCK, offer, quantity, QUANTITY_MAX)
            if sku is None:
                raise Conflict(f"an offer may have {QUANTITY_MAX} units")
            taken = await command.connection.fetchval(sql.ALLOT, sku, quantity)
            if taken is None:
                raise Conflict(f"fewer than {quantity} units of {sku} are available")
            await _log_allotted(command, sku, offer, quantity)
        return command.state

    async def due(self) -> list[ShowId]:
        """Shows with an offer whose opening or closing time has come, or an announcement's end."""
        rows = await self._pool.fetch(sql.DUE)
        return [ShowId(row["show"]) for row in rows]

    async def advance(self, show: ShowId) -> ShowState | None:
        """Open, close and take down what is due by the clock; None where another one was first."""
        async with show_command(self._pool, show, KEEPER, "offer.schedule", {}) as command:
            await command.connection.execute(sql.LOCK_DUE, show)
            closing = await command.connection.fetch(sql.CLOSE_DUE, show)
            opened = await command.connection.fetch(sql.OPEN_DUE, show)
            command.detail["opened"] = [row["id"] for row in opened]
            command.detail["closing"] = [row["id"] for row in closing]
            said = await command.connection.fetchval(sql.TAKE_DOWN_ANNOUNCEMENT, show)
            if said is not None:
                command.detail["announcement"] = "over"
            command.nothing_done = not (opened or closing or said)
        return None if command.nothing_done else command.state

    async def _next_slot(self, command: ShowCommand) -> int:
        slot: int = await command.connection.fetchval(sql.NEXT_SLOT, command.show)
        if slot >= OFFERS_PER_SHOW_MAX:
            raise Conflict(f"a show may have {OFFERS_PER_SHOW_MAX} offers")
        ahead: int = await command.connection.fetchval(sql.COUNT_AHEAD, command.show)
        if ahead >= OFFERS_AHEAD_MAX:
            raise Conflict(
                f"a show may have {OFFERS_AHEAD_MAX} offers that are not closed: close some first"
            )
        return slot

    async def _allot(self, command: ShowCommand, new: NewOffer) -> asyncpg.Record:
        """Take the units from what the product has available; the row of the product."""
        product = await command.connection.fetchrow(sql.LOCK_PRODUCT, new.sku)
        if product is None:
            raise NotFound(f"unknown product {new.sku}")
        if product["currency"] != command.currency:
            raise Conflict(
                f"{new.sku} is priced in {product['currency']}, "
                f"the show sells in {command.currency}"
            )
        if product["available"] < new.quantity:
            raise Conflict(
                f"quantity: {new.quantity} asked, {product['available']} of {new.sku} available"
            )
        await command.connection.execute(sql.ALLOT, new.sku, new.quantity)
        return product

    async def _insert(
        self, command: ShowCommand, new: NewOffer, slot: int, product: asyncpg.Record
    ) -> None:
        written = await command.connection.fetchval(
            sql.CREATE,
            new.id,
            command.show,
            slot,
            new.sku,
            product["title"],
            product["image_url"],
            new.price_minor,
            product["currency"],
            new.mode.value,
            new.quantity,
            new.per_buyer_limit,
            new.hold_seconds,
            new.waitlist,
            new.guests,
            new.countdown_seconds,
            new.duration_seconds,
            list(new.providers),
        )
        if written is None:
            raise Conflict(f"offer {new.id} exists")


_ON_SALE = (Phase.SCHEDULED, Phase.OPEN, Phase.PAUSED)


async def _phase(command: ShowCommand, offer: OfferId) -> Phase:
    """Lock the offer against the settler and tell its phase."""
    return Phase(await command.connection.fetchval(sql.LOCK_PHASE, offer))


async def _turn(command: ShowCommand, offer: OfferId, then: Phase) -> None:
    now = await _phase(command, offer)
    if not may_become(now, then):
        raise Conflict(f"offer {offer} is {now.value} and cannot become {then.value}")
    await command.connection.execute(sql.SET_PHASE, offer, then.value)


async def _demand(
    command: ShowCommand, offer: OfferId, phases: Sequence[Phase], action: str
) -> None:
    now = await _phase(command, offer)
    if now not in phases:
        raise Conflict(f"{action}: offer {offer} is {now.value}")


async def _set_quantity(command: ShowCommand, offer: OfferId, wanted: int) -> None:
    """Set a draft's units; the difference comes from the product, or goes back to it."""
    row = await command.connection.fetchrow(sql.SKU_AND_ALLOTTED, offer)
    assert row is not None, "the command has locked it"
    more = wanted - row["allotted"]
    moved = await command.connection.fetchval(sql.ALLOT, row["sku"], more)
    if moved is None:
        raise Conflict(f"quantity: fewer than {more} more units of {row['sku']} are available")
    await command.connection.execute(sql.SET_ALLOTTED, offer, wanted)
    if more:
        await command.connection.execute(
            sql.LOG_EDITED, row["sku"], offer, "allotted" if more > 0 else "given_back", more
        )


async def _log_allotted(command: ShowCommand, sku: str, offer: OfferId, quantity: int) -> None:
    await command.connection.execute(sql.LOG_ALLOTTED, sku, offer, quantity)

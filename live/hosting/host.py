"""What hosts do: Postgres first, then the stock engine, then everybody's screen.

Always: once Postgres has committed, the command is done. Where Redis cannot be reached after that,
the answer says so (`delayed`) and the keeper brings Redis up to date. A repeat of a command that
committed, with the same key, changes nothing and is answered with the show as it is now.
"""

import asyncio
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from uuid import uuid4

import structlog

from live.base.errors import Busy
from live.base.failpoint import failpoint
from live.domain.ids import OfferId, ShowId, Sku
from live.domain.offer import OfferView
from live.domain.show import ShowState, ShowView
from live.hosting.projector import UNREACHABLE, Projector
from live.hosting.views import Stocks, view_show, view_terms
from live.hosting.ways import ShopWays
from live.ledger.db.idempotency import CallKey
from live.ledger.hosting.offer_rows import NewOffer, OfferChanges, OfferRows
from live.ledger.hosting.show_command import Actor, DoneBefore
from live.ledger.hosting.shows import NewShow, ShowPatch, ShowRows

log = structlog.get_logger()

CLEARED_TRIES_MAX, CLEARED_EVERY_SECONDS = 20, 0.2  # the keeper looks twice a second

DELAYED_NOTE = "saved; viewers hear of it as soon as Redis answers"


@dataclass(frozen=True, slots=True)
class Done:
    """A command that is committed; `delayed` while Redis does not know it yet."""

    state: ShowState
    stocks: Stocks
    delayed: bool

    @property
    def show(self) -> ShowView:
        return view_show(self.state, self.stocks, drafts=True)

    def offer(self, offer: OfferId) -> OfferView:
        terms = next(terms for terms in self.state.offers if terms.id == offer)
        return view_terms(terms, self.stocks)


class HostCommands:
    """One method per command. All raise NotFound and Conflict as the rows below them do, and
    BadField for ways to pay that the shop does not take or prices that they could not charge."""

    def __init__(
        self, shows: ShowRows, offers: OfferRows, projector: Projector, ways: ShopWays
    ) -> None:
        self._shows = shows
        self._offers = offers
        self._projector = projector
        self._ways = ways

    async def look(self, show: ShowId) -> Done:
        """Read a show with its stock; without Redis, with the stock that the ledger knows."""
        state = await self._shows.read_state(show)
        try:
            figures = await self._projector.stock.figures(show)
        except UNREACHABLE as error:
            log.warning("figures_unreachable", show=show, error=str(error))
            return Done(state, {}, delayed=True)
        return Done(state, figures.offers, delayed=False)

    async def show_of(self, offer: OfferId) -> ShowId:
        return await self._offers.show_of(offer)

    async def create_show(self, new: NewShow, actor: Actor) -> Done:
        self._ways.check_names(new.providers)
        return await self._project(self._shows.create(new, actor), fresh=True)

    async def patch_show(self, show: ShowId, patch: ShowPatch, actor: Actor) -> Done:
        if patch.providers is not None:
            self._ways.check_show(await self._shows.read_state(show), patch.providers)
        return await self._project(self._shows.patch(show, patch, actor))

    async def start_show(self, show: ShowId, actor: Actor) -> Done:
        return await self._project(self._shows.start(show, actor))

    async def rehearse_show(self, show: ShowId, actor: Actor) -> Done:
        return await self._project(self._shows.rehearse(show, actor))

    async def pause_show(self, show: ShowId, actor: Actor) -> Done:
        return await self._project(self._shows.pause(show, actor))

    async def resume_show(self, show: ShowId, actor: Actor) -> Done:
        return await self._project(self._shows.resume(show, actor))

    async def end_show(self, show: ShowId, actor: Actor) -> Done:
        return await self._project(self._shows.end(show, actor))

    async def set_run_order(self, show: ShowId, skus: Sequence[Sku], actor: Actor) -> Done:
        return await self._project(self._shows.set_run_order(show, skus, actor))

    async def pin(self, show: ShowId, skus: Sequence[Sku], actor: Actor) -> Done:
        return await self._project(self._shows.pin(show, skus, actor))

    async def announce(self, show: ShowId, text: str, until: int | None, actor: Actor) -> Done:
        return await self._project(self._shows.announce(show, text, until, actor))

    async def create_offer(self, show: ShowId, new: NewOffer, actor: Actor) -> Done:
        state = await self._shows.read_state(show)
        self._ways.check_names(new.providers)
        limits = (state.providers, new.providers)
        self._ways.check_price(new.price_minor, state.currency, limits, guests=new.guests)
        return await self._project(self._offers.create(show, new, actor))

    async def edit_offer(
        self, show: ShowId, offer: OfferId, changes: OfferChanges, actor: Actor
    ) -> Done:
        """Of an offer of this show."""
        if changes.keys() & {"price_minor", "providers", "guests"}:
            await self._check_edit(show, offer, changes)
        return await self._project(self._offers.edit(offer, changes, actor))

    async def _check_edit(self, show: ShowId, offer: OfferId, changes: OfferChanges) -> None:
        state = await self._shows.read_state(show)
        terms = next(terms for terms in state.offers if terms.id == offer)
        providers = changes.get("providers", terms.providers)
        self._ways.check_names(providers)
        price = changes.get("price_minor", terms.price_minor)
        guests = changes.get("guests", terms.guests)
        self._ways.check_price(price, terms.currency, (state.providers, providers), guests=guests)

    async def mark_sold_out(self, offer: OfferId, actor: Actor) -> Done:
        return await self._project(self._offers.mark_sold_out(offer, actor))

    async def open_offer(self, offer: OfferId, actor: Actor) -> Done:
        """Raises Busy where a rehearsal takes longer to go away than a host wants to wait."""
        for left in reversed(range(CLEARED_TRIES_MAX)):
            try:
                return await self._project(self._offers.open(offer, actor))
            except Busy:
                if not left:
                    raise
            await asyncio.sleep(CLEARED_EVERY_SECONDS)
        raise AssertionError("the last try returns or raises")

    async def pause_offer(self, offer: OfferId, actor: Actor) -> Done:
        return await self._project(self._offers.pause(offer, actor))

    async def resume_offer(self, offer: OfferId, actor: Actor) -> Done:
        return await self._project(self._offers.resume(offer, actor))

    async def close_offer(self, offer: OfferId, actor: Actor) -> Done:
        return await self._project(self._offers.close(offer, actor))

    async def extend_offer(self, offer: OfferId, seconds: int, actor: Actor) -> Done:
        return await self._project(self._offers.extend(offer, seconds, actor))

    async def restock_offer(self, offer: OfferId, quantity: int, actor: Actor) -> Done:
        return await self._project(self._offers.restock(offer, quantity, actor))

    async def _project(self, command: Awaitable[ShowState], *, fresh: bool = False) -> Done:
        try:
            state = await command
        except DoneBefore as before:
            state = await self._shows.read_state(before.show)
        failpoint("host.committed")
        try:
            stocks = await self._projector.project(state, fresh=fresh)
        except UNREACHABLE as error:
            log.warning("carry_delayed", show=state.id, version=state.version, error=str(error))
            return Done(state, {}, delayed=True)
        return Done(state, stocks, delayed=False)


def new_id(prefix: str, call: CallKey | None) -> str:
    """An id for a show or an offer that its host did not name; a repeated call gets the same."""
    if call is None:
        return f"{prefix}-{uuid4().hex[:12]}"
    # A key has no line break, so no two calls are the same text.
    whole = sha256(f"{call.key}\n{call.caller}".encode())
    return f"{prefix}-{whole.hexdigest()[:12]}"

"""Repair: what `live audit --repair` does about the differences that an audit finds.

Always: it only goes on where something was left: settles what the outbox holds, lets the payment
worker decide what hangs, asks again for money moves that were forgotten or refused, sends back what
no order owns (a few payments; more where a person says how many) and what a provider holds for a
payment that was given up, has the refunds of a payment looked up one by one where their sums
differ, sets counters to the sums that prove them, tells Redis and viewers what hosts decided, and
makes a show's stock anew where Redis differs. It never raises what an offer is allotted, never pays
back what a person asked for (they may have done it otherwise), never deletes, and leaves to a
person what it cannot explain; the audit after it tells what remains.
Called by: `live audit --repair`, beside a running service or alone. Safe to repeat at any point.
"""

import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol
from uuid import UUID

import structlog

from live.base.errors import Busy
from live.base.faults import tell_fault
from live.domain.ids import ShowId
from live.domain.money import amount_text
from live.domain.offer import OfferTerms
from live.domain.payment_states import MAY_HOLD_MONEY
from live.domain.show import ShowState
from live.ledger.audit import repair_sql as sql
from live.ledger.audit.books import charge_pages, our_id
from live.ledger.audit.goods_sql import FULFILMENT
from live.ledger.audit.run import EVERYTHING, Extent, work_of
from live.ledger.audit.show import Prover, told_differs
from live.ledger.db.pool import Pool
from live.ledger.hosting.show_command import read_show
from live.ledger.money.late_money import void_given_up
from live.ledger.orders.units import NOTE_FULFILMENT
from live.ledger.ports import AuditedStockPort, OutboxPort, ProviderAuditPort, StatesPort, StockPort
from live.ledger.settle.rebuild import read_terms, rebuild_show
from live.ledger.settle.settler import Settler

WORK_ROUNDS_MAX = 1_000  # passes of the payment worker, of dozens of rows each
GRACE_SECONDS = 30.0  # a payment that moved so lately is in somebody's hands
COMPARE_WAIT_SECONDS = 5.0  # for the settlers to pass what is sold meanwhile
STATEMENT_TIMEOUT_SECONDS = 60.0  # of one look over a whole ledger
# Payments without an order whose money goes back unasked. A crash or a bug leaves a handful; more
# mean that orders were lost (half a restore, rows deleted), and then money is not what to move.
GIVE_BACK_MAX = 20
FULFILMENTS_MAX = 1_000  # orders of a show that one run tells anew

log = structlog.get_logger()


class RepairStock(StockPort, AuditedStockPort, Protocol):
    async def apply_offer(self, terms: OfferTerms) -> object:
        """Take over what a host decided, unless this version or a newer one is known."""
        ...


class TellPort(StatesPort, Protocol):
    """What viewers were told of a show, and the way to tell them."""

    async def project(self, state: ShowState) -> object:
        """Bring Redis and viewers up to `state`, unless they know this version. Raises Busy."""
        ...


async def repair(
    pool: Pool,
    *,
    stock: RepairStock,
    outbox: OutboxPort,
    settler: Settler,
    work: Callable[[], Awaitable[bool]],
    providers: Sequence[ProviderAuditPort] = (),
    states: TellPort | None = None,
    extent: Extent = EVERYTHING,
    grace_seconds: float = GRACE_SECONDS,
    give_back_max: int = GIVE_BACK_MAX,
) -> list[str]:
    """Mend what can be mended of the shows that `extent` names; one line for each thing done.

    Money is looked after for the whole shop. Raises DATABASE_ERRORS, NotFound.

    `providers` are those whose books can be read. `work` is one pass of the payment worker; it
    tells whether it found anything to do. Where more than `give_back_max` payments are paid and
    own no order, none of them is given back; a line says how many and how much.
    """
    named = list((await work_of(pool, extent)).shows)
    rows = await pool.fetch(sql.SOLD_IN, named, timeout=STATEMENT_TIMEOUT_SECONDS)
    shows = [ShowId(row["id"]) for row in rows]
    parts = _Parts(pool, stock, outbox, settler, states, grace_seconds, give_back_max)
    for show in shows:
        await parts.bring_up(show)
    for row in await pool.fetch(sql.PUT_ASIDE):
        await parts.try_again(ShowId(row["show"]))
    for query in sql.COUNTERS:
        await parts.run(query, named)
    for show in named:
        await parts.note_fulfilment(show)
    await parts.mend_money(work, providers)
    for show in shows:
        await parts.compare(show)  # after the worker: a refused capture gives units back
    for show in named:
        await parts.tell(show)
    return parts.done


class _Parts:
    def __init__(
        self,
        pool: Pool,
        stock: RepairStock,
        outbox: OutboxPort,
        settler: Settler,
        states: TellPort | None,
        grace_seconds: float,
        give_back_max: int,
    ) -> None:
        self.pool, self.stock, self.outbox, self.settler = pool, stock, outbox, settler
        self.states = states
        self.grace_seconds = grace_seconds
        self.give_back_max = give_back_max
        self.prover = Prover(pool, stock, outbox)
        self.done: list[str] = []

    def note(self, *lines: str) -> None:
        for line in lines:
            log.warning("repair", did=line)
        self.done += lines

    async def run(self, query: str, *arguments: object) -> None:
        """One statement that tells what it did."""
        rows = await self.pool.fetch(query, *arguments, timeout=STATEMENT_TIMEOUT_SECONDS)
        self.note(*(row["done"] for row in rows))

    async def bring_up(self, show: ShowId) -> None:
        """Settle what is behind and carry every offer's version; rebuild what Redis lost."""
        try:
            if await self._rebuild(show, force=False):
                self.note(f"show {show}: rebuilt, Redis did not know it or was doubted")
                return
            try:
                await self._settle(show)
            except Busy:  # its stock is there, its outbox or group is not
                await self._rebuild(show, force=True)
                self.note(f"show {show}: rebuilt, its outbox was lost")
                return
            async with self.pool.acquire() as connection:
                offers = await read_terms(connection, show)
            for terms in offers:
                await self.stock.apply_offer(terms)
        except Busy as error:
            self.note(f"show {show}: left alone, {error}")

    async def note_fulfilment(self, show: ShowId) -> None:
        """Orders are as far as their parcels and returns say; the rest of many by the next run."""
        rows = await self.pool.fetch(
            FULFILMENT.query, show, FULFILMENTS_MAX, timeout=STATEMENT_TIMEOUT_SECONDS
        )
        for row in rows:
            await self.pool.execute(NOTE_FULFILMENT, UUID(row["name"].removeprefix("order ")))
            self.note(f"{row['name']}: told anew as its parcels say")

    async def try_again(self, show: ShowId) -> None:
        """What was put aside is settled, if it can be by now; else a person is told, once."""
        try:
            await self._rebuild(show, force=True)
        except Busy as error:
            self.note(f"show {show}: left alone, {error}")
            return
        self.note(f"show {show}: rebuilt, what had been put aside was tried again")
        for row in await self.pool.fetch(sql.GIVEN_UP, show):
            self.note(
                f"show {show}: record {row['seq']} of entry {row['entry']} cannot be settled"
                f" ({row['reason']}); the stock was made again without it, and money for it is"
                " given back below unless it says so; it stays in the table poison. A person looks"
                " whether rows of its order are there already (then the ledger lost a part: restore"
                " it whole) or whether the sale must be made anew; no repair will do it"
            )

    async def _settle(self, show: ShowId) -> None:
        if await self.outbox.first_unsettled(show) is not None:
            await self.settler.drain(show)
            self.note(f"show {show}: settled what its outbox held")

    async def mend_money(
        self, work: Callable[[], Awaitable[bool]], providers: Sequence[ProviderAuditPort]
    ) -> None:
        for query in sql.MONEY:
            await self.run(query, self.grace_seconds)
        await self.give_back()
        for query in (*sql.DUE_NOW, sql.DECIDE):
            await self.run(query, self.grace_seconds)
        for provider in providers:
            await self.read_books(provider)
        await _work_off(work)
        # What the worker confirmed becomes an order; what is authorised after that has none.
        for row in await self.pool.fetch(sql.HANGING_SHOWS, timeout=STATEMENT_TIMEOUT_SECONDS):
            show = ShowId(row["show"])
            try:
                await self._settle(show)
            except Busy as error:
                self.note(f"show {show}: its money was left alone, {error}")
                return  # an order may be on its way: nobody can tell whose money is free
        await self.run(sql.VOID_HANGING, self.grace_seconds)
        await _work_off(work)

    async def give_back(self) -> None:
        """What was paid and owns no order goes back, or all of it is left to a person."""
        owed = await self.pool.fetch(
            sql.TO_GIVE_BACK, self.grace_seconds, timeout=STATEMENT_TIMEOUT_SECONDS
        )
        payments = sum(row["payments"] for row in owed)
        if payments <= self.give_back_max:
            for query in sql.GIVE_BACK:
                await self.run(query, self.grace_seconds, self.give_back_max)
            return
        sums = ", ".join(amount_text(row["amount_minor"], row["currency"]) for row in owed)
        self.note(
            f"NOT given back: {payments} payments that own no order, {sums} in all, are"
            f" more than {self.give_back_max}: orders may have been lost. Compare the ledger with"
            " a backup and restore it whole; only if the money is really owed back, run"
            f" `live audit --repair --refund-up-to {payments}`"
        )

    async def read_books(self, provider: ProviderAuditPort) -> None:
        """What the provider holds for a payment that was given up goes back; where it paid back
        more or less than is known here, its refunds are looked up."""
        try:
            async for charges in charge_pages(provider):
                ours = [(id, charge) for charge in charges if (id := our_id(charge)) is not None]
                kept = [(id, charge.ref) for id, charge in ours if charge.state in MAY_HOLD_MONEY]
                await self.run(
                    sql.REFUNDS_DIFFER,
                    self.grace_seconds,
                    [id for id, _ in ours],
                    [charge.refunded_minor for _, charge in ours],
                )
                for payment in await void_given_up(self.pool, kept):
                    self.note(f"payment {payment}: its late authorisation is being voided")
        except Exception as error:  # another package's client; the audit after it says the same
            tell_fault("repair.books_unread", error, provider=provider.name)
            self.note(f"provider {provider.name}: left alone, no books to read ({error!r})")

    async def compare(self, show: ShowId) -> None:
        """Where Redis and the ledger still differ, the ledger is right."""
        try:
            if await self.outbox.first_unsettled(show) is not None:
                await self.settler.drain(show)
            look = await self.prover.look(show, time.monotonic() + COMPARE_WAIT_SECONDS)
            if look.findings:
                await self._rebuild(show, force=True)
                self.note(f"show {show}: rebuilt, {look.findings[0].line}")
        except Busy as error:
            self.note(f"show {show}: left alone, {error}")

    async def tell(self, show: ShowId) -> None:
        """Where viewers are told something else, hosts are right."""
        if self.states is None:
            return
        try:
            told = await self.states.read_state(show)
            decided = await read_show(self.pool, show)
            text = told_differs(told, decided)
            if not text:
                return
            if told is not None and told.version >= decided.version:
                await self.pool.execute(
                    sql.TELL_AGAIN,
                    show,
                    told.version,
                    [terms.id for terms in told.offers],
                    [terms.version for terms in told.offers],
                )
                decided = await read_show(self.pool, show)
            await self.states.project(decided)
            self.note(f"show {show}: viewers were told again, it {text}")
        except Busy as error:
            self.note(f"show {show}: viewers were not told again, {error}")

    async def _rebuild(self, show: ShowId, *, force: bool) -> bool:
        if force:
            # A ledger that was restored from a backup may be behind Redis, and a new life of the
            # stock takes the place of an older one only.
            try:
                now = await self.stock.snapshot(show)
            except Busy:  # it cannot be read, which is a reason to make it again
                now = None
            if now is not None:
                await self.pool.execute(sql.CATCH_UP_EPOCH, show, now.stock_epoch)
        return await rebuild_show(
            self.pool,
            show,
            stock=self.stock,
            outbox=self.outbox,
            settler=self.settler,
            force=force,
        )


async def _work_off(work: Callable[[], Awaitable[bool]]) -> None:
    for _ in range(WORK_ROUNDS_MAX):
        if not await work():
            return

"""The proof of one show: its stock in Redis, its rows in Postgres, what its viewers were told.

Always: Postgres is read in one short REPEATABLE READ transaction a show, so no vacuum waits for the
whole shop; a difference to Redis counts only if it is still there when the settler has passed what
Redis had written by then.
Called by: the audit (run.py) and the repair.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields

import asyncpg

from live.base.errors import Busy, NotFound
from live.domain.ids import OfferId, ShowId
from live.domain.offer import OfferTerms, Stock, current
from live.domain.show import ShowState, ShowStatus
from live.domain.stock import ShowFigures
from live.ledger.audit import sql
from live.ledger.audit.findings import Finding, finding
from live.ledger.audit.goods_sql import GOODS_CHECKS
from live.ledger.audit.marks import Proof
from live.ledger.audit.money_sql import IN_FLIGHT, MONEY_CHECKS, TOTALS
from live.ledger.audit.stock import compare_stock, read_journal
from live.ledger.db.pool import Connection, Pool, in_transaction
from live.ledger.hosting import actions
from live.ledger.hosting.actions import NO_ROWS, ChainHead
from live.ledger.hosting.show_command import read_show
from live.ledger.ports import AuditedStockPort, OutboxPort, StatesPort
from live.ledger.settle.closings import entry_key

LOOK_EVERY_SECONDS = 0.1
READ_TIMEOUT_SECONDS = 60.0  # of one query over one show
NAMED_MAX = 1_000  # of a kind; more would not be read either
SNAPSHOT_TRIES_MAX = 3  # of a show that moves; the next audit tries again

_VERSION = "SELECT version FROM shows WHERE id = $1"


@dataclass(frozen=True, slots=True)
class LedgerOffer:
    """What the ledger adds up for one offer."""

    id: OfferId
    slot: int
    allotted: int
    sold: int
    orders: int
    closed: bool


@dataclass(slots=True)
class Look:
    """One show: what the ledger adds up, what Redis has, and where they differ."""

    ledger: list[LedgerOffer]
    stock: Mapping[int, Stock] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    moves: bool = False  # it never stood still, so its holds were not compared


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """Numbers of payments; see `AuditedPayments`."""

    captured: int
    refunded: int
    unmatched: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ShowProof:
    """`proof` is None where something was found or is under way."""

    look: Look
    totals: Totals
    findings: tuple[Finding, ...]
    in_flight: tuple[str, ...]
    proof: Proof | None


@dataclass(frozen=True, slots=True)
class Prover:
    """What a proof reads. `states` None: nobody here can tell what viewers were told."""

    pool: Pool
    stock: AuditedStockPort
    outbox: OutboxPort
    states: StatesPort | None = None

    async def prove(
        self, show: ShowId, known: Proof, *, afresh: bool, wait_seconds: float
    ) -> ShowProof:
        """`afresh`: of `known`, its last proof, only the noted head of its log counts."""
        look = await self.look(show, time.monotonic() + wait_seconds)
        found = [*look.findings, *_oversold(look.ledger)]
        in_flight = []
        if look.moves:
            in_flight.append(f"P1 show {show}: its stock moves, so its holds were not compared")
        try:
            rows = await in_transaction(
                self.pool,
                lambda connection: _read_rows(connection, show, known.head, afresh=afresh),
                isolation="repeatable_read",
                readonly=True,
            )
        except (asyncpg.PostgresError, TimeoutError) as error:
            text = f"the ledger could not be read: {error!r}"
            found.append(finding("ledger_unread", "P2", f"show {show}", text))
            rows = _Rows()
        found += rows.findings
        at_rest = not found and not in_flight and not rows.under_way
        return ShowProof(
            look=look,
            totals=rows.totals,
            findings=tuple(found),
            in_flight=tuple(in_flight),
            proof=Proof(
                show=show,
                version=rows.version,
                captured=rows.totals.captured,
                refunded=rows.totals.refunded,
                head=rows.head,
            )
            if at_rest
            else None,
        )

    async def look(self, show: ShowId, deadline: float) -> Look:
        """Hold the show against Redis; again while the two differ and there is time."""
        while True:
            look = await self._look_once(show, deadline)
            if not look.findings or time.monotonic() >= deadline:
                return look
            await asyncio.sleep(LOOK_EVERY_SECONDS)

    async def _look_once(self, show: ShowId, deadline: float) -> Look:
        try:
            before = await self.stock.figures(show)
            passed = await self._passed(show, before.last_entry, deadline)
            look = Look(await _read_offers(self.pool, show))
            after = await self.stock.figures(show)
            look.stock = after.offers
            if not passed:
                text = f"outbox entry {before.last_entry} is not settled"
                look.findings.append(finding("outbox_behind", "P2", f"show {show}", text))
            look.findings += _differences(show, look.ledger, before, after)
            await self._compare_stock(show, look)
        except Busy as error:
            look = Look(await _read_offers(self.pool, show))
            if not all(offer.closed for offer in look.ledger):
                text = f"no figures from Redis ({error})"
                look.findings.append(finding("stock_unread", "P1", f"show {show}", text))
        await self._compare_told(show, look)
        return look

    async def _passed(self, show: ShowId, entry: str, deadline: float) -> bool:
        """Wait until everything up to this entry is settled."""
        while True:
            first = await self.outbox.first_unsettled(show)
            if first is None or entry_key(first) > entry_key(entry):
                return True
            if time.monotonic() >= deadline:
                return False
            await asyncio.sleep(LOOK_EVERY_SECONDS)

    async def _compare_stock(self, show: ShowId, look: Look) -> None:
        """Compare hold by hold, if Redis and outbox stand still for as long as that takes."""
        if await self.pool.fetchval(_UNSTEADY, show):
            look.moves = True  # it is about to be made again
            return
        for _ in range(SNAPSHOT_TRIES_MAX):
            now = await self.stock.snapshot(show)
            if now is not None and await self.outbox.first_unsettled(show) is None:
                journal = await in_transaction(
                    self.pool,
                    lambda connection: read_journal(connection, show),
                    isolation="repeatable_read",
                    readonly=True,
                )
                if await self.stock.mark(show) == now.mark:
                    look.findings += compare_stock(show, now, journal)
                    return
            await asyncio.sleep(LOOK_EVERY_SECONDS)
        look.moves = True

    async def _compare_told(self, show: ShowId, look: Look) -> None:
        """What viewers are told when they connect is what hosts decided."""
        if self.states is None:
            return
        try:
            told = await self.states.read_state(show)
            decided = await read_show(self.pool, show)
        except (Busy, NotFound):
            return  # Redis is away, which is told above; a show that is not there has no viewers
        text = told_differs(told, decided)
        if text:
            look.findings.append(finding("show_told", "P1", f"show {show}", text))


def _oversold(ledger: Sequence[LedgerOffer]) -> list[Finding]:
    return [
        finding(
            "oversold",
            "P1",
            f"offer {offer.id}",
            f"{offer.sold} sold of {offer.allotted} allotted",
        )
        for offer in ledger
        if offer.sold > offer.allotted
    ]


async def _read_offers(pool: Pool, show: ShowId) -> list[LedgerOffer]:
    rows = await pool.fetch(sql.OFFERS, show, timeout=READ_TIMEOUT_SECONDS)
    return [
        LedgerOffer(
            id=OfferId(row["id"]),
            slot=row["slot"],
            allotted=row["allotted"],
            sold=row["sold"],
            orders=row["orders"],
            closed=row["closed"],
        )
        for row in rows
    ]


def _differences(
    show: ShowId, ledger: Sequence[LedgerOffer], before: ShowFigures, after: ShowFigures
) -> list[Finding]:
    """What the ledger cannot have read between the two looks at Redis.

    In a quiet show both looks are equal, so the comparison is exact. In a busy one the ledger,
    which had passed `before` and cannot be ahead of `after`, lies between the two.
    """
    found = []
    for offer in ledger:
        name = f"offer {offer.id}"
        one, two = before.offers.get(offer.slot), after.offers.get(offer.slot)
        if one is None or two is None:
            if offer.closed:
                continue  # a draft that was never on sale, or a sale that Redis may forget
            found.append(
                finding("offer_unknown", "P1", name, f"Redis of show {show} does not know it")
            )
            continue
        low, high = min(one.sold, two.sold), max(one.sold, two.sold)
        if not low <= offer.sold <= high:
            text = f"Redis sold {two.sold}, the ledger {offer.sold}"
            found.append(finding("offer_figures", "P1", name, text))
        if two.allotted != offer.allotted:
            text = (
                f"Redis divides {two.allotted} units (left {two.left}, "
                f"held {two.held}, sold {two.sold}), {offer.allotted} are allotted"
            )
            found.append(finding("offer_figures", "P1", name, text))
    return found


# A new life of the stock raises no version, and the cards of pinned products follow the catalogue,
# which has none; offers are compared one by one.
_NOT_TOLD = frozenset({"stock_epoch", "pinned", "offers"})


def told_differs(told: ShowState | None, decided: ShowState) -> str:
    """What viewers are told otherwise than hosts decided; "" where it is the same."""
    if told is None:
        running = decided.status in (ShowStatus.LIVE, ShowStatus.PAUSED)
        return "is on air, and viewers are told nothing" if running else ""
    if told.version != decided.version:
        return f"has version {decided.version}, viewers are told {told.version}"
    names = [
        one.name
        for one in fields(ShowState)
        if one.name not in _NOT_TOLD and getattr(told, one.name) != getattr(decided, one.name)
    ]
    theirs = {terms.id: terms for terms in told.offers}
    for terms in current(decided.offers):  # a closed draft and old closed ones are not told
        names += [f"{name} of {terms.id}" for name in _terms_differ(theirs.get(terms.id), terms)]
    return f"viewers are told another {', '.join(names)}" if names else ""


def _terms_differ(told: OfferTerms | None, decided: OfferTerms) -> list[str]:
    if told is None:
        return ["offer"]
    return [
        one.name
        for one in fields(OfferTerms)
        if getattr(told, one.name) != getattr(decided, one.name)
    ]


@dataclass(frozen=True, slots=True)
class _Rows:
    """What Postgres says of one show, as of one instant."""

    findings: tuple[Finding, ...] = ()
    totals: Totals = Totals(captured=0, refunded=0, unmatched=0)
    under_way: bool = True
    version: int = 0
    head: ChainHead = NO_ROWS


async def _read_rows(
    connection: Connection, show: ShowId, noted: ChainHead, *, afresh: bool
) -> _Rows:
    found = [
        finding(row.get("code", check.code), check.promise, row["name"], row["text"])
        for check in (*sql.SHOW_CHECKS, *MONEY_CHECKS, *GOODS_CHECKS)
        for row in await connection.fetch(
            check.query, show, NAMED_MAX, timeout=READ_TIMEOUT_SECONDS
        )
    ]
    totals = await connection.fetchrow(TOTALS, show, timeout=READ_TIMEOUT_SECONDS)
    assert totals is not None, "an aggregate without GROUP BY has one row"
    broken, head = await prove_log(connection, show, noted, afresh=afresh)
    return _Rows(
        findings=(*found, *broken),
        totals=Totals(**dict(totals)),
        under_way=await connection.fetchval(IN_FLIGHT, show),
        version=await connection.fetchval(_VERSION, show) or 0,
        head=head,
    )


async def prove_log(
    connection: Connection, log: ShowId, noted: ChainHead, *, afresh: bool
) -> tuple[list[Finding], ChainHead]:
    """The hosts' log is what was written: nothing changed, nothing missing, also at its end."""
    after = NO_ROWS if afresh else noted
    walk = await actions.walk(connection, log, after=after, noted=noted)
    if walk.broken is None:
        return [], walk.head
    text = f"row {walk.broken} is not what was written, or follows a gap"
    return [finding("log_broken", "log", f"of show {log}", text)], walk.head


_UNSTEADY = """
SELECT EXISTS (SELECT FROM stock_doubts WHERE show = $1)
    OR EXISTS (SELECT FROM shows WHERE id = $1 AND rehearsed AND status <> 'rehearsal')"""

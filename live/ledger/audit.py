"""The audit: proves from the outside that nothing was oversold, lost or paid for nothing.

Always: figures are added up again from append-only rows (stock movements, payment entries) and
from orders, never taken from a counter; they are held against the counters, against Redis and
against the providers' own books. Read only; a running sale is not stopped.
Called by: `live audit`, `live demo`, the settler role on a schedule.
Not here: repair (repair.py).

What is still under way is named, not judged: a difference counts only if it is still there when
the settler has passed the outbox entry that Redis named beside its figures.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import asyncpg
import structlog

from live.domain.ids import OfferId, ShowId
from live.domain.offer import Stock
from live.errors import Busy
from live.ledger import actions, metrics
from live.ledger import audit_sql as sql
from live.ledger.audit_books import compare_books, unread_books
from live.ledger.desk_rows import note_audit
from live.ledger.pool import Connection, Pool, in_transaction
from live.ledger.ports import Figures, FiguresPort, OutboxPort, ProviderAuditPort
from live.ledger.settler import entry_key

SETTLE_WAIT_S = 30.0
LOOK_EVERY_S = 0.1
READ_TIMEOUT_S = 60.0  # of one query over a whole sale
AUDIT_EVERY_S = 60.0
TOLD_FINDINGS_MAX = 20  # in one log line
NAMED_MAX = 1_000  # of a kind; more would not be read either
NOTHING_UNREAD: Mapping[str, str] = MappingProxyType({})

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditedOffer:
    """`allotted`, `orders` and `oversold` from the ledger; `left`, `held`, `sold` from Redis.

    Where Redis has no figures of the offer, `sold` is the ledger's.
    """

    offer: OfferId
    allotted: int
    left: int
    held: int
    sold: int
    orders: int
    oversold: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditedPayments:
    """Numbers of payments; `unmatched`: captured, neither refunded nor owned by one order."""

    captured: int
    refunded: int
    unmatched: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditReport:
    """`live audit --json` is this object. `ok`: there are no findings."""

    ok: bool
    offers: tuple[AuditedOffer, ...]
    payments: AuditedPayments
    in_flight: tuple[str, ...]
    findings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Offer:
    """What the ledger adds up for one offer."""

    id: OfferId
    slot: int
    allotted: int
    sold: int
    orders: int
    closed: bool


@dataclass(frozen=True, slots=True)
class _Look:
    """One show: what the ledger adds up, what Redis has, and where they differ."""

    ledger: list[_Offer]
    stock: Mapping[int, Stock]
    faults: list[str]


@dataclass(slots=True)
class _Notes:
    """What the checks gather."""

    in_flight: list[str]
    findings: list[str]


async def audit(
    pool: Pool,
    figures: FiguresPort,
    outbox: OutboxPort,
    providers: Sequence[ProviderAuditPort],
    *,
    unread: Mapping[str, str] = NOTHING_UNREAD,
    wait_s: float = SETTLE_WAIT_S,
) -> AuditReport:
    """Prove P1, P2, P5 and the hosts' logs of all shows.

    Raises DATABASE_ERRORS where there is no ledger.

    `unread`: providers whose books nobody here can read, each with what would mend that.
    """
    notes = _Notes([], [])
    offers: list[AuditedOffer] = []
    deadline = time.monotonic() + wait_s
    for row in await pool.fetch(sql.SHOWS):
        offers += await _audit_show(pool, figures, outbox, ShowId(row["id"]), deadline, notes)
    await _check_rows(pool, notes)
    await _check_logs(pool, notes)
    for provider in providers:
        await _check_provider(pool, provider, notes)
    notes.findings += await unread_books(pool, unread)
    totals = await pool.fetchrow(sql.PAYMENT_TOTALS, timeout=READ_TIMEOUT_S)
    assert totals is not None, "an aggregate without GROUP BY has one row"
    metrics.AUDIT_FINDINGS.set(len(notes.findings))
    return AuditReport(
        ok=not notes.findings,
        offers=tuple(offers),
        payments=AuditedPayments(
            captured=totals["captured"],
            refunded=totals["refunded"],
            unmatched=totals["unmatched"],
        ),
        in_flight=tuple(notes.in_flight),
        findings=tuple(notes.findings),
    )


async def audit_and_tell(
    pool: Pool,
    figures: FiguresPort,
    outbox: OutboxPort,
    providers: Sequence[ProviderAuditPort],
    *,
    unread: Mapping[str, str] = NOTHING_UNREAD,
) -> None:
    """An audit of which nobody waits for the report: findings go to the log, the metric and a row
    that the console reads."""
    report = await audit(pool, figures, outbox, providers, unread=unread)
    await note_audit(pool, findings=len(report.findings), in_flight=len(report.in_flight))
    if report.findings:
        log.error(
            "audit.findings", count=len(report.findings), first=report.findings[:TOLD_FINDINGS_MAX]
        )
    else:
        log.info("audit.ok", offers=len(report.offers), in_flight=len(report.in_flight))


async def _audit_show(
    pool: Pool,
    figures: FiguresPort,
    outbox: OutboxPort,
    show: ShowId,
    deadline: float,
    notes: _Notes,
) -> list[AuditedOffer]:
    """Hold the show against Redis; look again while the two differ and there is time."""
    found = await _look(pool, figures, outbox, show, deadline)
    notes.findings += found.faults
    notes.findings += [
        f"P1 offer {offer.id}: {offer.sold} sold of {offer.allotted} allotted"
        for offer in found.ledger
        if offer.sold > offer.allotted
    ]
    return [_audited(offer, found.stock.get(offer.slot)) for offer in found.ledger]


async def differences(
    pool: Pool, figures: FiguresPort, outbox: OutboxPort, show: ShowId, *, wait_s: float
) -> list[str]:
    """Where Redis and the ledger of this show differ, after waiting for the settler."""
    found = await _look(pool, figures, outbox, show, time.monotonic() + wait_s)
    return found.faults


async def _look(
    pool: Pool, figures: FiguresPort, outbox: OutboxPort, show: ShowId, deadline: float
) -> _Look:
    while True:
        faults: list[str] = []
        stock: Mapping[int, Stock] = {}
        try:
            before = await figures.figures(show)
            if not await _passed(outbox, show, before.last_entry, deadline):
                faults.append(f"P2 show {show}: outbox entry {before.last_entry} is not settled")
            ledger = await _read_ledger(pool, show)
            after = await figures.figures(show)
            stock = after.offers
            faults += _differences(show, ledger, before, after)
        except Busy as error:
            ledger = await _read_ledger(pool, show)
            if not all(offer.closed for offer in ledger):
                faults.append(f"P1 show {show}: no figures from Redis ({error})")
        if not faults or time.monotonic() >= deadline:
            return _Look(ledger, stock, faults)
        await asyncio.sleep(LOOK_EVERY_S)


async def _passed(outbox: OutboxPort, show: ShowId, entry: str, deadline: float) -> bool:
    """Wait until everything up to this entry is settled."""
    while True:
        first = await outbox.first_unsettled(show)
        if first is None or entry_key(first) > entry_key(entry):
            return True
        if time.monotonic() >= deadline:
            return False
        await asyncio.sleep(LOOK_EVERY_S)


async def _read_ledger(pool: Pool, show: ShowId) -> list[_Offer]:
    rows = await pool.fetch(sql.OFFERS, show, timeout=READ_TIMEOUT_S)
    return [
        _Offer(
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
    show: ShowId, ledger: Sequence[_Offer], before: Figures, after: Figures
) -> list[str]:
    """What the ledger cannot have read between the two looks at Redis.

    In a quiet show both looks are equal, so the comparison is exact. In a busy one the ledger,
    which had passed `before` and cannot be ahead of `after`, lies between the two.
    """
    faults = []
    for offer in ledger:
        one, two = before.offers.get(offer.slot), after.offers.get(offer.slot)
        if one is None or two is None:
            if offer.closed:
                continue  # a draft that was never on sale, or a sale that Redis may forget
            faults.append(f"P1 offer {offer.id}: Redis of show {show} does not know it")
            continue
        low, high = min(one.sold, two.sold), max(one.sold, two.sold)
        if not low <= offer.sold <= high:
            faults.append(f"P1 offer {offer.id}: Redis sold {two.sold}, the ledger {offer.sold}")
        if two.allotted != offer.allotted:
            faults.append(
                f"P1 offer {offer.id}: Redis divides {two.allotted} units (left {two.left}, "
                f"held {two.held}, sold {two.sold}), {offer.allotted} are allotted"
            )
    return faults


def _audited(offer: _Offer, stock: Stock | None) -> AuditedOffer:
    known = stock or Stock(left=0, held=0, sold=offer.sold)
    return AuditedOffer(
        offer=offer.id,
        allotted=offer.allotted,
        left=known.left,
        held=known.held,
        sold=known.sold,
        orders=offer.orders,
        oversold=max(0, offer.sold - offer.allotted),
    )


async def _check_rows(pool: Pool, notes: _Notes) -> None:
    """Everything that Postgres can be asked alone, as of one instant."""

    async def work(connection: Connection) -> list[tuple[sql.Check, list[asyncpg.Record]]]:
        return [
            (check, await connection.fetch(check.query, NAMED_MAX, timeout=READ_TIMEOUT_S))
            for check in sql.CHECKS
        ]

    found = await in_transaction(pool, work, isolation="repeatable_read", readonly=True)
    for check, rows in found:
        named = [f"{check.promise} {row['name']}: {row['text']}" for row in rows]
        if check.in_flight:
            notes.in_flight += named
        else:
            notes.findings += named


async def _check_logs(pool: Pool, notes: _Notes) -> None:
    """The hosts' logs are what was written: nothing changed, nothing missing."""
    for row in await pool.fetch(sql.LOGGED_SHOWS, timeout=READ_TIMEOUT_S):
        show = ShowId(row["show"])
        async with pool.acquire() as connection:
            broken = await actions.verify(connection, show)
        if broken is not None:
            notes.findings.append(
                f"log of show {show}: row {broken} is not what was written, or follows a gap"
            )


async def _check_provider(pool: Pool, provider: ProviderAuditPort, notes: _Notes) -> None:
    try:
        await compare_books(pool, provider, notes.findings, notes.in_flight)
    except Exception as error:  # another room's client, and an audit without its books is none
        notes.findings.append(f"P5 provider {provider.name}: no books to compare ({error!r})")

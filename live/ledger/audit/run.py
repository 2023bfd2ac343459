"""The audit: proves from the outside that nothing was oversold, lost or paid for nothing.

Always: figures are added up again from append-only rows (stock movements, payment entries) and
from orders, never taken from a counter; they are held against the counters, against Redis and
against the providers' own books. A running sale is not stopped, and nothing is written but what
the audit on the schedule remembers for the next one.
Called by: `live audit`, `live demo`, the settler role on a schedule.
Not here: what is proven of one show (show.py), which shows (marks.py), repair.

What is still under way is named, not judged: a difference counts only if it is still there when
the settler has passed the outbox entry that Redis named beside its figures.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import asyncpg
import structlog

from live.base.errors import NotFound
from live.base.faults import tell_fault
from live.domain.ids import OfferId, ShowId
from live.domain.offer import Stock
from live.ledger.audit.books import compare_books, unread_books
from live.ledger.audit.findings import Check, Finding, finding
from live.ledger.audit.marks import CATALOGUE, AuditScope, Proof, changed, everything, remember
from live.ledger.audit.shop_sql import ORPHANS, SHELVES, SHOP_CHECKS
from live.ledger.audit.show import (
    NAMED_MAX,
    READ_TIMEOUT_SECONDS,
    LedgerOffer,
    Prover,
    ShowProof,
    prove_log,
)
from live.ledger.db import metrics
from live.ledger.db.pool import Pool
from live.ledger.hosting.desk_rows import note_audit
from live.ledger.ports import AuditedStockPort, OutboxPort, ProviderAuditPort, StatesPort

SETTLE_WAIT_SECONDS = 30.0  # for all shows together
SHOW_WAIT_SECONDS = 2.0  # for each, also after that: the keeper carries within half a second
AUDIT_EVERY_SECONDS = 60.0
TOLD_FINDINGS_MAX = 20  # in one log line
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
class AuditedShows:
    """`unchanged`: not looked at, because nothing changed since they were proven."""

    proven: int
    unchanged: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditReport:
    """`live audit --json` is this object. `ok`: there are no findings.

    `offers` are those of the shows that were looked at; `payments` counts the whole shop, or the
    one show that was asked for. `mend` has an entry for each of the findings, in their order.
    """

    ok: bool
    offers: tuple[AuditedOffer, ...]
    payments: AuditedPayments
    in_flight: tuple[str, ...]
    findings: tuple[str, ...]
    mend: tuple[Finding, ...]
    shows: AuditedShows


@dataclass(slots=True)
class _Notes:
    """What the checks gather."""

    in_flight: list[str]
    findings: list[Finding]
    proofs: list[ShowProof]


@dataclass(frozen=True, slots=True, kw_only=True)
class Extent:
    """How much is looked at: all there is, or what `changed`, or one show and nothing else."""

    changed: bool = False
    show: ShowId | None = None
    remember: bool = False  # for the next audit of what changed


EVERYTHING = Extent()


async def audit(
    pool: Pool,
    stock: AuditedStockPort,
    outbox: OutboxPort,
    providers: Sequence[ProviderAuditPort],
    *,
    unread: Mapping[str, str] = NOTHING_UNREAD,
    wait_seconds: float = SETTLE_WAIT_SECONDS,
    states: StatesPort | None = None,
    extent: Extent = EVERYTHING,
) -> AuditReport:
    """Prove P1, P2, P5 and the hosts' logs.

    Raises DATABASE_ERRORS where there is no ledger, NotFound for a show that is not there.

    `unread`: providers whose books nobody here can read, each with what would mend that.
    """
    notes = _Notes([], [], [])
    work = await work_of(pool, extent)
    prover = Prover(pool, stock, outbox, states)
    deadline = time.monotonic() + wait_seconds
    for show in work.shows:
        known = work.proofs.get(show, Proof(show=show))
        wait = max(min(SHOW_WAIT_SECONDS, wait_seconds), deadline - time.monotonic())
        proof = await prover.prove(show, known, afresh=show in work.afresh, wait_seconds=wait)
        notes.proofs.append(proof)
        notes.findings += proof.findings
        notes.in_flight += proof.in_flight
    if work.waiting:
        notes.in_flight.append(f"P2 {work.waiting} ended shows wait for their first proof")
    if extent.show is None:
        proofs = [proof.proof for proof in notes.proofs if proof.proof is not None]
        proofs += await _check_shop(pool, work, notes)
        read = [await _check_provider(pool, provider, work, notes) for provider in providers]
        notes.findings += await unread_books(pool, unread)
        if extent.remember:
            unproven = set(work.shows) | {CATALOGUE}
            unproven -= {proof.show for proof in proofs}
            await remember(pool, work, proofs, sorted(unproven), books=all(read))
    return _report(work, extent, notes)


async def work_of(pool: Pool, extent: Extent) -> AuditScope:
    """Which shows this extent names. Raises NotFound for one that is not there."""
    if extent.changed:
        return await changed(pool)
    work = await everything(pool)
    if extent.show is None:
        return work
    if extent.show not in work.shows:
        raise NotFound(f"unknown show {extent.show}")
    return AuditScope(
        shows=(extent.show,),
        afresh=work.afresh,
        skus=None,
        proofs=work.proofs,
        marks=work.marks,
        books_since_ms=0,
    )


def _report(work: AuditScope, extent: Extent, notes: _Notes) -> AuditReport:
    rest = [
        proof
        for show, proof in work.proofs.items()
        if extent.changed and show != CATALOGUE and show not in set(work.shows)
    ]
    totals = [proof.totals for proof in notes.proofs]
    return AuditReport(
        ok=not notes.findings,
        offers=tuple(
            _audited(offer, proof.look.stock.get(offer.slot))
            for proof in notes.proofs
            for offer in proof.look.ledger
        ),
        payments=AuditedPayments(
            captured=sum(one.captured for one in totals) + sum(one.captured for one in rest),
            refunded=sum(one.refunded for one in totals) + sum(one.refunded for one in rest),
            unmatched=sum(one.unmatched for one in totals),
        ),
        in_flight=tuple(notes.in_flight),
        findings=tuple(one.line for one in notes.findings),
        mend=tuple(notes.findings),
        shows=AuditedShows(proven=len(work.shows), unchanged=len(rest)),
    )


async def audit_and_tell(
    pool: Pool,
    stock: AuditedStockPort,
    outbox: OutboxPort,
    providers: Sequence[ProviderAuditPort],
    *,
    unread: Mapping[str, str] = NOTHING_UNREAD,
    states: StatesPort | None = None,
) -> None:
    """An audit of what changed, of which nobody waits for the report: findings go to the log, the
    metric and a row that the console reads."""
    report = await audit(
        pool,
        stock,
        outbox,
        providers,
        unread=unread,
        states=states,
        extent=Extent(changed=True, remember=True),
    )
    metrics.AUDIT_FINDINGS.set(len(report.findings))
    await note_audit(pool, findings=len(report.findings), in_flight=len(report.in_flight))
    seen = {"shows": report.shows.proven, "unchanged": report.shows.unchanged}
    if report.findings:
        first = [f"{one.line} [{one.code}]" for one in report.mend[:TOLD_FINDINGS_MAX]]
        log.error("audit.findings", count=len(report.findings), first=first, **seen)
    else:
        log.info("audit.ok", in_flight=len(report.in_flight), **seen)


def _audited(offer: LedgerOffer, stock: Stock | None) -> AuditedOffer:
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


async def _check_shop(pool: Pool, work: AuditScope, notes: _Notes) -> list[Proof]:
    """What concerns no single show. Each check is a read of its own: none needs another's."""
    for check in SHOP_CHECKS:
        await _ask(pool, check, notes, NAMED_MAX)
    await _ask(pool, SHELVES, notes, NAMED_MAX, work.skus)
    if CATALOGUE in work.afresh:
        for check in ORPHANS:
            await _ask(pool, check, notes, NAMED_MAX)
    known = work.proofs.get(CATALOGUE, Proof(show=CATALOGUE))
    async with pool.acquire() as connection:
        broken, head = await prove_log(
            connection, CATALOGUE, known.head, afresh=CATALOGUE in work.afresh
        )
    notes.findings += broken
    return [] if broken else [Proof(show=CATALOGUE, head=head)]


async def _ask(pool: Pool, check: Check, notes: _Notes, *arguments: object) -> None:
    try:
        rows = await pool.fetch(check.query, *arguments, timeout=READ_TIMEOUT_SECONDS)
    except (asyncpg.QueryCanceledError, TimeoutError) as error:
        text = f"{check.code} was not answered: {error!r}"
        notes.findings.append(finding("ledger_unread", check.promise, "check", text))
        return
    found = [finding(check.code, check.promise, row["name"], row["text"]) for row in rows]
    if check.in_flight:
        notes.in_flight += [one.line for one in found]
    else:
        notes.findings += found


async def _check_provider(
    pool: Pool, provider: ProviderAuditPort, work: AuditScope, notes: _Notes
) -> bool:
    """Whether its books could be read."""
    try:
        await compare_books(
            pool, provider, notes.findings, notes.in_flight, since_ms=work.books_since_ms
        )
    except Exception as error:  # another package's client, and an audit without its books is none
        tell_fault("audit.books_unread", error, provider=provider.name)
        text = f"no books to compare ({error!r})"
        notes.findings.append(finding("books_unread", "P5", f"provider {provider.name}", text))
        return False
    return True

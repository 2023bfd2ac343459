"""Repair: what `live audit --repair` does about the differences that an audit finds.

Always: it only goes on where something was left: settles what the outbox holds, asks for money
moves that were forgotten and again for voids that were refused, sends back what no order owns and
what a provider holds for a payment that was given up, tells Redis what hosts decided, and makes a
show's stock anew where Redis still differs. It never raises `allotted`, never deletes, and leaves
to a person what it cannot explain; the audit after it tells what remains.
Called by: `live audit --repair`, beside a running service or alone. Safe to repeat at any point.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

import structlog

from live.domain.ids import ShowId
from live.domain.offer import OfferTerms
from live.domain.payment import INVOICE
from live.errors import Busy
from live.ledger import audit_sql
from live.ledger.audit import differences
from live.ledger.audit_books import charge_pages, our_id
from live.ledger.late_money import MAY_HOLD_MONEY, void_given_up
from live.ledger.pool import Pool
from live.ledger.ports import OutboxPort, ProviderAuditPort, StockPort
from live.ledger.rebuild import read_show_stock, rebuild_show
from live.ledger.settler import Settler

WORK_ROUNDS_MAX = 1_000  # passes of the payment worker, of dozens of rows each
GRACE_S = 30.0  # a payment that moved so lately is in somebody's hands
COMPARE_WAIT_S = 5.0  # for the settlers to pass what is sold meanwhile
STATEMENT_TIMEOUT_S = 60.0  # of one look over a whole ledger

log = structlog.get_logger()


class RepairStock(StockPort, Protocol):
    async def apply_offer(self, terms: OfferTerms) -> object:
        """Take over what a host decided, unless this version or a newer one is known."""
        ...


async def repair(
    pool: Pool,
    *,
    stock: RepairStock,
    outbox: OutboxPort,
    settler: Settler,
    work: Callable[[], Awaitable[bool]],
    providers: Sequence[ProviderAuditPort] = (),
    grace_s: float = GRACE_S,
) -> list[str]:
    """Mend what can be mended; one line for each thing done. Raises DATABASE_ERRORS.

    `providers` are those whose books can be read. `work` is one pass of the payment worker; it
    tells whether it found anything to do.
    """
    shows = [ShowId(row["id"]) for row in await pool.fetch(audit_sql.SHOWS)]
    parts = _Parts(pool, stock, outbox, settler)
    for show in shows:
        await parts.bring_up(show)
    for row in await pool.fetch(_PUT_ASIDE):
        await parts.try_again(ShowId(row["show"]))
    for query in _MONEY:
        rows = await pool.fetch(query, grace_s, timeout=STATEMENT_TIMEOUT_S)
        parts.note(*(row["done"] for row in rows))
    for provider in providers:
        await parts.void_late(provider)
    for _ in range(WORK_ROUNDS_MAX):
        if not await work():
            break
    for show in shows:
        await parts.compare(show)  # after the worker: a refused capture gives units back
    return parts.done


class _Parts:
    def __init__(
        self, pool: Pool, stock: RepairStock, outbox: OutboxPort, settler: Settler
    ) -> None:
        self.pool, self.stock, self.outbox, self.settler = pool, stock, outbox, settler
        self.done: list[str] = []

    def note(self, *lines: str) -> None:
        for line in lines:
            log.warning("repair", did=line)
        self.done += lines

    async def bring_up(self, show: ShowId) -> None:
        """Settle what is behind and carry every offer's version; rebuild what Redis lost."""
        try:
            if await self._rebuild(show, force=False):
                self.note(f"show {show}: rebuilt, Redis did not know it")
                return
            if await self.outbox.first_unsettled(show) is not None:
                await self.settler.drain(show)
                self.note(f"show {show}: settled what its outbox held")
            for terms in (await read_show_stock(self.pool, show)).offers:
                await self.stock.apply_offer(terms)
        except Busy as error:
            self.note(f"show {show}: left alone, {error}")

    async def try_again(self, show: ShowId) -> None:
        """What was put aside is settled, if it can be by now; else a person is told, once."""
        try:
            await self._rebuild(show, force=True)
        except Busy as error:
            self.note(f"show {show}: left alone, {error}")
            return
        self.note(f"show {show}: rebuilt, what had been put aside was tried again")
        for row in await self.pool.fetch(_GIVEN_UP, show):
            self.note(
                f"show {show}: record {row['seq']} of entry {row['entry']} cannot be settled"
                f" ({row['reason']}); the stock was made again without it, and money for it is"
                " given back; it stays in the table poison"
            )

    async def void_late(self, provider: ProviderAuditPort) -> None:
        """What the provider holds for a payment that was given up goes back."""
        try:
            async for charges in charge_pages(provider):
                kept = [
                    (found, charge.ref)
                    for charge in charges
                    if charge.state in MAY_HOLD_MONEY and (found := our_id(charge)) is not None
                ]
                for payment in await void_given_up(self.pool, kept):
                    self.note(f"payment {payment}: its late authorisation is being voided")
        except Exception as error:  # another room's client; the audit after it says the same
            self.note(f"provider {provider.name}: left alone, no books to read ({error!r})")

    async def compare(self, show: ShowId) -> None:
        """Where Redis and the ledger still differ, the ledger is right."""
        try:
            if await self.outbox.first_unsettled(show) is not None:
                await self.settler.drain(show)
            faults = await differences(
                self.pool, self.stock, self.outbox, show, wait_s=COMPARE_WAIT_S
            )
            if faults:
                await self._rebuild(show, force=True)
                self.note(f"show {show}: rebuilt, {faults[0]}")
        except Busy as error:
            self.note(f"show {show}: left alone, {error}")

    async def _rebuild(self, show: ShowId, *, force: bool) -> bool:
        return await rebuild_show(
            self.pool,
            show,
            stock=self.stock,
            outbox=self.outbox,
            settler=self.settler,
            force=force,
        )


_PUT_ASIDE = "SELECT DISTINCT show FROM poison WHERE decided_at IS NULL"

_GIVEN_UP = """
UPDATE poison SET decided_at = now() WHERE show = $1 AND decided_at IS NULL
RETURNING entry, seq, reason"""

# Each takes the grace in seconds as $1 and returns what it did as `done`.
_MONEY = (
    """-- Voids that a provider refused, and that are still needed. (A refund that failed is the
    -- host's to decide on, and the provider would only repeat its answer.)
    UPDATE money_jobs j
    SET state = 'due', due_at = now(), created_at = now(), reason = 'repair: asked again'
    FROM payments p
    WHERE p.id = j.payment AND j.state = 'failed'
      AND p.updated_at < now() - make_interval(secs => $1)
      AND j.kind = 'void' AND p.captured_minor = 0
      AND p.state NOT IN ('voided', 'declined', 'refunded')
    RETURNING 'payment ' || j.payment || ': its ' || j.kind || ' was asked for again' AS done""",
    f"""-- An order that stands is paid for; an invoice when the shop says so.
    INSERT INTO money_jobs (payment, kind, amount_minor, reason)
    SELECT p.id, 'capture', p.amount_minor, 'repair'
    FROM orders o JOIN payments p ON p.id = o.payment AND p.order_id = o.id
    WHERE o.state = 'confirmed' AND p.state = 'capturing' AND p.captured_minor = 0
      AND p.provider <> '{INVOICE}'
      AND p.updated_at < now() - make_interval(secs => $1)
    ON CONFLICT DO NOTHING
    RETURNING 'payment ' || payment || ': its capture was asked for' AS done""",
    """-- What was captured for no order that stands goes back, after a failure once more.
    WITH owed AS (
        SELECT p.id, p.captured_minor - p.refunded_minor AS amount_minor,
               (SELECT count(*) FROM money_jobs j
                WHERE j.payment = p.id AND j.kind = 'refund') AS asked
        FROM payments p
        WHERE p.captured_minor > p.refunded_minor
          AND p.updated_at < now() - make_interval(secs => $1)
          AND NOT EXISTS (SELECT FROM orders o WHERE o.id = p.order_id AND o.payment = p.id
                          AND o.state NOT IN ('cancelled', 'rejected'))
          AND NOT EXISTS (SELECT FROM money_jobs j WHERE j.payment = p.id AND j.state = 'due')
    ), answered AS (
        UPDATE money_jobs j SET state = 'called_off'
        FROM owed WHERE j.payment = owed.id AND j.kind = 'refund' AND j.state = 'failed'
    )
    INSERT INTO money_jobs (payment, kind, amount_minor, reason, request)
    SELECT id, 'refund', amount_minor, 'repair: captured for no order that stands',
           'repair:' || asked
    FROM owed
    ON CONFLICT DO NOTHING
    RETURNING 'payment ' || payment || ': its refund was asked for' AS done""",
    """-- What is kept for an order that did not come is let go.
    INSERT INTO money_jobs (payment, kind, amount_minor, reason)
    SELECT p.id, 'void', p.amount_minor, 'repair: kept for no order that stands'
    FROM payments p
    WHERE p.state = 'capturing' AND p.captured_minor = 0
      AND p.updated_at < now() - make_interval(secs => $1)
      AND NOT EXISTS (SELECT FROM orders o WHERE o.id = p.order_id
                      AND o.state NOT IN ('cancelled', 'rejected'))
      AND NOT EXISTS (SELECT FROM money_jobs j WHERE j.payment = p.id AND j.state = 'due')
    ON CONFLICT DO NOTHING
    RETURNING 'payment ' || payment || ': its void was asked for' AS done""",
)

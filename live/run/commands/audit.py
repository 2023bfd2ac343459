"""`live audit`: the proof, the repair before it, and the report for a person."""

import asyncio
import sys
from collections import Counter
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from live.base.errors import EngineError, NotFound
from live.base.settings import Settings
from live.base.telemetry import set_up_logs
from live.domain.ids import ShowId
from live.ledger.audit.books import made_with
from live.ledger.audit.findings import Finding
from live.ledger.audit.repair import GIVE_BACK_MAX
from live.ledger.audit.run import AuditReport, Extent
from live.ledger.db.fitness import check_ledger
from live.ledger.db.pool import make_pool
from live.payments.providers.sandbox import SandboxProvider
from live.run.commands.engines import engine_faults, engines_of
from live.run.commands.places import sandbox_books
from live.run.supervisor import Supervisor
from live.wiring.settler import auditor, repair_ledger

TOLD_MAX = 50  # findings, to a person; beyond it the first of each code
TOLD_OF_A_CODE_MAX = 5
LINE_MAX = 10_000  # characters, where nobody's screen is the width


def audit(
    settings: Settings,
    *,
    mend: bool,
    full: bool,
    show: str | None,
    refund_up_to: int | None = None,
) -> AuditReport:
    """Prove the invariants; the sandbox provider is started where nobody runs it.

    `mend`: repair first, and tell on standard error what was done; `refund_up_to`: how many
    payments without an order may be given back, None: GIVE_BACK_MAX. Without `full` or `show` only
    what changed since the settlers' audit proved it. Raises EngineError where there is no ledger.
    """
    set_up_logs(role="audit", quiet=True)
    extent = Extent(changed=not full and show is None, show=None if show is None else ShowId(show))
    with engines_of(settings) as (_, ready), engine_faults():
        embedded = settings.database_url is None
        most = (GIVE_BACK_MAX if refund_up_to is None else refund_up_to) if mend else None
        return asyncio.run(_audit(ready, extent, embedded=embedded, give_back_max=most))


def print_audit(report: AuditReport) -> None:
    """Show the report to a person; to a file or pipe each finding is one line, however long."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=LINE_MAX)
    console.print(_table(report))
    money = report.payments
    console.print(
        f"payments: {money.captured} captured, {money.refunded} refunded, "
        f"{money.unmatched} without an order"
    )
    for line in report.in_flight[:TOLD_MAX]:
        console.print(f"in flight: {line}", markup=False)
    if len(report.in_flight) > TOLD_MAX:
        console.print(f"in flight: {len(report.in_flight) - TOLD_MAX} more; --json has all")
    _print_findings(console, report.mend)
    console.print(
        f"{report.shows.proven} shows proven, {report.shows.unchanged} unchanged since they were"
    )
    console.print("every promise holds" if report.ok else "promises are broken", style="bold")


def _table(report: AuditReport) -> Table:
    table = Table(title="audit", title_justify="left")
    table.add_column("offer")
    for name in ("allotted", "left", "held", "sold", "orders", "oversold"):
        table.add_column(name, justify="right")
    for offer in report.offers:
        figures = (offer.allotted, offer.left, offer.held, offer.sold, offer.orders)
        table.add_row(offer.offer, *map(str, figures), str(offer.oversold))
    return table


def _print_findings(console: Console, findings: Sequence[Finding]) -> None:
    """All of them; of many, the first of each code, and how many there are of each."""
    many = len(findings) > TOLD_MAX
    counts: Counter[str] = Counter()
    for finding in findings:
        counts[finding.code] += 1
        if many and counts[finding.code] > TOLD_OF_A_CODE_MAX:
            continue
        console.print(f"FINDING {finding.code}: {finding.line}", style="red", markup=False)
        console.print(f"  {finding.who}: {finding.how}", markup=False)
    if many:
        console.print(f"{len(findings)} findings, of each code the first; --json has all:")
        for code, count in counts.most_common():
            console.print(f"  {count} {code}", markup=False)


async def _audit(
    settings: Settings, extent: Extent, *, embedded: bool, give_back_max: int | None
) -> AuditReport:
    """`give_back_max`: None, no repair."""
    await check_ledger(settings.database_url or "", used=True)
    sandbox = embedded or await _sold_with_own_sandbox(settings)
    supervisor = Supervisor(settings, gateways=0, settlers=0, sandbox=sandbox, quiet=True)
    try:
        await supervisor.start()
        if give_back_max is not None:
            mended = supervisor.settings
            for line in await repair_ledger(mended, extent, give_back_max=give_back_max):
                sys.stderr.write(f"repaired: {line}\n")
        async with auditor(supervisor.settings) as run:
            return await run(extent)
    except NotFound as error:
        raise EngineError(str(error)) from error
    finally:
        await supervisor.stop()


async def _sold_with_own_sandbox(settings: Settings) -> bool:
    """Whether `live demo` sold on a configured ledger: its sandbox' books are in our directory."""
    if not sandbox_books(settings).exists():
        return False
    async with make_pool(settings.database_url or "") as pool:
        return bool(await made_with(pool, [SandboxProvider.name]))

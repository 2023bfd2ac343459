"""The audit's look at a payment provider's own books, charge by charge."""

from collections.abc import AsyncIterator, Mapping, Sequence
from uuid import UUID

import asyncpg

from live.domain.payment import ChargeRecord
from live.domain.payment_states import GIVEN_UP
from live.ledger.audit.findings import Finding, finding
from live.ledger.audit.shop_sql import DUE_SECONDS, IN_TIME, UNDECIDED_SECONDS
from live.ledger.db.pool import Pool
from live.ledger.db.states import AWAITING_MONEY
from live.ledger.ports import ProviderAuditPort

PAGE = 500
PAGES_MAX = 10_000
READ_TIMEOUT_SECONDS = 60.0
# Our row is written before the provider is called, and clocks differ.
SINCE_SLACK_SECONDS = 3_600

# A payment that moves may differ from the provider's books, but it may not move for ever.
_BOOKS = f"""
SELECT p.id, p.state, p.amount_minor, p.currency, p.provider, p.provider_ref,
       coalesce(sum(e.amount_minor) FILTER (WHERE e.kind = 'captured'), 0)::bigint AS captured,
       coalesce(sum(e.amount_minor) FILTER (WHERE e.kind = 'refunded'), 0)::bigint AS refunded,
       p.updated_at > now() - interval '30 seconds'
           OR p.state IN {AWAITING_MONEY}
              AND p.created_at > now() - interval '{UNDECIDED_SECONDS} seconds'
           OR p.refunds_news_at > now() - interval '{DUE_SECONDS} seconds'
           OR EXISTS (SELECT FROM money_jobs
                      WHERE payment = p.id AND state = 'due' AND {IN_TIME})
           AS moving
FROM payments p LEFT JOIN payment_entries e ON e.payment = p.id
WHERE p.id = ANY($1::uuid[]) GROUP BY p.id"""

# Of payments that were made from $2 on, by Unix ms; 0: of all.
_CAPTURED = """
SELECT DISTINCT e.payment FROM payment_entries e JOIN payments p ON p.id = e.payment
WHERE e.kind = 'captured' AND p.provider = $1 AND e.amount_minor > 0
  AND ($2::bigint = 0 OR p.created_at >= to_timestamp($2::bigint / 1000.0))"""


_USED = """
SELECT n.name AS provider, count(p.id) AS payments
FROM unnest($1::text[]) AS n(name) JOIN payments p ON p.provider = n.name
GROUP BY n.name ORDER BY n.name"""


async def made_with(pool: Pool, names: Sequence[str]) -> dict[str, int]:
    """How many payments were made with each of these providers; none of it where there are none."""
    rows = await pool.fetch(_USED, names, timeout=READ_TIMEOUT_SECONDS)
    return {row["provider"]: row["payments"] for row in rows}


async def unread_books(pool: Pool, unread: Mapping[str, str]) -> list[Finding]:
    """Providers that took money and cannot be asked: an audit that skipped them would not be one.

    `unread`: each provider without a client here, and what would mend that.
    """
    used = await made_with(pool, list(unread)) if unread else {}
    return [
        finding(
            "books_unread",
            "P5",
            f"provider {name}",
            f"has {count} payments, its books were not read: {unread[name]}",
        )
        for name, count in used.items()
    ]


async def compare_books(
    pool: Pool,
    provider: ProviderAuditPort,
    findings: list[Finding],
    in_flight: list[str],
    *,
    since_ms: int = 0,
) -> None:
    """Every charge there is a payment here with the same sums, and the other way round; each once.

    `since_ms`: only what was charged from then on. Raises whatever the provider's client raises:
    an audit without its books is none.
    """
    captured_there: dict[UUID, str] = {}  # the first charge that was captured, by its ref
    # Ours are read first: what we captured must be there, while new charges of theirs may come.
    ours_since = since_ms + SINCE_SLACK_SECONDS * 1000 if since_ms else 0
    ours = {row["payment"] for row in await pool.fetch(_CAPTURED, provider.name, ours_since)}
    async for charges in charge_pages(provider, since_ms=since_ms):
        rows = await _our_rows(pool, charges)
        for charge in charges:
            row = rows.get(charge.payment)
            text = _difference(provider.name, charge, row)
            if row is not None and _is_second(charge, row["id"], captured_there):
                text = "captured more than once there"
            elif text and row is not None and row["moving"]:
                in_flight.append(_told(provider, charge.payment, text).line)
                continue
            if text:
                findings.append(_told(provider, charge.payment, text))
    findings += [
        _told(provider, str(payment), "captured here, not in the provider's books")
        for payment in sorted(ours - captured_there.keys())
    ]


def _told(provider: ProviderAuditPort, payment: str, text: str) -> Finding:
    return finding("books_differ", "P5", f"payment {payment} at {provider.name}", text)


def _is_second(charge: ChargeRecord, payment: UUID, captured_there: dict[UUID, str]) -> bool:
    """Whether another charge of this payment was captured, too; remembers this one."""
    if charge.captured_minor == 0:
        return False
    return captured_there.setdefault(payment, charge.ref) != charge.ref


async def charge_pages(
    provider: ProviderAuditPort, *, since_ms: int = 0
) -> AsyncIterator[Sequence[ChargeRecord]]:
    """All charges in a provider's books, a page at a time. Raises whatever its client raises."""
    cursor: str | None = None
    for _ in range(PAGES_MAX):
        page = await provider.list_charges(cursor=cursor, limit=PAGE, since_ms=since_ms)
        yield page.charges
        cursor = page.cursor
        if cursor is None:
            return


def our_id(charge: ChargeRecord) -> UUID | None:
    """None for a charge that cannot be one of ours."""
    try:
        return UUID(charge.payment)
    except ValueError:
        return None


async def _our_rows(pool: Pool, charges: Sequence[ChargeRecord]) -> dict[str, asyncpg.Record]:
    # One without such an id is told as unknown below.
    ids = [found for charge in charges if (found := our_id(charge)) is not None]
    rows = await pool.fetch(_BOOKS, ids, timeout=READ_TIMEOUT_SECONDS)
    return {str(row["id"]): row for row in rows}


def _difference(provider: str, charge: ChargeRecord, row: asyncpg.Record | None) -> str:
    if row is None:
        return "charged there, unknown here"
    if row["provider"] != provider:
        return f"charged there, a payment by {row['provider']} here"
    if (charge.amount_minor, charge.currency) != (row["amount_minor"], row["currency"]):
        return (
            f"charged {charge.amount_minor} {charge.currency} there, "
            f"{row['amount_minor']} {row['currency']} here"
        )
    if (charge.captured_minor, charge.refunded_minor) != (row["captured"], row["refunded"]):
        return (
            f"captured {charge.captured_minor} and refunded {charge.refunded_minor} there, "
            f"{row['captured']} and {row['refunded']} here"
        )
    if charge.state.value == "authorised" and row["state"] in GIVEN_UP:
        return f"authorised there, {row['state']} here"
    if charge.captured_minor and row["provider_ref"] not in (None, charge.ref):
        return f"is charge {charge.ref} there, {row['provider_ref']} here"
    return ""

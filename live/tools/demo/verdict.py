"""The reckoning: what the audit, the ledger and the buyers say, held against one another.

Pure. The buyers' own record is an independent witness: what they were told must be in Postgres.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import orjson

from live.domain.order import NOT_KEPT, OrderState
from live.tools.demo.host import LedgerOrder
from live.tools.demo.progress import Reckoning
from live.tools.demo.tally import Tally, Told, lost_orders


class OfferAudit(msgspec.Struct, frozen=True):
    offer: str
    allotted: int = 0
    left: int = 0
    held: int = 0
    sold: int = 0
    orders: int = 0
    oversold: int = 0


class PaymentAudit(msgspec.Struct, frozen=True):
    captured: int = 0
    refunded: int = 0
    unmatched: int = 0


class Audit(msgspec.Struct, frozen=True):
    """What `live audit --json` prints."""

    ok: bool
    offers: list[OfferAudit] = []
    payments: PaymentAudit = PaymentAudit()
    in_flight: list[msgspec.Raw] = []
    findings: list[msgspec.Raw] = []


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Everything that is known after the sale."""

    offer: str
    quantity: int
    audit: bytes
    orders: Sequence[LedgerOrder]  # of this offer, from Postgres
    tally: Tally
    told: Sequence[Told]
    remarks: tuple[str, ...] = ()  # what went wrong on the way, such as an offer that did not close


def reckon(evidence: Evidence) -> Reckoning:
    """Hold the witnesses against one another."""
    audit = msgspec.json.decode(evidence.audit, type=Audit)
    findings = [*evidence.remarks, *(bytes(raw).decode() for raw in audit.findings)]
    mine = next((row for row in audit.offers if row.offer == evidence.offer), None)
    if mine is None:
        findings.append(f"the audit does not know the offer {evidence.offer}")
        mine = OfferAudit(evidence.offer)
    kept = [order for order in evidence.orders if order.state not in NOT_KEPT]
    # A cancelled order was promised and taken back in the open; a rejected one was never kept.
    present = {
        order.order: order.hold
        for order in evidence.orders
        if order.state != OrderState.REJECTED.value
    }
    units = sum(item.qty for order in kept for item in order.items if item.offer == evidence.offer)
    beyond = max(units, evidence.tally.confirmed_units) - evidence.quantity
    return Reckoning(
        quantity=evidence.quantity,
        allotted=mine.allotted,
        sold=mine.sold,
        held=mine.held,
        left=mine.left,
        waitlisted=evidence.tally.waitlisted,
        orders=len(kept),
        told_confirmed=evidence.tally.confirmed,
        captured=audit.payments.captured,
        refunded=audit.payments.refunded,
        unmatched=audit.payments.unmatched,
        oversold=max(0, beyond, sum(row.oversold for row in audit.offers)),
        lost=len(lost_orders(evidence.told, present)),
        unknown=evidence.tally.unknown,
        over_limit=evidence.tally.over_limit,
        findings=tuple(findings),
        audit_ok=audit.ok,
    )


def final_line(evidence: Evidence, reckoning: Reckoning) -> bytes:
    """The one JSON line of `live demo --once --json`: the audit's object and the sale's figures."""
    tally = evidence.tally
    figures = {
        "ok": reckoning.ok,
        "viewers": tally.viewers,
        "clicks": tally.clicks,
        "held": tally.held,
        "orders": reckoning.orders,
        "refused": tally.refused,
        "declined": tally.declined,
        "expired": tally.expired,
        "oversold": reckoning.oversold,
        "lost": reckoning.lost,
        "fanout_p99_ms": tally.fanout.percentile_ms(99),
        "hold_p99_ms": tally.hold.percentile_ms(99),
        "offer": evidence.offer,
        "quantity": evidence.quantity,
        "waitlisted": tally.waitlisted,
        "granted": tally.granted,
        "confirmed": tally.confirmed,
        "unknown": tally.unknown,
        "over_limit": tally.over_limit,
        "fanout_p50_ms": tally.fanout.percentile_ms(50),
        "hold_p50_ms": tally.hold.percentile_ms(50),
        "checkout_p99_ms": tally.checkout.percentile_ms(99),
        "outcomes": tally.outcomes,
        "failures": tally.failures,
        "remarks": list(evidence.remarks),
    }
    return orjson.dumps(orjson.loads(evidence.audit) | figures)

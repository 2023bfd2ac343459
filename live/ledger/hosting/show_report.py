"""Figures of a show: what was sold in it, and for how much.

Called by: the HTTP API.
"""

from dataclasses import dataclass

from live.base.errors import NotFound
from live.domain.ids import OfferId, ShowId
from live.ledger.db.pool import Pool
from live.ledger.db.states import STANDS
from live.ledger.money.invoices import UNPAID


@dataclass(frozen=True, slots=True, kw_only=True)
class OfferReport:
    offer: OfferId
    title: str
    allotted: int
    sold: int
    orders: int
    revenue_minor: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ShowReport:
    """Figures of a show; `revenue_minor` counts orders that stand, less what was refunded and what
    invoices still owe (`unpaid_minor`)."""

    show: ShowId
    currency: str
    holds: int
    orders: int
    revenue_minor: int
    unpaid_minor: int
    offers: tuple[OfferReport, ...]


async def read_report(pool: Pool, show: ShowId) -> ShowReport:
    """Figures of a show. Raises NotFound."""
    head = await pool.fetchrow(_REPORT, show)
    if head is None:
        raise NotFound(f"unknown show {show}")
    rows = await pool.fetch(_REPORT_OFFERS, show)
    return ShowReport(
        show=show,
        currency=head["currency"],
        holds=head["holds"],
        orders=head["orders"],
        revenue_minor=head["revenue_minor"],
        unpaid_minor=head["unpaid_minor"],
        offers=tuple(
            OfferReport(
                offer=OfferId(row["id"]),
                title=row["title"],
                allotted=row["allotted"],
                sold=row["sold"],
                orders=row["orders"],
                revenue_minor=row["revenue_minor"],
            )
            for row in rows
        ),
    )


_REPORT = f"""
SELECT s.currency,
       (SELECT count(*) FROM holds h WHERE h.show = s.id AND NOT s.rehearsed) AS holds,
       count(o.id) AS orders,
       coalesce(sum(o.total_minor - o.refunded_minor) FILTER (WHERE NOT {UNPAID}), 0)::bigint
           AS revenue_minor,
       coalesce(sum(o.total_minor) FILTER (WHERE {UNPAID}), 0)::bigint AS unpaid_minor
FROM shows s
LEFT JOIN orders o ON o.show = s.id AND o.state {STANDS}
WHERE s.id = $1 GROUP BY s.id"""

# Items at their prices; a refund is of the order and lowers the show's revenue only.
_REPORT_OFFERS = f"""
SELECT f.id, f.title, f.allotted, f.sold, count(o.id) AS orders,
       coalesce(sum(i.qty * i.price_minor) FILTER (WHERE o.id IS NOT NULL AND NOT {UNPAID}), 0)
           ::bigint AS revenue_minor
FROM offers f
LEFT JOIN order_items i ON i.offer = f.id
LEFT JOIN orders o ON o.id = i.order_id AND o.state {STANDS}
WHERE f.show = $1 GROUP BY f.id ORDER BY f.slot"""

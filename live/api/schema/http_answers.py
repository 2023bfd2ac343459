"""Answers of the HTTP calls that are no object of the domain, the problem document among them."""

from dataclasses import dataclass

import msgspec

from live.domain.ids import ShowId
from live.domain.offer import OfferView
from live.domain.order import OrderWithContact
from live.domain.outgoing.webhooks import (
    DeliveryView,
    EndpointState,
    EndpointView,
    EventView,
    WebhookFormat,
)
from live.domain.show import ProductView
from live.ledger.hosting.actions import HostAction
from live.ledger.hosting.bans import BanRow
from live.ledger.hosting.desk_rows import AuditResult, ShowSummary
from live.ledger.hosting.show_report import OfferReport


@dataclass(frozen=True, slots=True)
class ProductPage:
    """`next` goes into `?cursor=` of the next call; null on the last page."""

    items: list[ProductView]
    next: str | None


@dataclass(frozen=True, slots=True)
class ShowPage:
    items: list[ShowSummary]
    next: str | None


@dataclass(frozen=True, slots=True)
class OfferPage:
    items: list[OfferView]
    next: str | None


@dataclass(frozen=True, slots=True)
class Restrictions:
    """People who may not speak in a show, or not come in, at this moment."""

    items: list[BanRow]


@dataclass(frozen=True, slots=True)
class OrderPage:
    """`next` goes into `?cursor=` of the next call; null on the last page. `cursor` is always
    there: with the oldest first, or by changes, a poller goes on from it later and misses none."""

    items: list[OrderWithContact]
    next: str | None
    cursor: str


@dataclass(frozen=True, slots=True)
class ActionPage:
    """`next` and `cursor` as in a page of orders."""

    items: list[HostAction]
    next: str | None
    cursor: str


@dataclass(frozen=True, slots=True)
class TokenAnswer:
    token: str


@dataclass(frozen=True, slots=True)
class GuestAnswer:
    token: str
    sub: str


@dataclass(frozen=True, slots=True)
class SessionAnswer:
    """What the console may show and offer; the token itself stays in the cookie."""

    sub: str
    role: str
    shows: list[str]
    expires_at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportAnswer:
    """`viewers` are those watching now; null while Redis cannot be asked. `unpaid_minor`: invoices
    that nobody has paid yet, which are no revenue. `revenue_minor` is net of refunds; `offers` are
    gross, what was sold before any refund. `audit` is the latest of the schedule, of all
    shows together; null before the first."""

    show: ShowId
    currency: str
    viewers: int | None
    holds: int
    orders: int
    revenue_minor: int
    unpaid_minor: int
    conversion: float
    average_order_minor: int
    offers: list[OfferReport]
    audit: AuditResult | None


@dataclass(frozen=True, slots=True)
class WebhookList:
    """All endpoints that the caller may know of, the first made first."""

    items: list[EndpointView]


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookMade:
    """An endpoint with the secret that was made just now: told once."""

    webhook: str
    url: str
    types: tuple[str, ...]
    shows: tuple[str, ...]
    format: WebhookFormat
    contact: bool
    state: EndpointState
    reason: str
    failing_since: int | None
    created_at: int
    secret: str


@dataclass(frozen=True, slots=True)
class DeliveryPage:
    """The newest first; `next` goes into `?cursor=` of the next call, null on the last page."""

    items: list[DeliveryView]
    next: str | None


@dataclass(frozen=True, slots=True)
class EventPage:
    """`cursor` goes into `?after=` of the next call, at once where there is `more`, else later. A
    page may be empty and have more behind it: of other types. `complete` false: events behind the
    cursor given were deleted unread, 30 days after they were true."""

    items: list[EventView]
    cursor: str
    more: bool
    complete: bool


class Problem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The body of every error answer.

    `reason`: which of the failures with this code it is, a stable word such as `webhook.stale`.
    """

    title: str
    status: int
    detail: str
    code: int
    reason: str | None = None
    type: str = "about:blank"
    field: str | None = None
    temporary: bool = False
    retry_ms: int | None = None
    reference: str | None = None

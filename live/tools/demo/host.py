"""The host of the demo: the HTTP calls that prepare, open, close and check one sale.

Always: every POST carries an Idempotency-Key of its own, so a repeat after a lost answer is safe.
"""

import asyncio
from collections.abc import Mapping, Sequence
from uuid import uuid4

import httpx
import msgspec

from live.base.errors import LiveError
from live.tools.demo.seen import OfferSeen, ShowSeen
from live.tools.demo.service import FeedItem

HTTP_SECONDS = 10.0
TRIES_MAX = 4  # of one call, on 503 and lost connections
PAUSE_SECONDS = 0.3
ORDERS_PAGES_MAX = 1_000
PAGE_ORDERS = 200  # the most that a page holds
RESTOCK_SPARE = 100  # beyond what the sale needs, so that not every run must adjust


class HostError(LiveError):
    """The service refused a call of the demo's host."""


class ProductSeen(msgspec.Struct, frozen=True):
    sku: str
    title: str
    currency: str
    price_minor: int
    available: int


class ItemSeen(msgspec.Struct, frozen=True):
    offer: str
    qty: int


class LedgerOrder(msgspec.Struct, frozen=True):
    order: str
    hold: str
    state: str
    items: list[ItemSeen]


class _Orders(msgspec.Struct, frozen=True):
    """A page; `next` is the cursor of the following one, null on the last."""

    items: list[LedgerOrder]
    next: str | None = None


class HostedShow(ShowSeen, frozen=True):
    id: str = ""
    status: str = ""


class Host:
    """Use as an async context manager."""

    def __init__(self, base_url: str, token: str) -> None:
        headers = {"Authorization": f"Bearer {token}"}
        self._http = httpx.AsyncClient(
            base_url=base_url, headers=headers, timeout=HTTP_SECONDS, trust_env=False
        )

    async def __aenter__(self) -> "Host":
        await self._http.__aenter__()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._http.aclose()

    # -- the catalogue

    async def import_products(self, items: Sequence[FeedItem]) -> None:
        """Create what is missing; what a former run has made stays as it is."""
        for item in items:
            body = {
                "sku": item.sku,
                "title": item.title,
                "description": item.description,
                "image_url": item.image_url,
                "price_minor": item.price_minor,
                "currency": item.currency,
                "on_hand": item.on_hand,
            }
            await self._call("POST", "/v1/products", body, also=(409,))

    async def ensure_available(self, sku: str, units: int) -> ProductSeen:
        """Add stock where former sales have left less than `units`."""
        product = await self._product(sku)
        missing = units - product.available
        if missing > 0:
            delta = missing + RESTOCK_SPARE
            body = {"sku": sku, "delta": delta, "reason": "demo delivery", "key": str(uuid4())}
            await self._call("POST", "/v1/stock/adjustments", body)
            product = await self._product(sku)
        return product

    async def _product(self, sku: str) -> ProductSeen:
        answer = await self._call("GET", f"/v1/products/{sku}")
        return msgspec.json.decode(answer.content, type=ProductSeen)

    # -- the show

    async def find_show(self, show: str) -> HostedShow | None:
        answer = await self._call("GET", f"/v1/shows/{show}", also=(404,))
        if answer.status_code == httpx.codes.NOT_FOUND:
            return None
        return msgspec.json.decode(answer.content, type=HostedShow)

    async def create_show(self, show: str, *, title: str, currency: str) -> None:
        body = {"id": show, "title": title, "currency": currency, "language": "en"}
        await self._call("POST", "/v1/shows", body)

    async def show_action(self, show: str, action: str) -> None:
        """`start`, `resume`, …"""
        await self._call("POST", f"/v1/shows/{show}/{action}", {})

    async def pin(self, show: str, skus: Sequence[str]) -> None:
        await self._call("POST", f"/v1/shows/{show}/pins", {"skus": list(skus)})

    async def set_run_order(self, show: str, skus: Sequence[str]) -> None:
        await self._call("PUT", f"/v1/shows/{show}/run-order", {"skus": list(skus)})

    async def announce(self, show: str, text: str) -> None:
        await self._call("POST", f"/v1/shows/{show}/announcements", {"text": text})

    # -- the offer

    async def create_offer(self, show: str, terms: dict[str, object]) -> None:
        await self._call("POST", f"/v1/shows/{show}/offers", terms)

    async def offer_action(self, offer: str, action: str) -> OfferSeen:
        answer = await self._call("POST", f"/v1/offers/{offer}/{action}", {})
        return msgspec.json.decode(answer.content, type=OfferSeen)

    async def offer(self, offer: str) -> OfferSeen:
        return msgspec.json.decode(
            (await self._call("GET", f"/v1/offers/{offer}")).content, type=OfferSeen
        )

    async def orders(self, show: str, offer: str) -> list[LedgerOrder]:
        """All orders of one offer, as Postgres has them."""
        found: list[LedgerOrder] = []
        cursor: str | None = None
        for _ in range(ORDERS_PAGES_MAX):
            query = {"show": show, "limit": str(PAGE_ORDERS)}
            if cursor:
                query["cursor"] = cursor
            answer = await self._call("GET", "/v1/orders", query=query)
            page = msgspec.json.decode(answer.content, type=_Orders)
            found += [
                order for order in page.items if any(item.offer == offer for item in order.items)
            ]
            cursor = page.next
            if not cursor:
                return found
        raise HostError(f"the orders of {show} do not end after {ORDERS_PAGES_MAX} pages")

    # -- below

    async def _call(
        self,
        method: str,
        path: str,
        body: Mapping[str, object] | None = None,
        *,
        query: dict[str, str] | None = None,
        also: tuple[int, ...] = (),
    ) -> httpx.Response:
        """Call; repeat with the same key while the service is busy. Raises HostError."""
        headers = {} if method == "GET" else {"Idempotency-Key": str(uuid4())}
        fault = ""
        for _ in range(TRIES_MAX):
            try:
                answer = await self._http.request(
                    method, path, json=body, params=query, headers=headers
                )
            except httpx.TransportError as error:
                fault = f"{type(error).__name__} {error}"
            else:
                if answer.is_success or answer.status_code in also:
                    return answer
                fault = f"{answer.status_code} {answer.text[:500]}"
                if answer.status_code not in (429, 503):
                    break
            await asyncio.sleep(PAUSE_SECONDS)
        raise HostError(f"{method} {path}: {fault}")

"""What the browser tests of orders share: a show that sells, people who buy, and the orders page.

Buyers buy over their own connections, with names and addresses that try to be markup and formulas.
"""

import codecs
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest_asyncio

from live.domain.caller import Role
from tests.acceptance.browser import Page, ViewportSize, expect
from tests.acceptance.conftest import Service, until
from tests.acceptance.page_stage import Stage, Visitors
from tests.support.answers import Json
from tests.support.wire import join

SMALL_PHONE: ViewportSize = {"width": 360, "height": 740}


@dataclass(frozen=True)
class Shop:
    """A show with two offers, and people who buy of them."""

    stage: Stage
    service: Service
    offers: tuple[str, str]

    async def buy(self, name: str = "Ann", *, qty: int = 2, sub: str = "") -> Json:
        """One order: `qty` of the first offer and one of the second; paid."""
        sub = sub or f"buyer-{uuid4().hex[:8]}"
        token = self.service.token(Role.VIEWER, sub, self.stage.show)
        first, second = self.offers
        items = [{"offer": first, "qty": qty}, {"offer": second, "qty": 1}]
        contact = {"name": name, "email": f"{sub}@example.org", "phone": "+49 30 1234"}
        contact["address"] = "Kastanienallee 1\n10435 Berlin"
        async with await join(self.service.socket_url, token, self.stage.show) as wire:
            held = await wire.rpc("offer.hold", {"items": items, "key": str(uuid4())})
            request = {"hold": held["hold"], "provider": "sandbox", "token": "tok_approve"}
            paid = await wire.rpc(
                "hold.checkout", request | {"contact": contact, "key": str(uuid4())}
            )
            assert paid["outcome"] in ("confirmed", "processing"), paid
            if paid["outcome"] == "processing":
                await wire.event("order.confirmed")
        return await self.paid_order(sub)

    async def paid_order(self, sub: str) -> Json:
        found: list[Json] = []

        async def is_paid() -> bool:
            asked = {"show": self.stage.show, "buyer": sub, "state": "paid"}
            found[:] = (await self.stage.http.get("/v1/orders", params=asked)).json()["items"]
            return bool(found)

        await until(is_paid, seconds=30)
        return found[0]

    async def look(self, order: Json) -> Json:
        found: Json = (await self.stage.http.get(f"/v1/orders/{order['order']}")).json()
        return found

    async def send(self, order: Json, items: list[Json] | None = None) -> Json:
        body: Json = {"carrier": "DHL", "tracking_number": f"T{uuid4().hex[:8]}"}
        body["tracking_url"] = "https://track.example/?id=1"
        if items is not None:
            body["items"] = items
        return await self.stage.call("POST", f"/v1/orders/{order['order']}/shipments", body)


@pytest_asyncio.fixture(loop_scope="module")
async def shop(stage: Stage, service: Service) -> Shop:
    first = await stage.open_offer(quantity=20, per_buyer_limit=5)
    sku = f"cup-{uuid4().hex[:8]}"
    product = {"sku": sku, "title": "Cup, blue", "on_hand": 50, "currency": "EUR"}
    await stage.call("POST", "/v1/products", product | {"price_minor": 900})
    body = {"sku": sku, "price_minor": 750, "quantity": 20, "per_buyer_limit": 5}
    body |= {"hold_seconds": 60, "mode": "hold", "guests": True}
    second = await stage.call("POST", f"/v1/shows/{stage.show}/offers", body)
    await stage.call("POST", f"/v1/offers/{second['id']}/open", {})
    return Shop(stage, service, (first, str(second["id"])))


async def open_orders(visitors: Visitors, shop: Shop, token: str, **context: Any) -> Page:
    path = f"/console/orders?show={shop.stage.show}#token={token}"
    return await visitors.open(path, wait_for="#list:visible, #empty:visible", **context)


async def open_order(page: Page, order: Json) -> None:
    await page.locator(f'[data-key="{order["order"]}"] .open').click()
    await expect(page.locator("#detail-title")).to_be_focused()


async def press(page: Page, name: str) -> None:
    await page.locator("#detail").get_by_role("button", name=name, exact=True).click()


async def answer(page: Page, name: str) -> None:
    """Press the dialog's own button and see it go."""
    await page.locator("#box").get_by_role("button", name=name, exact=True).click()
    await expect(page.locator("#box")).to_be_hidden()


def read_saved(path: Path) -> str:
    """What a page saved: UTF-8, and marked so."""
    data = path.read_bytes()
    assert data.startswith(codecs.BOM_UTF8)
    return data.decode("utf-8-sig")

"""What the staff does with an order, in a real Chromium: each way, and the answer that got lost.

Method and checks: page_stage.py, order_stage.py. What the pages did is read back over the API.
"""

import re

import pytest

from tests.acceptance.browser import TEST_SECONDS, Route, browser, chromium, expect
from tests.acceptance.conftest import until
from tests.acceptance.order_stage import Shop, answer, open_order, open_orders, press, shop
from tests.acceptance.page_checks import ACCESSIBILITY
from tests.acceptance.page_stage import EVIL, Visitors, picture, stage, visitors

__all__ = ["browser", "chromium", "shop", "stage", "visitors"]  # fixtures: imported to be found

pytestmark = [pytest.mark.timeout(TEST_SECONDS), pytest.mark.asyncio(loop_scope="module")]


async def test_order_is_sent_in_two_parcels(
    visitors: Visitors, shop: Shop, host_token: str
) -> None:
    """A part first, then the rest; the dialog says what moves, and the order says where it is."""
    order = await shop.buy(f"Ann {EVIL}")
    page = await open_orders(visitors, shop, host_token)
    await open_order(page, order)
    await expect(page.locator("#detail")).to_contain_text("Kastanienallee 1")
    assert await page.evaluate(ACCESSIBILITY) == []
    await picture(page, "orders-desktop")

    await press(page, "Send a parcel")
    await page.locator('[name="line 1"]').fill("1")
    await page.locator('[name="line 2"]').fill("0")
    await expect(page.locator(".effect")).to_contain_text("Marked as sent: 1 unit.")
    await expect(page.locator(".effect")).to_contain_text("No money moves")
    await page.get_by_label("Carrier").fill("DHL")
    await page.get_by_label("Tracking number").fill("JJD 0001")
    await page.get_by_label("Tracking address").fill("https://track.example/?id=1")
    assert await page.evaluate(ACCESSIBILITY) == []
    await picture(page, "orders-ship")
    await answer(page, "Mark as sent")
    await expect(page.locator("#detail .chip[data-fulfilment]")).to_have_text("partly sent")
    row = page.locator(f'[data-key="{order["order"]}"]')
    await expect(row.locator("[data-fulfilment]")).to_have_text("partly sent")
    link = page.locator("#detail").get_by_role("link", name="JJD 0001")
    await expect(link).to_have_attribute("href", "https://track.example/?id=1")

    await press(page, "Send a parcel")
    await page.get_by_label("Carrier").fill("UPS")
    await page.get_by_label("Tracking number").fill("1Z2")
    await answer(page, "Mark as sent")
    await expect(page.locator("#detail .chip[data-fulfilment]")).to_have_text("sent")
    await page.get_by_role("button", name="Delivered: JJD 0001").click()
    await answer(page, "Mark as delivered")
    await page.get_by_role("button", name="Delivered: 1Z2").click()
    await answer(page, "Mark as delivered")
    await expect(page.locator("#detail .chip[data-fulfilment]")).to_have_text("delivered")
    found = await shop.look(order)
    first, second = ({i["line"]: i["qty"] for i in one["items"]} for one in found["shipments"])
    assert first == {1: 1}
    bought = {item["line"]: item["qty"] for item in found["items"]}
    assert {n: first.get(n, 0) + second.get(n, 0) for n in bought} == bought


async def test_order_is_cancelled_and_its_units_go_back(
    visitors: Visitors, shop: Shop, host_token: str
) -> None:
    """Money and units as the dialog said; what is over offers nothing more to do."""
    order = await shop.buy()
    sku = order["items"][0]["sku"]
    before = (await shop.stage.http.get(f"/v1/products/{sku}")).json()
    page = await open_orders(visitors, shop, host_token)
    await open_order(page, order)

    await press(page, "Cancel the order")
    await expect(page.locator(".effect")).to_contain_text("€47.48 that was paid goes back")
    await expect(page.locator(".effect")).to_contain_text("Back to the products' shelf: 3 units")
    await page.get_by_label("Reason").fill(EVIL)
    await answer(page, "Cancel the order")

    await expect(page.locator("#detail .chip[data-order]")).to_have_text("cancelled")
    await expect(page.locator("#detail-title")).to_be_focused()
    assert await page.locator('#detail [data-act="ship"], #detail [data-act="cancel"]').count() == 0
    after = (await shop.stage.http.get(f"/v1/products/{sku}")).json()
    assert after["available"] == before["available"] + order["items"][0]["qty"]


async def test_return_is_approved_received_and_paid(
    visitors: Visitors, shop: Shop, host_token: str
) -> None:
    """From the shop's own return to the money; too much is refused beside its field, and a part of
    the rest goes back by a refund."""
    order = await shop.buy()
    await shop.send(order)
    page = await open_orders(visitors, shop, host_token)
    await open_order(page, order)

    await press(page, "Open a return")
    await page.locator('[name="line 1"]').fill("1")
    await page.locator('[name="line 2"]').fill("0")
    await page.get_by_label("Reason").fill("too small")
    await answer(page, "Open the return")
    await page.get_by_role("button", name="Approve: too small").click()
    await answer(page, "Approve")
    await page.get_by_role("button", name="Received: too small").click()
    price = order["items"][0]["price_minor"]
    await expect(page.get_by_label("Amount in EUR")).to_have_value(f"{price / 100:.2f}")
    await page.get_by_label("Amount in EUR").fill("100")
    await page.locator("#box").get_by_role("button", name="Receive", exact=True).click()
    await expect(page.locator("#box-alert")).to_contain_text("No more than €47.48")
    await expect(page.get_by_label("Amount in EUR")).to_be_focused()
    await page.get_by_label("Amount in EUR").fill("5")
    await expect(page.locator(".effect")).to_contain_text("€5.00 goes back to the buyer")
    await expect(page.locator(".effect")).to_contain_text("To the products' shelf: 1 unit")
    await answer(page, "Receive")
    await expect(page.locator("#detail .card .chip").last).to_have_text("received")

    await press(page, "Refund")
    await expect(page.get_by_label("Amount in EUR")).to_have_value("42.48")
    await page.get_by_label("Amount in EUR").fill("2.48")
    await page.get_by_label("Reason").fill("scratched")
    await expect(page.locator(".effect")).to_contain_text("€40.00 of what was paid stays")
    await answer(page, "Refund")

    async def is_paid_back() -> bool:
        return bool((await shop.look(order))["refunded_minor"] == 748)

    await until(is_paid_back, seconds=30)
    await expect(page.locator("#detail .totals")).to_contain_text("€7.48")
    await picture(page, "orders-return")


async def test_refund_without_an_answer_is_done_once(
    visitors: Visitors, shop: Shop, host_token: str
) -> None:
    """The answers are cut, the host presses again: one refund, under one key."""
    order = await shop.buy()
    page = await open_orders(visitors, shop, host_token)
    await open_order(page, order)
    visitors.expected += ["ERR_FAILED", "Failed to load resource"]
    cut = [True]
    keys: set[str | None] = set()

    async def lose_answer(route: Route) -> None:
        keys.add(await route.request.header_value("idempotency-key"))
        if cut[0]:
            await route.fetch()  # the server does it; nobody hears so
            await route.abort()
        else:
            await route.continue_()

    await page.route(re.compile(r"/refund$"), lose_answer)
    await press(page, "Refund")
    await page.get_by_label("Amount in EUR").fill("3")
    await page.get_by_label("Reason").fill("late")
    refund = page.locator("#box").get_by_role("button", name="Refund", exact=True)
    await refund.click()
    await expect(page.locator("#box-alert")).to_contain_text("it is done once")
    cut[0] = False
    await refund.click()
    await expect(page.locator("#box")).to_be_hidden()

    found = await shop.look(order)
    assert [one["amount_minor"] for one in found["refunds"]] == [300]
    assert len(keys) == 1

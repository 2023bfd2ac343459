"""A buyer's own orders on the viewer page, in a real Chromium: parcels, returns, withdrawal.

Method and checks: page_stage.py, order_stage.py. What the page did is read back over the API.
"""

import re
from typing import Any
from uuid import uuid4

import pytest

from live.domain.caller import Role
from tests.acceptance.browser import TEST_SECONDS, Page, browser, chromium, expect
from tests.acceptance.order_stage import SMALL_PHONE, Shop, read_saved, shop
from tests.acceptance.page_checks import ACCESSIBILITY, OVERFLOW
from tests.acceptance.page_stage import EVIL, Visitors, picture, stage, visitors
from tests.support.answers import Json

__all__ = ["browser", "chromium", "shop", "stage", "visitors"]  # fixtures: imported to be found

pytestmark = [pytest.mark.timeout(TEST_SECONDS), pytest.mark.asyncio(loop_scope="module")]


async def buy_as_viewer(shop: Shop, visitors: Visitors, **context: Any) -> tuple[Page, Json]:
    """The viewer page of somebody who has bought, with their orders open."""
    sub = f"buyer-{uuid4().hex[:8]}"
    order = await shop.buy(sub=sub)
    token = shop.service.token(Role.VIEWER, sub, shop.stage.show)
    page = await visitors.open(
        f"{shop.stage.watch}#token={token}", wait_for="#bag:visible", **context
    )
    return page, order


async def test_buyer_follows_a_parcel_and_asks_for_a_return(visitors: Visitors, shop: Shop) -> None:
    """What the shop has sent is there when the orders are opened, and a wish reaches the shop."""
    page, order = await buy_as_viewer(shop, visitors)
    await shop.send(order, [{"line": 1, "qty": 1}])
    await page.locator("#bag").click()
    await expect(page.locator(".order .chip[data-fulfilment]")).to_have_text("Partly sent")
    link = page.locator(".parcel a")
    await expect(link).to_have_attribute("href", "https://track.example/?id=1")
    assert await page.evaluate(ACCESSIBILITY) == []
    await picture(page, "viewer-orders")

    await page.get_by_role("button", name="Return something").click()
    await page.get_by_label("Reason").fill(f"not for me {EVIL}")
    assert await page.evaluate(ACCESSIBILITY) == []
    await page.get_by_role("button", name="Ask for the return").click()
    await expect(page.locator(".parcel").last).to_contain_text("Return asked for")
    found = await shop.look(order)
    assert [(one["state"], one["items"]) for one in found["returns"]] == [
        ("requested", [{"line": 1, "qty": 1}])
    ]
    await expect(page.get_by_role("button", name="Return something")).to_have_count(0)


async def test_buyer_withdraws_in_two_steps(visitors: Visitors, shop: Shop) -> None:
    """Nothing happens before the second press; the acknowledgement can be kept and stays."""
    page, order = await buy_as_viewer(shop, visitors)
    await page.add_init_script("window.print = () => 0;")
    await page.locator("#bag").click()
    await page.get_by_role("button", name="Withdraw from the contract").click()
    await expect(page.locator("#sheet")).to_contain_text("€47.48 is paid back at once")
    statement = await page.locator("blockquote").inner_text()
    assert order["order"] in statement
    assert (await shop.look(order))["withdrawn_at"] is None
    assert await page.evaluate(ACCESSIBILITY) == []
    await picture(page, "viewer-withdraw")

    await page.get_by_role("button", name="Confirm withdrawal").click()
    await expect(page.locator("#sheet-title")).to_have_text("You have withdrawn from the contract")
    await expect(page.locator("blockquote")).to_have_text(statement)
    found = await shop.look(order)
    assert found["state"] == "cancelled"
    assert found["withdrawal_statement"] == statement
    async with page.expect_download() as saved:
        await page.get_by_role("button", name="Save").click()
    kept = read_saved(await (await saved.value).path())
    assert statement in kept and order["order"] in kept
    await page.emulate_media(media="print")
    await expect(page.locator("blockquote")).to_be_visible()
    await expect(page.locator(".viewer main")).to_be_hidden()
    await expect(page.get_by_role("button", name="Save")).to_be_hidden()
    await page.emulate_media(media="screen")

    await page.reload()
    await page.locator("#bag").click()
    await page.get_by_role("button", name="Withdrawn: show the acknowledgement").click()
    await expect(page.locator("blockquote")).to_have_text(statement)


@pytest.mark.parametrize(("language", "confirm"), [("de", "Widerruf bestätigen"), ("ar", "تأكيد")])
async def test_buyers_orders_in_other_languages(
    visitors: Visitors, shop: Shop, language: str, confirm: str
) -> None:
    """A small phone, another language, from right to left: all of it fits, nothing is left out."""
    page, order = await buy_as_viewer(shop, visitors, viewport=SMALL_PHONE, locale=language)
    await shop.send(order, [{"line": 1, "qty": 1}])
    await page.locator("#bag").click()
    await expect(page.locator(".parcel a")).to_be_visible()
    await expect(page.locator("html")).to_have_attribute(
        "dir", "rtl" if language == "ar" else "ltr"
    )
    assert await page.evaluate(OVERFLOW) <= 0
    await picture(page, f"viewer-orders-{language}")
    await page.locator(".order .row button").last.click()
    await expect(page.locator("#sheet .primary")).to_contain_text(confirm)
    assert await page.evaluate(OVERFLOW) <= 0
    assert await page.evaluate(ACCESSIBILITY) == []
    await picture(page, f"viewer-withdraw-{language}")
    assert not re.search(r"\b(withdraw|orders?)_\w+", await page.locator("#sheet").inner_text())

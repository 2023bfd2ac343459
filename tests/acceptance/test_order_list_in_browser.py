"""The list of orders in a real Chromium: found, followed, printed, saved; and who may see it.

Method and checks: page_stage.py, order_stage.py.
"""

import csv
import io
import re

import pytest

from live.domain.caller import Role
from tests.acceptance.browser import TEST_SECONDS, Route, browser, chromium, expect
from tests.acceptance.order_stage import (
    SMALL_PHONE,
    Shop,
    answer,
    open_order,
    open_orders,
    press,
    read_saved,
    shop,
)
from tests.acceptance.page_checks import ACCESSIBILITY, OVERFLOW
from tests.acceptance.page_stage import EVIL, Visitors, open_console, picture, stage, visitors
from tests.support.answers import Json

__all__ = ["browser", "chromium", "shop", "stage", "visitors"]  # fixtures: imported to be found

pytestmark = [pytest.mark.timeout(TEST_SECONDS), pytest.mark.asyncio(loop_scope="module")]

FORMULA = '=HYPERLINK("http://evil.example","Ann")'


async def test_list_is_filtered_searched_and_follows(
    visitors: Visitors, shop: Shop, host_token: str
) -> None:
    """New orders and others' changes come by themselves; the search says how far it reached."""
    first = await shop.buy("Ann")
    page = await open_orders(visitors, shop, host_token)
    await expect(page.locator("#follow")).to_have_text("Live")
    await expect(page.locator(".order-row")).to_have_count(1)
    second = await shop.buy("Bob Martin")
    await expect(page.locator(".order-row")).to_have_count(2)
    await expect(page.locator(".order-row").first).to_contain_text("Bob Martin")

    await page.keyboard.press("/")
    await page.keyboard.type("bob mar")
    await expect(page.locator(".order-row")).to_have_count(1)
    await expect(page.locator("#searched")).to_contain_text("1 of 2 orders: all there are")
    await page.keyboard.press("Tab")
    third = await shop.buy("Cleo")
    await expect(page.locator("#fresh")).to_have_text("Show 1 new")
    await page.get_by_label("Search").fill(third["sub"])
    await page.get_by_role("button", name=f"named exactly “{third['sub']}”").click()
    await expect(page.locator(".order-row")).to_have_count(1)
    await expect(page.locator(".order-row")).to_contain_text("Cleo")
    await page.get_by_role("button", name="Of everybody").click()
    await expect(page.locator(".order-row")).to_have_count(3)

    await page.get_by_label("Delivery").select_option("unfulfilled")
    await expect(page.locator(".order-row")).to_have_count(3)
    await shop.send(second)
    row = page.locator(f'[data-key="{second["order"]}"]')
    await page.get_by_label("Payment").focus()
    await page.get_by_role("button", name="Load again").click()
    await expect(row).to_have_count(0)
    await page.locator(f'[data-key="{third["order"]}"] .open').focus()
    await page.keyboard.press("ArrowDown")
    await page.keyboard.press("Enter")
    await expect(page.locator("#detail dd").first).to_have_text(first["order"])
    await page.keyboard.press("Escape")
    await expect(page.locator(f'[data-key="{first["order"]}"] .open')).to_be_focused()


async def test_slips_of_several_orders_are_printed_apart(
    visitors: Visitors, shop: Shop, host_token: str
) -> None:
    """A page each, with address and lines, without prices; nothing else of the page is printed."""
    ann, bob = await shop.buy(f"Ann {EVIL}"), await shop.buy("Bob")
    await shop.send(bob, [{"line": 1, "qty": 1}])
    page = await open_orders(visitors, shop, host_token, script="window.print = () => 0;")
    await page.get_by_label("Select all shown").check()
    await page.get_by_role("button", name="Packing slips (2)").click()
    await page.get_by_label("Language").select_option("de")
    await answer(page, "Print")

    await page.emulate_media(media="print")
    await expect(page.locator("#paper .slip")).to_have_count(2)
    await expect(page.locator("#desk")).to_be_hidden()
    slip = page.locator(".slip", has_text="Ann")
    await expect(slip).to_contain_text("Packzettel")
    await expect(slip).to_contain_text("10435 Berlin")
    await expect(slip).to_contain_text("3 Stück")
    await expect(slip).not_to_contain_text("€")
    await expect(page.locator(".slip", has_text="Bob")).to_contain_text("2 Stück")
    await expect(slip).to_contain_text(ann["order"][:8])
    await picture(page, "orders-slips")
    paper = await page.pdf(prefer_css_page_size=True)
    assert len(re.findall(rb"/Type\s*/Page\b", paper)) == 2
    await expect(page.locator("#paper .slip")).to_have_count(0)  # put away when printed


async def test_table_has_all_pages_and_no_formula(
    visitors: Visitors, shop: Shop, host_token: str
) -> None:
    """All that the filters ask, one row a line, and no cell that a spreadsheet would run."""
    order = await shop.buy(FORMULA)
    await shop.buy("Bob")
    page = await open_orders(visitors, shop, host_token)

    async def two_pages(route: Route) -> None:
        await route.continue_(url=route.request.url.replace("limit=200", "limit=1"))

    await page.route(re.compile(r"order=newest.*limit=200"), two_pages)
    await page.get_by_role("button", name="Download CSV").click()
    async with page.expect_download() as saved:
        await answer(page, "Download")
    text = read_saved(await (await saved.value).path())
    rows = list(csv.DictReader(io.StringIO(text, newline="")))

    mine = [row for row in rows if row["order"] == order["order"]]
    assert len(rows) == 4 and len(mine) == 2
    assert {row["name"] for row in mine} == {f"'{FORMULA}"}
    assert {row["phone"] for row in mine} == {"'+49 30 1234"}
    assert sorted(row["price"] for row in mine) == ["19.99", "7.50"]
    assert {row["line1"] for row in mine} == {"Kastanienallee 1"}


async def test_who_may_see_orders(visitors: Visitors, shop: Shop, host_token: str) -> None:
    """The console leads hosts there, in a tab that follows; moderators are refused; a service comes
    in by its token, and is told of a webhook that was given up."""
    await shop.buy()
    console = await open_console(visitors, shop.stage, host_token)
    async with console.expect_popup() as opened:
        await console.get_by_role("link", name="Orders").click()
    orders = await opened.value
    await expect(orders.locator(".order-row")).to_have_count(1)
    await expect(orders.locator("#follow")).to_have_text("Live")

    moderator = shop.service.token(Role.MODERATOR, "mo", shop.stage.show)
    path = f"/console/orders#token={moderator}"
    refused = await visitors.open(path, wait_for="#gate:visible")
    await expect(refused.locator("#gate-title")).to_have_text("Orders are for hosts")

    lost: Json = {"webhook": "w", "url": f"https://shop.example/{EVIL}", "state": "disabled"}
    lost |= {"reason": "nothing was taken for three days", "failing_since": 1_790_000_000_000}

    async def disabled(route: Route) -> None:
        await route.fulfill(json={"items": [lost, {**lost, "state": "active"}]})

    visitors.expected += ["401"]  # is this browser logged in already?
    program = shop.service.token(Role.SERVICE, "warehouse")
    page = await visitors.open("/console/orders", wait_for="#gate:visible")
    await page.route("**/v1/webhooks", disabled)
    await page.get_by_label("Console link or token").fill(program)
    await page.get_by_role("button", name="Log in").click()
    await expect(page.locator("#webhooks p")).to_have_count(1)
    await expect(page.locator("#webhooks")).to_contain_text("nothing was taken for three days")
    await expect(page.locator("[name=show]")).to_have_value("")
    await expect(page.locator(".order-row").first).to_be_visible()


async def test_orders_page_fits_a_phone(visitors: Visitors, shop: Shop, host_token: str) -> None:
    """360 pixels: list and detail one after the other, nothing beside the screen."""
    order = await shop.buy("A name that is long enough to need more than one line of a phone")
    page = await open_orders(visitors, shop, host_token, viewport=SMALL_PHONE)
    assert await page.evaluate(OVERFLOW) <= 0
    assert await page.evaluate(ACCESSIBILITY) == []
    await picture(page, "orders-phone")
    await open_order(page, order)
    await expect(page.locator("#list")).to_be_hidden()
    assert await page.evaluate(OVERFLOW) <= 0
    assert await page.evaluate(ACCESSIBILITY) == []
    await picture(page, "orders-phone-detail")
    await press(page, "Send a parcel")
    assert await page.evaluate(OVERFLOW) <= 0
    await picture(page, "orders-phone-ship")
    await page.keyboard.press("Escape")
    await press(page, "Close")
    await expect(page.locator(f'[data-key="{order["order"]}"] .open')).to_be_focused()


async def test_session_that_ended_is_begun_again(
    visitors: Visitors, shop: Shop, host_token: str
) -> None:
    """The page logs in by its token, and goes on where it was."""
    order = await shop.buy()
    page = await open_orders(visitors, shop, host_token)
    await expect(page.locator("#follow")).to_have_text("Live")
    visitors.expected += ["401"]
    await page.context.clear_cookies()

    await shop.send(order)
    await page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    row = page.locator(f'[data-key="{order["order"]}"]')
    await expect(row.locator("[data-fulfilment]")).to_have_text("sent", timeout=40_000)
    await expect(page.locator("#follow")).to_have_text("Live")
    assert [cookie["name"] for cookie in await page.context.cookies()] == ["live"]

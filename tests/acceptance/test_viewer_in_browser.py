"""The viewer page in a real Chromium: what a buyer meets between the first look and the parcel.

Method: as in page_stage.py, whose visitors and stage these tests use; a host acts over
HTTP. Scheduled and rehearsed shows are made here.
"""

import re
import time
from uuid import uuid4

import pytest

from tests.acceptance.browser import TEST_SECONDS, Locator, Page, browser, chromium, expect
from tests.acceptance.conftest import until
from tests.acceptance.page_checks import ACCESSIBILITY, OVERFLOW
from tests.acceptance.page_stage import (
    DESKTOP,
    GRANT_MS_MAX,
    PHONE,
    TABLET,
    Stage,
    Visitors,
    buy_button,
    open_customer,
    open_viewer,
    picture,
    stage,
    visitors,
)

__all__ = ["browser", "chromium", "stage", "visitors"]  # fixtures: imported to be found

PASSCODE = "break a leg"
REFRESH_MS_MAX = 25_000  # a page that waits in line asks again after 20 s at the latest
LANDSCAPE = {"width": 844, "height": 390}
SMALL = {"width": 320, "height": 568}

pytestmark = [pytest.mark.timeout(TEST_SECONDS), pytest.mark.asyncio(loop_scope="module")]


async def scheduled(stage: Stage, **terms: object) -> Stage:
    """Another show of the same host and product, not on air yet."""
    made = Stage(stage.http, f"b{uuid4().hex[:10]}", stage.sku)
    show = {"id": made.show, "title": "Tomorrow's show", "currency": "EUR", **terms}
    await made.call("POST", "/v1/shows", show)
    return made


async def rehearse(stage: Stage) -> None:
    path = f"/v1/shows/{stage.show}"
    await stage.call("PATCH", path, {"rehearsal_passcode": PASSCODE})
    await stage.call("POST", f"{path}/start", {"rehearsal": True})


def title(page: Page) -> Locator:
    return page.locator("#sheet-title")


async def test_rehearsal_keeps_the_waiting_audience(visitors: Visitors, stage: Stage) -> None:
    """Who waits reads that the show starts soon, and is in when it does, without a reload."""
    show = await scheduled(stage)
    waiting = await open_viewer(visitors, show)
    await waiting.evaluate("window.sameLoad = 1")
    await rehearse(show)
    await expect(waiting.locator("#still-hint")).to_contain_text("the show begins by itself")
    await expect(waiting.locator("#connection")).to_be_hidden()
    await picture(waiting, "viewer-waiting")
    late = await visitors.open(show.watch, wait_for="#passcode[open]")

    await show.call("POST", f"/v1/shows/{show.show}/start", {})
    for page in (waiting, late):
        await expect(page.locator("#status")).to_have_text("Live", timeout=60_000)
        await expect(page.locator("#passcode")).to_be_hidden()
    assert await waiting.evaluate("window.sameLoad") == 1


async def test_wrong_passcode_has_words_and_another_try(visitors: Visitors, stage: Stage) -> None:
    """It is said, the right one gets in, and a rehearsal's order is told as one."""
    show = await scheduled(stage)
    offer = {"sku": show.sku, "price_minor": 1999, "quantity": 5, "per_buyer_limit": 1}
    offer |= {"hold_seconds": 60, "mode": "hold", "guests": True}
    made = await show.call("POST", f"/v1/shows/{show.show}/offers", offer)
    await rehearse(show)
    await show.call("POST", f"/v1/offers/{made['id']}/open", {})
    page = await visitors.open(show.watch, wait_for="#passcode[open]")
    await page.get_by_label("Passcode").fill("knock knock")
    await page.get_by_role("button", name="Enter").click()
    await expect(page.get_by_role("alert")).to_contain_text("not right")
    assert await page.evaluate(ACCESSIBILITY) == []
    await page.get_by_role("button", name="Wait for the show").click()
    await page.get_by_role("button", name="I have a passcode").click()
    await page.get_by_label("Passcode").fill(PASSCODE)
    await page.get_by_role("button", name="Enter").click()
    await expect(page.locator("#status")).to_have_text("Rehearsal", timeout=30_000)

    await buy_button(page).click()
    await expect(page.locator("#sheet .notice")).to_contain_text("nothing is charged")
    await page.locator("#pay").click()
    await expect(title(page)).to_have_text("It works! This was a rehearsal.")
    await page.get_by_role("button", name="Keep watching").click()
    await expect(page.locator("#bag")).to_be_visible()
    await show.call("POST", f"/v1/shows/{show.show}/end", {})
    await expect(page.locator("#status")).to_have_text("Starts soon")
    await expect(page.locator("#offers .offer")).to_have_count(0)
    await expect(page.locator("#bag")).to_be_hidden()


async def test_changed_settings_reach_open_pages(visitors: Visitors, stage: Stage) -> None:
    """Title, slow mode and the hour of the show change without a reload."""
    viewer = await open_viewer(visitors, stage)
    await stage.call("PATCH", f"/v1/shows/{stage.show}", {"title": "Late show"})
    await expect(viewer.locator("#title")).to_have_text("Late show")
    await stage.call("PATCH", f"/v1/shows/{stage.show}", {"slow_mode_seconds": 30})
    await expect(viewer.locator("#chat-hint")).to_have_text("One message every 30 seconds")


async def test_time_of_the_show_is_counted_down(visitors: Visitors, stage: Stage) -> None:
    """Before the show its page tells when it begins, and follows when the host moves it."""
    show = await scheduled(stage, starts_at=int(time.time() * 1000) + 300_000)
    viewer = await open_viewer(visitors, show)
    await expect(viewer.locator("#still-deadline")).to_have_text(re.compile(r"Starts in [45]:\d\d"))
    moved = {"starts_at": int(time.time() * 1000) + 7_200_000}
    await show.call("PATCH", f"/v1/shows/{show.show}", moved)
    await expect(viewer.locator("#still-deadline")).to_have_text(re.compile(r"Starts in [12]:.*:"))
    await show.call("POST", f"/v1/shows/{show.show}/start", {})
    await expect(viewer.locator("#still-deadline")).to_have_text("")


async def test_pinned_product_comes_up_before_its_offer(visitors: Visitors, stage: Stage) -> None:
    """A pin alone shows the product, on the list and on the still; its offer takes its place."""
    viewer = await open_viewer(visitors, stage, viewport=PHONE)
    await stage.call("POST", f"/v1/shows/{stage.show}/pins", {"skus": [stage.sku]})
    await expect(viewer.locator("#coming .offer")).to_contain_text("Coming up")
    await expect(viewer.locator("#coming .price")).to_have_text("€29.99")
    await expect(viewer.locator("#still-price")).to_have_text("€29.99")
    await stage.open_offer()
    await expect(viewer.locator("#coming .offer")).to_have_count(0)
    await expect(viewer.locator("#offers .badge")).to_have_text("Featured")


async def test_bank_confirmation_is_found_again(visitors: Visitors, stage: Stage) -> None:
    """The sheet may be closed and the page reloaded: the bag leads back to the bank, or out."""
    await stage.open_offer(per_buyer_limit=1)
    viewer = await open_viewer(visitors, stage)
    await buy_button(viewer).click()
    await viewer.get_by_text("asks you to confirm").click()
    await viewer.locator("#pay").click()
    await expect(title(viewer)).to_have_text("Please confirm the payment")
    bank = await viewer.get_by_role("link", name="Go to your bank").get_attribute("href")
    await viewer.get_by_role("button", name="Close").click()
    await expect(viewer.locator("#bag")).to_have_text("Confirm the payment")

    for again in ("closed", "reloaded"):
        if again == "reloaded":
            await viewer.reload()
        await viewer.locator("#bag").click()
        await expect(title(viewer)).to_have_text("Please confirm the payment")
        link = viewer.get_by_role("link", name="Go to your bank")
        await expect(link).to_have_attribute("href", bank)
        await viewer.get_by_role("button", name="Close").click()

    await buy_button(viewer).click()  # the card knows, too
    await viewer.get_by_role("button", name="Cancel this payment").click()
    await expect(viewer.locator("#toast")).to_have_text("You gave it back.")
    await expect(buy_button(viewer)).to_have_text("Buy")


async def test_lost_connection_is_told_all_the_time(visitors: Visitors, stage: Stage) -> None:
    """Through every try in between, in view, and inside a sheet that is open."""
    await stage.open_offer()
    viewer = await open_viewer(visitors, stage, viewport=PHONE)
    visitors.expected = ["ERR_INTERNET_DISCONNECTED", "WebSocket connection to"]
    line = viewer.locator("#connection")
    await viewer.evaluate(
        """() => {
          window.hidings = 0;
          const line = document.getElementById("connection");
          new MutationObserver(() => { if (line.hidden) window.hidings += 1; })
            .observe(line, { attributeFilter: ["hidden"] });
          window.tries = 0;
          new MutationObserver(() => {
            if (document.body.dataset.connection === "connecting") window.tries += 1;
          }).observe(document.body, { attributeFilter: ["data-connection"] });
        }"""
    )
    await buy_button(viewer).click()
    await expect(viewer.locator("#hold-timer")).to_be_visible()
    await viewer.context.set_offline(True)
    await expect(line).to_be_in_viewport()
    assert await line.evaluate("(el) => el.closest('dialog') !== null")

    async def tried_twice() -> bool:
        tries: int = await viewer.evaluate("window.tries")
        return tries >= 2

    await until(tried_twice, seconds=30)
    assert await viewer.evaluate("window.hidings") == 0
    await viewer.get_by_role("button", name="Close").click()
    await expect(line).to_be_in_viewport()
    await viewer.context.set_offline(False)
    await expect(line).to_be_hidden(timeout=20_000)


async def test_words_are_seen_above_an_open_sheet(visitors: Visitors, stage: Stage) -> None:
    """What happens meanwhile is said where one looks: another hold ran out."""
    tea = {"sku": f"tea-{stage.show}", "title": "Tea", "price_minor": 500, "currency": "EUR"}
    await stage.call("POST", "/v1/products", tea | {"on_hand": 5})
    await stage.open_offer(sku=tea["sku"], hold_seconds=5)
    await stage.open_offer()
    viewer = await open_viewer(visitors, stage)
    await viewer.get_by_role("button", name="Buy: Tea").click()
    await expect(viewer.locator("#hold-timer")).to_be_visible()
    await viewer.get_by_role("button", name="Close").click()
    await viewer.get_by_role("button", name=re.compile("^Buy: Moon lamp")).click()
    toast = viewer.locator("#toast")
    await expect(toast).to_have_text("Time is up", timeout=GRANT_MS_MAX)
    await expect(toast).to_have_css("opacity", "1")
    assert await toast.evaluate("(el) => el.parentElement.id") == "sheet"


async def test_time_out_offers_another_try(visitors: Visitors, stage: Stage) -> None:
    """A hold that ran out says so, and the same units can be asked for from there."""
    await stage.open_offer(hold_seconds=5)
    viewer = await open_viewer(visitors, stage)
    await buy_button(viewer).click()
    await expect(title(viewer)).to_have_text("Time is up", timeout=GRANT_MS_MAX)
    await viewer.get_by_role("button", name="Try again").click()
    await expect(title(viewer)).to_have_text("It is yours for now")


async def test_card_knows_what_is_mine(visitors: Visitors, stage: Stage) -> None:
    """Held: the way to the checkout with its time; bought up to the limit: no more buttons."""
    await stage.open_offer(per_buyer_limit=1, quantity=1)
    viewer = await open_viewer(visitors, stage)
    await buy_button(viewer).click()
    await viewer.get_by_role("button", name="Close").click()
    note = viewer.locator(".offer .note")
    await expect(note).to_have_text(re.compile(r"Yours for \d:\d\d"))
    await expect(buy_button(viewer)).to_have_text("Check out")
    await buy_button(viewer).click()
    await viewer.locator("#pay").click()
    await viewer.get_by_role("button", name="Keep watching").click()
    await expect(note).to_have_text("You have yours · Sold out")
    await expect(buy_button(viewer)).to_be_hidden()


async def test_newest_line_stays_in_view(visitors: Visitors, stage: Stage) -> None:
    """The name is asked for before the first line, and the room that it takes hides no line."""
    writer, reader = [await open_viewer(visitors, stage, viewport=TABLET) for _ in range(2)]
    box, name = writer.locator("#say-text"), writer.locator("#say-name")
    await expect(name).to_be_hidden()
    await box.fill("first line")
    await box.press("Enter")
    await name.fill("Ada")
    await name.press("Enter")
    for number in range(3):
        await box.fill(f"long line {number} " + "of many words " * 30)
        await box.press("Enter")
        await expect(reader.locator("#chat li").last).to_contain_text(f"long line {number}")
    await reader.locator("#say-text").fill("hello")
    await reader.locator("#say-text").press("Enter")
    await expect(reader.locator("#say-name")).to_be_visible()
    await box.fill("the newest")
    await box.press("Enter")
    newest = reader.get_by_text("the newest")
    await expect(newest).to_be_in_viewport(ratio=1)


async def test_place_in_line_moves_up_on_the_page(visitors: Visitors, stage: Stage) -> None:
    """Whoever is behind somebody who leaves the line reads it, without touching the page."""
    await stage.open_offer(quantity=1, per_buyer_limit=1)
    holder, ahead, behind = [await open_customer(visitors, stage) for _ in range(3)]
    await buy_button(holder).click()
    await expect(holder.locator("#hold-timer")).to_be_visible()
    for place, page in enumerate((ahead, behind), 1):
        await expect(buy_button(page)).to_have_text("Join the waitlist")
        await buy_button(page).click()
        await expect(page.locator(".offer .note")).to_contain_text(f"number {place} in line")
    await ahead.get_by_role("button", name=re.compile("Leave the waitlist")).click()
    await expect(behind.locator(".offer .note")).to_contain_text(
        "number 1 in line", timeout=REFRESH_MS_MAX
    )


async def test_invoice_asks_where_to_deliver(visitors: Visitors, stage: Stage) -> None:
    """What an invoice needs is required, and marked as optional otherwise."""
    await stage.open_offer()
    viewer = await open_customer(visitors, stage, viewport=PHONE)
    await buy_button(viewer).click()
    name = viewer.get_by_role("textbox", name="Name", exact=True).or_(
        viewer.get_by_role("textbox", name="Name optional")
    )
    address = viewer.get_by_label("Delivery address")
    await expect(viewer.locator(".field .optional:visible")).to_have_count(2)
    await expect(address).to_be_hidden()
    await viewer.get_by_text("Invoice, pay on delivery").click()
    await viewer.locator("#pay").click()
    await expect(name).to_be_focused()
    assert await name.evaluate("(box) => box.validationMessage") == "Please fill this in."
    await name.fill("Ada")
    await address.fill("1 Mill Lane")
    await viewer.locator("#pay").click()
    await expect(title(viewer)).to_have_text("Thank you! It is yours.")
    await expect(viewer.locator("#sheet .total")).to_contain_text("€19.99")


async def test_guest_is_offered_no_invoice(visitors: Visitors, stage: Stage) -> None:
    """Nobody could be held to it; with one way left there is nothing to choose."""
    await stage.open_offer()
    viewer = await open_viewer(visitors, stage)
    await buy_button(viewer).click()
    await expect(viewer.locator("#pay")).to_be_visible()
    await expect(viewer.get_by_text("Invoice, pay on delivery")).to_have_count(0)


async def test_orders_have_a_number_and_a_state(visitors: Visitors, stage: Stage) -> None:
    """A refunded order does not look bought; the keyboard stays where it was."""
    await stage.open_offer()
    viewer = await open_viewer(visitors, stage)
    await buy_button(viewer).click()
    await viewer.locator("#pay").click()
    number = await viewer.locator("#sheet .number strong").inner_text()
    await viewer.get_by_role("button", name="Keep watching").click()
    bag = viewer.locator("#bag")
    await bag.click()
    await expect(viewer.locator(".order")).to_contain_text(number)
    await viewer.get_by_role("button", name="Close").first.click()
    await expect(bag).to_be_focused()

    orders = (await stage.http.get("/v1/orders", params={"show": stage.show})).json()["items"]
    path = f"/v1/orders/{orders[0]['order']}"

    async def captured() -> bool:
        return bool((await stage.http.get(path)).json()["state"] == "paid")

    await until(captured)  # only what was captured can be paid back
    await stage.call("POST", f"{path}/refund", {"reason": "broken"})
    await expect(viewer.locator("#toast")).to_have_text("Your payment was paid back.")
    await bag.click()
    await expect(viewer.locator(".order .chip[data-order]")).to_have_text("Paid back")
    await expect(viewer.locator(".order .total").last).to_have_text("Paid back€19.99")


async def test_show_that_is_over_offers_nothing(visitors: Visitors, stage: Stage) -> None:
    """No button, no reaction, no stale figure; what was sold is folded away under Earlier."""
    await stage.open_offer()
    viewer = await open_viewer(visitors, stage)
    await expect(viewer.locator("#watching")).to_be_visible()
    await stage.call("POST", f"/v1/shows/{stage.show}/end", {})
    await expect(viewer.locator("#status")).to_have_text("Show over")
    for gone in ("#reactions", "#watching", "#say", ".offer .buy"):
        await expect(viewer.locator(gone)).to_be_hidden()
    await expect(viewer.locator("#offers .offer")).to_have_count(0, timeout=20_000)
    await viewer.get_by_text("Earlier in this show (1)").click()
    await expect(viewer.locator("#earlier-list .offer")).to_contain_text("Closed")


@pytest.mark.parametrize("viewport", [SMALL, PHONE, LANDSCAPE, TABLET, DESKTOP])
async def test_nothing_scrolls_away(
    visitors: Visitors, stage: Stage, viewport: dict[str, int]
) -> None:
    """On every screen the stage, a way to buy and a way to write are in view together."""
    await stage.open_offer(duration_seconds=600)
    await stage.open_offer(countdown_seconds=120)
    text = {"text": "Free shipping tonight on every order, until the very end of the show"}
    await stage.call("POST", f"/v1/shows/{stage.show}/announcements", text)
    viewer = await open_viewer(visitors, stage, viewport=viewport)
    for part in ("#still-name", ".offer .buy", "#say-text", "#announcement"):
        await expect(viewer.locator(part).first).to_be_in_viewport(ratio=1)
    assert await viewer.evaluate(OVERFLOW) <= 0
    # Nothing lies over what must be read or pressed.
    covered = await viewer.evaluate(
        """() => ["#still-name", "#still-price", "#announcement", ".offer .buy", "#say-text"]
          .filter((name) => {
            const part = document.querySelector(name);
            const { x, y, width, height } = part.getBoundingClientRect();
            const top = document.elementFromPoint(x + width / 2, y + height / 2);
            return !part.contains(top) && !top.contains(part);
          })"""
    )
    assert covered == []
    assert await viewer.evaluate(ACCESSIBILITY) == []

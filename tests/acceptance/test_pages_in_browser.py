"""The pages in a real Chromium against a real gateway: hosts sell, viewers race, nothing breaks.

Method: each test has a show of its own, opens the console and viewer pages, and acts as people do:
by keys, clicks and labels (page_stage.py).

Needs the package playwright and a Chromium: the one on PATH, or Debian's by apt for root.
"""

import asyncio
import re

import pytest

from live.domain.caller import Role
from tests.acceptance.browser import TEST_SECONDS, browser, chromium, expect
from tests.acceptance.conftest import Service, until
from tests.acceptance.page_checks import ACCESSIBILITY, OVERFLOW
from tests.acceptance.page_stage import (
    EVIL,
    GRANT_MS_MAX,
    PHONE,
    TABLET,
    Stage,
    Visitors,
    buy_button,
    open_console,
    open_customer,
    open_viewer,
    picture,
    stage,
    visitors,
    write_line,
)

__all__ = ["browser", "chromium", "stage", "visitors"]  # fixtures: imported to be found

HOLD_SECONDS_SHORT = 12  # the winner lets it run out, and the loser has time to stand in line

pytestmark = [pytest.mark.timeout(TEST_SECONDS), pytest.mark.asyncio(loop_scope="module")]


async def test_two_viewers_race_for_the_last_unit(
    visitors: Visitors, stage: Stage, host_token: str
) -> None:
    """One wins and lets the hold run out; the other waits in line, is granted it, and pays."""
    console = await open_console(visitors, stage, host_token)
    viewers = [await open_customer(visitors, stage), await open_customer(visitors, stage)]

    await console.keyboard.press("n")
    await console.get_by_label("Price in EUR").fill("24.50")
    await console.get_by_label("Units", exact=True).fill("1")
    await console.get_by_label("Hold for seconds").fill(str(HOLD_SECONDS_SHORT))
    await console.get_by_role("button", name="Prepare", exact=True).click()
    await expect(console.locator("#box")).to_be_hidden()  # single keys rest while a dialog is open
    await expect(console.locator(".desk-offer .chip")).to_have_text("Prepared")
    await console.keyboard.press("o")
    await expect(console.locator(".desk-offer .chip")).to_have_text("Open")

    for viewer in viewers:
        await expect(buy_button(viewer)).to_be_enabled()
        await expect(viewer.locator(".offer .price")).to_have_text("€24.50")
    await asyncio.gather(*(buy_button(viewer).click() for viewer in viewers))
    won = [viewer.locator("#sheet[data-kind=hold]") for viewer in viewers]
    await expect(won[0].or_(won[0].page.get_by_text("Someone was faster"))).to_be_visible()
    await expect(won[1].or_(won[1].page.get_by_text("Someone was faster"))).to_be_visible()
    first = 0 if await won[0].is_visible() else 1
    winner, loser = viewers[first], viewers[1 - first]
    assert not await won[1 - first].is_visible()

    await expect(buy_button(loser)).to_have_text("Join the waitlist")
    await buy_button(loser).click()
    await expect(loser.locator(".offer .note")).to_contain_text("number 1 in line")
    await expect(winner.locator("#sheet-title")).to_have_text("Time is up", timeout=GRANT_MS_MAX)
    await expect(loser.locator("#sheet-title")).to_have_text(
        "It is your turn!", timeout=GRANT_MS_MAX
    )
    await loser.locator("#pay").click()
    await expect(loser.locator("#sheet-title")).to_have_text("Thank you! It is yours.")
    await expect(console.locator("#feed")).to_contain_text("€24.50")
    await picture(loser, "viewer-confirmed")
    await picture(console, "console-after-sale")


async def test_hold_survives_a_cut_network(visitors: Visitors, stage: Stage) -> None:
    """Without a reload the page comes back, with its hold and with what it missed."""
    await stage.open_offer()
    viewer = await open_viewer(visitors, stage)
    visitors.expected = ["ERR_INTERNET_DISCONNECTED", "WebSocket connection to"]
    await viewer.evaluate("window.sameLoad = 1")
    await buy_button(viewer).click()
    await expect(viewer.locator("#hold-timer")).to_be_visible()

    await viewer.context.set_offline(True)
    await expect(viewer.locator("#connection")).to_contain_text("Coming back")
    body = {"text": "Free shipping tonight"}
    await stage.call("POST", f"/v1/shows/{stage.show}/announcements", body)
    await viewer.context.set_offline(False)

    await expect(viewer.locator("#connection")).to_be_hidden(timeout=20_000)
    await expect(viewer.locator("#announcement")).to_have_text("Free shipping tonight")
    await expect(viewer.locator("#hold-timer")).to_be_visible()
    assert await viewer.evaluate("window.sameLoad") == 1
    await viewer.locator("#pay").click()
    await expect(viewer.locator("#sheet-title")).to_have_text("Thank you! It is yours.")


async def test_hold_survives_a_reload(visitors: Visitors, stage: Stage) -> None:
    """A reloaded page finds its hold again, and later its order."""
    await stage.open_offer()
    viewer = await open_viewer(visitors, stage)
    await buy_button(viewer).click()
    await expect(viewer.locator("#hold-timer")).to_be_visible()

    await viewer.reload()
    await viewer.get_by_role("button", name=re.compile("Check out ·")).click()
    await viewer.locator("#pay").click()
    await expect(viewer.locator("#sheet-title")).to_have_text("Thank you! It is yours.")
    await viewer.reload()
    await expect(viewer.get_by_role("button", name="1 order")).to_be_visible()


async def test_each_refusal_has_its_own_words(visitors: Visitors, stage: Stage) -> None:
    """Declined, limit reached, given back, paused, sold out and closed are told apart."""
    offer = await stage.open_offer(quantity=1, per_buyer_limit=1)
    viewer, other = await open_viewer(visitors, stage), await open_viewer(visitors, stage)
    await buy_button(viewer).click()
    await viewer.get_by_text("declines").click()
    await viewer.locator("#pay").click()
    await expect(viewer.get_by_role("alert")).to_contain_text("Payment declined")
    await expect(viewer.locator("#hold-timer")).to_be_visible()
    await picture(viewer, "viewer-declined")

    await expect(other.locator(".offer .note")).to_contain_text("being checked out")
    await viewer.get_by_role("button", name="Give it back").click()
    await expect(viewer.locator("#toast")).to_have_text("You gave it back.")
    await stage.call("POST", f"/v1/offers/{offer}/pause", {})
    await expect(viewer.locator(".offer .note")).to_have_text("Paused for a moment")
    await stage.call("POST", f"/v1/offers/{offer}/resume", {})
    await buy_button(viewer).click()
    await viewer.get_by_text("approves").click()
    await viewer.locator("#pay").click()
    await expect(viewer.locator("#sheet-title")).to_have_text("Thank you! It is yours.")
    await viewer.get_by_role("button", name="Keep watching").click()

    await expect(other.locator(".offer .note")).to_have_text("Sold out")
    await stage.call("POST", f"/v1/offers/{offer}/restock", {"quantity": 1})
    await expect(buy_button(other)).to_have_text("Buy")
    await expect(viewer.locator(".offer .note")).to_have_text("You have yours")
    await expect(buy_button(viewer)).to_be_hidden()
    await stage.call("POST", f"/v1/offers/{offer}/close", {})
    await expect(other.locator(".offer")).to_have_attribute("data-phase", "closed")


async def test_first_paid_offer_is_bought_without_a_hold(visitors: Visitors, stage: Stage) -> None:
    """Whoever has paid first gets the unit: one sheet, one payment, one order."""
    await stage.open_offer(mode="first_paid")
    viewer = await open_viewer(visitors, stage)
    await buy_button(viewer).click()
    await expect(viewer.locator("#sheet-title")).to_have_text("Pay to get it")
    await viewer.locator("#pay").click()
    await expect(viewer.locator("#sheet-title")).to_have_text("Thank you! It is yours.")


async def test_slow_bank_is_waited_for(visitors: Visitors, stage: Stage) -> None:
    """While the bank takes its time the page says so, and then what came of it."""
    await stage.open_offer()
    viewer = await open_viewer(visitors, stage)
    await buy_button(viewer).click()
    await viewer.get_by_text("answers later").click()
    await viewer.locator("#pay").click()
    await expect(viewer.locator("#sheet-title")).to_have_text("One moment")
    await expect(viewer.locator("#sheet-title")).to_have_text(
        "Thank you! It is yours.", timeout=GRANT_MS_MAX
    )


async def test_bank_may_ask_the_buyer(visitors: Visitors, stage: Stage) -> None:
    """A payment that needs the buyer's confirmation says so, and the hold stays meanwhile."""
    await stage.open_offer()
    viewer = await open_viewer(visitors, stage)
    await buy_button(viewer).click()
    await viewer.get_by_text("asks you to confirm").click()
    await viewer.locator("#pay").click()
    await expect(viewer.locator("#sheet-title")).to_have_text("Please confirm the payment")
    await viewer.get_by_role("button", name="I have confirmed it").click()
    await expect(viewer.locator("#sheet-title")).to_have_text("Please confirm the payment")


async def test_freeze_is_shown_and_kept(visitors: Visitors, stage: Stage, host_token: str) -> None:
    """A frozen show refuses new offers in words and still opens a prepared one."""
    terms = {"sku": stage.sku, "price_minor": 1999, "quantity": 1, "per_buyer_limit": 1}
    terms |= {"hold_seconds": 60, "mode": "hold", "guests": True}
    await stage.call("POST", f"/v1/shows/{stage.show}/offers", terms)
    console = await open_console(visitors, stage, host_token)
    other = await open_console(visitors, stage, host_token)
    await console.get_by_role("button", name="Freeze").click()
    await expect(console.locator("#freeze")).to_have_attribute("aria-pressed", "true")
    await other.reload()
    await expect(other.locator("#freeze")).to_have_attribute("aria-pressed", "true")

    await expect(other.get_by_role("button", name="New offer")).to_be_disabled()
    await other.keyboard.press("n")
    await expect(other.locator("#toast")).to_contain_text("frozen")
    await expect(other.locator("#box")).to_be_hidden()
    await other.keyboard.press("o")
    await expect(console.locator(".desk-offer .chip")).to_have_text("Open")


async def test_wrong_token_is_refused_in_words(visitors: Visitors) -> None:
    """A link that is none of ours opens no console and says why."""
    visitors.expected = ["401"]
    forged = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJ4Iiwicm9sZSI6Imhvc3QiLCJzaG93cyI6WyIqIl19."
    page = await visitors.open(f"/console#token={forged}", wait_for="#gate")
    await expect(page.locator("#gate-title")).to_have_text("Log-in was refused")
    assert "token" not in page.url
    nobody = await visitors.open("/console", wait_for="#gate")
    await expect(nobody.locator("#gate-title")).to_have_text("Please log in")
    assert await page.evaluate(ACCESSIBILITY) == []


async def test_moderation_reaches_every_page(
    visitors: Visitors, stage: Stage, host_token: str
) -> None:
    """A deleted line goes from all pages; a shadow-banned person alone sees their own lines."""
    console = await open_console(visitors, stage, host_token)
    noisy, quiet = await open_viewer(visitors, stage), await open_viewer(visitors, stage)

    await write_line(noisy, f"{EVIL} first")
    for page in (console, quiet):
        await expect(page.locator("#chat")).to_contain_text(f"{EVIL} first")
    await console.get_by_label("Moderate Noisy").click()
    await console.get_by_role("button", name="Pin: Noisy").click()
    await expect(quiet.locator("#pinned")).to_contain_text("first")
    await picture(console, "console-moderation")
    await console.get_by_role("button", name="Shadow-ban: Noisy").click()
    await expect(console.locator("#toast")).to_contain_text("Only they see")
    await console.get_by_role("button", name="Delete: Noisy").click()
    for page in (console, noisy, quiet):
        await expect(page.locator("#chat")).not_to_contain_text("first")

    await write_line(noisy, "second")
    await write_line(quiet, "third")
    await expect(console.locator("#chat")).to_contain_text("third")
    for page in (console, quiet):
        await expect(page.locator("#chat")).not_to_contain_text("second")


async def test_banned_viewer_reads_why(visitors: Visitors, stage: Stage) -> None:
    """The page of a banned person says so at once, and again after a reload; it does not retry."""
    viewer = await open_viewer(visitors, stage)
    sub = await viewer.evaluate(
        "JSON.parse(atob(localStorage.getItem('live:guest').split('.')[1])).sub"
    )
    ban: dict[str, object] = {"action": "ban", "sub": sub}
    await stage.call("POST", f"/v1/shows/{stage.show}/moderation", ban)
    words = "You can no longer take part in this show."
    await expect(viewer.locator("#connection")).to_have_text(words)

    await viewer.reload()
    await expect(viewer.locator("#connection")).to_have_text(words)
    assert await viewer.evaluate("document.body.dataset.connection") == "closed"


async def test_refund_reaches_the_buyer(visitors: Visitors, stage: Stage, host_token: str) -> None:
    """A host pays an order back from the feed, the buyer is told, and the log has a line of it."""
    await stage.open_offer()
    console = await open_console(visitors, stage, host_token)
    viewer = await open_viewer(visitors, stage)
    await buy_button(viewer).click()
    await viewer.locator("#pay").click()
    await expect(viewer.locator("#sheet-title")).to_have_text("Thank you! It is yours.")
    await viewer.get_by_role("button", name="Keep watching").click()

    async def captured() -> bool:
        orders = (await stage.http.get("/v1/orders", params={"show": stage.show})).json()
        return bool(orders["items"][0]["state"] == "paid")

    await until(captured)  # only what was captured can be paid back
    await console.get_by_role("button", name=re.compile("Refund order")).click()
    await console.get_by_label("Reason").fill("Broken on arrival")
    await console.locator("#box").get_by_role("button", name="Refund", exact=True).click()
    await expect(viewer.locator("#toast")).to_have_text("Your payment was paid back.")
    await expect(console.locator("#feed .chip")).to_have_text("refunded")
    await console.get_by_role("button", name="Log", exact=True).click()
    await expect(console.locator(".log")).to_contain_text("opened an offer")


async def test_moderator_sees_no_revenue(
    visitors: Visitors, stage: Stage, service: Service
) -> None:
    """A moderator moderates and watches the figures; money and the host's buttons are not there."""
    await stage.open_offer()
    token = service.token(Role.MODERATOR, "mod", stage.show)
    console = await open_console(visitors, stage, token)
    await expect(console.locator('[data-tile="viewers"] dd').first).not_to_have_text("–")
    await expect(console.locator('[data-tile="revenue"]')).to_be_hidden()
    for name in ("New offer", "Freeze", "End the show", "Settings", "Pin", "Pause"):
        await expect(console.get_by_role("button", name=name, exact=True)).to_have_count(0)
    await console.locator("#say-text").fill("Please be kind")
    await console.locator("#say-text").press("Enter")
    await expect(console.locator("#chat")).to_contain_text("Please be kind")
    await expect(console.get_by_label("Moderate Moderator")).to_be_visible()


async def test_arabic_page_runs_from_right_to_left(visitors: Visitors, stage: Stage) -> None:
    """Direction, texts and numbers follow the language; nothing sticks out at the side."""
    await stage.open_offer()
    viewer = await open_viewer(visitors, stage, locale="ar-EG", viewport=PHONE)
    assert await viewer.evaluate("document.documentElement.dir") == "rtl"
    await expect(buy_button(viewer)).to_have_text("اشترِ")
    card, image = (viewer.locator(one).first for one in (".offer", ".offer .picture"))
    outer, inner = await card.bounding_box(), await image.bounding_box()
    assert outer is not None and inner is not None
    assert inner["x"] > outer["x"] + outer["width"] / 2
    assert await viewer.evaluate(OVERFLOW) <= 0
    await picture(viewer, "viewer-phone-arabic")
    await viewer.locator("#language").select_option("de")
    await expect(buy_button(viewer)).to_have_text("Kaufen")
    await expect(viewer.locator(".offer .price")).to_have_text(re.compile(r"19,99\s€"))


async def test_markup_is_shown_as_text(visitors: Visitors, stage: Stage, host_token: str) -> None:
    """A script in a title stays visible text everywhere; the token leaves the address at once."""
    await stage.open_offer()
    console = await open_console(visitors, stage, host_token)
    viewer = await open_viewer(visitors, stage)
    for page in (console, viewer):
        await expect(page.locator("#title")).to_have_text(f"Evening show {EVIL}")
    await expect(viewer.locator(".offer h3")).to_have_text(f"Moon lamp {EVIL}")
    assert "token" not in console.url
    data = await viewer.locator('script[type="application/ld+json"]').text_content()
    assert data is not None and '"price":"19.99"' in data
    assert await viewer.context.cookies() == []


async def test_host_reorders_the_show(visitors: Visitors, stage: Stage, host_token: str) -> None:
    """The run of show is moved by keys or by dragging, and the server keeps the order."""
    second = {"sku": f"tea-{stage.show}", "title": "Tea", "price_minor": 500, "currency": "EUR"}
    await stage.call("POST", "/v1/products", second | {"on_hand": 5})
    skus = [stage.sku, second["sku"]]
    await stage.call("PUT", f"/v1/shows/{stage.show}/run-order", {"skus": skus})
    console = await open_console(visitors, stage, host_token)
    titles = console.locator(".product h3")
    await expect(titles).to_have_count(2)
    await console.keyboard.press("1")
    await console.keyboard.press("Alt+ArrowDown")
    await expect(titles.first).to_have_text("Tea")
    await expect(console.locator("#toast")).to_have_text("Place 2 of 2")
    await console.keyboard.press("p")
    await expect(console.locator(".product [aria-pressed=true]")).to_have_count(1)
    show = await stage.http.get(f"/v1/shows/{stage.show}")
    assert show.json()["run_order"] == skus[::-1]
    assert show.json()["pins"] == [stage.sku]
    await console.locator(".product").first.drag_to(console.locator(".product").last)
    await expect(titles.first).to_contain_text("Moon lamp")
    await expect(console.locator("#toast")).to_have_text("Place 2 of 2")


async def test_the_checks_find_what_they_look_for(visitors: Visitors) -> None:
    """The rules of the next test are no empty words, and a forbidden script is noticed."""
    page = await visitors.open("/console", wait_for="#gate")
    faults = await page.evaluate(
        """() => {
          document.body.innerHTML = `<h2>first</h2><button></button><img src="data:,">
            <p>pale</p><a href="/" id="x">x</a><i id="x"></i><input tabindex="3">`;
          document.querySelector("p").style.color = "#eee";
          const script = document.createElement("script");
          script.textContent = "window.evil = 1";
          document.body.append(script);
          return CHECK();
        }""".replace("CHECK", f"({ACCESSIBILITY})")
    )
    for rule in ("no name", "no alt", "contrast", "id twice", "too small", "no h1", "tab order"):
        assert any(rule in fault for fault in faults), rule
    assert await page.evaluate("window.policyViolations") != []
    visitors.pages.remove(page)  # its faults were wanted
    visitors.faults.clear()
    assert await page.evaluate("window.evil") is None
    await page.context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_pages_are_accessible(
    visitors: Visitors, stage: Stage, host_token: str, scheme: str
) -> None:
    """Names, labels, contrast and sizes hold on phone, tablet and desktop, light and dark."""
    await stage.open_offer(duration_seconds=600)
    await stage.open_offer(countdown_seconds=120)
    look = {"color_scheme": scheme}
    phone = await open_viewer(visitors, stage, viewport=PHONE, device_scale_factor=2, **look)
    desktop = await open_viewer(visitors, stage, **look)
    console = await open_console(visitors, stage, host_token, **look)
    tablet = await open_console(visitors, stage, host_token, viewport=TABLET, **look)
    await expect(console.locator('[data-tile="viewers"] dd').first).not_to_have_text("–")
    pages = {"viewer-phone": phone, "viewer": desktop, "console": console, "tablet": tablet}
    for name, page in pages.items():
        await picture(page, f"{name}-{scheme}")
        assert await page.evaluate(ACCESSIBILITY) == [], name
        assert await page.evaluate(OVERFLOW) <= 0, name
    await buy_button(phone).click()
    await expect(phone.locator("#hold-timer")).to_be_visible()
    await console.keyboard.press("n")
    await expect(console.get_by_label("Price in EUR")).to_be_visible()
    for name, page in (("viewer-phone-hold", phone), ("console-offer", console)):
        await picture(page, f"{name}-{scheme}")
        assert await page.evaluate(ACCESSIBILITY) == [], name

"""Who sits before the viewer page: guests, keyboards, wrong clocks, browsers that forget."""

import re
import time

import pytest

from tests.acceptance.browser import TEST_SECONDS, ViewportSize, browser, chromium, expect
from tests.acceptance.page_stage import (
    DESKTOP,
    PHONE,
    Stage,
    Visitors,
    buy_button,
    open_viewer,
    stage,
    visitors,
    write_line,
)

__all__ = ["browser", "chromium", "stage", "visitors"]  # fixtures: imported to be found

CONNECTED = "body[data-connection=connected] #status:visible"
HOUR_MS = 3_600_000
FOCUS = "document.activeElement.className || document.activeElement.id"

# What browsers do with storage switched off: the object itself cannot be had.
NO_STORAGE = """
  for (const name of ["sessionStorage", "localStorage"])
    Object.defineProperty(window, name, {
      get() { throw new DOMException("denied", "SecurityError"); },
    });
"""
# A private window of some browsers: the object is there and takes nothing.
FULL_STORAGE = """
  Storage.prototype.setItem = () => { throw new DOMException("full", "QuotaExceededError"); };
"""

# Answers take long enough for the browser to draw the page while a button waits.
FAR_AWAY = """
  const send = WebSocket.prototype.send;
  WebSocket.prototype.send = function (text) { setTimeout(() => send.call(this, text), 150); };
"""

pytestmark = [pytest.mark.timeout(TEST_SECONDS), pytest.mark.asyncio(loop_scope="module")]


@pytest.mark.parametrize("script", [NO_STORAGE, FULL_STORAGE], ids=["blocked", "full"])
async def test_pages_work_where_nothing_is_kept(
    visitors: Visitors, stage: Stage, host_token: str, script: str
) -> None:
    """A guest watches, writes and buys; a host gets their desk."""
    await stage.open_offer(guests=True)
    page = await visitors.open(stage.watch, wait_for=CONNECTED, script=script)
    await write_line(page, "nothing to hide")
    await buy_button(page).click()
    await page.locator("#pay").click()
    await expect(page.locator("#sheet-title")).to_have_text("Thank you! It is yours.")
    path = f"/console?show={stage.show}#token={host_token}"
    await visitors.open(path, wait_for="#run-list .product", script=script)


async def test_guest_finds_the_order_in_a_new_tab(visitors: Visitors, stage: Stage) -> None:
    """A guest who closes the tab and comes back on the same device is the same buyer."""
    await stage.open_offer(per_buyer_limit=1, guests=True)
    page = await open_viewer(visitors, stage)
    await buy_button(page).click()
    await page.locator("#pay").click()
    await page.get_by_role("button", name="Keep watching").click()
    again = await page.context.new_page()
    await page.close()
    visitors.pages.remove(page)
    await again.goto(visitors.url + stage.watch)
    await expect(again.locator("#bag")).to_have_text("1 order")
    await expect(again.locator(".offer .note")).to_contain_text("You have yours")
    await expect(buy_button(again)).to_be_hidden()
    await again.context.close()


async def test_guest_is_led_to_the_shops_log_in(visitors: Visitors, stage: Stage) -> None:
    """Where guests may not buy the button says so, and leads to the shop and back to the show."""
    await stage.open_offer(guests=False)
    page = await open_viewer(visitors, stage)
    await expect(buy_button(page)).to_have_text("Sign in to buy")
    visitors.expected = ["404 (Not Found)"]
    await buy_button(page).click()
    await page.wait_for_url("**/sign-in?back=*")
    back = await page.evaluate("new URLSearchParams(location.search).get('back')")
    assert back == visitors.url + stage.watch
    visitors.pages.remove(page)
    await page.context.close()


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
async def test_keyboard_keeps_its_place(
    visitors: Visitors, stage: Stage, size: ViewportSize
) -> None:
    """From Buy through the sheet and back: the focus is never lost to the page."""
    await stage.open_offer(guests=True, per_buyer_limit=2)
    page = await open_viewer(visitors, stage, viewport=size, script=FAR_AWAY)
    await page.evaluate(
        """() => {
          window.lost = 0;
          const watch = () => {
            if (document.activeElement === document.body) window.lost += 1;
            requestAnimationFrame(watch);
          };
          document.querySelector(".offer .buy").focus();
          watch();
        }"""
    )
    await page.keyboard.press("Enter")
    await expect(page.locator("#hold-timer")).to_be_visible()
    await page.keyboard.press("Escape")
    await expect(page.locator("#sheet")).to_be_hidden()
    assert "buy" in await page.evaluate(FOCUS)
    await page.keyboard.press("Enter")
    await page.locator("#pay").press("Enter")
    await expect(page.locator("#sheet-title")).to_have_text("Thank you! It is yours.")
    await page.keyboard.press("Escape")
    assert await page.evaluate("window.lost") == 0
    assert "buy" in await page.evaluate(FOCUS)


async def test_set_clock_moves_no_deadline(visitors: Visitors, stage: Stage) -> None:
    """A clock set while the page is open, forth or back, changes no countdown."""
    await stage.open_offer(guests=True, duration_seconds=900)
    page = await open_viewer(visitors, stage)
    deadline = page.locator(".offer .deadline")
    await expect(deadline).to_have_text(re.compile(r"1[45]:\d\d"))
    for hours in (-2, 2):
        await page.evaluate(
            """(shift) => {
              window.wall ||= Date.now;
              Date.now = () => window.wall() + shift;
            }""",
            hours * HOUR_MS,
        )
        until = time.monotonic() + 1.5  # several ticks of the page
        while time.monotonic() < until:
            assert re.search(r"\b1[45]:\d\d\b", await deadline.inner_text())

"""The host console in a real Chromium: every tool of a host, used as a host uses it.

Method and checks: page_stage.py.
"""

import re
from uuid import uuid4

import pytest

from live.domain.caller import Role
from tests.acceptance.browser import TEST_SECONDS, Locator, Page, browser, chromium, expect
from tests.acceptance.conftest import Service
from tests.acceptance.page_checks import ACCESSIBILITY
from tests.acceptance.page_stage import (
    Stage,
    Visitors,
    buy_button,
    open_console,
    open_viewer,
    picture,
    stage,
    visitors,
    write_line,
)

__all__ = ["browser", "chromium", "stage", "visitors"]  # fixtures: imported to be found

pytestmark = [pytest.mark.timeout(TEST_SECONDS), pytest.mark.asyncio(loop_scope="module")]


async def add_product(stage: Stage, title: str) -> str:
    """Another product in the run of show."""
    sku = f"p{uuid4().hex[:10]}"
    product = {"sku": sku, "title": title, "on_hand": 50, "price_minor": 900, "currency": "EUR"}
    await stage.call("POST", "/v1/products", product)
    show = (await stage.http.get(f"/v1/shows/{stage.show}")).json()
    skus = [*show["run_order"], sku]
    await stage.call("PUT", f"/v1/shows/{stage.show}/run-order", {"skus": skus})
    return sku


async def prepare(stage: Stage, sku: str, **terms: object) -> str:
    body = {"sku": sku, "price_minor": 1500, "quantity": 4, "per_buyer_limit": 2}
    body |= {"hold_seconds": 60, "mode": "hold", "guests": True, **terms}
    return str((await stage.call("POST", f"/v1/shows/{stage.show}/offers", body))["id"])


def line_of(console: Page, title: str) -> Locator:
    """The one offer of a product in the run of show."""
    return console.locator(".product", has_text=title).locator(".desk-offer")


async def test_planned_show_is_found_set_up_and_started(
    visitors: Visitors, host_token: str
) -> None:
    """From nothing to an open offer without a single id typed: new show, products, offer, start."""
    console = await visitors.open(f"/console#token={host_token}", wait_for="#gate")
    title = f"Planned {uuid4().hex[:6]}"
    product = f"Lantern {uuid4().hex[:6]}"
    await console.get_by_role("button", name="New show").click()
    await console.get_by_label("Title").fill(title)
    await console.get_by_label("Planned start").fill("2030-01-05T20:00")
    await console.get_by_role("button", name="Create", exact=True).click()
    await expect(console.locator("#guide")).to_contain_text("Add products")
    await picture(console, "console-fresh")

    await console.get_by_role("button", name="Shows", exact=True).click()
    row = console.get_by_role("button", name=re.compile(title))
    await expect(row).to_contain_text("Scheduled")
    await expect(row).to_contain_text("2030")
    await row.click()
    await console.get_by_role("button", name="Add products").click()
    await expect(console.locator("#box")).to_be_visible()
    # Where the catalogue has nothing to add, the form for a new product comes at once.
    if await console.get_by_role("button", name="Create a new product").is_visible():
        await console.get_by_role("button", name="Create a new product").click()
    await console.get_by_label("Title").fill(product)
    await console.get_by_label("SKU").fill(f"l{uuid4().hex[:8]}")
    await console.get_by_label("Price in EUR").fill("12.50")
    await console.get_by_role("button", name="Create and add").click()
    await expect(console.locator(".product h3")).to_have_text(product)

    await console.keyboard.press("n")
    await expect(console.get_by_label("Price in EUR")).to_have_value("12.50")
    await console.get_by_role("button", name="Prepare", exact=True).click()
    await expect(console.locator(".desk-offer .chip")).to_have_text("Prepared")
    await console.get_by_role("button", name="Start the show").click()
    await expect(console.locator("#status")).to_have_text("Live")
    await console.keyboard.press("o")
    await expect(console.locator(".desk-offer .chip")).to_have_text("Open")
    await expect(console.locator("#guide")).to_be_hidden()


async def test_offer_key_opens_the_selected_product(
    visitors: Visitors, stage: Stage, host_token: str
) -> None:
    """On air the wrong product must not open: the selected one goes before the next one."""
    await prepare(stage, stage.sku)
    await prepare(stage, await add_product(stage, "Second thing"))
    console = await open_console(visitors, stage, host_token)
    await expect(console.locator(".desk-offer")).to_have_count(2)

    await console.keyboard.press("2")
    await expect(line_of(console, "Second thing")).to_have_attribute("data-next", "true")
    await console.keyboard.press("o")

    await expect(line_of(console, "Second thing").locator(".chip")).to_have_text("Open")
    await expect(line_of(console, "Moon lamp").locator(".chip")).to_have_text("Prepared")


async def test_prepared_offer_can_be_edited_and_a_product_taken_out(
    visitors: Visitors, stage: Stage, host_token: str
) -> None:
    """A draft changes in place; a product without one can leave the run of show."""
    await prepare(stage, stage.sku)
    await add_product(stage, "Not tonight")
    console = await open_console(visitors, stage, host_token)

    await line_of(console, "Moon lamp").get_by_role("button", name=re.compile("^Edit")).click()
    await console.get_by_label("Price in EUR").fill("17.00")
    await console.get_by_label("Units", exact=True).fill("9")
    await console.get_by_role("button", name="Save", exact=True).click()
    await expect(line_of(console, "Moon lamp")).to_contain_text("€17.00")
    await expect(line_of(console, "Moon lamp")).to_contain_text("9 units")

    await console.get_by_role("button", name="Take Not tonight out of the run of show").click()
    await expect(console.locator(".product")).to_have_count(1)


async def test_open_offer_is_extended_restocked_marked_and_closed(
    visitors: Visitors, stage: Stage, host_token: str
) -> None:
    """Each button does what it says, viewers see it, and the log has a line of each in words."""
    await stage.open_offer(duration_seconds=600, quantity=5)
    console = await open_console(visitors, stage, host_token)
    viewer = await open_viewer(visitors, stage)
    line = line_of(console, "Moon lamp")
    acts = {name: line.get_by_role("button", name=re.compile(f"^{name}")) for name in
            ("Extend", "Restock", "Mark sold out", "Resume", "Close")}  # fmt: skip

    await acts["Extend"].click()
    await console.get_by_label("Seconds more").fill("3600")
    await console.locator("#box").get_by_role("button", name="Extend").click()
    await expect(line.locator(".deadline")).to_contain_text("closes in 1:")
    await acts["Restock"].click()
    await console.get_by_label("Units to add").fill("3")
    await console.locator("#box").get_by_role("button", name="Restock").click()
    await expect(line.locator(".counts")).to_contain_text("8 left")
    await acts["Mark sold out"].click()
    await expect(viewer.locator(".offer .note")).to_have_text("Sold out")
    await acts["Resume"].click()
    await expect(buy_button(viewer)).to_be_enabled()
    await acts["Close"].click()
    await console.get_by_role("button", name="Close the offer").click()
    await expect(line.locator(".chip")).to_have_text("Closed")

    await console.get_by_role("button", name="Log", exact=True).click()
    for words in ("extended an offer", "restocked an offer", "closed an offer", "sold out"):
        await expect(console.locator(".log")).to_contain_text(words)
    assert await console.evaluate(ACCESSIBILITY) == []


async def test_announcement_and_slow_mode_reach_viewers(
    visitors: Visitors, stage: Stage, host_token: str
) -> None:
    """What the host writes stands over the video; slow mode holds the next line back in words."""
    console = await open_console(visitors, stage, host_token)
    viewer = await open_viewer(visitors, stage)

    await console.keyboard.press("a")
    await console.get_by_label("Text").fill("Free shipping tonight")
    await console.locator("#box").get_by_role("button", name="Announce").click()
    await expect(viewer.locator("#announcement")).to_contain_text("Free shipping tonight")
    await console.locator("#slow").select_option("60")
    await expect(console.locator("#toast")).to_have_text("Slow mode: 60 s")
    show = (await stage.http.get(f"/v1/shows/{stage.show}")).json()
    assert show["slow_mode_seconds"] == 60


async def test_fourth_pin_is_refused_in_words(
    visitors: Visitors, stage: Stage, host_token: str
) -> None:
    """Nothing is dropped behind the host's back: they are told which three are pinned."""
    for title in ("Second", "Third", "Fourth"):
        await add_product(stage, title)
    console = await open_console(visitors, stage, host_token)
    for title in ("Moon lamp", "Second", "Third"):
        row = console.locator(".product", has_text=title)
        await row.locator('[data-act="pin"]').click()
        await expect(row).to_have_attribute("data-pinned", "true")

    await console.locator(".product", has_text="Fourth").locator('[data-act="pin"]').click()

    await expect(console.locator("#toast")).to_contain_text("Three products are pinned")
    await expect(console.locator('.product[data-pinned="true"]')).to_have_count(3)


async def test_moderators_see_one_another_and_take_things_back(
    visitors: Visitors, stage: Stage, host_token: str, service: Service
) -> None:
    """A mute and a pin are told in every console's feed, and both can be undone from there."""
    token = service.token(Role.MODERATOR, "mo", stage.show)
    moderator = await open_console(visitors, stage, token)
    console = await open_console(visitors, stage, host_token)
    viewer = await open_viewer(visitors, stage)
    await write_line(viewer, "buy followers here")
    await expect(moderator.locator("#chat")).to_contain_text("buy followers here")

    await moderator.locator("#chat .more").first.click()
    await moderator.get_by_role("button", name=re.compile("^Pin: ")).click()
    await expect(viewer.locator("#pinned")).to_contain_text("buy followers")
    await moderator.get_by_role("button", name=re.compile("^Mute 5 min: ")).click()
    for page in (console, moderator):
        await expect(page.locator("#feed")).to_contain_text("mo muted")
        await expect(page.locator("#feed")).to_contain_text("for 5 min")
    await console.get_by_role("button", name="Unpin").click()
    await expect(viewer.locator("#pinned")).to_be_hidden()
    await console.get_by_role("button", name="Muted", exact=True).click()
    await expect(console.locator(".people li")).to_contain_text("muted until")
    await picture(console, "console-people")
    await console.get_by_role("button", name=re.compile("^Lift: ")).click()
    await expect(console.locator(".people li")).to_have_count(0)
    await expect(moderator.locator("#feed")).to_contain_text("let speak again")

    await moderator.reload()
    await expect(moderator.locator("#feed")).to_contain_text("mo muted")


async def test_rehearsal_is_a_show_of_its_own(
    visitors: Visitors, host_token: str, stage: Stage
) -> None:
    """The host rehearses with a passcode: who knows it buys, nothing is sold, nothing stays."""
    name = f"r{uuid4().hex[:10]}"
    await stage.call("POST", "/v1/shows", {"id": name, "title": "Dry run", "currency": "EUR"})
    await stage.call("PUT", f"/v1/shows/{name}/run-order", {"skus": [stage.sku]})
    body = {"sku": stage.sku, "price_minor": 1500, "quantity": 4, "per_buyer_limit": 1}
    body |= {"hold_seconds": 60, "mode": "hold", "guests": True}
    await stage.call("POST", f"/v1/shows/{name}/offers", body)
    path = f"/console?show={name}#token={host_token}"
    console = await visitors.open(path, wait_for="#run-list .product")

    await console.get_by_role("button", name="Rehearse", exact=True).click()
    await console.get_by_label("Passcode").fill("open sesame")
    await console.get_by_role("button", name="Begin the rehearsal").click()
    await expect(console.locator("#status")).to_have_text("Rehearsal")
    await expect(console.get_by_label("Passcode")).to_be_hidden()  # keys are the form's until then
    await console.keyboard.press("o")
    await expect(console.locator(".desk-offer .chip")).to_have_text("Open")
    viewer = await visitors.open(f"/watch/{name}", wait_for="#passcode-text")
    await viewer.locator("#passcode-text").fill("open sesame")
    await viewer.keyboard.press("Enter")
    await buy_button(viewer).click()
    await viewer.locator("#pay").click()
    await expect(viewer.locator("#sheet[data-kind=confirmed]")).to_be_visible()
    await picture(console, "console-rehearsal")

    await console.get_by_role("button", name="End the rehearsal").click()
    await expect(console.locator("#status")).to_have_text("Scheduled")
    orders = (await stage.http.get("/v1/orders", params={"show": name})).json()
    assert orders["items"] == []


async def test_ended_log_in_asks_for_a_new_one_and_keeps_the_desk(
    visitors: Visitors, stage: Stage, host_token: str, service: Service
) -> None:
    """Told before and at its end; after a new link the same desk goes on, without a reload."""
    visitors.expected = ["401"]
    short = service.token(Role.HOST, "host", stage.show, ttl=6)
    console = await open_console(visitors, stage, short)
    await expect(console.locator("#ending")).to_contain_text("Your log-in ends in")
    await console.evaluate("window.sameLoad = 1")
    await expect(console.locator("#box-title")).to_have_text("Your log-in has ended")

    link = f"{visitors.url}/console#token={host_token}"
    await console.get_by_label("Console link or token").fill(link)
    await console.locator("#box").get_by_role("button", name="Log in").click()

    await expect(console.locator("#box")).to_be_hidden()
    await expect(console.locator("#ending")).to_be_hidden()
    await expect(console.locator("#connection")).to_be_hidden()
    await stage.open_offer()
    await expect(console.locator(".desk-offer .chip")).to_have_text("Open")
    assert await console.evaluate("window.sameLoad") == 1

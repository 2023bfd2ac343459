"""Shipping, tax and duty on the viewer page, in a real Chromium, of a shop with a quote hook.

Method: as in page_stage.py, against a service of its own whose hook listens on loopback.
"""

from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from live.domain.caller import Role
from tests.acceptance.browser import TEST_SECONDS, Page, browser, chromium, expect
from tests.acceptance.conftest import Service
from tests.acceptance.page_checks import ACCESSIBILITY, OVERFLOW
from tests.acceptance.page_stage import (
    PHONE,
    Stage,
    Visitors,
    buy_button,
    open_viewer,
    picture,
    stage,
    visitors,
)
from tests.support.quote_hook import SECRET, HookServer, open_hook_server, usable
from tests.support.servers import scratch_directory

__all__ = ["browser", "chromium", "stage", "visitors"]  # fixtures: imported to be found

pytestmark = [pytest.mark.timeout(TEST_SECONDS), pytest.mark.asyncio(loop_scope="module")]

ADDRESS = {"name": "Ada", "line1": "1 Mill Lane", "postcode": "10115", "city": "Berlin"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def hook() -> AsyncIterator[HookServer]:
    async with open_hook_server() as made:
        yield made


@pytest.fixture(scope="module")
def service(hook: HookServer) -> Iterator[Service]:
    environment = {"LIVE_QUOTE_URL": hook.url, "LIVE_QUOTE_SECRET": SECRET}
    found = Service(scratch_directory(), environment=environment)
    found.start()
    yield found
    found.stop()


@pytest.fixture
def host_token(service: Service) -> str:
    return service.token(Role.HOST, "the-host")


async def fill_in(page: Page, country: str = "DE") -> None:
    for name, text in ADDRESS.items():
        await page.locator(f".contact [name={name}]").fill(text)
    await page.locator(".contact [name=country]").select_option(country)


async def test_buyer_sees_the_bill_before_they_pay(
    visitors: Visitors, stage: Stage, hook: HookServer
) -> None:
    """An address first, then choices and the sum; what the button says is what is paid."""
    hook.status, hook.body = 200, None
    hook.asked.clear()
    await stage.open_offer()
    viewer = await open_viewer(visitors, stage, viewport=PHONE)
    await buy_button(viewer).click()
    pay = viewer.locator("#pay")
    await expect(pay).to_have_text("Show shipping and total")
    await pay.click()  # nothing is typed yet: the page says so, and the shop is not asked
    assert hook.asked == []

    await fill_in(viewer)
    await pay.click()
    await expect(pay).to_have_text("Pay €34.89")
    await expect(viewer.locator("#quote")).to_contain_text("Standard")
    await expect(viewer.locator("#quote")).to_contain_text("Green dot (included)")
    await viewer.get_by_label("Express").check()
    await expect(pay).to_have_text("Pay €39.89")
    await expect(viewer.locator("#quote .total").last).to_contain_text("€39.89")
    assert await viewer.evaluate(ACCESSIBILITY) == []
    assert await viewer.evaluate(OVERFLOW) == 0
    await picture(viewer, "viewer-quote")

    await viewer.locator(".contact [name=postcode]").fill("80331")
    await expect(pay).to_have_text("Show shipping and total")
    await expect(viewer.locator("#quote .total")).to_have_count(0)
    await pay.click()
    await expect(pay).to_have_text("Pay €34.89")
    await viewer.get_by_label("Express").check()
    await pay.click()
    await expect(viewer.locator("#sheet-title")).to_have_text("Thank you! It is yours.")
    await expect(viewer.locator("#sheet .total").last).to_contain_text("€39.89")
    assert hook.asked[-1]["contact"] == {"country": "DE", "region": "", "postcode": "80331"}


async def test_where_the_shop_does_not_send_it_the_buyer_reads_so(
    visitors: Visitors, stage: Stage, hook: HookServer
) -> None:
    """In the shop's words, beside the form; another address goes on."""
    await stage.open_offer()
    viewer = await open_viewer(visitors, stage)
    await buy_button(viewer).click()
    hook.status, hook.body = 422, {"reason": "Not to Antarctica."}
    await fill_in(viewer, "AQ")
    await viewer.locator("#pay").click()
    await expect(viewer.locator("#quote [role=alert]")).to_contain_text("Not to Antarctica.")
    hook.status, hook.body = 200, None
    await fill_in(viewer)
    await viewer.locator("#pay").click()
    await expect(viewer.locator("#pay")).to_have_text("Pay €34.89")
    await expect(viewer.locator("#quote [role=alert]")).to_be_empty()


async def test_first_paid_offer_is_quoted_for_too(
    visitors: Visitors, stage: Stage, hook: HookServer
) -> None:
    """Where nothing is held, and there is nothing to choose."""
    hook.status, hook.body = 200, usable(shipping=[], tax=[], duties_minor=0)
    await stage.open_offer(mode="first_paid")
    viewer = await open_viewer(visitors, stage)
    await buy_button(viewer).click()
    await fill_in(viewer)
    await viewer.locator("#pay").click()
    await expect(viewer.locator("#pay")).to_have_text("Pay €19.99")
    await viewer.locator("#pay").click()
    await expect(viewer.locator("#sheet-title")).to_have_text("Thank you! It is yours.")

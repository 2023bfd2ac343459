"""What all browser tests share: people who open pages, and a show for them to open.

Method: pages are opened in browser contexts of their own, as people on devices of their own; after
each test every page must be free of script errors, console errors and violations of its content
security policy. Pictures of the pages go to `screenshots/`, which git ignores.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest_asyncio

from live.api.auth import Authenticator
from live.base.settings import Guests
from live.domain.caller import Role
from tests.acceptance.browser import Browser, ConsoleMessage, Locator, Page, ViewportSize, expect
from tests.acceptance.conftest import SECRET
from tests.acceptance.page_checks import WATCH_POLICY
from tests.support.answers import Json

expect.set_options(timeout=15_000)  # generous: a busy machine is slow, and a good test ends early

SCREENSHOTS = Path(__file__).parents[2] / "screenshots"
GRANT_MS_MAX = 60_000
PHONE: ViewportSize = {"width": 390, "height": 844}
DESKTOP: ViewportSize = {"width": 1366, "height": 860}
TABLET: ViewportSize = {"width": 834, "height": 1112}
EVIL = "<script>window.evil = 1</script>"


@dataclass
class Visitors:
    """Opens pages and remembers what went wrong on any of them."""

    browser: Browser
    url: str
    faults: list[str] = field(default_factory=list)
    pages: list[Page] = field(default_factory=list)
    # What a page may complain of: a call that this test wants refused, a network that it cut.
    expected: list[str] = field(default_factory=list)

    async def open(self, path: str, *, wait_for: str, script: str = "", **context: Any) -> Page:
        """A page in a context of its own: another person with another device.

        `script` runs before the page's own.
        """
        made = await self.browser.new_context(**{"viewport": DESKTOP, "locale": "en", **context})
        await made.add_init_script(WATCH_POLICY + script)
        page = await made.new_page()
        page.on("pageerror", lambda error: self.faults.append(f"{path}: {error}"))
        page.on("console", lambda message: self.hear(path, message))
        await page.goto(self.url + path)
        await page.locator(wait_for).first.wait_for()
        self.pages.append(page)
        return page

    def hear(self, path: str, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.faults.append(f"{path}: console {message.type}: {message.text}")

    async def check(self) -> None:
        """Raises where any page had an error, or tried what its policy forbids."""
        for page in self.pages:
            for violation in await page.evaluate("window.policyViolations"):
                self.faults.append(f"{page.url}: policy: {violation}")
            assert await page.evaluate("window.evil") is None
        faults = [one for one in self.faults if not any(text in one for text in self.expected)]
        assert faults == []


@pytest_asyncio.fixture(loop_scope="module")
async def visitors(browser: Browser, gateway_url: str) -> AsyncIterator[Visitors]:
    made = Visitors(browser, gateway_url.rstrip("/"))
    yield made
    try:
        await made.check()
    finally:
        for page in made.pages:
            await page.context.close()


@dataclass(frozen=True)
class Stage:
    """A live show with one product, and the means to change it as its host."""

    http: httpx.AsyncClient
    show: str
    sku: str

    @property
    def watch(self) -> str:
        return f"/watch/{self.show}"

    async def call(self, method: str, path: str, body: object) -> Json:
        headers = {"idempotency-key": str(uuid4())}
        answer = await self.http.request(method, path, json=body, headers=headers)
        assert answer.is_success, (path, answer.text)
        found: Json = answer.json()
        return found

    async def open_offer(self, **terms: object) -> str:
        body = {"sku": self.sku, "price_minor": 1999, "quantity": 5, "per_buyer_limit": 2}
        body |= {"hold_seconds": 60, "mode": "hold", "guests": True, **terms}
        offer = await self.call("POST", f"/v1/shows/{self.show}/offers", body)
        await self.call("POST", f"/v1/offers/{offer['id']}/open", {})
        return str(offer["id"])


@pytest_asyncio.fixture(loop_scope="module")
async def stage(gateway_url: str, host_token: str) -> AsyncIterator[Stage]:
    name = f"b{uuid4().hex[:10]}"
    headers = {"authorization": f"Bearer {host_token}"}
    async with httpx.AsyncClient(base_url=gateway_url, headers=headers) as http:
        made = Stage(http, name, f"lamp-{name}")
        product = {"sku": made.sku, "title": f"Moon lamp {EVIL}", "on_hand": 50}
        await made.call("POST", "/v1/products", product | {"price_minor": 2999, "currency": "EUR"})
        show = {"id": name, "title": f"Evening show {EVIL}", "currency": "EUR"}
        await made.call("POST", "/v1/shows", show)
        await made.call("PUT", f"/v1/shows/{name}/run-order", {"skus": [made.sku]})
        await made.call("POST", f"/v1/shows/{name}/start", {})
        yield made


async def open_console(visitors: Visitors, stage: Stage, token: str, **context: Any) -> Page:
    path = f"/console?show={stage.show}#token={token}"
    return await visitors.open(path, wait_for="#run-list .product", **context)


async def open_viewer(visitors: Visitors, stage: Stage, **context: Any) -> Page:
    wait_for = "body[data-connection=connected] #status:visible"
    return await visitors.open(stage.watch, wait_for=wait_for, **context)


async def open_customer(visitors: Visitors, stage: Stage, **context: Any) -> Page:
    """A viewer whom the shop has signed in: no bound for guests stands in the way."""
    auth = Authenticator(SECRET, guests=Guests.BUY)
    token = auth.mint(role=Role.VIEWER, sub=f"c{uuid4().hex[:10]}", shows=["*"], ttl=3_600)
    wait_for = "body[data-connection=connected] #status:visible"
    return await visitors.open(f"{stage.watch}#token={token}", wait_for=wait_for, **context)


async def picture(page: Page, name: str) -> None:
    SCREENSHOTS.mkdir(exist_ok=True)
    await page.wait_for_timeout(300)  # animations come to rest; a picture proves nothing by itself
    await page.screenshot(path=SCREENSHOTS / f"{name}.png")


def buy_button(page: Page) -> Locator:
    return page.locator(".offer .buy").first


async def write_line(page: Page, text: str, *, name: str = "Noisy") -> None:
    """Say something in a viewer's chat; the page asks for a name before the first line."""
    await page.locator("#say-text").fill(text)
    await page.locator("#say-text").press("Enter")
    if await page.locator("#say-name").is_visible():
        await page.locator("#say-name").fill(name)
        await page.locator("#say-name").press("Enter")
    await expect(page.locator("#chat")).to_contain_text(text)

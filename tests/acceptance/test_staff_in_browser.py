"""Who is who on the pages: staff is marked, nobody else is, and no link changes who one is."""

import re

import pytest

from live.domain.caller import Role
from tests.acceptance.browser import TEST_SECONDS, Dialog, browser, chromium, expect
from tests.acceptance.conftest import Service
from tests.acceptance.page_checks import ACCESSIBILITY
from tests.acceptance.page_stage import (
    Stage,
    Visitors,
    open_console,
    open_viewer,
    stage,
    visitors,
    write_line,
)

__all__ = ["browser", "chromium", "stage", "visitors"]  # fixtures: imported to be found

pytestmark = [pytest.mark.timeout(TEST_SECONDS), pytest.mark.asyncio(loop_scope="module")]


async def test_line_of_the_host_has_a_mark_that_nobody_can_type(
    visitors: Visitors, stage: Stage, host_token: str
) -> None:
    """The badge stands beside the host's line alone; a viewer who calls themselves so is
    refused."""
    console = await open_console(visitors, stage, host_token)
    viewer, other = await open_viewer(visitors, stage), await open_viewer(visitors, stage)

    await console.locator("#say-text").fill("Welcome everybody!")
    await console.locator("#say-text").press("Enter")
    await write_line(other, "hello")
    badge = viewer.locator("#chat li", has_text="Welcome everybody!").locator(".badge")
    await expect(badge).to_have_text("Host")
    plain = viewer.locator("#chat li", has_text="hello")
    await expect(plain).to_be_visible()
    assert await plain.locator(".badge").count() == 0

    await viewer.locator("#say-text").fill("Payment problems? Write to me.")
    await viewer.locator("#say-text").press("Enter")
    await viewer.locator("#say-name").fill("H0st ✔")
    await viewer.locator("#say-text").press("Enter")
    await expect(viewer.locator("#chat-hint")).to_contain_text("kept for the staff")
    await expect(viewer.locator("#say-text")).to_have_value("Payment problems? Write to me.")
    assert await viewer.evaluate(ACCESSIBILITY) == []


async def test_link_of_somebody_else_is_asked_about(
    visitors: Visitors, stage: Stage, service: Service
) -> None:
    """Refused, the visitor stays who they are; agreed to, they become the other."""
    ann, mallory = (service.token(Role.VIEWER, sub, stage.show) for sub in ("ann", "mallory"))
    connected = "body[data-connection=connected]"
    page = await visitors.open(f"{stage.watch}#token={ann}", wait_for=connected)
    asked: list[str] = []
    answers = [False, True]

    async def answer(dialog: Dialog) -> None:
        asked.append(dialog.message)
        await (dialog.accept() if answers.pop(0) else dialog.dismiss())

    page.on("dialog", answer)
    who = "JSON.parse(atob(sessionStorage.getItem('live:token').split('.')[1])).sub"
    for expected in ("ann", "mallory"):
        await page.goto("about:blank")
        await page.goto(f"{service.url}{stage.watch}#token={mallory}")
        await page.wait_for_selector(connected, state="attached")
        assert await page.evaluate(who) == expected
        await expect(page).to_have_url(re.compile(f"{stage.watch}$"))
    assert len(asked) == 2 and all("ann" in text and "mallory" in text for text in asked)

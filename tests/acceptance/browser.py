"""A real Chromium for the tests of pages: found or fetched, started once per test file."""

import os
import shutil
import subprocess
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

pytest.importorskip(
    "playwright.async_api", reason="the package playwright is missing: no browser tests"
)
from playwright.async_api import (  # only where it is there
    Browser,
    ConsoleMessage,
    Dialog,
    Locator,
    Page,
    Route,
    ViewportSize,
    async_playwright,
    expect,
)

__all__ = [
    "Browser",
    "ConsoleMessage",
    "Dialog",
    "Locator",
    "Page",
    "Route",
    "ViewportSize",
    "expect",
]

APT_SECONDS = 400
TEST_SECONDS = APT_SECONDS + 200  # the first test may have to fetch Chromium


def find_chromium() -> str | None:
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    return next((path for name in names if (path := shutil.which(name))), None)


def fetch_chromium() -> None:
    """Install Debian's package; skips the test where that fails."""
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (["update", "-qq"], ["install", "-y", "-qq", "chromium"]):
        done = subprocess.run(
            ["apt-get", *command],
            env=environment,
            capture_output=True,
            timeout=APT_SECONDS,
            check=False,
        )
        if done.returncode:
            pytest.skip(f"no Chromium on PATH, and apt-get {command[0]} failed")


@pytest.fixture(scope="session")
def chromium(pytestconfig: pytest.Config) -> str:
    """The path of a Chromium; the terminal says which."""
    if find_chromium() is None and os.geteuid() == 0 and shutil.which("apt-get"):
        fetch_chromium()
    found = find_chromium()
    if found is None:
        pytest.skip("no Chromium on PATH, and apt can install one for root only")
    reporter = pytestconfig.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None:
        reporter.write_line(f"browser tests use {found}")
    return found


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser(chromium: str) -> AsyncIterator[Browser]:
    """Tests that use it run on the module's loop; each opens contexts of its own."""
    # Chromium's own sandbox refuses to run as root.
    flags = ["--no-sandbox"] if os.geteuid() == 0 else []
    async with async_playwright() as driver:
        started = await driver.chromium.launch(executable_path=chromium, args=flags)
        yield started
        await started.close()

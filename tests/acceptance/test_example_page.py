"""examples/page/ in Chromium, from another origin, with the official JavaScript SDK from npm."""

import asyncio
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import pytest_asyncio
import uvicorn
from starlette.applications import Starlette
from starlette.staticfiles import StaticFiles

from tests.acceptance.browser import TEST_SECONDS, browser, chromium
from tests.acceptance.conftest import Service, on_air
from tests.support.servers import scratch_directory

__all__ = ["browser", "chromium"]  # fixtures: imported to be found

PAGE = Path(__file__).parents[2] / "examples" / "page"
SDK = "https://unpkg.com/centrifuge@5.8.0/dist/centrifuge.js"
INSTALL_SECONDS = 90

pytestmark = [pytest.mark.timeout(TEST_SECONDS), pytest.mark.asyncio(loop_scope="module")]


@pytest.fixture(scope="module")
def sdk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file that the page loads, of the same release."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("npm is needed to fetch the JavaScript SDK")
    folder = tmp_path_factory.mktemp("sdk")
    command = [npm, "install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix"]
    package = SDK.removeprefix("https://unpkg.com/").partition("/")[0]
    try:
        done = subprocess.run(
            [*command, str(folder), package],
            capture_output=True,
            text=True,
            timeout=INSTALL_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        pytest.skip("npm did not install the JavaScript SDK in time")
    if done.returncode != 0:
        pytest.skip(f"npm could not install the JavaScript SDK: {done.stderr[-200:]}")
    return folder / "node_modules" / "centrifuge" / "dist" / "centrifuge.js"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shop() -> AsyncIterator[str]:
    """The example's folder on an origin of its own."""
    listener = socket.create_server(("127.0.0.1", 0))
    app = Starlette()
    app.mount("/", StaticFiles(directory=PAGE, html=True))
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off"))
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    server.should_exit = True
    await serving


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def visited(shop: str) -> AsyncIterator[Service]:
    """A service that lets the page's origin in."""
    found = Service(scratch_directory(), environment={"LIVE_ALLOWED_ORIGINS": shop})
    await asyncio.to_thread(found.start)
    yield found
    await asyncio.to_thread(found.stop)


async def test_guest_buys_on_a_page_of_the_shops_own(
    browser: Any, visited: Service, shop: str, sdk: Path
) -> None:
    """Title, offer, a press of Buy, the order's word; after a reload it is the same person."""
    async with on_air(visited, f"s{uuid4().hex[:10]}") as stage:
        context = await browser.new_context()
        page = await context.new_page()
        await page.route(SDK, lambda route: route.fulfill(path=sdk))
        await page.goto(f"{shop}/index.html?server={visited.url}&show={stage.show}")
        await page.get_by_role("heading", name="A show").wait_for()

        offer = await stage.offer(3, guests=True)
        await page.get_by_role("button", name="Buy").click()
        await page.get_by_text("is yours").wait_for()

        await page.get_by_text("2 left").wait_for()  # by the pulse
        await page.reload()
        await page.get_by_role("button", name="Buy").click()
        await page.get_by_text("is yours").wait_for()
        assert (await stage.look(offer))["sold"] == 2
        await page.get_by_role("button", name="Buy").click()
        await page.get_by_text("limit_reached").wait_for()  # two a buyer
        await context.close()

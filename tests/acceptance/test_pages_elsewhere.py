"""A shop's page on another origin, in Chromium: what it may do with us, and what it may not.

Method: the page is served from another port, which is another origin and, as cookies have no port,
the same site: the worst neighbour that a browser lets near the console's cookie.
"""

import asyncio
import socket
from collections.abc import AsyncIterator

import httpx
import pytest
import pytest_asyncio
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse
from starlette.routing import Route

from live.domain.caller import Role
from tests.acceptance.browser import TEST_SECONDS, Browser, browser, chromium
from tests.acceptance.conftest import Service
from tests.support.servers import scratch_directory

__all__ = ["browser", "chromium"]  # fixtures: imported to be found

pytestmark = [pytest.mark.timeout(TEST_SECONDS), pytest.mark.asyncio(loop_scope="module")]

SHOW = "elsewhere"
VISIT = """async (server) => {
  const guest = await (await fetch(`${server}/v1/guests`, {method: "POST"})).json();
  const headers = {Authorization: `Bearer ${guest.token}`};
  const orders = await fetch(`${server}/v1/orders`, {headers});
  const missing = await fetch(`${server}/v1/orders/nowhere`, {headers});
  const shows = await fetch(`${server}/shows.json`);
  const connect = JSON.stringify({token: guest.token, data: {show: "elsewhere"}});
  const source = new EventSource(
    `${server}/connection/uni_sse?cf_connect=${encodeURIComponent(connect)}`);
  const told = await new Promise((done, failed) => {
    source.onmessage = (event) => done(JSON.parse(event.data));
    source.onerror = () => failed(new Error("the stream did not open"));
  });
  source.close();
  const socket = new WebSocket(`${server.replace("http", "ws")}/connection/websocket`);
  const opened = await new Promise((done) => {
    socket.onopen = () => done(true);
    socket.onerror = () => done(false);
  });
  socket.close();
  return {
    sub: guest.sub, orders: (await orders.json()).items, missing: (await missing.json()).status,
    shows: (await shows.json()).shows.map((show) => show.id), told: Object.keys(told), opened,
  };
}"""
ACT = """async ([server, path, credentials]) => {
  try {
    const answer = await fetch(`${server}${path}`, {method: "POST", credentials});
    return `${answer.status}`;
  } catch (error) {
    return "unreadable";
  }
}"""


async def _page(_request: Request) -> HTMLResponse:
    return HTMLResponse('<!doctype html><html lang="en"><title>a shop</title>')


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shop() -> AsyncIterator[str]:
    """The origin of the shop's page."""
    listener = socket.create_server(("127.0.0.1", 0))
    app = Starlette(routes=[Route("/", _page)])
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off"))
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    server.should_exit = True
    await serving


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def service(shop: str) -> AsyncIterator[Service]:
    """A service that lets the shop's page in, with a show on air."""
    found = Service(scratch_directory(), environment={"LIVE_ALLOWED_ORIGINS": shop})
    await asyncio.to_thread(found.start)
    headers = {"authorization": f"Bearer {found.token(Role.HOST, 'host')}"}
    async with httpx.AsyncClient(
        base_url=found.url, headers=headers, trust_env=False, timeout=60
    ) as http:
        body = {"id": SHOW, "title": "A show", "currency": "USD"}
        assert (await http.post("/v1/shows", json=body)).status_code == 201
        assert (await http.post(f"/v1/shows/{SHOW}/start")).status_code == 200
    yield found
    await asyncio.to_thread(found.stop)


async def test_page_of_an_allowed_origin_lives_without_a_backend(
    browser: Browser, service: Service, shop: str
) -> None:
    """It gets a guest's token, reads their orders and errors, and has both ways to listen."""
    page = await browser.new_page()
    await page.goto(shop)
    seen = await page.evaluate(VISIT, service.url)
    await page.close()

    assert seen["sub"].startswith("guest-")
    assert (seen["orders"], seen["missing"], seen["shows"]) == ([], 404, [SHOW])
    assert "connect" in seen["told"] and seen["opened"]


async def test_page_of_another_origin_reads_nothing(
    browser: Browser, service: Service, shop: str
) -> None:
    """The same page by another name of this machine is another origin."""
    page = await browser.new_page()
    await page.goto(shop.replace("127.0.0.1", "localhost"))

    assert await page.evaluate(ACT, [service.url, "/v1/guests", "omit"]) == "unreadable"
    await page.close()


async def test_page_elsewhere_moves_nothing_with_the_hosts_cookie(
    browser: Browser, service: Service, shop: str
) -> None:
    """The browser sends the cookie along; the show goes on."""
    context = await browser.new_context()
    console = await context.new_page()
    token = service.token(Role.HOST, "host", SHOW)
    await console.goto(f"{service.url}/console#token={token}")
    await console.wait_for_function("document.cookie === '' && !location.hash")
    cookies = await context.cookies()
    assert [one["name"] for one in cookies] == ["live"]

    page = await context.new_page()
    await page.goto(shop)
    told = await page.evaluate(ACT, [service.url, f"/v1/shows/{SHOW}/pause", "include"])
    assert told == "unreadable"
    await context.close()

    headers = {"authorization": f"Bearer {token}"}
    async with httpx.AsyncClient(
        base_url=service.url, headers=headers, trust_env=False, timeout=60
    ) as http:
        assert (await http.get(f"/v1/shows/{SHOW}")).json()["status"] == "live"

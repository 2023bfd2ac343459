"""The pages' protocol client in Chromium against a scripted socket: repeats, gaps, close codes.

Method: a real server on a real port plays a script that a healthy gateway would hardly play on
demand; the page imports `client.js` as it is shipped. The gateway itself is met in
test_pages_in_browser.py.
"""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field

import pytest
import pytest_asyncio
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from live.pages.assets import Assets
from tests.acceptance.browser import TEST_SECONDS, Browser, Page, browser, chromium
from tests.support.answers import Json

__all__ = ["browser", "chromium"]  # fixtures: imported to be found

pytestmark = [pytest.mark.timeout(TEST_SECONDS), pytest.mark.asyncio(loop_scope="module")]

Answer = Callable[["Line", Json], Awaitable[None]]
PAGE = """<!doctype html><html lang="en"><title>client</title>"""
START = """async (lines) => {
  const { Connection, CallError } = await import("%s");
  window.seen = [];
  window.states = [];
  window.CallError = CallError;
  const url = location.origin.replace("http", "ws") + "/connection/websocket";
  window.connection = new Connection({
    url, token: "first", data: { show: "s" },
    renew: async () => "second",
    onState: (state, detail) => states.push([state, detail.code]),
    onWelcome: (data) => seen.push(["welcome", data.n]),
    onEvent: (channel, data) => seen.push([channel, data.n]),
  });
  connection.start();
}"""

ASSETS = Assets()


@dataclass
class Line:
    """One connection, seen from the script."""

    websocket: WebSocket
    number: int  # 1 for the first connection of the test

    async def send(self, *messages: Mapping[str, object]) -> None:
        await self.websocket.send_text("\n".join(json.dumps(one) for one in messages))

    async def welcome(self, command: Json, **result: object) -> None:
        await self.send({"id": command["id"], "connect": {"client": "c", "ping": 25, **result}})


@dataclass
class Script:
    """Plays `answer` for each command and remembers what came."""

    answer: Answer | None = None
    heard: list[Json] = field(default_factory=list)
    lines: int = 0

    async def play(self, websocket: WebSocket) -> None:
        await websocket.accept()
        self.lines += 1
        line = Line(websocket, self.lines)
        try:
            while True:
                for text in (await websocket.receive_text()).split("\n"):
                    command = json.loads(text)
                    self.heard.append(command)
                    assert self.answer is not None
                    await self.answer(line, command)
        except (WebSocketDisconnect, RuntimeError):
            pass  # the page left, or the script closed the line

    def commands(self, kind: str) -> list[Json]:
        return [one[kind] for one in self.heard if kind in one]


async def _page(_request: Request) -> HTMLResponse:
    return HTMLResponse(PAGE)


@pytest.fixture
def script() -> Script:
    return Script()


@pytest_asyncio.fixture(loop_scope="module")
async def page(browser: Browser, script: Script) -> AsyncIterator[Page]:
    app = Starlette(
        routes=[
            Route("/", _page),
            Route("/static/{version}/{name:path}", ASSETS.serve),
            WebSocketRoute("/connection/websocket", script.play),
        ]
    )
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off"))
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    opened = await browser.new_page()
    await opened.goto(f"http://127.0.0.1:{listener.getsockname()[1]}/")
    yield opened
    await opened.close()
    server.should_exit = True
    await serving


async def start(page: Page) -> None:
    """Make the page's connection."""
    await page.evaluate(START % ASSETS.url("client.js"))


async def until(page: Page, condition: str) -> None:
    await page.wait_for_function(condition, timeout=20_000)


async def test_busy_call_is_repeated_with_the_same_key(page: Page, script: Script) -> None:
    """Error 111 is repeated by itself, unchanged; the caller sees the one good answer."""

    async def answer(line: Line, command: Json) -> None:
        if "connect" in command:
            await line.welcome(command)
        elif len(script.commands("rpc")) < 3:
            error = {"code": 111, "message": "busy", "temporary": True}
            await line.send({"id": command["id"], "error": error})
        else:
            await line.send({"id": command["id"], "rpc": {"data": {"outcome": "held"}}})

    script.answer = answer
    await start(page)
    result = await page.evaluate('connection.call("offer.hold", { key: "k1", qty: 1 })')
    assert result == {"outcome": "held"}
    calls = script.commands("rpc")
    assert len(calls) == 3
    assert all(call == calls[0] for call in calls)


async def test_call_survives_a_lost_line(page: Page, script: Script) -> None:
    """The line breaks before the answer: the client returns and repeats the same request."""

    async def answer(line: Line, command: Json) -> None:
        if "connect" in command:
            await line.welcome(command)
        elif line.number == 1:
            await line.websocket.close(3001, "shutdown")
        else:
            await line.send({"id": command["id"], "rpc": {"data": {"ok": True}}})

    script.answer = answer
    await start(page)
    assert await page.evaluate('connection.call("hold.checkout", { key: "k" })') == {"ok": True}
    first, second = script.commands("rpc")
    assert first == second


async def test_final_refusal_is_not_repeated(page: Page, script: Script) -> None:
    """An error that is not temporary reaches the caller at once, with its code."""

    async def answer(line: Line, command: Json) -> None:
        if "connect" in command:
            await line.welcome(command)
        else:
            error = {"code": 1404, "message": "unknown offer"}
            await line.send({"id": command["id"], "error": error})

    script.answer = answer
    await start(page)
    code = await page.evaluate('connection.call("offer.hold", {}).catch((error) => error.code)')
    assert code == 1404
    assert len(script.commands("rpc")) == 1


async def test_gap_is_recovered_without_a_double(page: Page, script: Script) -> None:
    """A missing publication makes the client come back for it; each is handed on once, in order."""

    def pub(offset: int) -> Json:
        return {"offset": offset, "data": {"n": offset}}

    async def answer(line: Line, command: Json) -> None:
        if "connect" not in command:
            return
        if line.number == 1:
            subs = {"show:s": {"recoverable": True, "epoch": "e", "offset": 5}}
            await line.welcome(command, subs=subs, data={"n": 0})
            for offset in (6, 6, 8):  # one twice, one missing
                await line.send({"push": {"channel": "show:s", "pub": pub(offset)}})
            return
        found = {"recoverable": True, "epoch": "e", "offset": 6, "recovered": True}
        found |= {"was_recovering": True, "publications": [pub(7), pub(8)]}
        await line.welcome(command, subs={"show:s": found}, data={"n": 1})
        await line.send({"push": {"channel": "show:s", "pub": pub(9)}})

    script.answer = answer
    await start(page)
    await until(page, "seen.some(([, n]) => n === 9)")
    assert await page.evaluate("seen") == [
        ["welcome", 0],
        ["show:s", 6],
        ["welcome", 1],
        ["show:s", 7],
        ["show:s", 8],
        ["show:s", 9],
    ]
    again = script.commands("connect")[1]
    assert again["subs"] == {"show:s": {"recover": True, "epoch": "e", "offset": 6}}


async def test_messages_of_one_frame_are_all_read(page: Page, script: Script) -> None:
    """What follows the connect answer in its frame finds the client welcomed, a ping included."""
    answered = asyncio.Event()

    async def answer(line: Line, command: Json) -> None:
        if "connect" in command:
            push = {"push": {"channel": "pulse:s", "pub": {"data": {"n": 1}}}}
            result = {"client": "c", "ping": 25, "pong": True, "data": {"n": 0}}
            await line.send({"id": command["id"], "connect": result}, push, {}, push)
        else:
            answered.set()

    script.answer = answer
    await start(page)
    await until(page, "seen.length === 3")
    assert await page.evaluate("seen") == [["welcome", 0], ["pulse:s", 1], ["pulse:s", 1]]
    await asyncio.wait_for(answered.wait(), 60)
    assert script.heard[-1] == {}  # the pong


@pytest.mark.parametrize("code", [3503, 3509, 4500])
async def test_terminal_close_ends_the_connection(page: Page, script: Script, code: int) -> None:
    """The client that was thrown out for good does not come back."""

    async def answer(line: Line, command: Json) -> None:
        await line.welcome(command)
        await line.websocket.close(code, "enough")

    script.answer = answer
    await start(page)
    await until(page, 'states.some(([state]) => state === "closed")')
    assert (await page.evaluate("states"))[-1] == ["closed", code]
    rejected = await page.evaluate("connection.connected(1000).catch((error) => error.code)")
    assert rejected == 4
    assert script.lines == 1


async def test_invalid_token_is_renewed_once(page: Page, script: Script) -> None:
    """3500 asks for a new token once; refused again, the client stays away."""

    async def answer(line: Line, _command: Json) -> None:
        await line.websocket.close(3500, "invalid token")

    script.answer = answer
    await start(page)
    await until(page, 'states.some(([state]) => state === "closed")')
    assert [one["token"] for one in script.commands("connect")] == ["first", "second"]


async def test_expired_token_is_renewed(page: Page, script: Script) -> None:
    """Error 109 at connect leads to a new token and a new connection."""

    async def answer(line: Line, command: Json) -> None:
        if line.number == 1:
            error = {"code": 109, "message": "token expired"}
            await line.send({"id": command["id"], "error": error})
        else:
            await line.welcome(command, data={"n": 7})

    script.answer = answer
    await start(page)
    await until(page, "seen.length === 1")
    assert [one["token"] for one in script.commands("connect")] == ["first", "second"]


async def test_temporary_refusal_of_connect_is_tried_again(page: Page, script: Script) -> None:
    """A busy server at connect is not the end."""

    async def answer(line: Line, command: Json) -> None:
        if line.number == 1:
            error = {"code": 100, "message": "internal", "temporary": True}
            await line.send({"id": command["id"], "error": error})
        else:
            await line.welcome(command, data={"n": 1})

    script.answer = answer
    await start(page)
    await until(page, "seen.length === 1")
    assert script.lines == 2

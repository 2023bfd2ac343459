"""Redis loses everything during a show: its audience comes back by itself, newcomers are let in.

Method: a served gateway and settler, viewers with the official SDKs (Python, and JavaScript where
Node is), FLUSHALL or a start on an empty disk; what a newcomer is told meanwhile is read raw.
"""

import asyncio
import json
import shutil
import time
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from centrifuge import Client, ClientEventHandler, ConnectedContext, DisconnectedContext
from redis.asyncio import Redis

from live.domain.caller import Role
from tests.acceptance.conftest import Service, Stage, on_air
from tests.acceptance.test_realtime_node import modules
from tests.faults.conftest import own_valkey
from tests.support.servers import Valkey, scratch_directory
from tests.support.wire import dial

__all__ = ["modules", "own_valkey"]

VIEWERS = 12
BACK_SECONDS = 30.0  # SDKs wait longer from try to try
SCRIPT = Path(__file__).with_name("centrifuge_audience.cjs")

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
def served(own_valkey: Valkey, database_url: str) -> Iterator[Service]:
    found = Service(
        scratch_directory(),
        environment={"LIVE_REDIS_URL": own_valkey.url, "LIVE_DATABASE_URL": database_url},
    )
    found.start()
    yield found
    found.stop()
    shutil.rmtree(found.data)


@pytest.fixture
async def stage(served: Service) -> AsyncIterator[Stage]:
    async with on_air(served, f"s{uuid4().hex[:10]}") as found:
        await found.offer(5)
        yield found


class Presence(ClientEventHandler):  # type: ignore[misc]  # the SDK has no types
    """Whether one viewer is in; `lost`: they will not come back by themselves."""

    def __init__(self) -> None:
        self.joined = asyncio.Event()
        self.lost = 0

    async def on_connected(self, ctx: ConnectedContext) -> None:
        self.joined.set()

    async def on_disconnected(self, ctx: DisconnectedContext) -> None:
        self.lost = ctx.code


@asynccontextmanager
async def audience(stage: Stage) -> AsyncIterator[list[Presence]]:
    here, clients = [], []
    for n in range(VIEWERS):
        token = stage.service.token(Role.VIEWER, f"v{n}", stage.show)
        binary, data = bool(n % 2), {"show": stage.show}
        here.append(Presence())
        clients.append(
            Client(
                stage.service.socket_url,
                events=here[-1],
                token=token,
                data=json.dumps(data).encode() if binary else data,
                use_protobuf=binary,
                max_reconnect_delay=0.5,
                proxy=None,
            )
        )
        await clients[-1].connect()
    await everybody(here)
    yield here
    for client in clients:
        await client.disconnect()


async def everybody(here: list[Presence]) -> None:
    async with asyncio.timeout(BACK_SECONDS):
        await asyncio.gather(*(one.joined.wait() for one in here))


async def told_to_newcomer(stage: Stage, show: str = "") -> dict[str, Any]:
    """The answer to one connect of somebody new."""
    show = show or stage.show
    token = stage.service.token(Role.VIEWER, f"n{uuid4().hex[:8]}", show)
    async with await dial(stage.service.socket_url) as wire:
        await wire.send({"id": 1, "connect": {"token": token, "data": {"show": show}}})
        while (answer := await wire.read()).get("id") != 1:
            pass
    return answer


async def told_to_stream(stage: Stage, show: str = "") -> dict[str, Any]:
    """The first event of a stream of somebody new."""
    show = show or stage.show
    token = stage.service.token(Role.VIEWER, f"e{uuid4().hex[:8]}", show)
    asked = json.dumps({"token": token, "data": {"show": show}})
    async with (
        httpx.AsyncClient(base_url=stage.service.url, trust_env=False, timeout=10) as http,
        http.stream("GET", "/connection/uni_sse", params={"cf_connect": asked}) as answer,
    ):
        async for line in answer.aiter_lines():
            if line.startswith("data: {"):
                event: dict[str, Any] = json.loads(line.removeprefix("data: "))
                return event
    raise AssertionError("the stream ended without a word")


async def until_let_in(stage: Stage) -> list[dict[str, Any]]:
    """Come as one newcomer after the other, both ways; all that was told until both were in."""
    told: list[dict[str, Any]] = []
    deadline = time.monotonic() + BACK_SECONDS
    while time.monotonic() < deadline:
        both = await asyncio.gather(told_to_newcomer(stage), told_to_stream(stage))
        told += both
        if all("connect" in one or "subs" in one for one in both):
            return told
    raise AssertionError(f"nobody is let in: {told[-2:]}")


def assert_nobody_was_sent_away(told: list[dict[str, Any]]) -> None:
    for one in told:
        if "error" in one:
            assert one["error"]["code"] == 111 and one["error"]["temporary"], one
        if "disconnect" in one:
            assert one["disconnect"]["reconnect"], one


async def flush(valkey: Valkey) -> None:
    async with Redis.from_url(valkey.url) as redis:
        await redis.flushall()


async def start_empty(valkey: Valkey) -> None:
    valkey.kill()
    for kept in valkey.directory.glob("appendonly*"):
        shutil.rmtree(kept)
    await asyncio.to_thread(valkey.start)


@pytest.mark.parametrize("lose", [flush, start_empty])
async def test_audience_comes_back_by_itself(stage: Stage, own_valkey: Valkey, lose: Any) -> None:
    """Nobody is told anything final, whether they were in or come just then."""
    async with audience(stage) as here:
        for one in here:
            one.joined.clear()
        await lose(own_valkey)
        told = await until_let_in(stage)
        await everybody(here)
        assert [one.lost for one in here] == [0] * VIEWERS

    assert_nobody_was_sent_away(told)


async def test_show_that_waits_is_made_again_for_its_first_visitor(
    stage: Stage, own_valkey: Valkey
) -> None:
    """Nothing of it moves, so nobody looks after it until somebody asks."""
    waiting = f"w{uuid4().hex[:10]}"
    body = {"id": waiting, "title": "Tomorrow", "currency": "USD"}
    assert (await stage.post("/v1/shows", body)).status_code == 201
    await flush(own_valkey)

    told = [await told_to_newcomer(stage, waiting)]
    async with asyncio.timeout(BACK_SECONDS):
        while "connect" not in told[-1]:
            told.append(await told_to_newcomer(stage, waiting))

    assert_nobody_was_sent_away(told)
    assert told[-1]["connect"]["data"]["show"]["title"] == "Tomorrow"


async def test_show_that_never_was_is_final(stage: Stage) -> None:
    """SDKs stop asking; so does a browser's EventSource."""
    answer = await told_to_newcomer(stage, "nowhere")
    event = await told_to_stream(stage, "nowhere")

    assert answer["error"]["code"] == 1404 and not answer["error"].get("temporary")
    assert event["disconnect"]["code"] == 3508 and "reconnect" not in event["disconnect"]


async def test_javascript_audience_comes_back_by_itself(
    stage: Stage, own_valkey: Valkey, modules: Path
) -> None:
    """The official SDK's own judgement of what it is told."""
    shutil.copy(SCRIPT, modules)
    tokens = [stage.service.token(Role.VIEWER, f"j{n}", stage.show) for n in range(VIEWERS)]
    process = await asyncio.create_subprocess_exec(
        "node", SCRIPT.name, stage.service.socket_url, stage.show, *tokens, cwd=modules, stdout=PIPE
    )
    assert process.stdout is not None

    async def read_until(inside: int) -> None:
        assert process.stdout is not None
        async with asyncio.timeout(BACK_SECONDS):
            while True:
                told = json.loads(await process.stdout.readline())
                assert "lost" not in told, told
                if told["connected"] == inside:
                    return

    try:
        await read_until(VIEWERS)
        await flush(own_valkey)
        await read_until(VIEWERS - 1)  # somebody noticed
        await read_until(VIEWERS)
    finally:
        process.kill()
        await process.wait()

"""`live serve --workers 2` under publication load, and one of its gateways goes.

Method: viewers on both workers keep their position and dial again when their connection ends; in
the middle of it one worker is killed or told to stop. The host publishes through the HTTP API.
"""

import asyncio
import json
import signal
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import httpx
import psutil
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from live.domain.caller import Role
from tests.acceptance.conftest import Service
from tests.faults.bad_day import runs
from tests.support.servers import scratch_directory

VIEWERS = 24
BEFORE, AFTER = 15, 25
CALL_TRIES = 2_000  # of DIAL_SECONDS at least: longer than the test may take
DIAL_SECONDS = 0.05  # a refused client comes back

pytestmark = pytest.mark.timeout(120)


@dataclass
class Viewer:
    """What one phone has heard of the show's channel, over all of its connections."""

    service: Service
    show: str
    offsets: list[int] = field(default_factory=list)
    epoch: str = ""
    ended_with: list[int | None] = field(default_factory=list)
    positions_lost: int = 0
    joined: asyncio.Event = field(default_factory=asyncio.Event)
    first: int = 0  # the position of the first snapshot

    @property
    def at(self) -> int:
        return self.offsets[-1] if self.offsets else self.first

    async def run(self) -> None:
        token = self.service.token(Role.VIEWER, f"v{uuid4().hex[:10]}", self.show)
        while True:
            try:
                async with connect(self.service.socket_url, compression=None, proxy=None) as socket:
                    await socket.send(json.dumps({"id": 1, "connect": self._request(token)}))
                    while True:
                        for line in str(await socket.recv()).split("\n"):
                            self._take(json.loads(line))
            except ConnectionClosed as end:
                self.ended_with.append(end.rcvd.code if end.rcvd else None)
            except (InvalidHandshake, OSError, EOFError):  # refused, or cut off in the middle of it
                await asyncio.sleep(DIAL_SECONDS)

    def _request(self, token: str) -> dict[str, object]:
        request: dict[str, object] = {"token": token, "data": {"show": self.show}}
        if self.epoch:
            position = {"recover": True, "epoch": self.epoch, "offset": self.at}
            request["subs"] = {f"show:{self.show}": position}
        return request

    def _take(self, message: dict[str, Any]) -> None:
        name = f"show:{self.show}"
        if "connect" in message:
            sub = message["connect"]["subs"][name]
            if self.epoch:
                self.positions_lost += not sub.get("recovered")
                self.offsets += [each["offset"] for each in sub.get("publications", [])]
            else:
                self.epoch, self.first = sub["epoch"], sub.get("offset", 0)
            self.joined.set()
        push = message.get("push", {})
        if push.get("channel") == name and "pub" in push:
            self.offsets.append(push["pub"]["offset"])


@pytest.fixture(scope="module")
def pair() -> Iterator[Service]:
    """A service with two gateway workers."""
    found = Service(scratch_directory(), options=("--workers", "2"))
    try:
        found.start()
        yield found
    finally:
        found.stop()


@pytest.fixture
async def host(pair: Service) -> AsyncIterator[httpx.AsyncClient]:
    headers = {"Authorization": f"Bearer {pair.token(Role.HOST, 'host')}"}
    # No kept connections: each call may reach either worker.
    limits = httpx.Limits(max_keepalive_connections=0)
    async with httpx.AsyncClient(
        base_url=pair.url, headers=headers, trust_env=False, timeout=10, limits=limits
    ) as http:
        yield http


async def post(host: httpx.AsyncClient, path: str, body: dict[str, object]) -> None:
    """Post until it is answered: the worker that took it may be the one that dies."""
    key = {"Idempotency-Key": uuid4().hex}
    for _ in range(CALL_TRIES):
        try:
            answer = await host.post(path, json=body, headers=key)
        except httpx.TransportError:
            continue
        if answer.status_code < 300:
            return
        await asyncio.sleep(DIAL_SECONDS)
    raise AssertionError(f"{path} is never answered")


def gateways(service: Service) -> list[psutil.Process]:
    assert service.process is not None
    children = psutil.Process(service.process.pid).children()
    return [child for child in children if runs(child, "run-gateway")]


def connections(process: psutil.Process) -> int:
    """How many it has; none where it has just died."""
    try:
        return len(process.net_connections("tcp"))
    except psutil.Error:
        return 0


async def open_show(host: httpx.AsyncClient) -> str:
    show = f"s{uuid4().hex[:10]}"
    await post(host, "/v1/shows", {"id": show, "title": "A show", "currency": "USD"})
    await post(host, f"/v1/shows/{show}/start", {})
    return show


async def announce(host: httpx.AsyncClient, show: str, count: int) -> None:
    for number in range(count):
        await post(host, f"/v1/shows/{show}/announcements", {"text": f"news {number}"})


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
async def test_viewers_of_a_worker_that_goes_miss_nothing(
    pair: Service, host: httpx.AsyncClient, number: signal.Signals
) -> None:
    """Every viewer has every offset exactly once; one that stops says 3001, one killed nothing."""
    show = await open_show(host)
    viewers = [Viewer(pair, show) for _ in range(VIEWERS)]
    running = [asyncio.create_task(viewer.run()) for viewer in viewers]
    try:
        async with asyncio.timeout(100):
            await asyncio.gather(*(viewer.joined.wait() for viewer in viewers))
            await announce(host, show, BEFORE)
            goes = max(gateways(pair), key=connections)
            goes.send_signal(number)
            await announce(host, show, AFTER)
            last = viewers[0].first + BEFORE + AFTER
            while any(viewer.at < last for viewer in viewers):  # noqa: ASYNC110  # other processes
                await asyncio.sleep(0.05)
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    for viewer in viewers:
        assert viewer.offsets == list(range(viewer.first + 1, last + 1))
        assert viewer.positions_lost == 0
    told = {code for viewer in viewers for code in viewer.ended_with}
    assert told == ({None} if number is signal.SIGKILL else {3001})

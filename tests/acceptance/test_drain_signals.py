"""A drain goes on to its end whoever else says that it should begin.

Method: a whole service; what systemd does by default is done by hand - a signal for every process
of the group - and then the supervisor signals its children once more, as it always does.
"""

import asyncio
import os
import signal

import httpx
import psutil
import pytest
from websockets.exceptions import ConnectionClosed

from live.domain.caller import Role
from tests.acceptance.conftest import Service
from tests.support.servers import scratch_directory
from tests.support.wire import Wire, join

VIEWERS = 20

pytestmark = pytest.mark.timeout(120)


async def begin(service: Service, show: str) -> None:
    headers = {"authorization": f"Bearer {service.token(Role.HOST, 'host')}"}
    async with httpx.AsyncClient(base_url=service.url, headers=headers, trust_env=False) as http:
        body = {"id": show, "title": "A show", "currency": "USD"}
        assert (await http.post("/v1/shows", json=body)).status_code == 201
        assert (await http.post(f"/v1/shows/{show}/start")).status_code == 200


async def last_word(wire: Wire) -> int:
    """The code that a viewer is sent away with; 1006: none."""
    try:
        while True:
            await wire.read()
    except ConnectionClosed as end:
        return 1006 if end.rcvd is None else end.rcvd.code


def ours(supervisor: int) -> list[psutil.Process]:
    """The gateways and settlers of a supervisor; its engines have an order of their own."""
    children = psutil.Process(supervisor).children()
    return [one for one in children if {"run-gateway", "run-settler"} & set(one.cmdline())]


@pytest.mark.parametrize("pause", [0.0, 0.001, 0.05])
@pytest.mark.parametrize("first", ["supervisor", "children"])
async def test_every_viewer_is_told_where_to_go(pause: float, first: str) -> None:
    """3001 to each of them, and the service ends in order."""
    service = Service(scratch_directory())
    await asyncio.to_thread(service.start)
    assert service.process is not None
    supervisor = service.process.pid
    await begin(service, "signals")
    wires = [
        await join(service.socket_url, service.token(Role.VIEWER, f"v{number}"), "signals")
        for number in range(VIEWERS)
    ]
    children = [one.pid for one in ours(supervisor)]
    assert len(children) == 2
    for pid in [supervisor, *children] if first == "supervisor" else [*children, supervisor]:
        os.kill(pid, signal.SIGTERM)
        await asyncio.sleep(pause)

    codes = await asyncio.gather(*(last_word(wire) for wire in wires))

    assert codes == [3001] * VIEWERS
    assert await asyncio.to_thread(service.process.wait, 60) == 0
